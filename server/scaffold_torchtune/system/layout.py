"""The names of all files of a scaffold, relative to the experiment, and the paths of package files."""

import posixpath
import re
from pathlib import Path
from typing import Final

SUMMARY: Final = "experiment_summary.md"
SUMMARY_YAML: Final = "experiment_summary.yaml"
LOCAL: Final = "claude.local.md"
LOG: Final = "scaffold.log"
PAGE: Final = "scaffold.html"

STATE: Final = ".scaffold"
PLAN: Final = f"{STATE}/plan.json"
PROGRESS: Final = f"{STATE}/progress.json"
LOCK: Final = f"{STATE}/lock"
STAGING: Final = f"{STATE}/staging"
RUNS: Final = f"{STATE}/runs"
OUTPUT: Final = f"{STATE}/output"
BACKUP: Final = f"{STATE}/backup"
HISTORY: Final = f"{STATE}/history"
JOBS: Final = f"{STATE}/jobs.json"
ARRAYS: Final = f"{STATE}/arrays"
STATE_DIRECTORIES: Final = (STATE, STAGING, RUNS, OUTPUT)
"""Directories that exist during any write, parents first."""

SETUP_YAML: Final = "setup_finetune.yaml"
FINETUNE_YAML: Final = "finetune.yaml"
FINETUNE_SLURM: Final = "finetune.slurm"

SETUP_TEMPLATES: Final = {".json": "setup_finetune_json.yaml.j2", ".parquet": "setup_finetune_parquet.yaml.j2"}
"""The template of setup_finetune.yaml for each data format."""

ARRAY_SCRIPT: Final = re.compile(r"finetune_array(_[0-9]{1,9})?[.]slurm", re.ASCII)
"""The name of the script of a job array, in the experiment directory."""

OUTPUTS: Final = (FINETUNE_YAML, FINETUNE_SLURM)
RUN_FILES: Final = (SETUP_YAML, *OUTPUTS)

RESERVED: Final = frozenset({SUMMARY, SUMMARY_YAML, LOCAL, LOG, PAGE, STATE})


def is_plain_template(path: str) -> bool:
    """Return whether a template is plain YAML, with default values, by its name; all others are Jinja2."""
    return path.endswith((".yaml", ".yml"))


def record(directory: str) -> str:
    """Return the record of a run: its generated files and their inputs."""
    return f"{RUNS}/{directory}.json"


def output(directory: str) -> str:
    """Return the kept output of the setup script for a failed run."""
    return f"{OUTPUT}/{directory}.txt"


def internal_error(name: str) -> str:
    """Return the report of an unexpected error; the same error has the same name."""
    return f"{STATE}/internal-error-{name}.txt"


def data_label(path: str) -> tuple[str, str]:
    """Return the label and the extension of a data set file: `/data/words_4L.json` gives `("words_4L", ".json")`."""
    name = posixpath.basename(path.rstrip("/"))
    stem, dot, extension = name.rpartition(".")
    return (stem, f".{extension}") if dot and stem else (name, "")


def shipped(*parts: str) -> Path:
    """Return the path of a file that ships with the package, e.g. `shipped("templates", "finetune.yaml.j2")`.

    In a wheel it is package data; in an editable install it is in a directory of the checkout.
    """
    package = Path(__file__).resolve().parent.parent
    data = package / "data"
    return (data if data.is_dir() else package.parent.parent).joinpath(*parts)


TEMPLATES = shipped("templates")
EXAMPLES = shipped("examples")
