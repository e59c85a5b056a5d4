"""Typed values from the texts of documents, without quotes, remarks and marks around them.

A number whose label has a unit (`Memory (GB)`, `mem_gb`, `Warmup (%)`) gets that unit; it is never dropped.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from scaffold_torchtune.findings import Scalar, escape, few, shortest_number, shown
from scaffold_torchtune.parse import notations
from scaffold_torchtune.parse.drafts import SourceText, Typed
from scaffold_torchtune.settings import kinds, parameters
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED
from scaffold_torchtune.system.markdown import OPENS_BEFORE, QUOTES
from scaffold_torchtune.torchtune_facts import method_in_words, model_by_spelling

_SHOWN = 8
_VALIDATION = frozenset({"validation during training", "validation"})
_NO_TEXT = re.compile(r"\(?(?:none|no|blank|empty|no (?:system )?prompt|no (?:system )?message)\)?\.?", re.IGNORECASE)
_STANDS_FOR_TEXT = re.compile(
    r"\(?(?:same(?: as .*)?|as above|ditto|see .*|todo|tbd|tba|default|varies|various|n/?a)\)?\.?"
    r"|(?:todo|tbd|tba)\s?[(:,;–—-].*|to be (?:decided|determined|defined|confirmed|announced|written)\b.*"
    r"|\(?(?:not (?:used|set|needed|applicable|yet)|un(?:used|set|changed))\)?\.?"
    r"|\(?(?:as in |use )?(?:the |its )?(?:(?:model|tokenizer|(?:chat )?template)(?:['’]s)?(?: own)? )?"
    r"(?:default|standard)(?: one| (?:system )?(?:prompt|message))?"
    r"(?: (?:of|from|in) (?:the |its )?(?:base )?(?:model|tokenizer|(?:chat )?template)(?: card)?)?\)?\.?"
    r"|(?:from|of|as in) (?:the |its )?(?:model|tokenizer|(?:chat )?template)(?: card)?\.?"
    r"|keine?r?|aucune?|nessuno|ninguno|无|無|没有|なし|[\"'〃″”]+|.*(?:\.\.\.|…)",
    re.IGNORECASE,
)
_ONE_PAIR = (
    "the whole text in one pair of quotes",
    "is not text in one pair of quotes",
    (
        "enclose the whole text in one pair of quotes, with a backslash before each inner quote; only a remark in"
        " parentheses may follow"
    ),
)
_REMARK_BEHIND = re.compile(r"\s*(\([^()]*\))?")
_ESCAPED = re.compile(r"""\\(["'“”‘’„\\])""")
_BACKTICKS = re.compile(r"`+")
_EMPTY = frozenset({"", "-", "--", "–", "—", "n/a", "na", "none", "(none)", "tbd"})
_NONE = frozenset({"none", "no", "off", "disabled", "zero"})
_UNSET = re.compile(
    r"\((?:none|leave|empty|blank|not|unset|unused|default|optional|tbd)\b.*\)|<[^<>{}]*>", re.IGNORECASE
)
# Placeholders for a value. Only whole texts match: `todo-env` is a name.
_PLACEHOLDER = re.compile(
    r"your[\s_-].*|(?:todo|tbd|tba|fixme|change[\s_-]?me|replace[\s_-]?me|fill[\s_-](?:me[\s_-])?in|placeholder)(?:[:\s(].*)?"
    r"|x{3,10}|\?+|\.{3}|…|unset|n\.a\.|(?:no|not|none)\s(?:account|partition|constraints?|needed|required|used|set|yet)"
    r"|\[(?:your|my|fill|enter|insert|todo|tbd)\b.*\]|\{+[^{}]*\}+",
    re.IGNORECASE | re.DOTALL,
)
_REMARK = re.compile(r"\s\(")
# Separators of several values instead of one, outside brackets: `16 (1B models), 8 (3B models)`, `8 or 16`.
_BETWEEN = re.compile(r" ?[,;] | (?:or|and|vs\.?) ")
_SLASH = re.compile(r"/")
_BRACKETS = re.compile(r"([()])")
_AS_IS = frozenset({"default", "defaults", "off", "no", "disabled"})
_MAX_CHOICES = 20
_MAX_CHOICE_TEXT = 2_000
_COSINE = re.compile(r"cosine(?: (?:schedule|annealing|decay|with warm-?up|schedule with warm-?up))*", re.IGNORECASE)
_BEFORE_WORD = re.compile(r"\s(?=\S)")
_TWO_PATHS = re.compile(r"\s(?:or|and|vs\.?)\s+[/.~]")
_OF_ANY_TITLE = frozenset(
    {"experiment", "experiments", "experimental", "run", "runs", "plan", "summary", "fine", "tuning", "finetuning"}
    | {"configuration", "config", "setup", "settings", "all", "models", "dataset", "data", "resources", "results"}
    | {"training", "design", "overview", "lora", "torchtune", "of", "the", "and", "for", "a", "an", "my", "our"}
)
_ESCAPED_QUOTE = re.compile(r"""(\\\\)|\\(["'“”‘’„])""")
_SLUG_WORD = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*")
_HUB_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_HUB_LINK = re.compile(
    rf"(?:(?:huggingface\.co|hf\.co)/datasets/|hf://datasets/)(?P<name>{_HUB_PART}(?:/{_HUB_PART})?)"
)
# Directories of an experiment; no organisation of the Hub has such a name.
_FOLDERS = frozenset(
    {"data", "dataset", "datasets", "input", "inputs", "files", "raw", "processed", "train", "training"}
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,95}/[A-Za-z0-9][\w-]{0,95}(?P<ext>(?:\.[\w-]{1,40}){0,4})", re.ASCII)
OF_FILES = frozenset(
    {".json", ".jsonl", ".parquet", ".csv", ".tsv", ".txt", ".arrow", ".gz", ".json.gz", ".zip", ".xlsx", ".yaml"}
)
_LINK = re.compile(r"\]\(")
# `a100:1`, `gpu:a100:1`; `1:30` is not a type, because it has no letter
_TYPE_OF_GPU = r"(?P<type>(?=[^:]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]*)"
_TYPED_GPUS = re.compile(rf"(?:gpu:)?{_TYPE_OF_GPU}:(?P<number>[0-9]{{1,4}})", re.ASCII)
_GRES = re.compile(r"gpu:(?P<number>[0-9]{1,4})", re.ASCII)
_WORDS = dict.fromkeys(("yes", "on", "enabled"), "true") | dict.fromkeys(("no", "off", "disabled"), "false")
# Allowed values that the grammar does not describe well enough.
_ALLOWED = {
    "recipe": "LoRA, full fine-tuning, or the name of a recipe, such as full_finetune_single_device",
    "lr_scheduler": "the name of a schedule, such as `cosine`, with a warm-up on a line of its own",
    "model": "the name of one model, such as Llama-3.2-1B-Instruct",
}


_BRACKETED = re.compile(r"(?P<label>[^()\[\]]*[^()\[\]\s])\s*[(\[](?P<unit>[^()\[\]]{1,60})[)\]]\s*")
_BETWEEN_UNITS = re.compile(r"\s{0,3}[,;]\s{0,3}|\s{1,3}(?=per\s|/)|(?<=[A-Za-z])(?=/)")
_BESIDE_UNIT = re.compile(r"(?:in|max\.?|maximum|number of)\s+", re.IGNORECASE)
_BEFORE_UNIT = re.compile(r"[\s_,/-]{1,4}(?=[^0-9\s])|(?<=[A-Za-z])(?=%)")
_LONGEST_UNIT = 3  # words
_LONGEST_LABEL = 100
_NUMBER = r"(?:[0-9]{1,12}(?:[.,][0-9]{1,9}){0,4}|\.[0-9]{1,9})(?::[0-9]{2})?"
_NUMBERS = re.compile(
    rf"(?P<numbers>{_NUMBER}(?:(?:, | ?[;/] ?| or | and ){_NUMBER}){{0,99}})(?P<rest>(?: ?[(†‡*].*)?)", re.DOTALL
)
_ONE_NUMBER = re.compile(_NUMBER)
_FRACTION = re.compile(r"0?\.[0-9]*[1-9][0-9]*")


@functools.lru_cache(maxsize=2048)  # a column has the same label in all rows
def split_unit(label: str, known: Callable[[str], Parameter | None] = by_label) -> tuple[str, str, Parameter | None]:
    """Return a label without its unit, the unit, and the parameter: `Memory (GB)`, `time in hours`, `warmup %`.

    The unit is empty, and there is no parameter, if the label has none, or is a label with it: `Warmup (steps)`.
    """
    if "%" not in label and (by_label(label) is not None or normalize(label) in NOT_PLANNED):
        return label, "", None
    return _split_brackets(label, known) or _split_words(label, known) or (label, "", None)


def _split_brackets(label: str, known: Callable[[str], Parameter | None]) -> tuple[str, str, Parameter] | None:
    match = _BRACKETED.fullmatch(label)
    parameter = known(match["label"]) if match else None
    if match is None or parameter is None or parameter.kind not in notations.OF_NUMBERS:
        return None
    parts = [_BESIDE_UNIT.sub("", part.strip(), count=1) for part in _BETWEEN_UNITS.split(match["unit"])]
    units = [part for part in parts if notations.is_unit(part, parameter.kind)]
    unit = units[0] if len(units) == 1 else match["unit"].strip()
    return (match["label"], unit, parameter) if units else None


def _split_words(label: str, known: Callable[[str], Parameter | None]) -> tuple[str, str, Parameter] | None:
    """Return the parts of `mem_gb`, `Time limit in hours` and `warmup epochs`.

    Only a warm-up may have a unit that it cannot be read in: `GPU hours` are not GPUs.
    """
    words = [word for word in _BEFORE_UNIT.split(label[:_LONGEST_LABEL].strip()) if word]
    for count in range(1, min(_LONGEST_UNIT, len(words) - 1) + 1):
        unit, rest = " ".join(words[-count:]), words[:-count]
        bare = " ".join(rest[:-1] if rest[-1:] == ["in"] and len(rest) > 1 else rest)
        parameter = known(bare)
        if parameter is None or not notations.is_unit(unit, parameter.kind):
            continue
        if notations.suffix_of(parameter, unit) is not None or parameter.name == "num_warmup_steps":
            return bare, unit, parameter
    return None


def with_unit(label: str, field: SourceText, unit: str = "") -> tuple[str, SourceText]:
    """Return a label without its unit, and its text with it: `Memory (GB)` and `32` are `Memory` and `32 GB`.

    `unit` is a unit from elsewhere, such as a column of units. A text that has a unit of its own is unchanged.
    """
    bare, own, parameter = split_unit(label)
    if not own and unit:
        field = replace(field, unit_of="row")
        own, parameter = (unit, by_label(label)) if _takes(label, unit) else ("", None)
    return bare, in_unit(parameter, own, field) if own and parameter is not None else field


def _takes(label: str, unit: str) -> bool:
    parameter = by_label(label)
    return parameter is not None and parameter.kind in notations.OF_NUMBERS and notations.is_unit(unit, parameter.kind)


def in_unit(parameter: Parameter, unit: str, field: SourceText) -> SourceText:
    """Return a text with the unit of its label; a number that cannot have it keeps it as `unit`, and is not a value."""
    suffix = notations.suffix_of(parameter, unit)
    found = _NUMBERS.fullmatch(field.text.strip())
    if suffix == "" or (found is None and (suffix is not None or notations.is_power(unit))):
        return field
    numbers = _ONE_NUMBER.findall(found["numbers"]) if found else []
    if suffix is None or found is None or (suffix == "%" and any(map(_FRACTION.fullmatch, numbers))):
        return field if is_empty(field.text) else replace(field, unit=unit)
    text = _ONE_NUMBER.sub(lambda one: f"{one[0]}{suffix}", found["numbers"]) + found["rest"]
    rest = (field.full or field.text).strip().removeprefix(field.text.strip())
    return replace(field, text=text, full=f"{text}{rest}", source=None)


_MEASURES = {
    "num_warmup_steps": (
        "a number of optimizer steps, or a percentage of them", "the number of steps, or a percentage such as 3%"
    ),
    "max_seq_len": ("a number of tokens", "the number of tokens as a plain number"),
    "batch_size": ("a number of samples", "the number of samples as a plain number"),
    "mem": ("the memory of the whole job on its node", "the total memory of the job with its unit, such as 32G"),
    "time": ("the time limit of the whole job", "the time limit of the job, such as 2:00:00"),
}  # fmt: skip


def _wrong_unit(parameter: Parameter, field: SourceText) -> NotTyped:
    """Return the problem of a number in a unit that its parameter does not have."""
    number = next((one for one in _ONE_NUMBER.findall(field.text) if _FRACTION.fullmatch(one)), "")
    if number and notations.suffix_of(parameter, field.unit) == "%":
        return NotTyped(
            "a percentage of at least 1",
            f"is ambiguous: its {field.unit_of} has a percent sign, but a value below 1 is usually a fraction",
            f"write `{number}%` if {number} percent is intended, or `{(Decimal(number) * 100).normalize():f}%` if the"
            f" fraction {number} is intended",
        )
    if notations.is_power(field.unit) and parameter.kind == "float":
        label, unit = parameters.column_label(parameter), field.unit
        return NotTyped(
            "a number without a unit", f"has {shown(unit)} in its {field.unit_of}, which may be a factor or a value",
            f"change the label to `{label} × {escape(unit)}` if the values are multiples of {escape(unit)}; otherwise"
            f" remove {shown(unit)} from the {field.unit_of}, and write each value in full",
        )  # fmt: skip
    number = "whole number" if parameter.kind == "int" else "number"
    measure, write = _MEASURES.get(parameter.name, (f"a {number} without a unit", f"a plain {number}"))
    is_factor = notations.is_factor(field.unit)
    what, write = ("factor", "each value in full") if is_factor else ("unit", write)
    return NotTyped(
        measure,
        f"gets the {what} {shown(field.unit)} from its {field.unit_of}, but {kinds.setting_name(parameter.name)} is"
        f" {measure}",
        f"remove {shown(field.unit)} from the {field.unit_of}, and write {write}",
    )


def nearest_label(label: str) -> str | None:
    """Return the known label that is most similar to another, with the unit of the other, or None."""
    match = _BRACKETED.fullmatch(label)
    near = parameters.nearest_label(match["label"]) if match else None
    parameter = by_label(near) if near else None
    if match is None or parameter is None or not notations.is_unit(match["unit"], parameter.kind):
        return parameters.nearest_label(label)
    return f"{near} ({match['unit'].strip()})"


def names_several(label: str) -> bool:
    """Return whether a label names several hyperparameters with numbers: `Seed, weight decay`, not `Time / epoch`."""
    known = [by_label(part) for part in BETWEEN_NAMES.split(label[:_LONGEST_LABEL].strip())]
    is_each = all(one is not None and one.kind in {"int", "float"} and one.name not in _OF_RATES for one in known)
    return is_each and len({one.name for one in known if one is not None}) > 1


BETWEEN_NAMES = re.compile(r"\s?[,/&+]\s?|\s(?:and|or)\s", re.IGNORECASE)
_OF_RATES = frozenset({"gpus", "training_samples", "max_steps_per_epoch", "cpus_per_task"})
"""Parameters that are part of a rate: `Batch size / GPU`, `Samples / epoch`."""


def says_validation(label: str) -> bool:
    """Return whether a label of Configuration is about validation during training, which is described in words."""
    return normalize(label) in _VALIDATION


def configured(label: str) -> Parameter | None:
    """Return the parameter that a line of Configuration sets by its label, or None."""
    return PARAMETERS["run_val_every_n_steps"] if says_validation(label) else by_label(label)


def says_none(text: str) -> bool:
    """Return whether a text means an empty text: `none`, `(blank)`, `no system prompt`."""
    return bool(_NO_TEXT.fullmatch(text.strip()))


def stands_for_text(text: str) -> bool:
    """Return whether a text stands for a text elsewhere: `same as above`, `see below`."""
    return bool(_STANDS_FOR_TEXT.fullmatch(text.strip()))


def _end_of_quoted(text: str, *, escapes: bool) -> int | None:
    """Return the position of the quote that closes the first one; None if it is not closed.

    Inner quotes may be in pairs, as `"Say "yes" or "no""`, or after a backslash if `escapes`. An opening quote follows
    a space or a bracket; an apostrophe is inside a word.
    """
    first, last = text[0], QUOTES[text[0]]
    depth, i, opened = 1, 1, True
    while i < len(text):
        before, here, after = text[i - 1], text[i], text[i + 1 : i + 2]
        is_apostrophe = here in "'’" and before.isalnum() and after.isalnum()
        if escapes and here == "\\" and after in {first, last, "\\"}:
            opened, i = False, i + 2
            continue
        is_quote = here in {first, last} and not is_apostrophe
        if is_quote:
            follows_space = opened or before.isspace() or before in OPENS_BEFORE
            opened = follows_space and bool(after.strip()) if first == last else here == first
            depth += 1 if opened else -1
            if depth == 0:
                return i
        opened, i = opened and is_quote, i + 1
    return None


def _quoted(text: str, *, markdown: bool = False) -> tuple[str, str] | None:
    """Return the text inside one pair of quotes, and a (remark) after them; None for other texts.

    In Markdown, a backslash must be escaped by another one; elsewhere, it need not be.
    """
    for escapes in ((True,) if markdown else (True, False)) if text[:1] in QUOTES else ():
        end = _end_of_quoted(text, escapes=escapes)
        remark = _REMARK_BEHIND.fullmatch(text, end + 1) if end is not None else None
        if remark is None:
            continue
        inner = text[1:end].strip() if text[0] == "«" else text[1:end]
        if markdown:
            inner = _ESCAPED.sub(r"\1", inner)
        elif escapes:
            inner = _ESCAPED_QUOTE.sub(lambda found: found[1] or found[2], inner)
        return inner, remark[1] or ""
    return None


def unquoted(text: str) -> str:
    """Return the text inside one pair of quotes, without a remark after them; other text unchanged."""
    text = text.strip()
    found = _quoted(text)
    return text if found is None else found[0]


def _free_text(field: SourceText, *, is_prompt: bool = False) -> Typed:
    """Read free text: plain, in one pair of quotes, or in one code span; a (remark) may follow quotes and code.

    A stand-in for a text (`same as above`, `see table`) is rejected, unless it is in quotes or a code span.
    """
    if field.exact:
        return Typed(kinds.read("text", field.text))
    written = (field.source if field.source is not None else field.full or field.text).strip()
    if span := _code_span(written):
        code, remark = span
        if remark and remark[0] != "(" and not _is_symbol(remark[0]):
            raise NotTyped(*_ONE_PAIR)
        inner = unquoted(code)
        return Typed(_written(code if inner == code.strip() else inner), remark)
    is_markdown = field.source is not None
    if quoted := _quoted(written, markdown=is_markdown):
        return Typed(_written(quoted[0]), quoted[1])
    if written[:1] in QUOTES and not _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(*_ONE_PAIR)
    if says_none(written) and not is_prompt:
        return Typed("")
    if says_none(written):
        fix = "put `{input}` where the text of a sample belongs"
        raise NotTyped("text with {input}", "does not contain {input}", fix)
    if _STANDS_FOR_TEXT.fullmatch(written):
        fix = f"write the text itself; if {shown(written)} is the text, put it in quotes"
        raise NotTyped("the text itself", "is a placeholder or a reference to other text", fix)
    return Typed(_written(_ESCAPED.sub(r"\1", written) if is_markdown else written))


def _code_span(text: str) -> tuple[str, str] | None:
    """Return the content of the code span that begins a text, and the text after it; None if there is none.

    In Markdown, a span ends with as many backticks as it begins with. A back-reference to them would be cubic.
    """
    marks = _BACKTICKS.finditer(text)
    first = next(marks, None)
    if first is None or first.start():
        return None
    last = next((mark for mark in marks if len(mark[0]) == len(first[0])), None)
    return None if last is None else (text[first.end() : last.start()], text[last.end() :].strip())


def _is_symbol(character: str) -> bool:
    """Return whether a character is a symbol such as a check mark, which begins a remark."""
    return unicodedata.category(character) == "So"


def _written(text: str) -> Scalar:
    """Return text of a Markdown document, which has no notation for line breaks inside a value."""
    escapes = {"\\n": "a line break", "\\t": "a tab"}
    if found := [each for each in escapes if each in text]:
        meaning = " and ".join(escapes[each] for each in found)
        raise NotTyped(
            "text without \\n and \\t",
            f"is ambiguous: {' and '.join(found)} may mean {meaning}, or a backslash and a letter",
            "write the text in a fenced code block below its label, or in experiment_summary.yaml",
        )
    return kinds.read("text", text)


def slug(title: str) -> str | None:
    """Return a title of several words as a name; None for a single word or a title that is too general.

    `Cross-Length Generalization (4L → 8L)` becomes `cross-length_generalization_4l_8l`. A title with letters that ASCII
    does not have would lose them, and a title such as `Experiment plan` is too general.
    """
    words = title.split()
    title = " ".join(words)
    if len(words) == 1 or not title.isprintable() or _OF_ANY_TITLE.issuperset(re.findall(r"\w+", title.lower())):
        return None
    folded = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    folded = folded.replace("ß", "ss").replace("α", "alpha")
    if any(c.isalnum() and not c.isascii() for c in folded):
        return None
    return "_".join(_SLUG_WORD.findall(re.sub(r"['’]", "", folded).lower())) or None


def is_empty(text: str) -> bool:
    """Return whether a cell is empty: blank, a dash, `N/A`."""
    return text.strip().lower() in _EMPTY


def is_unset(text: str) -> bool:
    """Return whether a setting has no value: blank, a dash, `(leave empty)`, `(none)`, `<placeholder>`."""
    return is_empty(text) or bool(_UNSET.fullmatch(text.strip()))


def is_left_out(parameter: Parameter, text: str) -> bool:
    """Return whether a text omits an optional parameter: `off`, `disabled`."""
    return parameter.optional and is_off(text)


def means_none(parameter: Parameter, text: str) -> bool:
    """Return whether a text means no value for a parameter that has a default."""
    return bool(parameter.none) and _is_none(text)


def has_none(parameter: Parameter, text: str) -> bool:
    """Return whether the text of a cell means that the run has no value of an optional parameter: `none`, `off`."""
    return parameter.optional and _is_none(text) and text.lower() != "zero"


def _is_none(text: str) -> bool:
    return text.strip().strip("()`").rstrip(".").lower() in _NONE


def is_off(text: str) -> bool:
    """Return whether a text keeps the default of a setting: `off`, `default`."""
    return text.strip().lower() in _AS_IS


def is_placeholder(text: str) -> bool:
    """Return whether a text is a placeholder for a value: `YOUR_ACCOUNT`, `TODO`, `xxx`, `NAME`."""
    text = text.strip()
    return text == "NAME" or bool(_PLACEHOLDER.fullmatch(text))


def is_open(text: str) -> bool:
    """Return whether a setting is not given: without a value, or with a placeholder."""
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
    """Return the value of a parameter from its text, and the remark after it.

    Raises:
        NotTyped: the text is not clearly such a value; contains the allowed values, or the values in the text.
    """
    try:
        if field.unit:
            raise _wrong_unit(parameter, field)
        if parameter.kind == "text":
            return _free_text(field, is_prompt=parameter.name == "prompt")
        text, remark = _value_and_remark(parameter, field)
        if parameter.name == "model" and remark and (named := model_by_spelling(f"{text} {remark}")):
            return Typed(named.name)  # `NAME (Instruct)` is another model, not a remark on NAME
        text, mark = notations.without_footnote(parameter, text)
        remark = f"{mark} {remark}".strip()
        if parameter.name == "gpus" and (counted := notations.counted_gpus(text)):
            text, remark = counted[0], f"{counted[1]} {remark}".strip()
        return Typed(_from_text(parameter, text), remark)
    except NotTyped as problem:
        problem.choices = () if field.exact else _choices(parameter, field)
        raise


def value_of(parameter: Parameter, field: SourceText) -> Scalar:
    """Return the value of a parameter from its text; None if the text is not clearly one."""
    try:
        return typed(parameter, field).value
    except NotTyped:
        return None


def several(parameter: Parameter, field: SourceText) -> tuple[str, ...]:
    """Return the values of a text that gives more than one; empty for other texts."""
    try:
        typed(parameter, field)
    except NotTyped as problem:
        return tuple(unquoted(without_remark(choice)) for choice in problem.choices)
    return ()


def requested_gpus(field: SourceText) -> dict[str, SourceText]:
    """Return the texts of a request for GPUs by parameter: `a100:2` and `gpu:a100:2` give `gpus` and `gpu_type`."""
    text, remark = _apart(field.text)
    match = _GRES.fullmatch(unquoted(text)) or _TYPED_GPUS.fullmatch(unquoted(text))
    if match is None:
        return {"gpus": field}
    after = (field.full or "").removeprefix(field.text).strip()
    parts = {"gpus": " ".join(filter(None, (match["number"], remark, after)))}
    parts |= {"gpu_type": match["type"]} if "type" in match.groupdict() else {}
    return {name: replace(field, text=part, full=None, source=None) for name, part in parts.items()}


def _value_and_remark(parameter: Parameter, field: SourceText) -> tuple[str, str]:
    if parameter.name == "dataset" and (hub := hub_data(field.text) or hub_data(field.source or "")):
        raise _on_hub(hub, field.text)
    if parameter.kind in {"path", "pattern_free_path"} and _LINK.search(field.source or ""):
        fix = "write the path itself as plain text, without the link"
        raise NotTyped("a plain path, not a Markdown link", "is written as a Markdown link", fix)
    if parameter.kind == "comment":  # brackets are part of the value
        return unquoted(field.full or field.text), ""
    if field.exact:
        return field.text, ""
    text, remark = _apart(field.text)
    after = (field.full or "").removeprefix(field.text)
    return unquoted(text), f"{remark} {after}".strip()


def hub_data(text: str) -> str | None:
    """Return the name of the data set on the Hugging Face Hub that a text names or links to: `tatsu-lab/alpaca`."""
    written = without_remark(text).strip("`<> ")
    linked = _HUB_LINK.search(written)
    if linked:
        return linked["name"]
    named = _HUB_NAME.fullmatch(written)
    is_folder = written.partition("/")[0].lower() in _FOLDERS
    return written if named and named["ext"].lower() not in OF_FILES and not is_folder else None


def _on_hub(name: str, text: str) -> NotTyped:
    folder = name.rpartition("/")[2]
    found = "looks like the name of a data set on the Hugging Face Hub, not a file"
    if name != text.strip():
        found = f"refers to the data set {shown(name)} on the Hugging Face Hub, not to a file"
    return NotTyped(
        "the path of a .json or .parquet file",
        found,
        f"download it (`hf download --repo-type dataset {name} --local-dir {folder}`), and write the path of its .json"
        " or .parquet file; if a file in the experiment directory is intended, add the extension to its name",
    )


def _choices(parameter: Parameter, field: SourceText) -> tuple[str, ...]:
    """Return the parts of a text if each is a value of the parameter, and there is more than one."""
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
    pieces = _BRACKETS.split(text)  # text before a closing bracket is inside a pair
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
    """Return the value of a parameter that is not free text, from the words and forms that people use.

    Raises:
        NotTyped: the text is not clearly such a value.
    """
    text = parameter.none if means_none(parameter, text) else notations.plain(parameter, text)
    match parameter.kind:
        case "bool":
            return parameter.read(_WORDS.get(text.lower(), text.lower()))
        case "time":
            if text.isdigit() and parameter.read(text):
                raise NotTyped(
                    "a time in hours:minutes:seconds",
                    f"is not a time in hours:minutes:seconds; SLURM reads it as {text} minutes",
                    f"write `{kinds.slurm_time(60 * int(text))}` if minutes are intended, or `{int(text)}:00:00` if"
                    " hours are intended",
                )
        case "memory":
            if text.isdigit() and 0 < int(text) < notations.LEAST_MEGABYTES:
                raise NotTyped(
                    "memory with a unit, such as 32G",
                    f"is memory without a unit; SLURM reads it as {text} MB",
                    f"write `{text}G` if gigabytes are intended, or `{text}M` if megabytes are intended",
                )
        case "path" | "pattern_free_path":
            return _path(parameter, text)
    if parameter.name == "lr_scheduler" and _COSINE.fullmatch(text):
        return "get_cosine_schedule_with_warmup"
    if parameter.name == "recipe" and (method := method_in_words(text)):
        return method
    try:
        return parameter.read(text)
    except NotTyped as problem:
        allowed = _ALLOWED.get(parameter.name, problem.allowed)
        if not parameter.optional:
            raise NotTyped(allowed, problem.found, problem.fix, problem.example) from problem
        found = problem.found or f"is neither {allowed} nor 'none'"
        fix = problem.fix or f"write {allowed}{problem.example}, or the word `none`"
        raise NotTyped(f"{allowed}, or none", found, fix) from problem


def _path(parameter: Parameter, text: str) -> str:
    """Return a path without a slash at its end. A symbol is a remark such as a check mark; a comma separates paths."""
    if ", " in text or any(map(_is_symbol, text)):
        raise NotTyped(kinds.SAFE_PATH, "is not a valid path")
    if _TWO_PATHS.search(text):
        raise NotTyped("a single path")
    return str(parameter.read(text)).rstrip("/") or "/"


def splits_of(text: str) -> dict[str, int]:
    """Return `train (240 samples), validation (30 samples)` as numbers by split; skip parts without a number."""
    splits: dict[str, int] = {}
    for part in text.split(","):
        words = re.sub(r"[():]", " ", part).split()
        counts = [count for word in words if (count := kinds.read_int(word)) is not None]
        if words and len(counts) == 1:
            splits[words[0].lower()] = counts[0]
    return splits


def numbers_text(levels: Sequence[float], last: str = "") -> str:
    """Return some levels, which can be pasted if no word is before the `last`; of many, the first eight and a count."""
    return few(list(map(shortest_number, levels)), _SHOWN, more=f"... ({len(levels)} values)", last=last)
