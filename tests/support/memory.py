"""The memory of the command under a large load: very many runs, very large data sets."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet

from support.experiments import many_runs
from support.forked_command import Ended

RUNS: Final = 1_000
LARGE: Final = 200_000_000
"""The number of bytes of a large data set."""

_PATH: Final = re.compile(r"`[^`]*\.json`")
_PEAK: Final = """\
import re, sys
from scaffold_torchtune.cli import main
status = main(sys.argv[2:])
sys.stdout.flush()
with open("/proc/self/status") as file, open(sys.argv[1], "w") as peak:
    peak.write(re.search(r"VmHWM:\\s*([0-9]+)", file.read())[1])
sys.exit(status)
"""
"""A program that runs the command and records its peak memory: wait4 includes that of the parent (getrusage(2))."""

_KILOBYTE: Final = 1024


@dataclass(frozen=True)
class Load:
    """Commands, in order, on an experiment with a number of runs and with a data set that is `written`."""

    name: str
    commands: tuple[str, ...]
    runs: int = 1
    suffix: str = ".json"
    written: Callable[[Path, int], None] | None = None


def _rows(size: int) -> Iterator[dict[str, str]]:
    """Yield samples with a total number of bytes; no two are equal, because equal texts would be encoded compactly."""
    chance = random.Random(1)  # noqa: S311 - it must be the same each time
    while size > 0:
        row = {"input": chance.randbytes(400).hex(" ", 4), "output": chance.randbytes(40).hex(" ", 4)}
        size -= sum(map(len, row.values()))
        yield row


def _json(file: Path, size: int) -> None:
    with file.open("w") as stream:
        stream.write('{"train": [{"input": "a", "output": "b"}')
        for row in _rows(size):
            stream.write(f",\n{json.dumps(row)}")
        stream.write("]}")


def _json_lines(file: Path, size: int) -> None:
    with file.open("w") as stream:
        for row in _rows(size):
            stream.write(f"{json.dumps(row)}\n")


def _parquet(file: Path, size: int) -> None:
    rows = [*_rows(size)]  # in one group, as writers do by default
    table = pa.table({name: [row[name] for row in rows] for name in ("input", "output")})
    pyarrow.parquet.write_table(table, file, compression="none")


LOADS: Final = (
    Load(f"{RUNS:,} runs", ("plan", "scaffold", "validate"), RUNS),
    Load("200 MB of JSON", ("plan", "scaffold"), written=_json),
    Load("200 MB of JSON Lines", ("parse",), suffix=".jsonl", written=_json_lines),  # no plan has such a set
    Load("200 MB of Parquet", ("plan", "scaffold"), suffix=".parquet", written=_parquet),
)


def loaded(load: Load, directory: Path) -> Iterator[tuple[str, Ended]]:
    """Run the commands in separate processes; yield the end of each."""
    experiment = many_runs(directory, load.runs)
    if load.written:
        (experiment / "data" / "words.json").unlink()
        load.written(experiment / "data" / f"words{load.suffix}", LARGE)
        summary = experiment / "experiment_summary.md"
        text = summary.read_text()
        assert _PATH.search(text)
        text = _PATH.sub(f"`{experiment}/data/words{load.suffix}`", text)
        text = text.replace("**Format:** JSON", f"**Format:** {load.suffix[1:]}")
        summary.write_text(text.replace("- **Splits:**", "- **Parts:**"))
    for command in load.commands:
        yield command, _run(command, experiment, directory / "streams")


def _run(command: str, experiment: Path, streams: Path) -> Ended:
    peak = Path(f"{streams}.peak")
    line = [sys.executable, "-c", _PEAK, str(peak), command, str(experiment)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr, int(peak.read_text()) / _KILOBYTE)
