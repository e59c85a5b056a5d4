"""Reads experiment_summary.yaml into a `SummaryDraft`.

Values are taken as they are written and typed later by their parameter, like the cells of a Markdown table: what YAML
makes of `1e-5` or `1:30:00` does not matter. Text that YAML reads as something else (`no`, `012`) is refused.
"""

from scaffold_torchtune.parse import yaml_runs, yaml_shape
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.parse.yaml_form import TrainingDataForm
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.parse.yaml_values import field
from scaffold_torchtune.settings.parameters import PARAMETERS, by_label
from scaffold_torchtune.shared import yamlio
from scaffold_torchtune.shared.layout import data_label
from scaffold_torchtune.shared.text import escape, shown
from scaffold_torchtune.shared.yamlio import Path

_TRAINING: Path = ("data", "training")


def read(text: str, file: str) -> SummaryDraft:
    """Read a summary in the YAML form. Problems of its form are noted in the draft."""
    draft = SummaryDraft(file)
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        fix = "correct the YAML at this line"
        draft.problem(
            "invalid-value", f"the file is not YAML that can be read: {escape(error.message)}", error.line, fix
        )
        draft.readable = False
        return draft
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        draft.problem("invalid-value", "the file is not a mapping of sections", 1, "write sections: experiment, runs")
        draft.readable = False
        return draft
    source = Source(document, data, draft)
    yaml_shape.check(source)
    draft.sections = source.sections()
    _general(source)
    _data(source)
    yaml_runs.read(source)
    yaml_shape.check_values(source)
    _stand_in(source)
    return draft


def _general(source: Source) -> None:
    """What stands outside the runs and the data."""
    draft = source.draft
    draft.name = field(source, ("experiment", "name"), "experiment_name")
    if isinstance(source.at(("experiment", "dir")), str):
        draft.directories = _one(field(source, ("experiment", "dir")))
    draft.wandb_project = field(source, ("output", "wandb_project"), "my_wandb_project")
    for i, _ in enumerate(source.items(("models", "base"))):
        name, path = (field(source, ("models", "base", i, key)) for key in ("name", "path"))
        if name and path:
            draft.models.append((name.text, path))
    for key in source.mapping(("variables",)):
        _levels(source, key)
    for key in source.mapping(("controls",)):
        _shared(source, ("controls", key))


def _levels(source: Source, key: str) -> None:
    """The values that a parameter is said to take."""
    parameter, path = by_label(str(key)), ("variables", key)
    texts = [field(source, (*path, i)) for i, _ in enumerate(source.items(path))]
    if parameter and texts and all(texts):
        said = ", ".join(text.text for text in texts if text)
        source.draft.levels.append((parameter.name, Field(said, source.line(path), f"variables.{escape(str(key))}")))


def _shared(source: Source, path: Path) -> None:
    """A setting that all runs share."""
    if text := field(source, path, str(path[-1])):
        source.draft.configuration.append((str(path[-1]), text))


def _one(found: Field | None) -> list[Field]:
    return [found] if found else []


def _data(source: Source) -> None:
    """The data set: its path and splits; label and format, which must be those of the path; settings that it gives."""
    draft = source.draft
    draft.datasets = _one(field(source, (*_TRAINING, "path")))
    splits = source.mapping((*_TRAINING, "splits"))
    draft.splits = {k: v for k, v in splits.items() if isinstance(v, int) and not isinstance(v, bool)}
    for key in TrainingDataForm.model_fields:
        if key in PARAMETERS and PARAMETERS[key].column:
            _shared(source, (*_TRAINING, key))
    if not draft.datasets:
        return
    label, extension = data_label(draft.datasets[0].text)
    for key, expected in (("dataset_label", label), ("format", extension.removeprefix("."))):
        found = field(source, (*_TRAINING, key))
        if found and found.text.lower().removeprefix(".") != expected.lower():
            message = f"{found.note} is {shown(found.text)}, but the path says {shown(expected)}"
            draft.problem("ambiguous", message, found.line, "correct the one that is wrong", "dataset")


def _stand_in(source: Source) -> None:
    """Let nothing be called missing of a section of which nobody knows what it holds.

    The document is refused for that section, so what stands in for it here is never planned.
    """
    draft, unread = source.draft, source.unread
    if "controls" in unread:
        given = {key for key, _ in draft.configuration}
        draft.configuration += [(k, Field("1", 1, "controls")) for k in ("epochs", "batch_size") if k not in given]
    if "output" in unread:
        draft.wandb_project = Field("unread", 1, "output")
    if "models" in unread:
        listed = {name for name, _ in draft.models}
        named = [source.at(("runs", i, "model")) for i in range(len(source.items(("runs",))))]
        lacking = [name for name in named if isinstance(name, str) and name not in listed]
        draft.models += [(name, Field("/unread", 1, "models")) for name in dict.fromkeys(lacking)]
