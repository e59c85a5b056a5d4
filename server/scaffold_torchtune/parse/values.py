"""Typed values from the texts of documents, without what people write around a value."""

import re
import unicodedata
from dataclasses import replace

from scaffold_torchtune.findings import Scalar, shown
from scaffold_torchtune.parse import notations
from scaffold_torchtune.parse.drafts import SourceText, Typed
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.torchtune_facts import method_in_words, model_by_spelling

_VALIDATION = frozenset({"validation during training", "validation"})
_NO_TEXT = re.compile(r"\(?(?:none|no|blank|empty|no (?:system )?prompt|no (?:system )?message)\)?\.?", re.IGNORECASE)
_STANDS_FOR_TEXT = re.compile(
    r"\(?(?:same(?: as .*)?|as above|ditto|see .*|todo|tbd|tba|default|varies|various|n/?a)\)?\.?"
    r"|[\"'〃″”]+|.*(?:\.\.\.|…)",
    re.IGNORECASE,
)
_ONE_PAIR = (
    "text in one pair of quotes, in which quotes stand in pairs or behind a backslash, with nothing but a (remark)"
    " after it"
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“"}
_REMARK_BEHIND = re.compile(r"\s*(\([^()]*\))?")
_OPENS_BEFORE = frozenset("([{<-/–—:")  # besides spaces, what a quote that opens stands behind
_ESCAPED = re.compile(r"""\\(["'“”‘’„\\])""")
_BACKTICKS = re.compile(r"`+")
_EMPTY = frozenset({"", "-", "--", "–", "—", "n/a", "na", "none", "(none)", "tbd"})
_NONE = frozenset({"none", "no", "off", "disabled", "zero"})
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
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,95}/[A-Za-z0-9][\w-]{0,95}(?P<ext>(?:\.[\w-]{1,40}){0,4})", re.ASCII)
_OF_FILES = frozenset(
    {".json", ".jsonl", ".parquet", ".csv", ".tsv", ".txt", ".arrow", ".gz", ".json.gz", ".zip", ".xlsx", ".yaml"}
)
_LINK = re.compile(r"\]\(")
# `a100:1`, `gpu:a100:1`; in `1:30` no letter tells a type
_TYPE_OF_GPU = r"(?P<type>(?=[^:]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9._-]*)"
_TYPED_GPUS = re.compile(rf"(?:gpu:)?{_TYPE_OF_GPU}:(?P<number>[0-9]{{1,4}})", re.ASCII)
_GRES = re.compile(r"gpu:(?P<number>[0-9]{1,4})", re.ASCII)
_WORDS = dict.fromkeys(("yes", "on", "enabled"), "true") | dict.fromkeys(("no", "off", "disabled"), "false")
# What is allowed, where more than the grammar tells it.
_ALLOWED = {
    "recipe": "LoRA, full fine-tuning, or the name of a recipe such as full_finetune_single_device",
    "model": "the name of one model alone, such as Llama-3.2-1B-Instruct",
}


def says_validation(label: str) -> bool:
    """Return whether a line of Configuration says in words whether and when runs are validated."""
    return normalize(label) in _VALIDATION


def configured(label: str) -> Parameter | None:
    """Return the parameter that a line of Configuration sets by its label, or None."""
    return PARAMETERS["run_val_every_n_steps"] if says_validation(label) else by_label(label)


def says_none(text: str) -> bool:
    """Return whether a text says in words that there is no text: `none`, `(blank)`, `no system prompt`."""
    return bool(_NO_TEXT.fullmatch(text.strip()))


def _end_of_quoted(text: str, *, escapes: bool) -> int | None:
    """Return where the quotes that a text begins with close, None where they do not.

    Quotes inside of them are theirs where they stand in pairs, as `"Say "yes" or "no""`, or behind a backslash, if that
    `escapes` them. One that opens follows a space or a bracket, an apostrophe stands in a word.
    """
    first, last = text[0], _QUOTES[text[0]]
    depth, i, opened = 1, 1, True
    while i < len(text):
        before, here, after = text[i - 1], text[i], text[i + 1 : i + 2]
        is_apostrophe = here in "'’" and before.isalnum() and after.isalnum()
        if escapes and here == "\\" and after in {first, last, "\\"}:
            opened, i = False, i + 2
            continue
        is_quote = here in {first, last} and not is_apostrophe
        if is_quote:
            follows_space = opened or before.isspace() or before in _OPENS_BEFORE
            opened = follows_space and bool(after.strip()) if first == last else here == first
            depth += 1 if opened else -1
            if depth == 0:
                return i
        opened, i = opened and is_quote, i + 1
    return None


def _quoted(text: str, *, markdown: bool = False) -> tuple[str, str] | None:
    """Return the text inside one pair of quotes, and a (remark) after them; None for a text that is no such thing.

    In Markdown a backslash stands before each that is meant as one; elsewhere it may be one itself.
    """
    for escapes in ((True,) if markdown else (True, False)) if text[:1] in _QUOTES else ():
        end = _end_of_quoted(text, escapes=escapes)
        remark = _REMARK_BEHIND.fullmatch(text, end + 1) if end is not None else None
        if remark is None:
            continue
        inner = text[1:end]
        if markdown:
            inner = _ESCAPED.sub(r"\1", inner)
        elif escapes:
            inner = _ESCAPED_QUOTE.sub(lambda found: found[1] or found[2], inner)
        return inner, remark[1] or ""
    return None


def unquoted(text: str) -> str:
    """Return the text inside one pair of quotes, without a remark after them; other text as it is."""
    text = text.strip()
    found = _quoted(text)
    return text if found is None else found[0]


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
    is_markdown = field.source is not None
    if quoted := _quoted(written, markdown=is_markdown):
        return Typed(_written(quoted[0]), quoted[1])
    if written[:1] in _QUOTES and not _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(_ONE_PAIR)
    if says_none(written):
        return Typed("")
    if _STANDS_FOR_TEXT.fullmatch(written):
        raise NotTyped(f"the text itself; where it really is {shown(written)}, put quotes around it")
    return Typed(_written(_ESCAPED.sub(r"\1", written) if is_markdown else written))


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


def slug(title: str) -> str | None:
    """Return a title of several words as a name; None for a single word, or where it would not tell it from others.

    `Cross-Length Generalization (4L → 8L)` becomes `cross-length_generalization_4l_8l`. Letters that ASCII lacks would
    be lost, and any experiment may be called `Experiment plan`.
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
    """Return whether a cell says nothing: blank, a dash, `N/A`."""
    return text.strip().lower() in _EMPTY


def is_unset(text: str) -> bool:
    """Return whether a setting is left open: blank, a dash, `(leave empty)`, `(none)`, `<placeholder>`."""
    return is_empty(text) or bool(_UNSET.fullmatch(text.strip()))


def is_left_out(parameter: Parameter, text: str) -> bool:
    """Return whether a text says of a parameter that a run may lack that it has none: `off`, `disabled`."""
    return parameter.optional and is_off(text)


def means_none(parameter: Parameter, text: str) -> bool:
    """Return whether a text says of a parameter that a run is to have none, where runs have some by default."""
    return bool(parameter.none) and text.strip().strip("()`").rstrip(".").lower() in _NONE


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
    """Return the value of a parameter from its text; None where the text is not plainly one."""
    try:
        return typed(parameter, field).value
    except NotTyped:
        return None


def several(parameter: Parameter, field: SourceText) -> tuple[str, ...]:
    """Return the values of a text that gives more than one; none of any other text."""
    try:
        typed(parameter, field)
    except NotTyped as problem:
        return tuple(unquoted(without_remark(choice)) for choice in problem.choices)
    return ()


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
    if parameter.name == "dataset" and (hub := hub_data(field.text) or hub_data(field.source or "")):
        raise _on_hub(hub)
    if parameter.kind in {"path", "pattern_free_path"} and _LINK.search(field.source or ""):
        raise NotTyped("a path written out, not a link")
    if parameter.kind == "comment":  # all of it is meant, brackets too
        return unquoted(field.full or field.text), ""
    if field.exact:
        return field.text, ""
    text, remark = _apart(field.text)
    after = (field.full or "").removeprefix(field.text)
    return unquoted(text), f"{remark} {after}".strip()


def hub_data(text: str) -> str | None:
    """Return the name of the data set on the Hugging Face Hub that a text is, or links to: `tatsu-lab/alpaca`."""
    written = without_remark(text).strip("`<> ")
    linked = _HUB_LINK.search(written)
    if linked:
        return linked["name"]
    named = _HUB_NAME.fullmatch(written)
    return written if named and named["ext"].lower() not in _OF_FILES else None


def _on_hub(name: str) -> NotTyped:
    folder = name.rpartition("/")[2]
    return NotTyped(
        "the path of a .json or .parquet file",
        f"the name of a data set on the Hugging Face Hub ({shown(name)}), not a file",
        f"download it (hf download --repo-type dataset {name} --local-dir {folder}), and write the path of a .json or"
        " .parquet file of it",
    )


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
    text = parameter.none if means_none(parameter, text) else notations.plain(parameter, text)
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
    if parameter.name == "recipe" and (method := method_in_words(text)):
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
