"""Questions to the user about the documents, and the answers put where the documents would say the same.

An answer fills what no document gives, and settles what a document gives twice or wrongly. It never changes what a
document says plainly: where the two differ, that is a problem.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from scaffold_torchtune.findings import Finding, Location, Question, Scalar, errors_in, finding
from scaffold_torchtune.models import Answer
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import LocalDraft, SourceText, SummaryDraft
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_CONFIGURATION, PARAMETERS, Parameter, by_label
from scaffold_torchtune.system.text import did_you_mean, escape, shown

SETTLED: Final = frozenset({"missing-field", "ambiguous", "invalid-value"})
"""The codes of problems with one value of one field."""

MODEL_PATH: Final = "path of model "
"""What the field of a model's directory is called, before the model's name."""

_OTHERS: Final = {"experiment name": PARAMETERS["experiment_name"], **DIRECTORIES}
_NEVER: Final = frozenset({"model", "input_dir_base"})  # what differs by run, and what follows from other fields
_KINDS: Final = {"int": "integer", "float": "number", "bool": "boolean"}


def answerable(field: str) -> Parameter | None:
    """Return the parameter of a field that one value settles for all runs; None for any other field."""
    if field.startswith(MODEL_PATH):
        return Parameter(field, "path")
    return None if field in _NEVER else _OTHERS.get(field) or PARAMETERS.get(field)


def questions(
    found: Iterable[Finding], lines: Mapping[str, tuple[str, str]], rows: Iterable[int], summary: str
) -> list[Question]:
    """Return one question for each field that an answer would settle.

    `lines` has the document and the line to add by missing field; `rows` are the lines of the summary's table of runs,
    in which no single answer can stand.
    """
    in_rows = {(summary, line) for line in rows}
    asked: dict[str, Question] = {}
    for problem in errors_in(found):
        field = problem.field or ""
        if problem.code in SETTLED and answerable(field) and (problem.file or "", problem.line) not in in_rows:
            asked.setdefault(field, _question(field, problem, lines))
    return list(asked.values())


def _question(field: str, problem: Finding, lines: Mapping[str, tuple[str, str]]) -> Question:
    file, add = lines.get(field, (problem.file or "", ""))
    known, name = answerable(field), escape(field)
    asked = (known.question if known else "") or f"What is {name}?"
    if field.startswith(MODEL_PATH):
        asked = f"In which directory does the {name.removeprefix('path of ')} lie?"
    # Where two lines disagree, neither may stay beside the one that the answer is written in.
    where = "both that disagree" if problem.code == "ambiguous" else f"line {problem.line}"
    return Question(
        field=field,
        question=asked if problem.code == "missing-field" else f"{asked} ({problem.message})",
        kind=_KINDS.get(known.kind, "text") if known else "text",
        options=tuple(map(str, problem.choices)),
        file=file,
        add=add or f"- **{field}**: VALUE (in the place of {where})",
    )


@dataclass(frozen=True)
class _Slot:
    """Where a field stands in the drafts: what is there, and how to put a text in its place."""

    there: tuple[SourceText, ...]
    put: Callable[[SourceText], None]
    file: str


def apply_answers(
    answers: Mapping[str, Scalar], summary: SummaryDraft, local: LocalDraft, open_fields: Iterable[str]
) -> list[Finding]:
    """Put answers into the drafts; what is wrong with an answer is returned. `open_fields` await one."""
    wanted, models = set(open_fields), {f"{MODEL_PATH}{name}" for name, _ in summary.models}
    problems: list[Finding] = []
    for field, value in answers.items():
        known = answerable(field)
        if known is None or (field.startswith(MODEL_PATH) and field not in wanted | models):
            problems.append(_unknown(field, wanted))
            continue
        slot = _slot(field, summary, local)
        text = SourceText(_text(value), 0, "given by the user", exact=True, answer=True)
        if slot.there and field not in wanted:
            problems += _differing(known, field, slot, text)
            continue
        for draft in (summary, local):
            draft.findings = [p for p in draft.findings if p.field != field or p.code not in SETTLED]
        slot.put(text)
    return problems


def used_answers(
    answers: Mapping[str, Scalar], summary: SummaryDraft, local: LocalDraft, ask: Iterable[Question]
) -> list[Answer]:
    """Return those answers that no document gives, each with the line that would say it; after `apply_answers`."""
    lines = {question.field: question for question in ask}
    found = []
    for field, value in answers.items():
        slot = _slot(field, summary, local)
        if any(text.answer for text in slot.there):
            question = lines.get(field)
            file, add = (question.file, question.add) if question else (slot.file, f"- **{field}**: VALUE")
            found.append(Answer(field=field, value=value, file=file, add=_written(add, value)))
    return found


def _written(line: str, value: Scalar) -> str:
    """Return the line to add, with the value in the place of what stands for it."""
    for holder in ("/path/to/data.json", "/path/to/outputs", "EXPERIMENT_NAME", "NUMBER", "VALUE", "NAME"):
        if holder in line:
            return line.replace(holder, _text(value))
    head, _, path = line.rpartition("/path/to/")
    return f"{head}{_text(value)}{'`' if path.endswith('`') else ''}"


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _slot(field: str, summary: SummaryDraft, local: LocalDraft) -> _Slot:
    """Return where a field stands."""
    if field == "experiment name":
        return _Slot((summary.name,) if summary.name else (), lambda text: setattr(summary, "name", text), summary.file)
    if field == "dataset":
        return _Slot(tuple(summary.datasets), lambda text: setattr(summary, "datasets", [text]), summary.file)
    if field.startswith(MODEL_PATH):
        model = field.removeprefix(MODEL_PATH)
        return _slot_in(summary.models, model, lambda name: name == model, summary.file)
    known = PARAMETERS.get(field)
    is_shared = known is not None and (known.column or field in OF_CONFIGURATION)
    if not is_shared or field in {*local.settings, *(problem.field for problem in local.findings)}:
        return _local_slot(field, summary, local)
    return _slot_in(summary.configuration, field, lambda label: by_label(label) is known, summary.file)


def _slot_in(pairs: list[tuple[str, SourceText]], name: str, is_meant: Callable[[str], bool], file: str) -> _Slot:
    """Return a field among the labels and texts of a document."""

    def put(text: SourceText) -> None:
        pairs[:] = [*(pair for pair in pairs if not is_meant(pair[0])), (name, text)]

    return _Slot(tuple(text for label, text in pairs if is_meant(label)), put, file)


def _local_slot(field: str, summary: SummaryDraft, local: LocalDraft) -> _Slot:
    """Return a field of claude.local.md; of some the summary may speak too. What wins stands first."""
    there = [summary.wandb_project] if field == "my_wandb_project" and summary.wandb_project else []
    there += summary.models_dirs if field == "models_dir" else []
    there += [local.settings[field]] if field in local.settings else []
    there += summary.output_dirs if field == "output_dir_base" else []

    def put(text: SourceText) -> None:
        local.settings[field] = text
        if field == "my_wandb_project":
            summary.wandb_project = None
        elif field == "output_dir_base":
            summary.output_dirs = []
        elif field == "models_dir":
            summary.models_dirs = []

    return _Slot(tuple(there), put, local.file)


def _differing(known: Parameter, field: str, slot: _Slot, answer: SourceText) -> list[Finding]:
    """Return a finding where a document plainly says something else than the answer."""
    given = slot.there[0]
    value = values.value_of(known, given)
    if value is not None and value == values.value_of(known, answer):
        return []
    message = f"the answer for {field} is {shown(answer.text)}, but {slot.file} says {shown(given.text)}"
    at, fix = Location(slot.file, given.line or None), "leave the answer out, or correct the document first"
    expected, actual = escape(given.text), escape(answer.text)
    return [finding("answer-differs", message, field=field, expected=expected, actual=actual, at=at, fix=fix)]


def _unknown(field: str, wanted: set[str]) -> Finding:
    fields = sorted({*wanted, *PARAMETERS})
    fix = did_you_mean(field, fields) or f"what is asked for is {', '.join(sorted(wanted)) or 'nothing'}"
    return finding("unknown-key", f"no field {shown(field)} can be answered", field=escape(field), fix=fix)
