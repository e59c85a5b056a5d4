"""The names of all files that a scaffold reads or writes, in one place. Paths are relative to the experiment."""

import posixpath
from typing import Final

SUMMARY: Final = "experiment_summary.md"
SUMMARY_YAML: Final = "experiment_summary.yaml"
LOCAL: Final = "claude.local.md"
LOG: Final = "scaffold.log"

STATE: Final = ".scaffold"
PLAN: Final = f"{STATE}/plan.json"
PROGRESS: Final = f"{STATE}/progress.json"
LOCK: Final = f"{STATE}/lock"
STAGING: Final = f"{STATE}/staging"
RUNS: Final = f"{STATE}/runs"
OUTPUT: Final = f"{STATE}/output"

SETUP_YAML: Final = "setup_finetune.yaml"
FINETUNE_YAML: Final = "finetune.yaml"
FINETUNE_SLURM: Final = "finetune.slurm"

SETUP_TEMPLATES: Final = {".json": "setup_finetune_json.yaml.j2", ".parquet": "setup_finetune_parquet.yaml.j2"}
"""The template of setup_finetune.yaml for each data format."""

PLAIN_TEMPLATES: Final = (".yaml", ".yml")
"""How the name of a template ends that is plain YAML, whose values are defaults; any other is Jinja2."""

RESERVED: Final = frozenset({SUMMARY, SUMMARY_YAML, LOCAL, LOG, STATE})


def is_plain_template(path: str) -> bool:
    """Whether a template of setup_finetune.yaml is plain YAML. The name says it: text with braces can be either."""
    return path.endswith(PLAIN_TEMPLATES)


def record(directory: str) -> str:
    """The record of a run: what was made for it, and from what."""
    return f"{RUNS}/{directory}.json"


def output(directory: str) -> str:
    """What the setup script printed for a run that failed, as far as it was kept."""
    return f"{OUTPUT}/{directory}.txt"


def data_label(path: str) -> tuple[str, str]:
    """The label and the extension of a data set file: `/data/words_4L.json` gives `("words_4L", ".json")`."""
    name = posixpath.basename(path.rstrip("/"))
    stem, dot, extension = name.rpartition(".")
    return (stem, f".{extension}") if dot and stem else (name, "")
