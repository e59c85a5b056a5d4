"""How processor time grows: with the length of a document, with started runs, and with repeated changes.

    python benchmarks/growth.py [--runs 1000] [--pieces 38]

Needs the development tools (`make .venv/.installed`) and a quiet machine. Prints the largest factors by which the time
to parse grows if a piece of text is repeated five times as often, in each place of the documents (linear: 5, quadratic:
25); the time of an unchanged second scaffold if half of the runs were started, beside that of the same runs before; and
the time of the third change of all runs beside that of the first.
"""

import argparse
import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.files import Tree
from support.documents import DIRECTORY, LOCAL, SUMMARY
from support.experiments import change, many_runs
from support.repeated_pieces import PIECES, PLACES

SHORT, TIMES, ATTEMPTS = 4_000, 5, 4


def processor_time(act: Callable[[], Any]) -> float:
    """Return the seconds of processor time that an action takes."""
    gc.collect()
    began = time.process_time()
    act()
    return time.process_time() - began


def parse(documents: tuple[str, str]) -> None:
    """Parse a summary and a claude.local.md, or refuse them."""
    markdown.read.cache_clear()
    with contextlib.suppress(Refused):
        parse_experiment((SUMMARY, documents[0]), (LOCAL, documents[1]), lambda path: path == DIRECTORY)


def growth(place: str, piece: str) -> float:
    """Return the factor by which the time to parse grows if a piece is repeated `TIMES` as often."""
    nothing, short, long = (
        min(processor_time(lambda text=piece * count: parse(PLACES[place](text))) for _ in range(ATTEMPTS))  # type: ignore[misc]
        for count in (1, SHORT // len(piece), TIMES * SHORT // len(piece))
    )
    return (long - nothing) / max(short - nothing, 0.002)


def scaffold(experiment: Path, **given: Any) -> None:
    """Scaffold an experiment without the tests of SLURM and torchtune."""
    steps.scaffold(Request(experiment, sbatch=False, with_torchtune=False, **given))


def of_documents(pieces: int) -> None:
    """Print the largest growth in each place."""
    for place in PLACES:
        found = sorted(((growth(place, piece), piece) for piece in PIECES[:pieces]), reverse=True)[:3]
        sys.stdout.write(f"{place:>8}: " + ", ".join(f"{ratio:.1f} ({piece!r})" for ratio, piece in found) + "\n")


def of_started_runs(folder: Path, runs: int) -> None:
    """Print the ratio of two unchanged scaffolds: with half of the runs started, and before."""
    experiment = many_runs(folder, runs)
    scaffold(experiment)
    before = processor_time(lambda: scaffold(experiment))
    with Tree(experiment) as tree:
        started = existing_plan(tree).runs[::2]
    for number, run in enumerate(started):
        (experiment / run.directory / f"slurm-{4_000 + number}.out").write_text("training\n")
    scaffold(experiment)  # logs the submit line of the other runs
    after = processor_time(lambda: scaffold(experiment))
    ratio = after / before
    sys.stdout.write(f"{runs} runs, half of them started: {after:.2f} s and {before:.2f} s, ratio {ratio:.2f}\n")


def of_changes(folder: Path, runs: int) -> None:
    """Print the ratio of the third change of all runs to the first."""
    experiment = many_runs(folder, runs)
    scaffold(experiment)
    times = []
    for epochs in (3, 4, 5):
        change(experiment / SUMMARY, f"- **Epochs:** {epochs - 1}", f"- **Epochs:** {epochs}")
        times.append(processor_time(lambda: scaffold(experiment)))
    ratio = times[-1] / times[0]
    sys.stdout.write(f"{runs} runs changed: {times[-1]:.2f} s and {times[0]:.2f} s, ratio {ratio:.2f}\n")


def main() -> None:
    """Measure one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--pieces", type=int, default=len(PIECES))
    options = parser.parse_args()
    of_documents(options.pieces)
    with tempfile.TemporaryDirectory() as folder:
        of_started_runs(Path(folder, "started"), options.runs)
        of_changes(Path(folder, "changed"), max(options.runs // 5, 20))


if __name__ == "__main__":
    main()
