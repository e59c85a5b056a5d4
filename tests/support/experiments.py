"""Create a small experiment on disk, and read the files that a scaffold left in it."""

import json
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.example import EXAMPLE_DIRECTORY, EXAMPLE_LOCAL, EXAMPLE_SUMMARY

SUMMARY = EXAMPLE_SUMMARY.replace(EXAMPLE_DIRECTORY, "EXPERIMENT")
"""The example's summary; `EXPERIMENT` is a placeholder for the directory of the experiment."""

DATA = {
    split: [{"input": "word", "output": "Word"}, {"input": "tale", "output": "Tale"}] * rows
    for split, rows in {"train": 120, "validation": 15, "test": 15}.items()
}
"""As many samples as in the example's summary."""

RUNS = ("rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5")
"""The run directories of the experiment if it is made without arguments, in the plan's order."""

ACTIONS = [
    "SCAFFOLD_TORCHTUNE_START",
    "ANALYZE_PARAMETERS",
    "CREATE_RUN_DIRS",
    "GENERATE_YAMLS",
    "RUN_SETUP_SCRIPTS",
    "VALIDATE_PARAMETERS",
    "SCAFFOLD_TORCHTUNE_COMPLETE",
]
"""The actions in the log after one complete scaffold, in order."""

AGAIN = [*ACTIONS[:2], "CHANGES", *ACTIONS[2:]]
"""The actions of a scaffold after the documents have changed."""

FILES = ("finetune.slurm", "finetune.yaml", "setup_finetune.yaml")

Kept = tuple[int, int, int, bytes | str]

TO_RECIPES = {"| LoRA Rank |": "| Recipe |", " | 8 | ": " | LoRA | ", " | 16 | ": " | full | "}
"""Replacements of the ranks of the example by LoRA and full fine-tuning."""


def make_experiment(
    directory: Path,
    *,
    summary: str | None = SUMMARY,
    local: str | None = EXAMPLE_LOCAL,
    replace: Mapping[str, str] | None = None,
    without: Iterable[str] = (),
) -> Path:
    """Write experiment_summary.md, claude.local.md and data/words.json into a new directory, and return it.

    A document that is None is not written. `replace` changes texts in both documents; lines with one of the texts
    of `without` are removed from both. Each of these texts must occur. `EXPERIMENT` is a placeholder for the
    directory.
    """
    directory.mkdir(parents=True)
    texts = {"experiment_summary.md": summary, "claude.local.md": local}
    documents = {name: text for name, text in texts.items() if text is not None}
    for old, new in (replace or {}).items():
        assert any(old in text for text in documents.values()), old
        documents = {name: text.replace(old, new) for name, text in documents.items()}
    for part in without:
        assert any(part in text for text in documents.values()), part
        documents = {
            name: "".join(line for line in text.splitlines(keepends=True) if part not in line)
            for name, text in documents.items()
        }
    for name, text in documents.items():
        (directory / name).write_text(text.replace("EXPERIMENT", str(directory)))
    (directory / "data").mkdir()
    (directory / "data" / "words.json").write_text(json.dumps(DATA))
    return directory


def many_runs(folder: Path, runs: int) -> Path:
    """Return the example with a number of runs."""
    experiment = make_experiment(folder / "many", without=["- **Runs:**", "_rank16_", "_rank8_lr5e-5"])
    summary = experiment / "experiment_summary.md"
    (line,) = [line for line in summary.read_text().splitlines(keepends=True) if "_rank8_lr1e-5" in line]
    rows = "".join(line.replace("1e-5", f"{number}e-6") for number in range(1, runs + 1))
    summary.write_text(summary.read_text().replace(line, rows))
    return experiment


def change(file: Path, old: str, new: str) -> None:
    """Replace a text in a file, as an editor would."""
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new))


def run_directories(experiment: Path) -> list[str]:
    """Return the directories of an experiment except for its data and the state."""
    return sorted(
        path.name for path in experiment.iterdir() if path.is_dir() and path.name not in {"data", ".scaffold"}
    )


def outputs(experiment: Path) -> dict[str, bytes]:
    """Return the bytes of every file in the run directories, by relative path."""
    found = (path for name in run_directories(experiment) for path in (experiment / name).rglob("*") if path.is_file())
    return {str(path.relative_to(experiment)): path.read_bytes() for path in found}


def everything(directory: Path) -> dict[str, Kept]:
    """Return inode, mtime, mode, and bytes or link target of everything in a directory, and of the directory itself."""
    found: dict[str, Kept] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        content: bytes | str = b""
        if stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = (status.st_ino, status.st_mtime_ns, status.st_mode, content)
    return found


def log(experiment: Path) -> str:
    """Return the text of scaffold.log; empty if it is missing."""
    file = experiment / "scaffold.log"
    return file.read_text() if file.exists() else ""


def actions(experiment: Path) -> list[str]:
    """Return the actions of the log's entries in order, without remarks, which may be anywhere among them."""
    found = [line.partition("] ")[2] for line in log(experiment).splitlines() if line.startswith("[")]
    return [action for action in found if action not in {"INFO", "WARNING"}]


class Clock:
    """A clock that starts at one instant and advances by a second and a quarter at each reading."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1.25)
        return self.time


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}
