"""Reads the settings of a Markdown summary, which all runs share, into the draft."""

import re
from collections.abc import Iterator

from scaffold_torchtune.parse import clean, titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.setup_finetune.registry import find_model
from scaffold_torchtune.shared.markdown import Bullet, Section, Table
from scaffold_torchtune.shared.markdown_text import Text
from scaffold_torchtune.shared.text import shown

_LABEL_COLUMNS = frozenset({"parameter", "setting", "hyperparameter", "name", "key", "option", "field", "variable"})
_VALUE_COLUMNS = frozenset({"value", "values", "setting", "level", "default"})
# Words that make a group of settings one of some runs alone.
_CONDITION = re.compile(r"\b(?:only|except|unless)\b|^(?:for|if|when|in) ", re.IGNORECASE)
_WANDB = frozenset({"wandb project", "w b project", "weights biases project", "project"})


def read(root: Section, draft: SummaryDraft) -> None:
    """Take the settings of every section that holds some into the draft."""
    for section in titles.topmost(root, titles.is_configuration):
        _training(section, "Configuration", draft)
    for section in titles.topmost(root, titles.is_prompt):
        _prompt(section, draft)


def _training(section: Section, note: str, draft: SummaryDraft) -> None:
    """Settings of training in a section and below it; what stands below Evaluation or Output is none."""
    for text in [*_texts(section.bullets, note, draft), *section.paragraphs]:
        pair = text.labelled()
        if pair and normalize(pair.label) in _WANDB and draft.wandb_project is None and pair.value:
            draft.wandb_project = Field.of(pair, text.line, note)
        elif pair and pair.value:
            draft.configuration.append((pair.label, Field.of(pair, text.line, note)))
        elif pair is None and text.lead and by_label(text.lead) is not None:
            message = f"{note}: {shown(text.plain)} begins with a setting's name, but is not 'name: value'"
            draft.problem("misspelt-field", message, text.line, f"write '- **{text.lead}:** {text.rest}'", text.lead)
    for table in section.tables:
        _table(table, note, draft)
    for below in section.sections:
        if titles.is_output(below.title):
            _output(below, draft)
        elif _is_condition(below.title) and any(_names_a_setting(text) for text in _all_texts(below)):
            _conditional(below.title, below.line, draft)
        elif not titles.is_elsewhere(below.title) and not titles.is_prompt(below.title):
            _training(below, f"{note} > {below.title}", draft)


def _texts(bullets: list[Bullet] | tuple[Bullet, ...], note: str, draft: SummaryDraft) -> Iterator[Text]:
    """The texts of bullets and of those below them; a group that is for some runs alone is refused."""
    for bullet in bullets:
        pair = bullet.text.labelled()
        says = pair.label if pair else bullet.text.plain
        if bullet.children and _is_condition(says) and any(_names_a_setting(b.text) for b in bullet.children):
            _conditional(says, bullet.text.line, draft)
            continue
        yield bullet.text
        if bullet.text.below is None or not (pair and by_label(pair.label)):
            yield from _texts(bullet.children, note, draft)


def _is_condition(text: str) -> bool:
    return bool(_CONDITION.search(text)) or any(find_model(word) is not None for word in re.split(r"[\s,]+", text))


def _names_a_setting(text: Text) -> bool:
    pair = text.labelled()
    parameter = by_label(pair.label) if pair and pair.value else None
    return parameter is not None and parameter.column


def _all_texts(section: Section) -> Iterator[Text]:
    for part in section.walk():
        yield from part.paragraphs
        yield from (bullet.text for bullet in part.all_bullets())


def _conditional(group: str, line: int, draft: SummaryDraft) -> None:
    message = f"the settings below {shown(group)} are for some runs alone; what Configuration says is for all"
    fix = "make each of these settings a column of the table of runs"
    draft.problem("ambiguous", message, line, fix, "configuration")


def _prompt(section: Section, draft: SummaryDraft) -> None:
    """`## System prompt` with the text below it: one fenced block, or paragraphs alone."""
    note = section.title
    others = section.bullets or section.tables or section.sections
    if len(section.fences) == 1 and not section.paragraphs and not others:
        fence = section.fences[0]
        text = fence.content.removesuffix("\n")
        draft.configuration.append((section.title, Field(text, fence.line, note, exact=True)))
    elif section.paragraphs and not section.fences and not others:
        plain = "\n".join(text.plain for text in section.paragraphs)
        source = "\n".join(text.whole for text in section.paragraphs)
        draft.configuration.append(
            (section.title, Field(plain, section.paragraphs[0].line, note, plain, source=source))
        )
    elif section.paragraphs or section.fences or others:
        message = f"what stands below {shown(section.title)} is not one text"
        fix = "give the whole text in one fenced block, and nothing else below this heading"
        draft.problem("ambiguous", message, section.line, fix, normalize(section.title))


def _table(table: Table, note: str, draft: SummaryDraft) -> None:
    """A table of names and values; another table is not read, and which settings it names is told."""
    header = [normalize(cell.plain) for cell in table.header]
    values = [i for i, label in enumerate(header) if i and label in _VALUE_COLUMNS]
    if len(header) > 1 and header[0] in _LABEL_COLUMNS and len(values) <= 1:
        column = values[0] if values else 1
        for row in table.rows:
            if len(row.cells) > column and not clean.is_empty(row.cells[column].plain):
                label, cell = row.cells[0].plain, row.cells[column]
                code = cell.code if cell.code is not None and cell.plain.startswith(cell.code) else cell.plain
                draft.configuration.append((label, Field(code, row.line, note, cell.plain, source=cell.source)))
        return
    named = [t.plain for row in table.rows for t in row.cells[:1] if by_label(t.plain)]
    named += [cell.plain for cell in table.header if by_label(cell.plain)]
    what = f", which names {', '.join(named)}" if named else ""
    fix = "write each setting as a line '- **Name:** value', or in a table with the columns Parameter and Value"
    draft.problem("unused-field", f"{note}: a table is not read for settings{what}", table.line, fix, "configuration")


def _output(section: Section, draft: SummaryDraft) -> None:
    for bullet in section.bullets:
        pair = bullet.text.labelled()
        if pair is None or clean.is_unset(pair.value):
            continue
        note = f"Configuration > Output > {pair.label}"
        if normalize(pair.label) == "checkpoint directory":
            draft.output_dirs.append(Field.of(pair, bullet.text.line, note))
        elif normalize(pair.label) in _WANDB and draft.wandb_project is None:
            draft.wandb_project = Field.of(pair, bullet.text.line, note)
