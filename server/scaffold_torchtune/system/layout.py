"""The names of all files that a scaffold reads or writes, and where the files of the package are."""

import posixpath
from pathlib import Path
from typing import Final

# The names of all files that a scaffold reads or writes, in one place. Paths are relative to the experiment.

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

OUTPUTS: Final = (FINETUNE_YAML, FINETUNE_SLURM)
RUN_FILES: Final = (SETUP_YAML, *OUTPUTS)

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


# Where the files that ship with the package lie: templates, workflows, examples, SKILL.md.
#
# In a wheel they are package data; in an editable install they are the folders of the checkout.

_PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED = _PACKAGE / "data"
_CHECKOUT = _PACKAGE.parent.parent


def shipped(*parts: str) -> Path:
    """The path of something that ships with the package, e.g. `shipped("templates", "finetune.yaml.j2")`."""
    base = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return base.joinpath(*parts)


TEMPLATES = shipped("templates")
EXAMPLES = shipped("examples")
