"""What the summary says of the values that vary, beside its runs: a second telling, which may contradict them.

The runs decide; what the section Variables says is compared with them, never planned.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.experiment import Run
from scaffold_torchtune.parse import clean, titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.settings.kinds import NotTyped, shortest_number
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.shared.markdown import Section, Table

_NUMBERS: Final = frozenset({"int", "float"})
_LEVELS: Final = frozenset({"levels", "level", "values", "value", "settings", "options"})
_BETWEEN: Final = re.compile(r"\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or|vs\.?)\s+")
_AROUND: Final = "[]{}() "
_SHOWN: Final = 8


def read(root: Section, draft: SummaryDraft) -> None:
    """Take the levels of every parameter that a section Variables lists, in a table or as `label: levels`."""
    for section in titles.topmost(root, titles.is_factors):
        for part in section.walk():
            for table in part.tables:
                draft.levels += _of_table(table, part.title)
            for bullet in part.all_bullets():
                pair = bullet.text.labelled()
                parameter = by_label(pair.label) if pair else None
                if pair and parameter:
                    draft.levels.append((parameter.name, Field(pair.value, bullet.text.line, part.title, pair.full)))


def _of_table(table: Table, title: str) -> Iterator[tuple[str, Field]]:
    header = [normalize(cell.plain) for cell in table.header]
    column = next((i for i, label in enumerate(header) if label in _LEVELS), 1)
    for row in table.rows:
        parameter = by_label(row.cells[0].plain) if len(row.cells) > max(column, 1) else None
        if parameter and column:
            yield parameter.name, Field(row.cells[column].plain, row.line, title)


def differing(draft: SummaryDraft, runs: Sequence[Run], config: Mapping[str, Setting]) -> list[Finding]:
    """Where the fine-tuned runs have other values of a number than the summary says it takes."""
    tuned = [run for run in runs if run.type == "fine-tuned"]
    found = []
    for name, field in draft.levels if tuned else ():
        said = _typed(PARAMETERS[name], field)
        if not said:
            continue
        settings = [setting for run in tuned if (setting := run.parameters.get(name) or config.get(name))]
        planned = {float(str(setting.value)) for setting in settings}
        if set(said) != planned:
            has = f"the runs have {_listed(sorted(planned))}" if planned else "no run is given one"
            found.append(_finding(name, field, draft.file, said, has))
    return found


def _finding(name: str, field: Field, file: str, said: Sequence[float], has: str) -> Finding:
    message = f"{field.note} says that {name} takes {_listed(said)}, but {has}"
    fix = "correct the one that is wrong; the runs count"
    return finding("levels-differ", message, field=name, file=file, line=field.line, fix=fix)


def _typed(parameter: Parameter, field: Field) -> list[float]:
    """The levels of a number; none where the text is anything but a list of them (`8 to 64`, `low and high`)."""
    if parameter.kind not in _NUMBERS:
        return []
    texts = [text for text in _BETWEEN.split((field.full or field.text).strip(_AROUND)) if text]
    try:
        values = [float(str(clean.typed(parameter, Field(text, field.line, field.note)).value)) for text in texts]
    except NotTyped:
        return []
    return list(dict.fromkeys(values))


def _listed(values: Sequence[float]) -> str:
    more = f", ... ({len(values)} values)" if len(values) > _SHOWN else ""
    return ", ".join(shortest_number(value) for value in values[:_SHOWN]) + more
