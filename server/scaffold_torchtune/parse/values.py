"""Typed values from the texts of documents, without what people write around a value."""

import re
import unicodedata
from dataclasses import replace

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.parse.drafts import SourceText, Typed
from scaffold_torchtune.settings import kinds, recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import Parameter
from scaffold_torchtune.system.text import shown

_NO_TEXT = re.compile(r"\(?(?:none|no|blank|empty|no (?:system )?prompt|no (?:system )?message)\)?\.?", re.IGNORECASE)
_STANDS_FOR_TEXT = re.compile(
    r"\(?(?:same(?: as .*)?|as above|ditto|see .*|todo|tbd|tba|default|varies|various|n/?a)\)?\.?"
    r"|[\"'〃″”]+|.*(?:\.\.\.|…)",
    re.IGNORECASE,
)
_ONE_PAIR = "text in one pair of quotes that does not hold the same quotes, with nothing but a (remark) after it"
_QUOTED = re.compile(r"""(?:"(?P<d>[^"]*)"|'(?P<s>[^']*)'|“(?P<c>[^“”]*)”)\s*(?P<remark>\([^()]*\))?""")
_QUOTES = {'"': '"', "'": "'", "“": "”"}
_BACKTICKS = re.compile(r"`+")
_EMPTY = frozenset({"", "-", "--", "–", "—", "n/a", "na", "none", "(none)", "tbd"})
_UNSET = re.compile(r"\((?:none|leave|empty|blank|not|unset|unused|default|optional|tbd)\b.*\)|<[^<>]*>", re.IGNORECASE)
# What people write where a value is still to come. Whole texts alone: `todo-env` is a name.
_PLACEHOLDER = re.compile(
    r"your[\s_-].*|(?:todo|tbd|tba|fixme|change[\s_-]?me|replace[\s_-]?me|fill[\s_-](?:me[\s_-])?in|placeholder)(?:[:\s(].*)?"
    r"|x{3,10}|\?+|\.{3}|…|unset|n\.a\.|(?:no|not|none)\s(?:account|partition|constraints?|needed|required|used|set|yet)"
    r"|\[(?:your|my|fill|enter|insert|todo|tbd)\b.*\]|\{+[^{}]*\}+",
    re.IGNORECASE | re.DOTALL,
)
_REMARK = re.compile(r"\s\(")
# Between several values where one is meant, outside brackets: `16 (1B models), 8 (3B models)`, `8 or 16`.
_BETWEEN = re.compile(r" ?[,;] | (?:or|and|vs\.?) ")
_SLASH = re.compile(r"/")
_BRACKETS = re.compile(r"([()])")
_AS_IS = frozenset({"default", "defaults", "off", "no", "disabled"})
_MAX_CHOICES = 20
_MAX_CHOICE_TEXT = 2_000
_COSINE = re.compile(r"cosine(?: (?:schedule|annealing|decay|with warm-?up|schedule with warm-?up))*", re.IGNORECASE)
_BEFORE_WORD = re.compile(r"\s(?=\S)")
_TWO_PATHS = re.compile(r"\s(?:or|and|vs\.?)\s+[/.~]")
_LINK = re.compile(r"\]\(")
# `a100:1`, `gpu:a100:1`; in `1:30` no letter tells a type
_TYPE_OF_GPU = r"(?P<type>(?=[^:]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]*)"
_TYPED_GPUS = re.compile(rf"(?:gpu:)?{_TYPE_OF_GPU}:(?P<number>[0-9]{{1,4}})", re.ASCII)
_GRES = re.compile(r"gpu:(?P<number>[0-9]{1,4})", re.ASCII)
_GPUS = re.compile(r"(?P<number>[0-9]{1,4})\s*[×xX]?\s*(?P<type>[A-Za-z0-9 /-]{0,40})\bGPUs?", re.ASCII)
_WORDS = dict.fromkeys(("yes", "on", "enabled"), "true") | dict.fromkeys(("no", "off", "disabled"), "false")
# What is allowed, where more than the grammar tells it.
_ALLOWED = {
    "recipe": "LoRA, full fine-tuning, or the name of a recipe such as full_finetune_single_device",
    "model": "the name of one model alone, such as Llama-3.2-1B-Instruct",
}


def says_none(text: str) -> bool:
    """Return whether a text says in words that there is no text: `none`, `(blank)`, `no system prompt`."""
    return bool(_NO_TEXT.fullmatch(text.strip()))


def _unquote(text: str) -> tuple[str, str]:
    """Return the text inside one pair of quotes, and a (remark) after them; other text as it is, without a remark."""
    match = _QUOTED.fullmatch(text.strip())
    if match is None:
        return text.strip(), ""
    return next(t for t in match.group("d", "s", "c") if t is not None), match["remark"] or ""


def unquoted(text: str) -> str:
    """Return the text inside one pair of quotes, without a remark after them; other text as it is."""
    return _unquote(text)[0]


def _free_text(field: SourceText) -> Typed:
    """Read free text: as it is, in one pair of quotes or in one code span; a (remark) may follow either.

    What stands for a text (`same as above`, `see table`) is none: quotes or a code span make it one.
    """
    if field.exact:
        return Typed(kinds.read("text", field.text))
    written = (field.source if field.source is not None else field.full or field.text).strip()
    if span := _code_span(written):
        code, remark = span
        if remark and remark[0] != "(" and not _is_symbol(remark[0]):
            raise NotTyped(_ONE_PAIR)
        inner = unquoted(code)
        return Typed(_written(code if inner == code.strip() else inner), remark)
    text, remark = _unquote(written)
    if text != written:
        return Typed(_written(text), remark)
    if written[:1] in _QUOTES and not _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(_ONE_PAIR)
    if says_none(written):
        return Typed("")
    if _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(f"the text itself; where it really is {shown(written)}, put quotes around it")
    return Typed(_written(text))


def _code_span(text: str) -> tuple[str, str] | None:
    """Return the content of the code span that a text begins with, and what follows it; None where it begins with none.

    As Markdown has it, as many backticks end a span as begin it. An expression that refers back to them is cubic.
    """
    marks = _BACKTICKS.finditer(text)
    first = next(marks, None)
    if first is None or first.start():
        return None
    last = next((mark for mark in marks if len(mark[0]) == len(first[0])), None)
    return None if last is None else (text[first.end() : last.start()], text[last.end() :].strip())


def _is_symbol(character: str) -> bool:
    """Return whether a character is a check mark or the like, with which a remark begins."""
    return unicodedata.category(character) == "So"


def _written(text: str) -> Scalar:
    """Return text of a Markdown document, in which a line break cannot be written as in a program."""
    if "\\n" in text or "\\t" in text:
        raise NotTyped(
            "text without \\n or \\t, of which nobody knows whether they stand for a line break; give the text in a"
            " fenced block below its label, or in experiment_summary.yaml"
        )
    return kinds.read("text", text)


def is_empty(text: str) -> bool:
    """Return whether a cell says nothing: blank, a dash, `N/A`."""
    return text.strip().lower() in _EMPTY


def is_unset(text: str) -> bool:
    """Return whether a setting is left open: blank, a dash, `(leave empty)`, `(none)`, `<placeholder>`."""
    return is_empty(text) or bool(_UNSET.fullmatch(text.strip()))


def is_left_out(parameter: Parameter, text: str) -> bool:
    """Return whether a text says of a parameter that a run may lack that it has none: `off`, `disabled`."""
    return parameter.optional and is_off(text)


def is_off(text: str) -> bool:
    """Return whether a text leaves a setting as it is where nobody sets it: `off`, `default`."""
    return text.strip().lower() in _AS_IS


def is_placeholder(text: str) -> bool:
    """Return whether a text stands where a value is still to come: `YOUR_ACCOUNT`, `TODO`, `xxx`, `NAME`."""
    text = text.strip()
    return text == "NAME" or bool(_PLACEHOLDER.fullmatch(text))


def is_open(text: str) -> bool:
    """Return whether a setting is not given: left open, or its value still to come."""
    return is_unset(text) or is_placeholder(text)


def without_remark(text: str) -> str:
    """Return the value of `value (remark)`."""
    return _apart(text)[0]


def _apart(text: str) -> tuple[str, str]:
    text = text.strip()
    for space in _BEFORE_WORD.finditer(text):
        if _is_symbol(text[space.end()]):
            return text[: space.start()].rstrip(), text[space.end() :]
    starts = [match.start() for match in _REMARK.finditer(text)] if text.endswith(")") else []
    return (text[: starts[-1]].rstrip(), text[starts[-1] :].lstrip()) if starts else (text, "")


def typed(parameter: Parameter, field: SourceText) -> Typed:
    """Return the value of a parameter from its text, and the remark that stood beside it.

    Raises:
        NotTyped: the text is not plainly such a value; says what is allowed, or which values it has.
    """
    try:
        if parameter.kind == "text":
            return _free_text(field)
        text, remark = _value_and_remark(parameter, field)
        if parameter.name == "gpus" and (several := _GPUS.fullmatch(text)):
            text, remark = several["number"], f"{several['type'].strip()} {remark}".strip()
        return Typed(_from_text(parameter, text), remark)
    except NotTyped as problem:
        problem.choices = () if field.exact else _choices(parameter, field)
        raise


def value_of(parameter: Parameter, field: SourceText) -> Scalar:
    """Return the value of a parameter from its text; None where the text is not plainly one."""
    try:
        return typed(parameter, field).value
    except NotTyped:
        return None


def requested_gpus(field: SourceText) -> dict[str, SourceText]:
    """Return what a request for GPUs says, by parameter: `a100:2` and `gpu:a100:2` are `gpus` and `gpu_type`."""
    text, remark = _apart(field.text)
    match = _GRES.fullmatch(unquoted(text)) or _TYPED_GPUS.fullmatch(unquoted(text))
    if match is None:
        return {"gpus": field}
    after = (field.full or "").removeprefix(field.text).strip()
    parts = {"gpus": " ".join(filter(None, (match["number"], remark, after)))}
    parts |= {"gpu_type": match["type"]} if "type" in match.groupdict() else {}
    return {name: replace(field, text=part, full=None, source=None) for name, part in parts.items()}


def _value_and_remark(parameter: Parameter, field: SourceText) -> tuple[str, str]:
    if parameter.kind in {"path", "pattern_free_path"} and _LINK.search(field.source or ""):
        raise NotTyped("a path written out, not a link")
    if parameter.kind == "comment":  # all of it is meant, brackets too
        return unquoted(field.full or field.text), ""
    if field.exact:
        return field.text, ""
    text, remark = _apart(field.text)
    after = (field.full or "").removeprefix(field.text)
    return unquoted(text), f"{remark} {after}".strip()


def _choices(parameter: Parameter, field: SourceText) -> tuple[str, ...]:
    """Return the parts of a text each of which is a value of the parameter, where there is more than one."""
    whole = field.full or field.text
    if parameter.kind in {"text", "constraint", "modules", *kinds.OF_JOBS} or len(whole) > _MAX_CHOICE_TEXT:
        return ()
    parts = _split_outside_brackets(_BETWEEN, whole)
    if len(parts) == 1 and parameter.kind in {"int", "float"}:
        parts = _split_outside_brackets(_SLASH, whole)
    try:
        values = {_from_text(parameter, unquoted(without_remark(part))) for part in parts[:_MAX_CHOICES]}
    except NotTyped:
        return ()
    return tuple(parts[:_MAX_CHOICES]) if len(values) > 1 else ()


def _split_outside_brackets(between: re.Pattern[str], text: str) -> list[str]:
    """Return the parts of a text, with single spaces, where `between` matches outside (brackets)."""
    text = " ".join(text.split())
    pieces = _BRACKETS.split(text)  # what a closing bracket follows is inside a pair
    masked = "".join(
        ("\0" * len(piece) if bracket == ")" else piece) + bracket
        for piece, bracket in zip(pieces[::2], [*pieces[1::2], ""], strict=True)
    )
    starts, ends = [0], []
    for match in between.finditer(masked):
        ends.append(match.start())
        starts.append(match.end())
    return [text[start:end].strip(" `") for start, end in zip(starts, [*ends, len(text)], strict=True)]


def _from_text(parameter: Parameter, text: str) -> Scalar:
    """Return the value of a parameter that is not free text, in the words and forms that people use.

    Raises:
        NotTyped: the text is not plainly such a value.
    """
    match parameter.kind:
        case "bool":
            return parameter.read(_WORDS.get(text.lower(), text.lower()))
        case "time":
            if text.isdigit() and parameter.read(text):
                raise NotTyped(
                    f"hours:minutes:seconds: SLURM reads {shown(text)} as {text} minutes, so write 0:{int(text):02d}:00"
                )
        case "path" | "pattern_free_path":
            return _path(parameter, text)
    if parameter.name == "lr_scheduler" and _COSINE.fullmatch(text):
        return "get_cosine_schedule_with_warmup"
    if parameter.name == "recipe" and (method := recipes.in_words(text)):
        return method
    try:
        return parameter.read(text)
    except NotTyped as problem:
        raise NotTyped(_ALLOWED.get(parameter.name, problem.allowed)) from problem


def _path(parameter: Parameter, text: str) -> str:
    """Return a path without a slash at its end. A symbol is a remark such as a check mark, and a comma parts two."""
    if ", " in text or any(map(_is_symbol, text)):
        raise NotTyped(kinds.SAFE_PATH)
    if _TWO_PATHS.search(text):
        raise NotTyped("one path")
    return str(parameter.read(text)).rstrip("/") or "/"
