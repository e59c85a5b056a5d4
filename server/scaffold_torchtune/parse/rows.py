"""Reads the rows of the runs table into typed runs."""

from scaffold_torchtune.models.base import RunType, Setting, Source, SourceKind
from scaffold_torchtune.models.experiment import Run
from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import Field, RowDraft
from scaffold_torchtune.parse.reading import Reading, ignored_remark, not_planned, not_typed
from scaffold_torchtune.parse.runs_table import NAME_COLUMNS
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import (
    NOT_PLANNED,
    WORDS_OF_TRAINING,
    Parameter,
    by_label,
    labels,
    normalize,
)
from scaffold_torchtune.shared.text import close_matches, escape, shown

# Columns that are there for people.
_FOR_PEOPLE = frozenset(
    {
        "est time",
        "estimated time",
        "status",
        "notes",
        "note",
        "description",
        "gpu hours",
        "hypothesis",
        "role",
        "job id",
        "purpose",
        "comment",
    }
)
_TYPES: dict[str, RunType] = {
    "fine tuned": "fine-tuned",
    "finetuned": "fine-tuned",
    "fine tune": "fine-tuned",
    "finetune": "fine-tuned",
    "fine tuning": "fine-tuned",
    "finetuning": "fine-tuned",
    "control": "control",
    "base": "control",
    "baseline": "control",
    "eval only": "eval-only",
    "evaluation only": "eval-only",
    "eval": "eval-only",
}
_ALLOWED_TYPES = "Fine-tuned, Control or eval-only"
_LIKELY_MISSPELT = 0.8
_ANOTHER = frozenset({"effective", "eff", "total", "global", "ratio", "fraction"})


class _Columns:
    """What each column of the table is."""

    def __init__(self, columns: list[Field], reading: Reading) -> None:
        self.name: int | None = None
        self.type: int | None = None
        self.parameters: dict[int, Parameter] = {}
        self.remarks: set[tuple[int, str]] = set()
        seen: dict[str, str] = {}
        for i, column in enumerate(columns):
            meaning = self._meaning(i, column, reading)
            if meaning is None:
                continue
            if meaning in seen:
                message = f"the columns {shown(seen[meaning])} and {shown(column.text)} both mean {meaning}"
                fix = "keep one of the two columns"
                reading.add("duplicate-column", message, field=meaning, line=column.line, fix=fix)
            seen.setdefault(meaning, column.text)

    def _meaning(self, i: int, column: Field, reading: Reading) -> str | None:
        label = normalize(column.text)
        if label in NAME_COLUMNS:
            self.name = i if self.name is None else self.name
            return "run name"
        if label in {"type", "run type"}:
            self.type = i if self.type is None else self.type
            return "type"
        parameter = by_label(column.text) or _with_remark(column.text)
        if parameter is not None and parameter.column:
            self.parameters.setdefault(i, parameter)
            return parameter.name
        if label in NOT_PLANNED:
            reading.findings.append(not_planned(column.text, column, reading.summary.file))
        elif label not in _FOR_PEOPLE and label:
            _unknown_column(column, reading)
        return None


def _with_remark(label: str) -> Parameter | None:
    """The parameter of `LoRA Rank (r)` or `Batch Size (per device)`; what is `(effective)` or `(total)` is another."""
    remark = normalize(label.removeprefix(clean.without_remark(label)))
    return None if set(remark.split()) & _ANOTHER else by_label(clean.without_remark(label))


def _unknown_column(column: Field, reading: Reading) -> None:
    words = normalize(column.text)
    near = [] if set(words.split()) & _ANOTHER else close_matches(words, labels(), limit=1, cutoff=_LIKELY_MISSPELT)
    near = near or (["type"] if words in _TYPES else [])
    if not near and set(words.split()) & WORDS_OF_TRAINING and not set(words.split()) & {"eff", "effective"}:
        message = f"the column {shown(column.text)} is about the runs, but is no parameter that can be planned"
        fix = "give each parameter a column of its own, named as in workflows/torchtune.md, or leave the column out"
        reading.add("misspelt-field", message, field=escape(column.text), line=column.line, fix=fix)
        return
    reading.add(
        "misspelt-field" if near else "unused-column",
        f"the column {shown(column.text)} is not a parameter" + (f"; did you mean {near[0]!r}?" if near else ""),
        field=escape(column.text),
        line=column.line,
        fix=f"write {near[0]!r}"
        if near
        else "nothing, unless it was meant to change the runs: see the parameters in workflows/torchtune.md",
    )


def read(reading: Reading) -> tuple[tuple[str, ...], tuple[Run, ...]]:
    """The names of the parameter columns in the table's order, and every row, typed. Problems are noted."""
    draft = reading.summary
    if not draft.columns:
        return (), ()
    columns = _Columns(draft.columns, reading)
    lines = draft.columns[0].line
    by_name = {p.name: i for i, p in columns.parameters.items()}
    if "model" not in by_name:
        message = "the table of runs has no column Model"
        fix = "add a column Model that names each run's base model"
        reading.add("missing-field", message, field="model", line=lines, fix=fix)
    runs = [run for row in draft.rows if (run := _run(row, columns, reading)) is not None]
    tuned = sum(run.type == "fine-tuned" for run in runs)
    if draft.said_runs is not None and draft.said_runs[0] != tuned and len(runs) == len(draft.rows):
        reading.add(
            "runs-differ",
            f"the summary says {draft.said_runs[0]} fine-tuned runs, but its table has {tuned}",
            field="runs",
            expected=draft.said_runs[0],
            actual=tuned,
            line=draft.said_runs[1],
            fix="correct the one that is wrong",
        )
    return tuple(by_name), tuple(runs)


def _run(row: RowDraft, columns: _Columns, reading: Reading) -> Run | None:
    name = row.cells.get(columns.name) if columns.name is not None else None
    run_type, file = _type(row, columns, reading), reading.summary.file
    if run_type is None:
        return None
    parameters: dict[str, Setting] = {}
    for i, parameter in columns.parameters.items():
        text = row.cells.get(i)
        if text is None or clean.is_left_out(parameter, text.text):
            continue
        try:
            value, remark = clean.typed(parameter, text)
        except NotTyped as problem:
            if run_type == "fine-tuned":
                where = (f"run {shown(name.text)}, " if name else "") + f"column {text.note}"
                elsewhere = "; a run has one value, so give each a row of its own"
                reading.findings.append(not_typed(parameter, text, problem, where, file, elsewhere))
            continue
        if remark and run_type == "fine-tuned" and (i, remark) not in columns.remarks:
            columns.remarks.add((i, remark))  # told once, of the first row that has it
            reading.findings.append(ignored_remark(parameter, text, value, remark, file))
        source = Source(kind=SourceKind.ROW, file=file, line=text.line, note=text.note)
        parameters[parameter.name] = Setting(value=value, source=source)
    model = parameters.get("model")
    written = any(p.name == "model" and i in row.cells for i, p in columns.parameters.items())
    if not written and run_type == "fine-tuned" and "model" in {p.name for p in columns.parameters.values()}:
        message = f"the run {shown(name.text if name else '')} has no model"
        fix = "name the base model in the column Model"
        reading.add("missing-field", message, field="model", line=row.line, fix=fix)
    return Run(
        name=escape(name.text) if name else "",
        type=run_type,
        model=str(model.value) if model else "",
        parameters=parameters,
        line=row.line,
    )


def _type_by_cells(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """Without a Type column a row without any hyperparameter is a control; with some, but no rank or rate, unclear."""
    hyperparameters = {i: p.name for i, p in columns.parameters.items() if p.name != "model"}
    written = [name for i, name in hyperparameters.items() if i in row.cells]
    if hyperparameters and not written:
        return "control"
    telling = {"lora_rank", "lr"} & set(hyperparameters.values())
    if not telling or (telling | {"recipe"}) & set(written):
        return "fine-tuned"
    has = f"{', '.join(written)}, but no {' or '.join(sorted(telling))}: nothing says whether it is fine-tuned"
    _no_type(row, columns, reading, has, f"add a column Type with {_ALLOWED_TYPES}")
    return None


def _no_type(row: RowDraft, columns: _Columns, reading: Reading, has: str, fix: str) -> None:
    name = row.cells.get(columns.name) if columns.name is not None else None
    message = f"the run {shown(name.text if name else '')} has {has}"
    reading.add("missing-field", message, field="type", expected=_ALLOWED_TYPES, line=row.line, fix=fix)


def _type(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """The row's type: as its Type column says; without one, as its cells do."""
    if columns.type is None:
        return _type_by_cells(row, columns, reading)
    text = row.cells.get(columns.type)
    if text is None:
        _no_type(row, columns, reading, "no type", f"write {_ALLOWED_TYPES}")
        return None
    said = clean.without_remark(text.text)
    found = _TYPES.get(normalize(said))
    remark = text.text.removeprefix(said).strip()
    if found == "fine-tuned" and remark and (columns.type, remark) not in columns.remarks:
        columns.remarks.add((columns.type, remark))
        reading.findings.append(ignored_remark(Parameter("type", "text"), text, said, remark, reading.summary.file))
    if found is None:
        reading.add(
            "invalid-value",
            f"the type is {shown(text.text)}, not {_ALLOWED_TYPES}",
            field="type",
            expected=_ALLOWED_TYPES,
            actual=escape(text.text),
            line=text.line,
            fix=f"write {_ALLOWED_TYPES}",
        )
    return found
