"""What to ask the user, made of what stands against reading the documents: the fields that one value settles."""

from collections.abc import Iterable, Mapping
from typing import Final

from scaffold_torchtune.findings import Finding, Question, errors_in
from scaffold_torchtune.settings.parameters import DIRECTORIES, PARAMETERS, Parameter
from scaffold_torchtune.shared.text import escape

SETTLED: Final = frozenset({"missing-field", "ambiguous", "invalid-value"})
"""The codes of problems with one value of one field."""

MODEL_PATH: Final = "path of model "
"""What the field of a model's directory is called, before the model's name."""

_OTHERS: Final = {
    "experiment name": PARAMETERS["experiment_name"],
    **DIRECTORIES,
}
_NEVER: Final = frozenset({"model", "input_dir_base"})  # what differs by run, and what follows from other fields
_KINDS: Final = {"int": "integer", "float": "number", "bool": "boolean"}


def answerable(field: str) -> Parameter | None:
    """The parameter of a field that one value settles for all runs; None for any other field."""
    if field.startswith(MODEL_PATH):
        return Parameter(field, "path")
    return None if field in _NEVER else _OTHERS.get(field) or PARAMETERS.get(field)


def questions(
    found: Iterable[Finding], lines: Mapping[str, tuple[str, str]], rows: Iterable[int], summary: str
) -> list[Question]:
    """One question for each field that an answer would settle.

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
    known = answerable(field)
    return Question(
        field=field,
        question=_sentence(field, problem),
        kind=_KINDS.get(known.kind, "text") if known else "text",
        options=tuple(map(str, problem.choices)),
        file=file,
        add=add or f"- **{field}**: VALUE ({_place(problem)})",
    )


def _place(problem: Finding) -> str:
    """Where the line goes that an answer is written in: where two disagree, neither may stay beside it."""
    if problem.code == "ambiguous":
        return "in the place of both that disagree"
    return f"in the place of line {problem.line}"


def _sentence(field: str, problem: Finding) -> str:
    name = escape(field)
    known = answerable(field)
    asked = (known.question if known else "") or f"What is {name}?"
    if field.startswith(MODEL_PATH):
        asked = f"In which directory does the {name.removeprefix('path of ')} lie?"
    return asked if problem.code == "missing-field" else f"{asked} ({problem.message})"
