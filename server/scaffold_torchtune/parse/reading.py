"""The state of the steps from drafts to an `Experiment`: the drafts, the findings so far, and advice.

Advice is the line to add to a document for a value, and its place in the document.
"""

import dataclasses
import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from scaffold_torchtune.findings import (
    Collector,
    Finding,
    Scalar,
    escape,
    finding,
    lines_text,
    shortest_number,
    shown,
    with_line_feeds,
)
from scaffold_torchtune.models import Experiment, Run, Setting, Source, SourceKind, SummaryFormat
from scaffold_torchtune.parse import document_lines, free_text, local_lines, values
from scaffold_torchtune.parse.document_lines import Written
from scaffold_torchtune.parse.drafts import (
    Draft,
    LocalDraft,
    SourceText,
    SummaryDraft,
    TemplateDraft,
    of_single_runs,
    plain_text,
)
from scaffold_torchtune.parse.notations import NotHonoured, not_supported, remove_unsupported
from scaffold_torchtune.parse.values import configured
from scaffold_torchtune.settings.kinds import NotTyped, as_line
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_LOCAL, PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asked_otherwise, instead_of, is_refused, usual_of
from scaffold_torchtune.system.serialization import KeyPath, read_yaml, yaml_scalar
from scaffold_torchtune.torchtune_facts import FULL, OF_LORA, method_of, model_by_spelling

NAME: Final = "experiment name"
"""The field of the experiment's name in findings if it is missing."""

MODEL_PATH: Final = "path of model "
"""The field of a model's directory in findings, without the model's name."""

# Placeholders for the value in a line to add, and the label before it.
_HOLDERS: Final = {
    "experiment_name": "EXPERIMENT_NAME", "epochs": "NUMBER", "batch_size": "NUMBER", "dataset": "/path/to/data.json",
    "output_dir_base": "/path/to/outputs", "conda_env": "NAME", "my_wandb_project": "NAME",
}  # fmt: skip
_LABELS: Final = {
    "epochs": "- **Epochs:**", "batch_size": "- **Batch size:**", "dataset": "- **Path**:",
    "conda_env": "- **Default conda environment**:", "my_wandb_project": "- **Default project**:",
    "output_dir_base": "- **Output base directory**:", "plan_cancelled_runs": "- **Plan cancelled runs:**",
}  # fmt: skip
_LOCAL_SECTIONS: Final = {
    "conda_env": "SLURM Defaults", "my_wandb_project": "Weights & Biases", "wandb_entity": "Weights & Biases",
} | dict.fromkeys(("output_dir_base", "models_dir", *DIRECTORIES), "Common Paths")  # fmt: skip
AT_THE_TOP: Final = "at the top of the file"
_MOST_PAIRS: Final = 20_000  # pairs of equal lines, which difflib compares repeatedly


def parameter_named(name: str) -> Parameter:
    """Return the parameter of a field."""
    if name.startswith(MODEL_PATH):
        return Parameter(name, "path")
    return PARAMETERS["experiment_name"] if name == NAME else local_lines.parameter(name)


@dataclass(frozen=True)
class Place:
    """The place for the value of a field: in the document `draft`; `other` is the other document.

    `texts` are the texts that the value replaces, `lines` the lines of their problems; `gone` and `gone_lines` are the
    same in the other document, where they are removed.
    """

    field: str
    draft: Draft
    texts: tuple[SourceText, ...] = ()
    lines: frozenset[int] = frozenset()
    other: Draft | None = None
    gone: tuple[SourceText, ...] = ()
    gone_lines: frozenset[int] = frozenset()
    problems: tuple[Finding, ...] = dataclasses.field(default=(), compare=False)


class Advice(NamedTuple):
    """One or more lines to add, with the document and the place."""

    file: str
    add: str
    where: str


class _Hunk(NamedTuple):
    """A range of lines of a document, counted from 1 and without `end`, and the new lines instead."""

    first: int
    end: int
    new: tuple[str, ...]


def holder(place_field: str) -> Written:
    """Return the placeholder for the value of a field."""
    known = parameter_named(place_field)
    text = _HOLDERS.get(known.name, "VALUE")
    if place_field.startswith(MODEL_PATH):
        text = f"/path/to/{place_field.removeprefix(MODEL_PATH)}"
    return Written(known.kind, text, holder=True)


def advise(places: Sequence[tuple[Place, Written]], form: SummaryFormat) -> list[Advice]:
    """Return the advice for each place. Values that must share a line of YAML are all part of each advice."""
    found = [_hunks(text_of(place.draft), _with(text_of(place.draft), place, value, form)) for place, value in places]
    for i, (place, _) in enumerate(places):
        if form == "yaml" and isinstance(place.draft, SummaryDraft) and (main := _main(found[i])):
            same = [j for j, each in enumerate(found) if _clash(main, _main(each), places[j][0].draft is place.draft)]
            text = text_of(place.draft)
            for j in same if len(same) > 1 else ():
                text = _with(text, *places[j], form)
            if len(same) > 1:
                found[i] = _hunks(text_of(place.draft), text)
    return [_advice(place, hunks) for (place, _), hunks in zip(places, found, strict=True)]


def text_of(draft: Draft) -> str:
    """Return the text of a document with the line ends that its reader counts."""
    return with_line_feeds(draft.text)


def advise_columns(experiment: Experiment, text: str, columns: Mapping[str, Mapping[int, Scalar]]) -> Advice | None:
    """Return the new lines of the runs that give each its own value of settings that all runs shared.

    Args:
        experiment: the experiment.
        text: its summary.
        columns: the values by setting and by the line of the run.

    Returns:
        None if the document does not allow that: its runs are not rows of one table, or a value does not fit a cell.
    """
    text, yaml = with_line_feeds(text), experiment.form == "yaml"
    cells = {name: {at: _as_cell(name, value, yaml=yaml) for at, value in of.items()} for name, of in columns.items()}
    if not cells or any(cell is None for of in cells.values() for cell in of.values()):
        return None
    written = {name: {at: str(cell) for at, cell in of.items()} for name, of in cells.items()}
    new = _runs_in_yaml(text, experiment, written) if yaml else document_lines.with_columns(text, written)
    main = _main(_hunks(text, new)) if new else None
    if main is None:
        return None
    where = f"instead of {_lines(range(main.first, main.end))}" if main.end > main.first else ""
    return Advice(experiment.summary_file, "\n".join(main.new), where or f"below line {main.first - 1}")


def _as_cell(name: str, value: Scalar, *, yaml: bool) -> str | None:
    """Return a value in the form for a row; None if it does not fit."""
    if value is None:
        return "null" if yaml else "-"
    text = shortest_number(value) if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        text = str(value).lower() if yaml else "yes" if value else "no"
    written = Written(PARAMETERS[name].kind, text)
    if yaml:
        return written.yaml
    return None if written.needs_block else written.markdown


def _runs_in_yaml(text: str, experiment: Experiment, cells: Mapping[str, Mapping[int, str]]) -> str | None:
    """Return the summary in the YAML form with more parameters of its runs."""
    items = read_yaml(text).data
    runs = items.get("runs") if isinstance(items, dict) else None
    names = [run.get("name") for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []
    for name, of in cells.items():
        for run in experiment.runs:
            if run.line in of:
                if names.count(run.name) != 1:
                    return None
                path: KeyPath = ("runs", names.index(run.name), "parameters", name)
                text = document_lines.put_in_yaml(text, [path], path, of[run.line])
    return text


def _clash(one: _Hunk, other: _Hunk | None, is_same_document: bool) -> bool:
    """Return whether two changes of a YAML document exclude each other: they concern the same line or key."""
    if other is None or not is_same_document or (one.first, one.end) != (other.first, other.end):
        return False
    keys = {hunk.new[0].partition(":")[0] for hunk in (one, other) if hunk.new}
    return one.end > one.first or len(keys) == 1


def _with(text: str, place: Place, value: Written, form: SummaryFormat) -> str:
    """Return the document with the value in it."""
    if form == "yaml" and isinstance(place.draft, SummaryDraft):
        return _in_yaml(text, place, value)
    if isinstance(place.draft, SummaryDraft) and parameter_named(place.field).name == "experiment_name":
        if place.texts:
            return document_lines.retitled(text, place.texts[0], value)
        return document_lines.at_top(text, [f"# {value.text}"])
    if place.texts and not value.needs_block:
        return document_lines.replaced(text, place.texts, place.lines, value)
    if place.texts or place.lines:
        # insert the new line first, because lines above it may be removed
        mark = "\ufdd1"
        marked = "\n".join(
            mark + row if line in _lines_of(place) else row for line, row in enumerate(text.split("\n"), start=1)
        )
        inserted = _inserted(marked, place, value)
        return "\n".join(row for row in inserted.split("\n") if not row.startswith(mark))
    return _inserted(text, place, value)


def _lines_of(place: Place) -> set[int]:
    spans = (range(text.line, max(text.line, text.last) + 1) for text in place.texts)
    return {line for span in spans for line in span} | place.lines


def _inserted(text: str, place: Place, value: Written) -> str:
    """Return the Markdown document with a new line in the section of a field."""
    name, draft = place.field, place.draft
    new = value.lines(_label(name, draft))
    if isinstance(draft, LocalDraft):
        section = _LOCAL_SECTIONS.get(name) or ("SLURM Defaults" if name in OF_LOCAL else "")
        if draft.block:
            return document_lines.in_block(text, draft.block, f"{name}: {value.local_yaml}")
        if line := draft.sections.get(section):
            return document_lines.below_heading(text, line, new)
        if local_lines.setting(_label(name, draft).strip("-*: "), local_lines.TOP) == name:
            return document_lines.at_top(text, new)
        return document_lines.at_end(text, section or "Defaults", new)
    sections = ("Configuration > Training", "Configuration")
    if name == "dataset":
        sections = ("Resources > Dataset", "Dataset")
    elif name.startswith(MODEL_PATH) or name == "models_dir":
        sections = ("Resources > Models", "Models")
    line = next((draft.sections[each] for each in sections if each in draft.sections), None)
    if line is None:
        return document_lines.at_end(text, sections[-1], new)
    return document_lines.below_heading(text, line, new)


def _label(name: str, draft: Draft) -> str:
    """Return the label of a field in a new line."""
    if name.startswith(MODEL_PATH):
        return f"- **{name.removeprefix(MODEL_PATH)}**:"
    if name in OF_LOCAL and isinstance(draft, LocalDraft) and name in {"gpus", "mem", "cpus_per_task"}:
        return f"- **Default {name}**:"  # without `Default`, it may describe a node
    return _LABELS.get(name, f"- **{name}**:")


def _in_yaml(text: str, place: Place, value: Written) -> str:
    """Return the summary in the YAML form with the value in it."""
    name, known = place.field, parameter_named(place.field)
    data = read_yaml(text).data
    if name.startswith(MODEL_PATH):
        return _model_in_yaml(text, name.removeprefix(MODEL_PATH), data, value)
    fixed: dict[str, KeyPath] = {
        "experiment_name": ("experiment", "name"), "dataset": ("data", "training", "path"),
        "my_wandb_project": ("output", "wandb_project"),
    }  # fmt: skip
    if path := fixed.get(known.name):
        return document_lines.put_in_yaml(text, [path], path, value.yaml)
    parts: list[KeyPath] = [("controls",), ("data", "training")]
    existing = [(*part, key) for part in parts for key in _mapping(data, part) if configured(str(key)) is known]
    return document_lines.put_in_yaml(text, existing, ("controls", known.name), value.yaml)


def _model_in_yaml(text: str, model: str, data: object, value: Written) -> str:
    items = _mapping(data, ("models",)).get("base")
    known = model_by_spelling(model)
    for i, item in enumerate(items if isinstance(items, list) else []):
        name = item.get("name") if isinstance(item, dict) else None
        if name == model or (known is not None and isinstance(name, str) and model_by_spelling(name) is known):
            path: KeyPath = ("models", "base", i, "path")
            return document_lines.put_in_yaml(text, [path], path, value.yaml)
    item_text = f"{{name: {yaml_scalar(model)}, path: {value.yaml}}}"
    return document_lines.put_in_yaml(text, [], ("models", "base", ""), item_text)


def _mapping(data: object, path: KeyPath) -> dict[str, object]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _main(hunks: Sequence[_Hunk]) -> _Hunk | None:
    return next((hunk for hunk in hunks if hunk.new), None)


def _hunks(old: str, new: str) -> list[_Hunk]:
    """Return the differences between two texts, by line."""
    before, after = old.split("\n"), new.split("\n")
    same = next((i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
    start = min(len(before), len(after)) if same is None else same
    shorter = min(len(before), len(after)) - start
    tail = next((i for i in range(shorter) if before[-1 - i] != after[-1 - i]), shorter)
    left, right = before[start : len(before) - tail], after[start : len(after) - tail]
    known = Counter(left)
    if sum(known[line] for line in right) > _MOST_PAIRS:
        return [_Hunk(start + 1, start + 1 + len(left), tuple(right))]
    codes = difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    found = [code for code in codes if code[0] != "equal"]
    filled = [(a, b, c, d) for _, a, b, c, d in found if d > c]
    # new lines are one piece, with the lines between them
    whole = [(filled[0][0], filled[-1][1], filled[0][2], filled[-1][3])] if filled else []
    gone = [(a, b, c, d) for _, a, b, c, d in found if d == c and not (whole and whole[0][0] <= a and b <= whole[0][1])]
    return [_Hunk(start + 1 + a, start + 1 + b, tuple(right[c:d])) for a, b, c, d in sorted([*whole, *gone])]


def _advice(place: Place, hunks: Sequence[_Hunk]) -> Advice:
    draft, main = place.draft, _main(hunks)
    if main is None:  # one of the lines already gives the value
        gone = {line for hunk in hunks for line in range(hunk.first, hunk.end)}
        first = min((text.line for text in place.texts if text.line not in gone), default=1)
        main = _Hunk(first, first + 1, (text_of(draft).split("\n")[first - 1],))
    count = len(text_of(draft).rstrip("\n").split("\n")) if draft.text.strip() else 0
    if main.end > main.first:
        where = f"instead of {_lines(range(main.first, main.end))}"
    elif main.first == 1:
        where = AT_THE_TOP
    else:
        is_apart = not "".join(main.new).startswith(("-", " "))  # a section, or a key at the top of YAML
        where = "at the end" if main.first > count and is_apart else f"below line {min(main.first - 1, count)}"
    out = [line for hunk in hunks if hunk is not main for line in range(hunk.first, hunk.end)]
    where += f"; remove {_lines(out)}" if out else ""
    if place.other is not None and (place.gone or place.gone_lines):
        taken = _lines_of(Place(place.field, place.other, place.gone, place.gone_lines))
        where += f"; remove {_lines(sorted(taken))} from {place.other.file}"
    return Advice(draft.file, "\n".join(main.new).lstrip("\n"), where)


def _lines(lines: Sequence[int]) -> str:
    is_span = len(lines) > 1 and lines[-1] - lines[0] == len(lines) - 1
    return f"lines {lines[0]} to {lines[-1]}" if is_span else lines_text(lines, len(lines))


# The sections of the YAML form for fields of a Markdown summary.
_IN_YAML = {"experiment name": "experiment", "epochs": "controls", "batch_size": "controls", "dataset": "data.training"}
_A_RUN = "- {name: NAME, type: fine-tuned, model: MODEL, parameters: {lora_rank: 8}}"


# Names of fields in messages, if the name alone is not clear.
_NAMED: Final = {
    NAME: "the experiment name",
    "conda_env": "the default conda environment (`conda_env`)",
    "my_wandb_project": "the default W&B project (`my_wandb_project`)",
    "output_dir_base": "the output base directory (`output_dir_base`)",
}


def _named(name: str) -> str:
    """Return a field as messages name it."""
    if name.startswith(MODEL_PATH):
        return f"the path of the model {shown(name.removeprefix(MODEL_PATH))}"
    return _NAMED.get(name, name)


UNTIL_THEN: Final = "; until then, the runs' values are used"
"""The end of the fix of a warning that a text contradicts the runs; after an error, nothing is planned."""


@dataclass
class Reading(Collector):
    """The two drafts, and the findings so far. `is_experiment_dir` returns whether a path is its directory.

    `template` has the values of the operator's template, for settings that no document gives. `unasked` are findings
    that no single answer settles. `stated` are numbers of samples and steps, by name, that texts give for the runs.
    """

    summary: SummaryDraft
    local: LocalDraft
    form: SummaryFormat
    is_experiment_dir: Callable[[str], bool]
    template: TemplateDraft = field(default_factory=TemplateDraft)
    unasked: list[Finding] = field(default_factory=list)
    stated: list[tuple[str, Setting]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.summary.file)

    def advised(self, name: str, draft: Draft) -> tuple[str, str]:
        """Return the place for a line with a missing field, and the line."""
        (advised,) = advise([(Place(name, draft), holder(name))], self.form)
        heading, _, line = advised.add.strip("\n").rpartition("\n\n")
        return f"{advised.where}, below a new heading '{heading}'" if heading else advised.where, line

    def _to_add(self, name: str, draft: Draft, section: str) -> str:
        """Return the fix that adds a line with a missing field."""
        (advised,) = advise([(Place(name, draft), holder(name))], self.form)
        heading, _, line = advised.add.strip("\n").rpartition("\n\n")
        where, _, also = advised.where.partition("; ")
        line = "`" + line.replace("`", "") + "`" + (f"; {also}" if also else "")
        in_file = f"{where} of {draft.file}" if where == "at the end" else where
        if heading:
            return f"{in_file}, add the heading '{heading}' and this line below it: {line}"
        if (old := where.removeprefix("instead of ")) != where:
            return f"replace {old} ({section}) with: {line}"
        return f"add this line {in_file}{'' if where == AT_THE_TOP else f' ({section})'}: {line}"

    def missing(self, name: str, section: str, line: str = "", *, file: str | None = None) -> None:
        """Report a missing required field, unless the document could not be read.

        `line` is the line to add for a field that no single value can give.
        """
        draft = self.summary if file is None else self.local
        if not draft.readable:
            return
        if file is None and self.form == "yaml":
            section, line = _IN_YAML.get(name, "models.base"), line and _A_RUN
            section = "runs" if line else section
        above, _, _ = section.rpartition("." if self.form == "yaml" and file is None else " > ")
        at = draft.sections.get(section) or draft.sections.get(above)
        if line:
            what = self.unless_yaml("a row to the table of runs") or "an item"
            fix = f"add {what} like this for each run, under '{section}' (line {at}): `{line}`"
            if not at:
                what = self.unless_yaml("a table of runs that has a header and a row") or "an item"
                section = self.unless_yaml("## ") + section
                fix = f"add the section '{section}' with {what} like this for each run: `{line}`"
            message = f"{draft.file} lists no {name}"
        else:
            message = f"{_named(name)} is missing from {draft.file}" + (f" ({section})" if at else "")
            fix = self._to_add(name, draft, section)
        self.add("missing-field", message, field=name, file=draft.file, line=at, fix=fix)

    def contradiction(self, name: str, here: Setting, first: Setting, fix: str = "keep one of the two values") -> None:
        """Report two values of the summary for a field."""
        message = f"{name} is {shown(here.value)} here, but {shown(first.value)} on line {first.source.line}"
        choices = (first.value, here.value)
        self.add(
            "ambiguous", message, field=name, expected=first.value, actual=here.value, choices=choices,
            line=here.source.line, fix=fix,
        )  # fmt: skip

    def value(
        self, parameter: Parameter, text: SourceText, kind: SourceKind, file: str | None = None
    ) -> Setting | None:
        """Return the typed value of a text in the summary or `file`; report an invalid one and return None."""
        file = file or self.summary.file
        try:
            value, remark = values.typed(parameter, text)
        except NotTyped as problem:
            where = labelled(text, parameter.name)
            elsewhere = ""
            if kind is SourceKind.CONFIGURATION and parameter.column:
                of_run = "write it in each run's parameters" if self.form == "yaml" else "add a column for it"
                elsewhere = f"; if the value differs between runs, {of_run}"
            found = not_typed(parameter, text, problem, where, file, elsewhere)
            self.findings.append(found.model_copy(update={"file": None, "line": None}) if text.answer else found)
            return None
        if remark:
            self.ignored_remark(parameter.name, text, value, remark, file)
        if text.answer:
            return Setting(value=value, source=Source(kind=SourceKind.ANSWER, note=text.note))
        return Setting(value=value, source=Source(kind=kind, file=file, line=text.line, note=text.note))

    def all_values(self, parameter: Parameter, texts: list[SourceText], kind: SourceKind) -> list[Setting]:
        """Return the typed values of several texts of the summary, and report the problems of the others."""
        return [setting for text in texts if (setting := self.value(parameter, text, kind)) is not None]

    def not_needed(self, problem: Finding) -> None:
        """Report the problem of an unneeded value as a warning."""
        rows = "every run" if self.form == "yaml" else "every row of the table of runs"
        message = f"{problem.message}, but no value is needed here: {rows} has its own {problem.field}"
        fix = "no action if the values of the runs are correct"
        self.add("unused-field", message, field=problem.field, actual=problem.actual, at=problem, fix=fix)

    def not_planned(self, label: str, text: SourceText) -> None:
        """Report an unsupported hyperparameter, unless its value describes all runs anyway."""
        name = normalize(label)
        if not is_refused(name, text.full or text.text):
            return
        usual, written = usual_of(name) or None, text.full or text.text
        what = (
            f"{escape(label)} is {shown(written)}, which is not supported"
            if usual
            else f"{shown(label)} is not supported"
        )
        message = f"{what}: {NOT_PLANNED[name]}"
        fix = (
            f"write `{usual}` if that is acceptable; this tool supports no other value"
            if usual
            else remove_unsupported()
        )
        if instead := instead_of(name):
            line = as_line(instead, "NUMBER", yaml=self.form == "yaml")
            fix = f"write `{usual}` if that is acceptable; otherwise replace this setting with {line}"
        actual = escape(written)
        self.add(
            "unsupported-setting", message, field=name, expected=usual, actual=actual, line=text.line, fix=fix
        )  # fmt: skip

    def unless_yaml(self, text: str) -> str:
        """Return a text about Markdown; empty for the YAML form."""
        return "" if self.form == "yaml" else text

    def own_place(self, name: str) -> str:
        """Return the place of a setting of a single run: a column, or the parameters of the run in the YAML form."""
        column = "Method" if name == "recipe" else name
        return f"the parameters of the run, as {name}" if self.form == "yaml" else f"a column `{column}` of the table"

    def in_cell(self, column: str, value: str) -> str:
        """Return the fix that writes a value into a row: in its column, or by its key in the YAML form."""
        if self.form == "yaml":
            key = column.lower()
            return f"add `{key}: {key.upper()}` ({value}) to this run"
        return f"write {value} in the column `{column}` of this row"

    def not_honoured(self, label: str, text: SourceText, problem: NotHonoured, file: str | None = None) -> None:
        """Report a line that requests something unsupported."""
        written = escape(text.full or text.text)
        where = labelled(text, escape(label), "" if label in PARAMETERS else shown(label))
        subject = f"{where} is {shown(text.full or text.text)},"
        if text.answer:
            subject = f"the answer for {escape(label)} is {shown(text.full or text.text)},"
        message = f"{subject} {problem.what}"
        known, expected = by_label(label), problem.expected or None
        fix = problem.fix_in_yaml if self.form == "yaml" and file is None else problem.fix
        name = known.name if known is not None and known.key else normalize(label)
        self.add(
            "unsupported-setting", message, field=name, expected=expected, actual=written, fix=fix,
            file=file or self.summary.file, line=text.line,
        )  # fmt: skip

    def ignored_remark(self, name: str, text: SourceText, value: Scalar, remark: str, file: str | None = None) -> None:
        """Report a remark after a value: as a problem if it names an unsupported training, else as a warning."""
        other = next(asked_otherwise(remark), None)
        if other is not None and file in {None, self.summary.file}:
            what = not_supported(other[0], text.full or text.text)
            self.not_honoured(name, text, NotHonoured(what, remove_unsupported(shown(other[0]))), file)
            return
        taken = shortest_number(value) if isinstance(value, float) else shown(value)
        message = f"{text.note}: {name} is {taken}; the remark {shown(remark)} is ignored"
        file = file or self.summary.file
        fix = "no action if the remark is only a comment; otherwise write it as a setting of its own"
        fix += " in the same document (see workflows/labels.md)"
        self.add("ignored-remark", message, field=name, actual=escape(remark), file=file, line=text.line, fix=fix)


def given_value(name: str, run: Run, config: Mapping[str, Setting]) -> Setting | None:
    """Return a run's value of a setting: its own, else the shared one, which full fine-tuning does not use for LoRA."""
    recipe = run.parameters.get("recipe") or config.get("recipe")
    if name in OF_LORA and recipe is not None and method_of(recipe.text) == FULL:
        return run.parameters.get(name)
    return run.parameters.get(name) or config.get(name)


def in_column(setting: Setting) -> str:
    """Return a value of a row, and its column: `8 in the column 'Rank'`."""
    value = "none" if setting.value is None else shown(setting.value)
    return f"{value} in the column {shown(setting.source.note)}"


def labelled(text: SourceText, label: str, quoted: str = "") -> str:
    """Return the place of a text, with a label that it does not contain yet: `Configuration > Training: lr`.

    `quoted` is the label to print, if it differs.
    """
    is_named = f" {normalize(label)} " in f" {normalize(text.note)} "
    return text.note if is_named else f"{text.note}: {quoted or label}"


def not_typed(
    parameter: Parameter, text: SourceText, problem: NotTyped, where: str, file: str | None, elsewhere: str
) -> Finding:
    """Return the problem of a text with an invalid value or several; `elsewhere` is the place for several values."""
    choices = tuple(map(escape, problem.choices))
    if choices:
        written, expected = text.full or text.text, " or ".join(choices)
        code, what, fix = "ambiguous", f"contains {len(choices)} values", f"keep one of them ({expected}){elsewhere}"
    else:
        written, expected = text.text, problem.allowed
        code, what, fix = "invalid-value", problem.described, problem.correction
    subject = f"{where}: {shown(written)}"
    if text.answer:
        subject = f"the answer {shown(written)} for {shown(parameter.name)}"
    return finding(
        code, f"{subject} {what}", field=parameter.name, expected=expected, actual=escape(written),
        choices=choices, file=file, line=text.line, fix=fix,
    )  # fmt: skip


_FOOTNOTES: Final = "¹²³⁴⁵⁶⁷⁸⁹†‡§*"


def note_statements(draft: SummaryDraft) -> None:
    """Move statements about single runs from sentences to the notes of their rows: `big uses two GPUs`."""
    names = {row.name.rstrip(_FOOTNOTES): row.line for row in draft.rows if row.name}
    notes: dict[int, list[SourceText]] = {}
    for i, text in enumerate(draft.prose):
        written = plain_text(text.full or text.text)
        place, before = f"the text under {shown(text.note)}", len(written)
        for stated in of_single_runs(written, names, free_text.statement):
            note = dataclasses.replace(text, text=stated.note, note=place, full=None, source=None)
            for run in stated.names:
                notes.setdefault(names[run], []).append(note)
            written = written.replace(stated.text.strip(" .,;:"), " ", 1)
        if len(written) < before:
            draft.prose[i] = dataclasses.replace(text, text=written, full=None, source=None)
    for i, row in enumerate(draft.rows):
        own = [_without_name(note, row.name.rstrip(_FOOTNOTES)) for note in row.notes]
        draft.rows[i] = dataclasses.replace(row, notes=(*own, *notes.get(row.line, ())))


def _without_name(note: SourceText, name: str) -> SourceText:
    """Return the note of a run without the name of the run at its beginning: `run_1 uses seed 5`."""
    written = note.full or note.text
    if not name or not written.startswith((f"{name} ", f"{name}: ")):
        return note
    return dataclasses.replace(note, text=written[len(name) :].lstrip(" :"), full=None, source=None)
