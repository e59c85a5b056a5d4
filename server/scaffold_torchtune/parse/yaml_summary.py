"""Reads experiment_summary.yaml into a `SummaryDraft`.

Values are taken as they are written and typed later by their parameter, like the cells of a Markdown table: what YAML
makes of `1e-5` or `1:30:00` does not matter. Text that YAML reads as something else (`no`, `012`) is refused.
"""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from scaffold_torchtune.parse.draft import Field, RowDraft, SummaryDraft
from scaffold_torchtune.parse.yaml_form import Form, SummaryForm
from scaffold_torchtune.shared import yamlio
from scaffold_torchtune.shared.layout import data_label
from scaffold_torchtune.shared.parameters import by_label
from scaffold_torchtune.shared.text import close_matches, escape, shown
from scaffold_torchtune.shared.yamlio import Path, YamlDocument

_TEXT_KINDS = frozenset({"text", "name", "path", "memory"})
_COMPUTE = ("time", "gpus", "mem", "cpus_per_task")
_OWN = ("prompt", "system_prompt", "dataset_path")
_NOT_OURS = frozenset({"checkpoint_path", "training_condition", "vis_label"})
_LIKELY_MISSPELT = 0.8


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
    draft.sections = {".".join(map(str, path)): line for path, line in document.lines.items()}
    _unknown_keys(SummaryForm, data, (), document, draft)
    reader = _Reader(document, data, draft)
    reader.read()
    try:
        SummaryForm.model_validate(data)
    except ValidationError as error:
        _form_problems(error, document, draft, reader.refused)
    return draft


def _form_problems(error: ValidationError, document: YamlDocument, draft: SummaryDraft, told: set[Path]) -> None:
    """What is missing from the form or has another shape, each once, with its line; what was told is left out."""
    for one in error.errors(include_url=False):
        if one["loc"] in told:
            continue
        path = tuple(part for part in one["loc"] if _is_key(part, document, one["loc"]))
        name = ".".join(map(str, one["loc"]))
        if one["type"] == "missing" and one["loc"][-1:] == ("name",) and len(one["loc"]) > 2:  # noqa: PLR2004 - in a list
            draft.problem("missing-field", f"{name} is missing", document.line(path), f"add {name}", name)
        # What else is missing, or null, is told where it is used.
        elif one["input"] is not None and one["type"] != "missing" and one["loc"][-1:] != ("type",):
            message = f"{name} is {shown(_scalar(one['input']))}: {one['msg'].lower()}"
            draft.problem("invalid-value", message, document.line(path), "write what is allowed", name)


def _is_key(part: object, document: YamlDocument, loc: tuple[int | str, ...]) -> bool:
    """Whether a part of pydantic's location is a key of the document and not the name of a union's arm."""
    prefix = loc[: loc.index(part) + 1] if isinstance(part, int | str) else ()
    return prefix in document.lines


def _scalar(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def _unknown_keys(
    form: type[Form], data: Mapping[str, Any], path: Path, document: YamlDocument, draft: SummaryDraft
) -> None:
    """Keys that the form does not know: nearly known ones are refused, others are named in a warning."""
    known = form.model_fields
    for key in [key for key in data if key not in known]:
        near = close_matches(key, known, limit=1, cutoff=_LIKELY_MISSPELT)
        name = ".".join(map(str, (*path, key)))
        if near:
            message = f"{escape(name)} is not a key here; did you mean {near[0]!r}?"
            draft.problem("misspelt-field", message, document.line((*path, key)), f"write {near[0]!r}", escape(name))
        elif key not in _NOT_OURS and path[:1] not in {("data",), ("tools",)}:
            message = f"{escape(name)} is not used"
            fix = "nothing, unless it was meant to change the runs"
            draft.problem("unused-field", message, document.line((*path, key)), fix, escape(name))
    for key, field in known.items():
        below = _form_in(field.annotation)
        value = data.get(key)
        parts = [((*path, key, i), item) for i, item in enumerate(value)] if isinstance(value, list) else []
        for place, part in [((*path, key), value), *parts]:
            if below and isinstance(part, dict):
                _unknown_keys(below, part, place, document, draft)


def _form_in(annotation: Any) -> type[Form] | None:
    """The form that a field holds: itself, in a list, or where it is given."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        return annotation
    return next((form for part in get_args(annotation) if (form := _form_in(part))), None)


class _Reader:
    """Takes what is there into the draft, whatever else is wrong with the form, so that one answer names all."""

    def __init__(self, document: YamlDocument, data: Mapping[str, Any], draft: SummaryDraft) -> None:
        self.document = document
        self.data = data
        self.draft = draft
        self.refused: set[Path] = set()

    def read(self) -> None:
        """Fill the draft."""
        self.draft.name = self.field(("experiment", "name"), by_key="experiment_name")
        self.draft.directories = self.fields(("experiment", "dir"))
        self.draft.wandb_project = self.field(("output", "wandb_project"), by_key="my_wandb_project")
        for i, _ in enumerate(self.items(("models", "base"))):
            name, path = self.field(("models", "base", i, "name")), self.field(("models", "base", i, "path"))
            if name and path:
                self.draft.models.append((name.text, path))
        self.draft.datasets = self.fields(("data", "training", "path"))
        self.data_set()
        for key in self.mapping(("controls",)):
            if field := self.field(("controls", key), by_key=key):
                self.draft.configuration.append((key, field))
        self.runs()

    def data_set(self) -> None:
        """The splits; and label and format, which must be those of the path."""
        splits = self.mapping(("data", "training", "splits"))
        self.draft.splits = {k: v for k, v in splits.items() if isinstance(v, int) and not isinstance(v, bool)}
        if not self.draft.datasets:
            return
        label, extension = data_label(self.draft.datasets[0].text)
        for key, expected in (("dataset_label", label), ("format", extension.removeprefix("."))):
            found = self.field(("data", "training", key))
            if found and found.text.lower().removeprefix(".") != expected.lower():
                message = f"data.training.{key} is {shown(found.text)}, but the path says {shown(expected)}"
                self.draft.problem("ambiguous", message, found.line, "correct the one that is wrong", "dataset")

    def runs(self) -> None:
        """The runs as rows of a table whose columns are all the keys that any of them has."""
        places: dict[str, int] = {}
        for i, _ in enumerate(self.items(("runs",))):
            cells: dict[int, Field] = {}
            for key, path in self.keys_of_run(i):
                field = self.field(path, by_key=key)
                column = places.setdefault(key, len(places))
                if field is not None:
                    cells[column] = field
            self.draft.rows.append(RowDraft(cells, self.document.line(("runs", i)) or 1))
        if places:
            places.setdefault("type", len(places))  # where no run says its type, each lacks it
        line = self.document.line(("runs",)) or 1
        self.draft.columns = [Field(key, line, "runs") for key in places]

    def keys_of_run(self, i: int) -> list[tuple[str, Path]]:
        """The column and the place of everything that a run says."""
        run = self.mapping(("runs", i))
        keys: list[tuple[str, Path]] = [(key, ("runs", i, key)) for key in ("name", "type", "model") if key in run]
        parameters = self.mapping(("runs", i, "parameters"))
        keys += [(key, ("runs", i, "parameters", key)) for key in parameters if key not in _NOT_OURS]
        compute = self.mapping(("runs", i, "compute"))
        keys += [(key, ("runs", i, "compute", key)) for key in _COMPUTE if key in compute]
        own = {"dataset_path": "dataset"}
        return keys + [(own.get(key, key), ("runs", i, key)) for key in _OWN if key in run and key not in parameters]

    def not_single(self, value: dict[str, Any] | list[Any], name: str, line: int, key: str) -> None:
        """Note a mapping or a list where one value belongs."""
        items = value if isinstance(value, list) else []
        choices = [escape(str(item)) for item in items if isinstance(item, str | int | float)]
        if len(choices) != len(items) or len(choices) <= 1:
            self.draft.problem("invalid-value", f"{name} is not a single value", line, "give it one value", key)
            return
        fix = f"keep one of them: {' or '.join(choices)}; where it differs by run, write it in each run's parameters"
        self.draft.problem("ambiguous", f"{name} gives {len(choices)} values: {', '.join(choices)}", line, fix, key)

    def at(self, path: Path) -> Any:
        """What lies at a path, or None."""
        found: Any = self.data
        for part in path:
            if isinstance(found, list) and isinstance(part, int):
                found = found[part]
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def mapping(self, path: Path) -> Mapping[str, Any]:
        """The mapping at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, dict) else {}

    def items(self, path: Path) -> list[Any]:
        """The list at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, list) else []

    def fields(self, path: Path) -> list[Field]:
        """The field at a path, as a list of none or one."""
        found = self.field(path)
        return [found] if found else []

    def field(self, path: Path, by_key: str | None = None) -> Field | None:
        """The scalar at a path as it is written; None where there is none or it is null.

        `by_key` is the parameter that it is of: text that YAML reads as something else is refused there.
        """
        value = self.at(path)
        name = ".".join(map(str, path))
        line = self.document.line(path) or 1
        if value is None:
            return None
        if isinstance(value, dict | list):
            if by_key is not None:
                self.not_single(value, name, line, by_key)
                self.refused.add(path)
            return None
        parameter = by_label(by_key) if by_key else None
        wants_text = by_key in {None, "name", "type"} or (parameter is not None and parameter.kind in _TEXT_KINDS)
        if by_key and wants_text and not isinstance(value, str):
            plain = self.document.plain.get(path, str(value))
            message = f"{name} is {plain}, which YAML reads as {shown(value)}, not as text"
            self.draft.problem("invalid-value", message, line, f'write "{plain}" in quotes', by_key)
            self.refused.add(path)
            return None
        text = value if isinstance(value, str) else self.document.plain.get(path, str(value))
        return Field(text, line, name, exact=isinstance(value, str) and wants_text)
