"""Reads a plain YAML template of setup_finetune.yaml: its values count where the experiment's documents say nothing.

Values are taken as they are written and typed by their parameter, as those of a summary in YAML are.
"""

import math
from typing import Any, Final

from scaffold_torchtune import models
from scaffold_torchtune.findings import finding
from scaffold_torchtune.models import Setting, SourceKind
from scaffold_torchtune.parse import values, yaml_source
from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft, TemplateDraft
from scaffold_torchtune.parse.reading import not_typed
from scaffold_torchtune.parse.yaml_source import YamlSource
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS, Parameter
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import escape

MAX_KEYS: Final = 500
"""Keys of a template: setup_finetune takes about a hundred."""

_ALSO: Final = ("warmup_ratio", "effective_batch_size", "nodes")
"""What is no key of setup_finetune.yaml, and may stand in a template all the same."""


def read_template(text: str, file: str) -> TemplateDraft:
    """Read a template. What is null, empty or left open (`<placeholder>`) is absent."""
    draft = TemplateDraft()
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        return _unreadable(draft, text, file, f"is not YAML: {error.message}", error.line)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        return _unreadable(draft, text, file, "is not a mapping of keys to values", 1)
    if len(data) > MAX_KEYS:
        return _unreadable(draft, text, file, f"gives {len(data)} keys, more than {MAX_KEYS}", 1)
    source = YamlSource(document, data, SummaryDraft(file))
    for key, value in data.items():
        place = models.Source(kind=SourceKind.TEMPLATE, file=file, line=source.line((key,)), note="template")
        if key in KEYS or key in _ALSO:
            _known(draft, PARAMETERS[key], source, place)
        elif value is not None:
            _other(draft, key, value, place)
    return draft


def _unreadable(draft: TemplateDraft, text: str, file: str, what: str, line: int | None) -> TemplateDraft:
    fix = "correct the YAML, one `key: value` a line"
    if any(mark in text for mark in ("{{", "{%", "{#")):
        fix += "; if it is a Jinja2 template, let its name end in .j2"
    message = f"the template {escape(what)}"
    draft.problems.append(finding("template-error", message, field="template", file=file, line=line, fix=fix))
    draft.readable = False
    return draft


def _known(draft: TemplateDraft, parameter: Parameter, source: YamlSource, place: models.Source) -> None:
    """Take a key of setup_finetune.yaml: its value in its type, or as it is written, with what is wrong with it."""
    key, problems = parameter.name, source.draft.findings
    before = len(problems)
    text = yaml_source.field_at(source, (key,), key)
    if text is None:
        if len(problems) > before:
            draft.settings[key] = Setting(value=escape(str(source.at((key,)))), source=place)
            draft.doubtful[key] = problems[before]
    elif not _is_open(parameter, text):
        try:
            draft.settings[key] = Setting(value=values.typed(parameter, text).value, source=place)
        except NotTyped as problem:
            draft.settings[key] = Setting(value=text.text, source=place)
            draft.doubtful[key] = not_typed(parameter, text, problem, key, place.file, "")
    if parameter.scope == "experiment":  # it is the experiment's own; a template has that of another, as an example
        draft.doubtful.pop(key, None)


def _is_open(parameter: Parameter, text: SourceText) -> bool:
    if values.means_none(parameter, text.text):
        return False
    return parameter.kind != "text" and (values.is_open(text.text) or values.is_left_out(parameter, text.text))


def _other(draft: TemplateDraft, key: str, value: Any, place: models.Source) -> None:
    """Take a key that only an external script can know: one value, as YAML has it."""
    allowed = None
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        allowed = "one plain value: text, a number, true or false"
    elif isinstance(value, str):
        try:
            kinds.read("text", value)
        except NotTyped as not_text:
            allowed = not_text.allowed
    if allowed is None:
        draft.others[key] = Setting(value=value, source=place)
        return
    name, message = escape(key), f"the template gives {escape(key)} a value that it cannot have; allowed is {allowed}"
    fix = f"write {allowed}, or take the line out"
    draft.problems.append(
        finding("invalid-value", message, field=name, expected=allowed, actual=escape(str(value)), at=place, fix=fix)
    )
