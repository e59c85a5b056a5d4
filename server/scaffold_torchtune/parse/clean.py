"""Texts of documents, cleaned of what people write around a value; and values, typed."""

import re
import unicodedata
from dataclasses import replace

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.parse import free_text
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.parse.free_text import unquote
from scaffold_torchtune.parse.typed import NotTyped, Typed
from scaffold_torchtune.shared import job_options, numbers, recipes, slurm_time
from scaffold_torchtune.shared.parameters import Parameter
from scaffold_torchtune.shared.text import shown

_EMPTY = frozenset({"", "-", "--", "–", "—", "n/a", "na", "none", "(none)", "tbd"})
_UNSET = re.compile(r"\((?:none|leave|empty|blank|not|unset|unused|default|optional|tbd)\b.*\)|<[^<>]*>", re.IGNORECASE)
# What people write where a value is still to come. Whole texts alone: `todo-env` is a name.
_PLACEHOLDER = re.compile(
    r"your[\s_-].*|(?:todo|tbd|tba|fixme|change[\s_-]?me|replace[\s_-]?me|fill[\s_-](?:me[\s_-])?in|placeholder)(?:[:\s(].*)?"
    r"|x{3,10}|\?+|\.{3}|…|unset|n\.a\.|(?:no|not|none)\s(?:account|partition|constraints?|needed|required|used|set|yet)"
    r"|\[(?:your|my|fill|enter|insert|todo|tbd)\b.*\]|\{+[^{}]*\}+",
    re.IGNORECASE | re.DOTALL,
)
_REMARK = re.compile(r"(?P<value>\S(?:.*\S)?)\s+(?P<remark>\(.*\))", re.DOTALL)
# Between several values where one is meant, outside brackets: `16 (1B models), 8 (3B models)`, `8 or 16`.
_BETWEEN = re.compile(r"(?:\s*[,;]\s+|\s+(?:or|and|vs\.?)\s+)(?![^()]*\))")
_SLASH = re.compile(r"\s*/\s*(?![^()]*\))")
_MAX_CHOICES = 20
_MAX_CHOICE_TEXT = 2_000
_COSINE = re.compile(r"cosine(?: (?:schedule|annealing|decay|with warm-?up|schedule with warm-?up))*", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)*", re.ASCII)
_CONSTRAINT = re.compile(r"[A-Za-z0-9\[(][A-Za-z0-9._&|()\[\]*,-]*", re.ASCII)
_MEMORY = re.compile(r"[1-9][0-9]{0,8}[KMGT]?", re.ASCII)
_LINK = re.compile(r"\]\(")
_TWO_PATHS = re.compile(r"\s(?:or|and|vs\.?)\s+[/.~]")
_UNSAFE_IN_PATH = re.compile(r"""["'`\\$;|<>*?{}]|, """)
# `a100:1`, `gpu:a100:1`; in `1:30` no letter tells a type
_TYPE_OF_GPU = r"(?P<type>(?=[^:]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]*)"
_TYPED_GPUS = re.compile(rf"(?:gpu:)?{_TYPE_OF_GPU}:(?P<number>[0-9]{{1,4}})", re.ASCII)
_GRES = re.compile(r"gpu:(?P<number>[0-9]{1,4})", re.ASCII)
_GPUS = re.compile(r"(?P<number>[0-9]{1,4})\s*[×xX]?\s*(?P<type>[A-Za-z0-9 /-]{0,40})\bGPUs?", re.ASCII)
_WORDS = {"true": True, "yes": True, "on": True, "enabled": True}
_WORDS |= dict.fromkeys(("false", "no", "off", "disabled"), False)
_MAX_NAME = 200
_MAX_PATH = 4_000


def is_empty(text: str) -> bool:
    """Whether a cell says nothing: blank, a dash, `N/A`."""
    return text.strip().lower() in _EMPTY


def is_unset(text: str) -> bool:
    """Whether a setting is left open: blank, a dash, `(leave empty)`, `(none)`, `<placeholder>`."""
    return is_empty(text) or bool(_UNSET.fullmatch(text.strip()))


def is_placeholder(text: str) -> bool:
    """Whether a text stands where a value is still to come: `YOUR_ACCOUNT`, `TODO`, `CHANGEME`, `xxx`, `NAME`."""
    text = text.strip()
    return text == "NAME" or bool(_PLACEHOLDER.fullmatch(text))


def without_remark(text: str) -> str:
    """The value of `value (remark)`."""
    return _apart(text)[0]


def unquoted(text: str) -> str:
    """The text inside one pair of quotes, without a remark after them; other text as it is."""
    return unquote(text)[0]


def _apart(text: str) -> tuple[str, str]:
    text = text.strip()
    for place in re.finditer(r"\s+(?=\S)", text):
        if unicodedata.category(text[place.end()]) == "So":  # a check mark, and what follows it
            return text[: place.start()], text[place.end() :]
    match = _REMARK.fullmatch(text) if text.endswith(")") else None
    return (match["value"], match["remark"]) if match else (text, "")


def typed(parameter: Parameter, field: Field) -> Typed:
    """The value of a parameter from its text, and the remark that stood beside it.

    Raises:
        NotTyped: the text is not plainly such a value; says what is allowed, or which values it has.
    """
    try:
        if parameter.kind == "text" and parameter.name != "constraint":
            return free_text.read(field)
        text, remark = _value_and_remark(parameter, field)
        if parameter.name == "gpus" and (several := _GPUS.fullmatch(text)):
            text, remark = several["number"], f"{several['type'].strip()} {remark}".strip()
        return Typed(_from_text(parameter, text), remark)
    except NotTyped as problem:
        problem.choices = () if field.exact else _choices(parameter, field)
        raise


def requested_gpus(field: Field) -> dict[str, Field]:
    """What a request for GPUs says, by parameter: `a100:2` and `gpu:a100:2` are `gpus` and `gpu_type`."""
    text, remark = _apart(field.text)
    match = _GRES.fullmatch(unquoted(text)) or _TYPED_GPUS.fullmatch(unquoted(text))
    if match is None:
        return {"gpus": field}
    after = (field.full or "").removeprefix(field.text).strip()
    parts = {"gpus": " ".join(filter(None, (match["number"], remark, after)))}
    parts |= {"gpu_type": match["type"]} if "type" in match.groupdict() else {}
    return {name: replace(field, text=part, full=None, source=None) for name, part in parts.items()}


def _value_and_remark(parameter: Parameter, field: Field) -> tuple[str, str]:
    if parameter.kind == "path" and _LINK.search(field.source or ""):
        raise NotTyped("a path written out, not a link")
    if parameter.kind == "comment":  # all of it is meant, brackets too
        return unquoted(field.full or field.text), ""
    if field.exact:
        return field.text, ""
    text, remark = _apart(field.text)
    after = (field.full or "").removeprefix(field.text)
    return unquoted(text), f"{remark} {after}".strip()


def _choices(parameter: Parameter, field: Field) -> tuple[str, ...]:
    """The parts of a text each of which is a value of the parameter, where there is more than one."""
    whole = field.full or field.text
    if parameter.kind in {"text", "names", *job_options.ALLOWED} or len(whole) > _MAX_CHOICE_TEXT:
        return ()
    parts = [part.strip(" `") for part in _BETWEEN.split(whole)]
    if len(parts) == 1 and parameter.kind in {"int", "float"}:
        parts = [part.strip(" `") for part in _SLASH.split(whole)]
    try:
        values = {_from_text(parameter, unquoted(without_remark(part))) for part in parts[:_MAX_CHOICES]}
    except NotTyped:
        return ()
    return tuple(parts[:_MAX_CHOICES]) if len(values) > 1 else ()


def _from_text(parameter: Parameter, text: str) -> Scalar:
    """The value of a parameter that is not free text.

    Raises:
        NotTyped: the text is not plainly such a value.
    """
    if parameter.name == "constraint":
        return _matching(_CONSTRAINT, text, "feature names joined by & or |")
    match parameter.kind:
        case "int" | "float":
            return _number(parameter, text)
        case "bool":
            if text.lower() not in _WORDS:
                raise NotTyped("yes or no")
            return _WORDS[text.lower()]
        case "time":
            return _time(text)
        case "mail" | "events" | "reservations" | "nodes" | "tags" | "comment":
            return _of_job(parameter, text)
        case "path":
            return path(text)
        case "memory":
            return _matching(_MEMORY, text, "a number with K, M, G or T, e.g. 32G")
        case "names":
            names = [name.strip() for name in text.split(",")]
            return ",".join(_matching(_MODULE, name, "bare names such as anaconda3/2025.6") for name in names)
        case _:
            return _name(parameter, text)


def _name(parameter: Parameter, text: str) -> str:
    if parameter.name == "lr_scheduler" and _COSINE.fullmatch(text):
        return "get_cosine_schedule_with_warmup"
    if parameter.name == "recipe":
        allowed = "LoRA, full fine-tuning, or the name of a recipe such as full_finetune_single_device"
        return recipes.in_words(text) or _matching(_NAME, text, allowed)
    if parameter.name == "model":
        return _matching(_NAME, text, "the name of one model alone, such as Llama-3.2-1B-Instruct")
    return _matching(_NAME, text, "letters, digits, '.', '_' and '-', beginning with a letter or digit")


def _of_job(parameter: Parameter, text: str) -> str:
    value = job_options.canonical(parameter.kind, text)
    if value is None:
        raise NotTyped(job_options.ALLOWED[parameter.kind])
    return value


def _matching(grammar: re.Pattern[str], text: str, allowed: str) -> str:
    if not grammar.fullmatch(text) or ".." in text or len(text) > _MAX_NAME:
        raise NotTyped(allowed)
    return text


def _number(parameter: Parameter, text: str) -> int | float:
    number = numbers.read_int(text) if parameter.kind == "int" else numbers.read_float(text)
    kind = "a whole number" if parameter.kind == "int" else "a number such as 1e-5 or 0.1"
    low, high, above = parameter.minimum, parameter.maximum, parameter.above
    bounds = [f"at least {low:g}"] if low is not None else [f"more than {above:g}"] if above is not None else []
    allowed = ", ".join([kind, *bounds, *([f"at most {high:.15g}"] if high is not None else [])])
    outside = number is not None and (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
    )
    if number is None or outside:
        raise NotTyped(allowed)
    return number


def _time(text: str) -> str:
    if not slurm_time.seconds(text):
        raise NotTyped(
            "a SLURM time such as 0:59:00 (hours:minutes:seconds) or 1-12:00:00; not 0, which means no limit"
        )
    if text.isdigit():
        raise NotTyped(
            f"hours:minutes:seconds: SLURM reads {shown(text)} as {text} minutes, so write 0:{int(text):02d}:00"
        )
    return text


def _plain(character: str) -> bool:
    """Whether a character can be seen and is no symbol such as a check mark, which would be a remark."""
    return character.isprintable() and unicodedata.category(character) != "So"


def path(text: str) -> str:
    """A path as written, without a trailing slash.

    Raises:
        NotTyped: it has characters that a shell, SLURM or OmegaConf would take for something else, or starts with `~`.
    """
    if not text or len(text) > _MAX_PATH or _UNSAFE_IN_PATH.search(text) or not all(map(_plain, text)):
        raise NotTyped(
            "a path without quotes, '$', braces, backslashes, wildcards, symbols or invisible characters; write"
            " variables out"
        )
    if _TWO_PATHS.search(text):
        raise NotTyped("one path")
    if text.startswith("~"):
        raise NotTyped("a path written out in full, without '~'")
    if text.startswith("-") or ".." in text.split("/"):
        raise NotTyped("a path without '..' that does not begin with a dash")
    return text.rstrip("/") or "/"
