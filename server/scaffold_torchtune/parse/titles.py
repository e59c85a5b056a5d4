"""What the sections of a Markdown summary are called, and what each is for."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.shared.markdown import Section

RUNS: Final = "All Runs"
_RUNS: Final = frozenset(
    {"all runs", "fine tuning runs", "finetuning runs", "runs", "fine tuned runs", "finetuned runs", "planned runs"}
)
_MORE_RUNS: Final = frozenset({"additional", "more", "further", "extra"})
_ENDS_OF_RUNS: Final = (" runs", "run table", "run matrix", "run list", "runs table", "runs matrix")
_NOT_PLANNED: Final = frozenset(
    [
        "evaluation", "eval", "evaluations", "inference", "previous", "past", "prior", "old", "earlier", "completed",
        "finished", "failed", "example", "examples", "number", "expected", "no", "without", "notes",
    ]
)  # fmt: skip
_MODELS: Final = frozenset({"models", "model", "base models", "base model"})
_DATA: Final = frozenset({"dataset", "data set", "datasets", "data", "training data"})
_CONFIGURATION: Final = frozenset(
    {
        "configuration", "training configuration", "hyperparameters", "training hyperparameters",
        "shared configuration", "shared hyperparameters", "common configuration", "common hyperparameters",
        "fixed hyperparameters", "fixed parameters", "training parameters", "training settings", "training",
        "training setup", "training config", "common settings", "fixed settings", "prompts",
        "fine tuning hyperparameters",
         "controls", "controlled variables", "constants", "fine tuning configuration",
    }
)  # fmt: skip
# Words of titles below which settings of something else stand than of training.
_ELSEWHERE: Final = frozenset(
    {
        "evaluation", "evaluations", "eval", "evals", "inference", "generation", "scoring", "scorer", "grading",
        "judge", "analysis", "inspect", "benchmark", "results", "previous",
    }
)  # fmt: skip
# Sections that tell about runs and do not plan them: `Compute Estimates > Training` holds no settings.
_TELLING: Final = frozenset({"estimates", "estimate", "estimated", "cost", "costs", "naming", "status", "progress"})
_FACTORS: Final = frozenset({"variables", "factors", "independent"})
_NUMBER: Final = re.compile(r"^(?:[0-9]{1,4}(?:\.[0-9]{1,4}){0,4}|[IVX]{1,6})[.):]?\s+")
_LONGEST: Final = 300


def plain(title: str) -> str:
    """A title without its number, a (remark) at its end, case, emphasis and symbols."""
    title = _NUMBER.sub("", title[:_LONGEST].strip())
    return normalize(title.rpartition("(")[0] if title.endswith(")") and "(" in title else title)


def is_runs(title: str) -> bool:
    """Whether a section holds the table of the planned runs: `All Runs`, `3. Planned Runs (4 total)`, `Run Matrix`."""
    words = plain(title)
    return words in _RUNS or (f" {words}".endswith(_ENDS_OF_RUNS) and not _NOT_PLANNED & set(words.split()))


def is_models(title: str) -> bool:
    """Whether a section lists the base models."""
    return plain(title) in _MODELS


def is_data(title: str) -> bool:
    """Whether a section names the data set."""
    return plain(title) in _DATA


def is_configuration(title: str) -> bool:
    """Whether a section holds what all runs share."""
    return plain(title) in _CONFIGURATION


def is_prompt(title: str) -> bool:
    """Whether a section holds a free text that its title names: `System prompt`."""
    parameter = by_label(plain(title))
    return parameter is not None and parameter.kind == "text" and parameter.column


def is_exactly_runs(title: str) -> bool:
    """Whether a section is called as the table of runs usually is; others that end in `runs` then tell about them."""
    words = plain(title)
    return words in _RUNS or bool(_MORE_RUNS & set(words.split()))


def is_output(title: str) -> bool:
    """Whether a section says where outputs go."""
    return plain(title) in {"output", "outputs", "output paths"}


def is_elsewhere(title: str) -> bool:
    """Whether a section is about something else than training: evaluation, generation of data."""
    return bool(_ELSEWHERE & set(plain(title).split()))


def _is_telling(title: str) -> bool:
    return bool(_TELLING & set(plain(title).split()))


def is_factors(title: str) -> bool:
    """Whether a section lists what varies, of which the runs themselves decide."""
    return bool(_FACTORS & set(plain(title).split()))


def name(title: str) -> str:
    """What messages call a section that has several names."""
    if is_runs(title):
        return RUNS
    return "Models" if is_models(title) else "Dataset" if is_data(title) else title


def lines_of(root: Section, above: str = "") -> dict[str, int]:
    """The line of each section by its name in messages, `Resources > Models`; of several with one name the first."""
    lines: dict[str, int] = {}
    for section in root.sections:
        path = f"{above} > {name(section.title)}" if above else name(section.title)
        below = lines_of(section, path if section.level > 1 else "")
        for found, line in [(path, section.line), *below.items()]:
            lines.setdefault(found, line)
    return lines


def topmost(root: Section, is_wanted: Callable[[str], bool]) -> Iterator[Section]:
    """Sections that are wanted by their title and lie below no other such section, no runs and no evaluation."""
    for section in root.sections:
        if is_wanted(section.title):
            yield section
        elif not (is_elsewhere(section.title) or is_runs(section.title) or _is_telling(section.title)):
            yield from topmost(section, is_wanted)
