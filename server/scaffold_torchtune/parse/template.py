"""Reads a plain YAML template of setup_finetune.yaml: its values count where the experiment's documents say nothing.

Values are taken as they are written and typed by their parameter, as those of a summary in YAML are.
"""

import math
from typing import Any

from scaffold_torchtune import models
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import Setting, SourceKind
from scaffold_torchtune.parse import values, yaml_source
from scaffold_torchtune.parse.drafts import Field, SummaryDraft, TemplateDraft
from scaffold_torchtune.parse.reading import not_typed
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import KEYS, Parameter
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import escape

NOTE = "template"


def read_template(text: str, file: str) -> TemplateDraft:
    """Read a template. What is null, empty or left open (`<placeholder>`) is absent."""
    draft = TemplateDraft()
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        draft.problems.append(_unreadable(text, file, f"is not YAML: {error.message}", error.line))
        draft.readable = False
        return draft
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        draft.problems.append(_unreadable(text, file, "is not a mapping of keys to values", 1))
        draft.readable = False
        return draft
    source = Source(document, data, SummaryDraft(file))
    for key, value in data.items():
        if key in KEYS:
            _known(draft, key, source, file)
        elif value is not None:
            _other(
                draft,
                key,
                value,
                models.Source(kind=SourceKind.TEMPLATE, file=file, line=source.line((key,)), note=NOTE),
            )
    return draft


def _unreadable(text: str, file: str, what: str, line: int | None) -> Finding:
    fix = "correct the YAML, one `key: value` a line"
    if any(mark in text for mark in ("{{", "{%", "{#")):
        fix += "; if it is a Jinja2 template, let its name end in .j2"
    return finding("template-error", f"the template {escape(what)}", field="template", file=file, line=line, fix=fix)


def _known(draft: TemplateDraft, key: str, source: Source, file: str) -> None:
    """A key of setup_finetune.yaml: its value in its type, or as it is written, with what is wrong with it."""
    parameter, told = KEYS[key], len(source.draft.findings)
    text = yaml_source.field_at(source, (key,), key)
    place = models.Source(kind=SourceKind.TEMPLATE, file=file, line=source.line((key,)), note=NOTE)
    if text is None:
        if len(source.draft.findings) == told:
            return
        draft.settings[key] = Setting(value=escape(str(source.at((key,)))), source=place)
        draft.doubtful[key] = source.draft.findings[told]
    elif not _is_open(parameter, text):
        try:
            draft.settings[key] = Setting(value=values.typed(parameter, text).value, source=place)
        except NotTyped as problem:
            draft.settings[key] = Setting(value=text.text, source=place)
            draft.doubtful[key] = not_typed(parameter, text, problem, key, file, "")
    if parameter.scope == "experiment":  # it is the experiment's own; a template has that of another, as an example
        draft.doubtful.pop(key, None)


def _is_open(parameter: Parameter, text: Field) -> bool:
    is_open = values.is_unset(text.text) or values.is_placeholder(text.text)
    return parameter.kind != "text" and (is_open or values.is_left_out(parameter, text.text))


def _other(draft: TemplateDraft, key: str, value: Any, place: models.Source) -> None:
    """A key that only an external script can know: one value, as YAML has it."""
    problem = None
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        problem = "one plain value: text, a number, true or false"
    elif isinstance(value, str):
        try:
            values.typed(Parameter(key, "text"), Field(value, place.line or 1, key, exact=True))
        except NotTyped as not_text:
            problem = not_text.allowed
    if problem is None:
        draft.others[key] = Setting(value=value, source=place)
        return
    message = f"the template gives {escape(key)} a value that it cannot have; allowed is {problem}"
    draft.problems.append(
        finding(
            "invalid-value", message, field=escape(key), expected=problem, actual=escape(str(value)),
            file=place.file, line=place.line, fix=f"write {problem}, or take the line out",
        )
    )  # fmt: skip
