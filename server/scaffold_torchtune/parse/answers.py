"""Questions to the user about the documents, and answers put into the places of the documents that they settle.

An answer gives a value that no document gives, or settles one that a document gives twice or wrongly. It never changes
a value that a document clearly gives: if the two differ, that is a problem. It replaces everything that the line to add
would replace, so that the answer and the line always give the same plan.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scaffold_torchtune.findings import (
    Finding,
    Location,
    Question,
    Scalar,
    did_you_mean,
    errors_in,
    escape,
    few,
    finding,
    shortest_number,
    shown,
)
from scaffold_torchtune.models import Answer, Run
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.document_lines import Written
from scaffold_torchtune.parse.drafts import Draft, LocalDraft, SourceText, SummaryDraft
from scaffold_torchtune.parse.reading import MODEL_PATH, NAME, Place, Reading, advise, holder, parameter_named, text_of
from scaffold_torchtune.parse.values import configured
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import DIRECTORIES, OF_CONFIGURATION, OF_LOCAL, PARAMETERS, Parameter
from scaffold_torchtune.torchtune_facts import model_by_spelling

SETTLED: Final = frozenset({"missing-field", "ambiguous", "invalid-value"})
"""The codes of problems with one value of one field."""

_LISTED: Final = 4
_KINDS: Final = {"int": "integer", "float": "number", "bool": "boolean"}
_GPUS: Final = frozenset({"gpus", "gpu_type"})
_TYPE_AND_NUMBER: Final = re.compile(r"[A-Za-z][\w.-]{0,60}:[0-9]")


def answerable(field: str) -> Parameter | None:
    """Return the parameter of a field that one value settles for all runs; else None."""
    known = PARAMETERS.get(field)
    of_documents = (
        known is not None and known.name != "model" and (known.column or known.name in {*OF_LOCAL, *OF_CONFIGURATION})
    )
    is_one = field.startswith(MODEL_PATH) or field in {NAME, "experiment_name", *DIRECTORIES} or of_documents
    return parameter_named(field) if is_one else None


@dataclass(frozen=True)
class Asked:
    """A question, and the place of its answer."""

    question: Question
    place: Place


def ask(problems: Iterable[Finding], reading: Reading, answered: Mapping[str, Place]) -> list[Asked]:
    """Return a question for each field that an answer would settle. `answered` are the places of earlier answers."""
    drafts = (reading.summary, reading.local)
    by_field: dict[str, list[Finding]] = {}
    unasked = frozenset(reading.unasked)
    for problem in errors_in(problems):
        if problem.code in SETTLED and answerable(problem.field or "") and problem not in unasked:
            by_field.setdefault(_key(problem.field or ""), []).append(problem)
    places: list[tuple[Place, list[Finding]]] = []
    for key, found in by_field.items():
        place = answered.get(key) or _place(found[0].field or "", found, *drafts)
        if _is_asked(place, found):
            places.append((place, found))
    advice = advise([(place, holder(place.field)) for place, _ in places], reading.form)
    asked = zip(places, advice, strict=True)
    return [Asked(_question(found).model_copy(update=written._asdict()), place) for (place, found), written in asked]


def _key(field: str) -> str:
    return "experiment_name" if field == NAME else field


def _is_asked(place: Place, found: Sequence[Finding]) -> bool:
    """Return whether one value settles the problems; a line such as `GPUs: a100:2` gives two."""
    if place.field not in _GPUS:
        return True
    rows = text_of(place.draft).split("\n")
    lines = {text.line for text in place.texts} | {p.line for p in found if p.file == place.draft.file and p.line}
    return not any(_TYPE_AND_NUMBER.search(rows[line - 1]) for line in lines if line)


def _question(found: Sequence[Finding]) -> Question:
    problem = found[0]
    field = problem.field or ""
    known, name = parameter_named(field), escape(field)
    asked = known.question or f"What is the value of {name}?"
    if field.startswith(MODEL_PATH):
        asked = f"Which directory contains the {name.removeprefix('path of ')}?"
    options = dict.fromkeys(option for choice in problem.choices if (option := _option(known, choice)))
    return Question(
        field=field,
        question=asked if problem.code == "missing-field" else f"{asked} ({problem.message})",
        kind=_KINDS.get(known.kind, "text"),
        options=tuple(options) if len(options) > 1 else (),
    )


def _option(known: Parameter, choice: Scalar) -> str | None:
    """Return a choice as a valid answer, without a remark if possible; None if there is none."""
    text = shortest_number(choice) if isinstance(choice, float) else _text(choice)
    for each in (values.unquoted(values.without_remark(text)), text):
        if values.value_of(known, SourceText(each, 0, "", exact=True)) is not None:
            return each
    return None


def _place(field: str, problems: Sequence[Finding], summary: SummaryDraft, local: LocalDraft) -> Place:
    """Return the place of a field: in the overriding document, else at its problem, or where it belongs."""
    own, others = _in_summary(field, summary), _in_local(field, local)
    if field in OF_CONFIGURATION:  # its problem is in a row, and remains
        problems = [problem.model_copy(update={"line": None}) for problem in problems]
    problem_lines = {
        draft.file: frozenset(p.line for p in problems if p.line and p.file == draft.file and p.code != "missing-field")
        for draft in (summary, local)
    }
    in_summary = bool(own or problem_lines[summary.file])
    in_local = bool(others or problem_lines[local.file])
    known = parameter_named(field)
    if not (in_summary or in_local):
        to_summary = (known.column or known.name in OF_CONFIGURATION) and known.name not in DIRECTORIES
        to_summary |= known.name in {"experiment_name", "dataset"} or field.startswith(MODEL_PATH)
    else:
        to_summary = in_summary and not (in_local and field == "output_dir_base")
    draft, texts = (summary, own) if to_summary else (local, others)
    other: Draft = local if to_summary else summary
    gone_lines = problem_lines[other.file]
    gone = tuple(others) if to_summary and gone_lines else ()
    is_in = {text.line for text in texts}
    return Place(
        field, draft, tuple(texts), problem_lines[draft.file] - is_in, other, gone, gone_lines, tuple(problems)
    )


def _in_summary(field: str, summary: SummaryDraft) -> list[SourceText]:
    """Return the summary's texts for a field."""
    match _key(field):
        case "experiment_name":
            return [summary.name] if summary.name else []
        case "dataset":
            return summary.datasets
        case "my_wandb_project":
            return [summary.wandb_project] if summary.wandb_project else []
        case "models_dir":
            return summary.models_dirs
        case "output_dir_base":
            return summary.output_dirs
    if field.startswith(MODEL_PATH):
        return [text for name, text in summary.models if _is_model(field, name)]
    return [text for label, text in summary.configuration if _means(label, field)]


def _in_local(field: str, local: LocalDraft) -> list[SourceText]:
    return [local.settings[field]] if field in local.settings else []


def _is_model(field: str, name: str) -> bool:
    model = field.removeprefix(MODEL_PATH)
    known = model_by_spelling(model)
    return name == model or (known is not None and model_by_spelling(name) is known)


def _means(label: str, field: str) -> bool:
    known = configured(label)
    return known is not None and known.name == field


def _put(place: Place, text: SourceText, summary: SummaryDraft, local: LocalDraft) -> None:
    """Put an answer in its place, and remove the texts and problems that it settles."""
    field = place.field
    for draft in (summary, local):
        draft.findings = [problem for problem in draft.findings if problem not in place.problems]
    if place.gone and place.other is local:
        local.settings.pop(field, None)
    if place.draft is local:
        local.settings[field] = text
        return
    match _key(field):
        case "experiment_name":
            summary.name = text
        case "dataset":
            summary.datasets = [text]
        case "my_wandb_project":
            summary.wandb_project = text
        case "models_dir":
            summary.models_dirs = [text]
        case "output_dir_base":
            summary.output_dirs = [text]
        case _ if field.startswith(MODEL_PATH):
            others = [pair for pair in summary.models if not _is_model(field, pair[0])]
            summary.models = [*others, (field.removeprefix(MODEL_PATH), text)]
        case _:
            others = [pair for pair in summary.configuration if not _means(pair[0], field)]
            summary.configuration = [*others, (field, text)]


@dataclass
class Answering:
    """The answers for an experiment: `given` by field; `taken` are the places of used answers."""

    given: dict[str, Scalar]
    taken: dict[str, Place]

    def take(self, asked: Sequence[Asked], reading: Reading) -> bool:
        """Put the answers to questions into the drafts; return whether any were new."""
        fields = {_key(each.place.field): each.place for each in asked}
        now = [field for field in self.given if _key(field) in fields and _key(field) not in self.taken]
        for field in now:
            self._take(field, fields[_key(field)], reading)
        return bool(now)

    def take_others(self, asked: Sequence[Asked], reading: Reading) -> list[Finding]:
        """Put answers to other fields into the drafts; return their problems."""
        problems: list[Finding] = []
        wanted = {each.question.field for each in asked}
        for field in self.given:
            known = answerable(field)
            models = [name for name, _ in reading.summary.models]
            if known is None or (field.startswith(MODEL_PATH) and not any(_is_model(field, name) for name in models)):
                problems.append(_unknown(field, wanted))
            elif _key(field) not in self.taken:
                place = _place(field, (), reading.summary, reading.local)
                if place.texts:
                    problems += _differing(known, field, place, self._text(field))
                else:
                    self._take(field, place, reading)
        return problems

    def refuse_unused(self, runs: Iterable[Run], given: Container[str], file: str) -> list[Finding]:
        """Return a problem for each answer that no run uses, because all rows give other values.

        Forget answers that agree with all rows. An answer to a question is used: it settles what was asked. `given` are
        the parameters that all rows give.
        """
        problems: list[Finding] = []
        tuned = [run for run in runs if run.type == "fine-tuned"]
        for field in [field for field in self.given if _key(field) in self.taken]:
            place, known = self.taken[_key(field)], parameter_named(field)
            if place.texts or place.problems or known.name not in given:
                continue
            answer = values.value_of(known, self._text(field))
            if others := [run for run in tuned if run.parameters[known.name].value != answer]:
                problems.append(_of_rows(field, others, self._text(field).text, file))
            del self.taken[_key(field)]
        return problems

    def used(self, reading: Reading) -> list[Answer]:
        """Return the answers that no document gives, each with the line that a document could have instead."""
        fields = [field for field in self.given if _key(field) in self.taken]
        pairs = [(self.taken[_key(field)], self._written(field)) for field in fields]
        advice = advise(pairs, reading.form)
        return [
            Answer(field=field, value=self.given[field], **each._asdict())
            for field, each in zip(fields, advice, strict=True)
        ]

    def _take(self, field: str, place: Place, reading: Reading) -> None:
        _put(place, self._text(field), reading.summary, reading.local)
        self.taken[_key(field)] = place

    def _text(self, field: str) -> SourceText:
        return SourceText(_text(self.given[field]), 0, "given by the user", exact=True, answer=True)

    def _written(self, field: str) -> Written:
        """Return an answer in the form of a document: as the user wrote it, if its kind accepts that."""
        known, text = parameter_named(field), _text(self.given[field])
        try:
            kinds.read(known.kind, text, known.bounds)
        except NotTyped:
            value = values.value_of(known, self._text(field))
            text = text if value is None else shortest_number(value) if type(value) is float else _text(value)
        return Written(known.kind, text)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _differing(known: Parameter, field: str, place: Place, answer: SourceText) -> list[Finding]:
    """Return a finding if a document clearly gives a value that differs from the answer."""
    given, file = place.texts[0], place.draft.file
    value = values.value_of(known, given)
    if value is not None and value == values.value_of(known, answer):
        return []
    message = f"the answer for {field} is {shown(answer.text)}, but {file} has {shown(given.text)}"
    at, fix = Location(file, given.line or None), f"omit the answer; if it is right, correct {file} instead"
    expected, actual = escape(given.text), escape(answer.text)
    return [finding("answer-differs", message, field=field, expected=expected, actual=actual, at=at, fix=fix)]


def _of_rows(field: str, runs: Sequence[Run], answer: str, file: str) -> Finding:
    """Return a finding about an answer if every row gives the value itself. `runs` are those with another value."""
    name = parameter_named(field).name
    given = few([*dict.fromkeys(shown(run.parameters[name].value) for run in runs)], _LISTED, last="or")
    message = f"the answer for {field} is {shown(answer)}, but the row of every run already gives a value ({given})"
    at, fix = Location(file, runs[0].line), f"omit the answer; if it is right, correct the rows of {file} instead"
    return finding("answer-differs", message, field=field, actual=escape(answer), at=at, fix=fix)


def _unknown(field: str, wanted: set[str]) -> Finding:
    fields = sorted({*wanted, *(name for name in PARAMETERS if answerable(name))})
    near, names = did_you_mean(field, fields), [shown(name) for name in sorted(wanted)]
    message = f"{shown(field)} is not the name of a field that accepts an answer"
    fix = f"answer one of these fields: {few(names, len(names), last='or')}" if names else "omit this answer"
    fix = f"answer the only field that needs an answer, {names[0]}" if len(names) == 1 else fix
    if near:
        message, fix = f"{message}. {near}", "correct the name of the field"
    return finding("unknown-key", message, field=escape(field), fix=fix)
