"""Notations of values, converted to the form that the readers of kinds accept; and words for the method of training.

Numbers, times, memory and names of models are only rewritten if they can be read in a single way: `36 hours`, `64 GB`,
`2,048`, `10^-4`, `2e−5`. Texts that need a guess (`~3`, `8-16`, `2²`, a decimal comma) are unchanged, and the reader of
kinds rejects them.

A text about the method may only contain known words, and settings such as `rank 8`. An unknown word could mean another
training (`LoRA + DPO`, `LoRA on attention only`), and is rejected by name.
"""

import re
import shlex
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Scalar, shown
from scaffold_torchtune.parse.drafts import word_set
from scaffold_torchtune.settings.kinds import NotTyped, as_line
from scaffold_torchtune.settings.parameters import Parameter, by_label
from scaffold_torchtune.settings.unsupported import other_training
from scaffold_torchtune.torchtune_facts import (
    FULL,
    LORA,
    OF_LORA,
    RECIPE_NAMES,
    find_model,
    method_in_words,
    method_of,
    model_by_spelling,
    recipes_agree,
)

OF_NUMBERS: Final = frozenset({"int", "float", "time", "memory"})
"""Kinds of values that may have a unit."""

# --- characters

_MINUS: Final = dict.fromkeys(map(ord, "−‐‑﹣"), "-")
_SPACES: Final = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_SPACE: Final = re.compile(f"[{_SPACES}]")
_DASH_OF_EXPONENT: Final = re.compile(r"(?<=[eE^])[–—](?=[0-9])")
# `2 048` with a no-break space, as the SI recommends; an ordinary space may separate two numbers
_SPACED_THOUSANDS: Final = re.compile(f"[1-9][0-9]{{0,2}}(?:[{_SPACES}][0-9]{{3}})+(?![0-9])")


def _in_ascii(text: str) -> str:
    """Return a text with typographic minus signs and spaces in ASCII; full-width digits are unchanged."""
    if text.isascii():
        return text
    text = text.translate(_MINUS)
    text = _SPACED_THOUSANDS.sub(lambda found: _SPACE.sub("", found[0]), text)
    return _DASH_OF_EXPONENT.sub("-", _SPACE.sub(" ", text)).strip()


# --- footnotes

_RAISED: Final = "¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉ"
_FOOTNOTE: Final = re.compile(
    rf"(?P<value>.*[0-9A-Za-z%])\s?(?P<mark>[*†‡§¶]{{1,3}}|\[\^[\w-]{{1,20}}\]|\[[0-9]{{1,2}}\]|[{_RAISED}]"
    r"|<sup>[\w*†‡§]{1,2}</sup>)",
    re.DOTALL,
)
_MAY_BE_AN_EXPONENT: Final = re.compile(rf"[{_RAISED[1:9]}]|<sup>[02-9][0-9]?</sup>|<sup>1[0-9]</sup>")
_BASE: Final = re.compile(r"(?:.*[×xX*·]\s*)?10|[0-9]+", re.DOTALL)


def without_footnote(parameter: Parameter, text: str) -> tuple[str, str]:
    """Return a value without the footnote mark after it, and the mark: `8†`, `1e-5 [^1]`, `64G*`.

    A raised digit after a plain whole number may be an exponent (`2²`), and is not removed. A raised 1 does not change
    the value, except after a 10 in a product.
    """
    if parameter.kind not in OF_NUMBERS and parameter.name != "model":
        return text, ""
    found = _FOOTNOTE.fullmatch(text.strip())
    if found is None:
        return text, ""
    value, mark = found["value"].strip(), found["mark"]
    is_raised_one = mark in {"¹", "<sup>1</sup>"}
    if (_MAY_BE_AN_EXPONENT.fullmatch(mark) or (is_raised_one and not value.isdigit())) and _BASE.fullmatch(value):
        return text, ""
    return value, mark


# --- numbers

_UNITS: Final = {
    "epochs": re.compile("epochs?"),
    "batch_size": re.compile("(?:samples?|examples?|sequences?)?(?: ?(?:per|/) ?(?:device|gpu))?"),
    "batch_size_val": re.compile("(?:samples?|examples?|sequences?)?(?: ?(?:per|/) ?(?:device|gpu))?"),
    "training_samples": re.compile("(?:training )?(?:samples?|examples?|rows?|sequences?)"),
    "max_seq_len": re.compile("tokens?"),
    "gradient_accumulation_steps": re.compile("(?:accumulation )?steps?"),
    "num_warmup_steps": re.compile("(?:warm-?up )?steps?"),
    "max_steps_per_epoch": re.compile("steps?(?: (?:per|/) ?epoch)?"),
    "log_every_n_steps": re.compile("steps?"),
    "run_val_every_n_steps": re.compile("steps?"),
    "gpus": re.compile("gpus?(?: (?:per|/|each) ?(?:run|job))?|per (?:run|job)"),
    "cpus_per_task": re.compile("(?:cpus?|cores?|cpu cores?)(?: per task)?"),
}
"""Units that may follow a parameter's number."""

# Numbers of these are rarely below a thousand; for other parameters, `8,192` could be two values.
_OFTEN_THOUSANDS: Final = frozenset(
    {"max_seq_len", "training_samples", "num_warmup_steps", "max_steps_per_epoch", "run_val_every_n_steps"}
)
_THOUSANDS: Final = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_COUNTED: Final = re.compile(r"(?P<number>[0-9][0-9,]*)\s*-?\s*(?P<unit>[A-Za-z/][A-Za-z /-]*)")
_PERCENT: Final = re.compile(r"(?P<number>[0-9]{1,3}(?:\.[0-9]{1,17})?|\.[0-9]{1,17})\s*(?:%|percent|per cent)")
_PARTS: Final = ("lora_dropout", "weight_decay", "warmup_ratio")  # often given as a percentage
_LATEX: Final = [
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\^\{\s*([-+]?[0-9]{1,3})\s*\}"), r"^\1"),
    (re.compile(r"<sup>\s*([-+]?[0-9]{1,3})\s*</sup>"), r"^\1"),
]
_POWER_OF_TEN: Final = re.compile(r"10\s*(?:(?:\^|\*\*)\s*(?P<plain>-?[0-9]{1,3})|(?P<raised>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))")
_FROM_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_DOT_BEFORE_EXPONENT: Final = re.compile(r"(?<=[0-9])\.(?=[eE][+-]?[0-9])")


_NUMBER_WORDS: Final = {
    word: str(number)
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=1
    )
}


def _in_digits(text: str) -> str:
    """Return a text with its first word in digits if it is a small number: `three epochs`."""
    first, space, rest = text.partition(" ")
    return f"{_NUMBER_WORDS.get(first.lower(), first)}{space}{rest}" if rest else text


def _integer(parameter: Parameter, text: str) -> str:
    text = _in_digits(text)
    counted = _COUNTED.fullmatch(text)
    unit = _UNITS.get(parameter.name)
    if counted and unit and unit.fullmatch(counted["unit"].lower().strip()):
        text = counted["number"]
    if not _THOUSANDS.fullmatch(text):
        return text
    groups = text.split(",")
    if parameter.name not in _OFTEN_THOUSANDS and not any(group.startswith("0") for group in groups):
        joined = "".join(groups)
        raise NotTyped("a single whole number", fix=f"write `{joined}`, without a comma, if that is intended")
    return "".join(groups)


def _float(parameter: Parameter, text: str) -> str:
    percent = _PERCENT.fullmatch(text)
    if percent and parameter.name in _PARTS:
        return format((Decimal(percent["number"]) / 100).normalize(), "f")
    if text.startswith("$") and text.endswith("$"):
        text = text.strip("$").strip()
    for form, plain in _LATEX:
        text = form.sub(plain, text)
    if power := _POWER_OF_TEN.fullmatch(text):
        return f"1e{power['plain'] or power['raised'].translate(_FROM_RAISED)}"
    return _DOT_BEFORE_EXPONENT.sub("", text, count=1)


# --- times

_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART: Final = re.compile(
    r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,4})?)\s*-?\s*"
    r"(?P<unit>w|weeks?|d|days?|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?)(?![A-Za-z])\.?"
)
_BETWEEN_PARTS: Final = re.compile(r"\s*(?:,?\s*\band\b\s*|,\s*)?")
_CLOCK: Final = re.compile(r"(?P<h>[0-9]{1,4}):(?P<m>[0-5][0-9])\s*(?:h|hrs?|hours?)", re.IGNORECASE)
_HOURS_MINUTES: Final = re.compile(r"(?P<h>[0-9]{1,4})\s*h\s*(?P<m>[0-5][0-9])", re.IGNORECASE)


def _time(text: str) -> str:
    """Return `36 hours`, `1h 30min`, `1 day and 6 hours`, `2:00 h` as hours:minutes:seconds; other text unchanged."""
    if clock := _CLOCK.fullmatch(text) or _HOURS_MINUTES.fullmatch(text):
        return f"{int(clock['h'])}:{clock['m']}:00"
    lowered, position, total, units = text.lower(), 0, Decimal(0), list[str]()
    while position < len(lowered):
        part = _PART.match(lowered, position)
        if part is None:
            return text
        units.append(part["unit"][0])
        total += Decimal(part["number"]) * _SECONDS[part["unit"][0]]
        between = _BETWEEN_PARTS.match(lowered, part.end())
        position = between.end() if between else part.end()
        if position == len(lowered) and part.end() < position:
            return text
    is_falling = units == sorted(set(units), key="wdhms".index)
    if not units or not is_falling or total != int(total):
        return text
    minutes, seconds = divmod(int(total), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


# --- memory

_MEMORY: Final = re.compile(
    r"(?P<number>[0-9][0-9,]*)\s*(?P<unit>[KMGT])(?:i?B|(?:ilo|ega|iga|era|ibi|ebi)bytes?)?"
    r"(?:\s+(?:of\s+)?(?:ram|memory))?(?:\s*(?:per|/)\s*node)?",
    re.IGNORECASE,
)


LEAST_MEGABYTES: Final = 4096
"""Memory without a unit is in SLURM's megabytes from here on; a smaller number may be in gigabytes."""


def _memory(text: str) -> str:
    """Return `64 GB`, `64GiB`, `64 gb of RAM` in the form of sbatch, which uses powers of 1024: `64G`."""
    found = _MEMORY.fullmatch(text)
    if found is None:
        return text
    number = found["number"].replace(",", "") if _THOUSANDS.fullmatch(found["number"]) else found["number"]
    return f"{number}{found['unit'].upper()}"


# --- units of labels

_OF_MEMORY: Final = re.compile(r"[kmgt]|[kmgt]i?b|(?:kilo|mega|giga|tera|kibi|mebi|gibi|tebi)bytes?|bytes?")
_OF_TIME: Final = re.compile(r"w|weeks?|d|days?|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?")
_OF_CLOCK: Final = re.compile(r"(?:h{1,2}|hours?):(?:m{1,2}|minutes?)")
_OF_PERCENT: Final = re.compile(
    r"(?:%|percent|per cent|pct|percentage)(?: of (?:all |the |total )?(?:training|(?:training |optimi[sz]er )?steps))?"
)
_OF_A_SHARE: Final = re.compile(r"(?:[^0-9]{0,20}[^0-9 ] ?)?(?:%|percent\b)[^0-9]{0,40}")
_OF_COUNTS: Final = re.compile(
    r"(?:(?:optimi[sz]er|training|gradient) )?steps?|epochs?|samples?|examples?|sequences?|rows?|tokens?|words?"
    r"|characters?|chars?|iterations?|iters?|gpus?|cpus?|cores?"
    r"|(?:k|thousands?|millions?)(?: (?:of )?(?:samples|examples|rows|tokens|steps|words|characters))?"
)
_OF_A_PART: Final = re.compile(r"(?:per |/ ?)(?P<part>gpu|cpu|core|thread|task|process|epoch|step|sample|iteration)s?")
_OF_POWERS: Final = re.compile(
    r"(?P<times>[x×*·]\s*)?(?:10\s*(?:\^|\*\*)?\s*(?P<plain>[-−]?[0-9]{1,2})|10(?P<raised>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2})"
    r"|1?e(?P<e>[+-]?[0-9]{1,2}))"
)
_OF_FACTORS: Final = re.compile(r"[x×*·]\s*[0-9.,]{1,12}")


def is_unit(text: str, kind: str) -> bool:
    """Return whether a text next to the label of a number, a time or memory is a unit, of this parameter or another."""
    text = text.lower().strip(" .")
    if kind in {"int", "float"} and text != "k":  # a letter abbreviates: `Rank (r)`
        known = [_OF_PERCENT, _OF_A_SHARE, _OF_COUNTS, _OF_POWERS, _OF_FACTORS, _OF_MEMORY, _OF_TIME]
        return (len(text) > 1 or text == "%") and any(form.fullmatch(text) for form in known)
    of_jobs = [_OF_MEMORY, _OF_TIME, _OF_A_PART, _OF_PERCENT, _OF_COUNTS]
    return any(form.fullmatch(text) for form in of_jobs) or _OF_CLOCK.match(text) is not None


def is_power(unit: str) -> bool:
    """Return whether a unit is a power of ten, which a number with an exponent of its own does not have."""
    return _OF_POWERS.fullmatch(unit.lower().strip()) is not None


def is_factor(unit: str) -> bool:
    """Return whether a unit is a factor: `x 0.01`, `10^-3`."""
    return is_power(unit) or _OF_FACTORS.fullmatch(unit.lower().strip()) is not None


def suffix_of(parameter: Parameter, unit: str) -> str | None:
    """Return the text that gives a plain number the unit of its label: ` GB`, `%`; None if it cannot have that unit."""
    unit = unit.lower().strip(" .")
    own = _UNITS.get(parameter.name)
    if own is not None and own.fullmatch(unit):
        return ""
    if parameter.kind == "memory" and _OF_MEMORY.fullmatch(unit) and not unit.startswith("byte"):
        return f" {unit}"
    if parameter.kind == "time":
        if clock := _OF_CLOCK.match(unit):
            return " h" if clock.end() == len(unit) else ""
        return f" {unit}" if _OF_TIME.fullmatch(unit) else None
    if _OF_PERCENT.fullmatch(unit) and parameter.name in {*_PARTS, "num_warmup_steps"}:
        return "%"
    power = _OF_POWERS.fullmatch(unit)
    if power and power["times"] and parameter.kind == "float":
        exponent = power["plain"] or power["e"] or power["raised"].translate(_FROM_RAISED)
        return f" x 10^{exponent.replace('−', '-').lstrip('+')}"
    return None


# --- all of them


def plain(parameter: Parameter, text: str) -> str:
    """Return a text in the form for the reader of kinds; a text in an unknown notation is unchanged.

    Raises:
        NotTyped: the notation can be read in more than one way.
    """
    match parameter.kind:
        case "int":
            return _integer(parameter, _in_ascii(text))
        case "float":
            return _float(parameter, _in_ascii(text))
        case "time":
            return _time(_in_digits(_in_ascii(text)))
        case "memory":
            return _memory(_in_ascii(text))
    return _model(text) if parameter.name == "model" else text


def _model(text: str) -> str:
    """Return the registered name of a model that is written with its organisation or other separators."""
    if find_model(text) is not None:
        return text
    known = model_by_spelling(" ".join(_in_ascii(text).split()))
    return known.name if known else text


# --- GPUs

# A100, RTX 4090, A100-SXM4-80GB, H100 80GB, MI250X; a letter must precede a digit, so that `2 x 4` is not a GPU
_GPU: Final = r"(?![xX]\b)(?:NVIDIA |AMD |Tesla |GeForce |Quadro )*[A-Za-z]{1,6}[ -]?[0-9]{1,4}[A-Za-z0-9]{0,6}"
_GPU_TEXT: Final = rf"{_GPU}(?:[ -][A-Za-z0-9]{{1,12}}){{0,3}}"
_GPUS: Final = [
    re.compile(
        r"(?P<number>[0-9]{1,4})\s*[×xX]?\s*(?P<type>(?![xX]\b)[A-Za-z0-9 /-]{0,40})\bGPUs?", re.ASCII | re.IGNORECASE
    ),
    re.compile(rf"(?P<number>[0-9]{{1,4}})\s*[×xX*]\s*(?P<type>{_GPU_TEXT})", re.IGNORECASE),
    re.compile(rf"(?P<number>[0-9]{{1,4}})\s+(?P<type>{_GPU_TEXT})", re.IGNORECASE),
    re.compile(rf"(?P<type>{_GPU_TEXT})\s*[×xX*]\s*(?P<number>[0-9]{{1,4}})", re.IGNORECASE),
]


def counted_gpus(text: str) -> tuple[str, str] | None:
    """Return number and type of `4 GPUs`, `2 x A100`, `1 × 80GB GPU`, `2 A100s`; None for other texts."""
    written = _in_digits(_in_ascii(text))
    found = next((match for form in _GPUS if (match := form.fullmatch(written))), None)
    return (found["number"], found["type"].strip()) if found else None


# --- options of sbatch

_SBATCH: Final = re.compile(r"[ \t>]{0,99}[`$]?#SBATCH[ \t]{1,99}(?P<options>-[^\n]*)")
_ANY_SBATCH: Final = re.compile(r"[ \t>]{0,99}[`$]?#{1,3} ?SBATCH(?!\w)")
_BY_LETTER: Final = {
    "A": "account", "p": "partition", "C": "constraint", "t": "time", "N": "nodes", "n": "ntasks", "q": "qos",
    "c": "cpus-per-task", "G": "gpus", "x": "exclude", "w": "nodelist", "J": "job-name", "o": "output", "e": "error",
    "a": "array", "d": "dependency", "D": "chdir",
}  # fmt: skip
_SAME_AS: Final = {"gpus-per-node": "gpus", "gpus-per-task": "gpus", "gres": "gpus", "no-requeue": "requeue"}
_FLAGS: Final = {"requeue": "yes", "no-requeue": "no"}
_OF_EACH_JOB: Final = frozenset({"job-name", "output", "error", "open-mode"})
_ONE_PROCESS: Final = frozenset({"ntasks", "ntasks-per-node", "nodes"})
_MINUTES: Final = re.compile(r"[0-9]{1,6}")
_TYPE_ALONE: Final = re.compile(r"gpu(?::(?P<type>[A-Za-z][A-Za-z0-9._-]*))?", re.ASCII)


_COMMAND: Final = re.compile(r"[ \t$]{0,99}sbatch[ \t]{1,99}(?P<options>-[^\n]*)")


def is_sbatch(line: str) -> bool:
    """Return whether a line is an #SBATCH line, even one that is commented out as `##SBATCH`."""
    return _ANY_SBATCH.match(line) is not None


def is_command(line: str) -> bool:
    """Return whether a line calls sbatch, with options."""
    return _COMMAND.match(line) is not None


def sbatch_options(line: str) -> Iterator[tuple[str, str]]:
    """Yield the options of an #SBATCH line by their labels in documents, with values: `-t 30` is time 0:30:00.

    Options of the command sbatch end before the script. Options that are the same for every job, or set for each job,
    are skipped: one task, its name, its log.
    """
    match = _SBATCH.match(line) or _COMMAND.match(line)
    try:
        words = shlex.split(match["options"].rstrip("`"), comments=True) if match else []
    except ValueError:  # an unclosed quote
        words = match["options"].split() if match else []
    words = [word for word in words if word.strip("\\")]
    while words and not words[0].startswith("("):  # a remark
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and word.startswith("-"):
            letter, rest = word[1:2], word[2:]
            name, equals, value = _BY_LETTER.get(letter, letter), rest, rest.removeprefix("=")
        if match is not None and match.re is _COMMAND and not word.startswith("-"):
            return
        is_alone = equals or name in _FLAGS or not word.startswith("-")
        if not is_alone and words and not words[0].startswith(("-", "(")):
            value = words.pop(0)
        value = _FLAGS.get(name, value or "yes")
        if name == "mem" and value.isdigit() and 0 < int(value) < LEAST_MEGABYTES:
            value = f"{value}M"  # sbatch's own unit
        if name not in _OF_EACH_JOB and not (name in _ONE_PROCESS and value == "1"):
            yield from _of_sbatch(name, value)


def _of_sbatch(name: str, value: str) -> Iterator[tuple[str, str]]:
    if name == "time" and _MINUTES.fullmatch(value):
        hours, minutes = divmod(int(value), 60)
        value = f"{hours}:{minutes:02d}:00"
    if name != "gres":
        yield _SAME_AS.get(name, name), value
        return
    for part in value.split(","):
        alone = _TYPE_ALONE.fullmatch(part)
        if alone is not None:
            yield "gpus", f"gpu:{alone['type']}:1" if alone["type"] else "1"
        else:
            yield ("gpus" if part.startswith("gpu:") else "generic resource", part)


EXPECTED_METHOD: Final = "LoRA or full fine-tuning"
"""The allowed methods, for messages."""


def remove_unsupported(what: str = "this setting") -> str:
    """Return the fix for a request for something unsupported."""
    return f"remove {what} if the runs do not need it; this tool cannot scaffold runs that need it"


def not_supported(part: str, text: str, why: str = "supported") -> str:
    """Return the clause about an unsupported part of a text, or about a part that follows from its label."""
    if part.strip().casefold() == text.strip().casefold():
        return f"which is not {why}"
    return f"{'of which' if part in text else 'and'} {shown(part)} is not {why}"


class NotHonoured(Exception):
    """A request for something unsupported: the problem as a clause (`which is ...`), the fix, and the allowed values.

    `several`: the line names more than one supported method. {line} in the given fix is the line of a setting.
    """

    def __init__(
        self, what: str, fix: str, *, expected: str = "", several: bool = False, line: tuple[str, Scalar] = ("", "")
    ) -> None:
        super().__init__(what)
        self.what, self.expected, self.several = what, expected, several
        self.fix, self.fix_in_yaml = (fix.replace("{line}", as_line(*line, yaml=yaml)) for yaml in (False, True))


class Method(NamedTuple):
    """The method or recipe that a text names, if any, with the settings and projections in the text."""

    recipe: str | None
    settings: dict[str, str]
    modules: tuple[str, ...] = ()


_LONGEST: Final = 300
_SEPARATORS: Final = re.compile(
    r"[()\[\],;/+&|]|\s[-–—]+\s|\s{0,9}:\s"
    r"|(?<!\w)(?:and|with|using|via|by|on|at|plus|in|for|or|vs\.?|versus)(?!\w)",
    re.IGNORECASE,
)


_HARMLESS_WORDS: Final = word_set(
    "a an the we use used our is plain vanilla standard regular normal classic default usual basic ordinary simple"
    " supervised sft instruction fine tuning tuned finetuning finetuned finetune tune training trained train adapter"
    " adapters adaptation method recipe torchtune torchtune's peft parameter parameters efficient weight weights model"
    " low rank all only each entire whole updated trainable update of hugging face library own based"
)
_HARMLESS: Final = re.compile(
    r"(?:(?:all|every|each of the) (?:transformer )?layers?|(?:single|one) (?:device|gpu|node)|distributed|multi gpu"
    r"|(?:see|as in|by) (?:the )?(?:table|runs?|rows?|below|above|table below|runs table)|below|above|(?:the )?table"
    r"|(?:an? |the )?(?:frozen )?base (?:model|weights)(?: (?:is |are )?frozen)?"
    r"|(?:pure )?(?:bf16|bfloat16)(?: precision)?"
    r"|unquantized|16 bits?|torchtune(?:'s)? v?0\.6\.1|causal lm|language modell?ing|next token prediction"
    r"|cross entropy(?: loss)?|adamw?)"
)
_SETTING: Final = re.compile(
    r"(?P<label>[a-zα][a-zα _]{0,40}?)\s{0,9}(?:=|:|is)?\s{0,9}(?P<value>[0-9][0-9.]*(?:e[+-]?[0-9]{1,3})?)"
)
_COUNTED_SETTING: Final = re.compile(r"(?P<value>[0-9]{1,6})\s*(?:x\s*)?(?P<label>gpus?|epochs?|warmup steps)")
_OF_METHODS: Final = frozenset(
    {"lora_rank", "lora_alpha", "lora_dropout", "lr", "epochs", "batch_size", "gpus", "seed", "weight_decay"}
    | {"num_warmup_steps", "max_seq_len", "gradient_accumulation_steps", "nodes", "effective_batch_size"}
)
_MODULE: Final = re.compile(r"(?:[qkvo]|out|output|gate|up|down)_proj|w[123]|lm_head")
_HYPHENS: Final = str.maketrans({"\u2010": "-", "\u2011": "-"})
_MARKS: Final = re.compile(r"[⁰¹²³⁴-⁹✓✔☑✅†‡]")
_SPEAKS: Final = re.compile(
    r"(?<![\w-])(?:lora|full(?:[ -](?:parameters?|weights?|model))?[ -](?:fine[ -]?tun\w*|ft))(?![\w-])", re.IGNORECASE
)
_LONGEST_VALUE: Final = 80
_HYPHENATED: Final = re.compile(r"(?<=[A-Za-z]{2})-")
_NO: Final = re.compile(r"(?:no|not|without|non)\s{1,9}(?:any )?(?P<rest>.+)")
_EDGES: Final = " \t`\"'“”*.~"


def read_method(text: str) -> Method:
    """Return the method that a text names.

    Raises:
        NotHonoured: the text names no method, more than one, or something unknown.
    """
    found = _Found()
    if len(text) > _LONGEST:
        raise NotHonoured("which is longer than the name of a method", _fix(None), expected=EXPECTED_METHOD)
    text = _MARKS.sub("", text.translate(_HYPHENS))
    for part in _SEPARATORS.split(text):
        found.take(part.strip(_EDGES))
    if found.unknown:
        named = next((other for part in found.unknown if (other := other_training(part))), None) or other_training(text)
        clause = not_supported(named or found.unknown[0], text.strip(_EDGES), "supported" if named else "understood")
        raise NotHonoured(clause, _fix(found.method), expected=EXPECTED_METHOD)
    if other := other_training(text):
        raise NotHonoured(not_supported(other, text), _fix(found.method), expected=EXPECTED_METHOD)
    if len(found.recipes) > 1 or (found.method == LORA and found.denied_lora):
        fix = "write only one of them, `LoRA` or `full fine-tuning`; if the runs differ, give each run its own method"
        raise NotHonoured("which names more than one method", fix, expected=EXPECTED_METHOD, several=True)
    method = found.method
    if method is None:
        raise NotHonoured("which is not a supported method", _fix(None), expected=EXPECTED_METHOD)
    return Method(method, found.settings, tuple(found.modules))


def _fix(method: str | None) -> str:
    written = {LORA: "LoRA", FULL: "full fine-tuning"}.get(method_of(method or "") or "", "")
    if written:
        return f"write only `{written}` if that is intended; this tool supports only LoRA and full fine-tuning"
    return "write `LoRA` or `full fine-tuning`; this tool supports no other method"


def _are_harmless(part: str, words: str) -> bool:
    """Return whether a part does not change the training, which includes names of models."""
    if _HARMLESS.fullmatch(words) or set(words.split()) <= _HARMLESS_WORDS:
        return True
    others = [word for word in part.split() if find_model(word) is None]
    return (
        len(others) < len(part.split()) and set(" ".join(others).lower().replace("-", " ").split()) <= _HARMLESS_WORDS
    )


class _Found:
    """The method and settings in the parts of a text that were read so far."""

    def __init__(self) -> None:
        self.recipes: list[str] = []
        self.settings: dict[str, str] = {}
        self.modules: list[str] = []
        self.unknown: list[str] = []
        self.denied_lora = False

    @property
    def method(self) -> str | None:
        """The recipe, else the method; LoRA if the text only gives settings of the adapter."""
        of_lora = any(name in OF_LORA for name in self.settings)
        return self.recipes[0] if self.recipes else LORA if of_lora else None

    def take(self, part: str) -> None:
        """Read one part of a text."""
        words = " ".join(part.lower().replace("-", " ").split())
        if not words or self._method(part, words) or self._denied(words) or self._setting(part):
            return
        if words.rstrip("= ") in {"target_modules", "target modules"}:  # names of modules follow
            return
        if _MODULE.fullmatch(words):
            self.modules.append(words)
        elif not (_are_harmless(part, words)) and not self._holds(part):
            self.unknown.append(part)

    def _method(self, part: str, words: str) -> bool:
        recipe = part.strip("`").removesuffix(".py")  # the name of a recipe's file
        named = recipe if recipe in RECIPE_NAMES else method_in_words(words)
        if named is None:
            return False
        same = next((one for one in self.recipes if recipes_agree(one, named)), None)
        if same is None:
            self.recipes.append(named)
        elif named in RECIPE_NAMES:  # more specific
            self.recipes[self.recipes.index(same)] = named
        return True

    def _denied(self, words: str) -> bool:
        """Read `no LoRA`, which means full fine-tuning, and `without quantization`."""
        match = _NO.fullmatch(words)
        if match is None:
            return False
        self.denied_lora |= method_in_words(match["rest"]) == LORA
        harmless = set(match["rest"].split()) <= {"adapter", "adapters", "peft", "change", "changes"}
        return harmless or self.denied_lora or other_training(f"+{match['rest']}") is not None

    def _setting(self, part: str) -> bool:
        """Read `rank 8`, `r=8`, `alpha 16`, `2 GPUs`."""
        found = setting_beside_method(part)
        if found is None:
            return False
        name, value = found
        if self.settings.setdefault(name, value) != value:
            self.unknown.append(part)
        return True

    def _holds(self, part: str) -> bool:
        """Read `LoRA r=16`, `rank-8 LoRA` and `full fine-tuning of all weights`: a method, and the rest as a part."""
        whole = part.split()
        ends = (end for end in range(len(whole) - 1, 0, -1) if method_in_words(" ".join(whole[:end]).replace("-", " ")))
        if (end := next(ends, None)) is not None:
            named, rest = [" ".join(whole[:end])], " ".join(whole[end:])
        else:
            words = [one for word in whole for one in (_HYPHENATED.split(word) if _is_compound(word) else [word])]
            named = [word for word in words if method_in_words(word) == LORA or word in RECIPE_NAMES]
            rest = " ".join(word for word in words if word not in named)
        if not named or not rest:
            return False
        for one in (*named, rest):
            self.take(one)
        return True


def _is_compound(word: str) -> bool:
    return word not in RECIPE_NAMES and find_model(word) is None


def setting_beside_method(text: str) -> tuple[str, str] | None:
    """Return parameter and value of a text that is a setting and nothing else: `rank 8`, `r=8`, `2 GPUs`."""
    lowered = text.lower().strip()
    written = lowered if "e-" in lowered else lowered.replace("-", " ")
    match = _COUNTED_SETTING.fullmatch(written) or _SETTING.fullmatch(written)
    parameter = by_label(match["label"].replace("α", "alpha")) if match else None
    return (
        None
        if match is None or parameter is None or parameter.name not in _OF_METHODS
        else (parameter.name, match["value"])
    )


def speaks_of_method(text: str) -> bool:
    """Return whether a text, short enough for a value, names a supported method, among other words."""
    return len(text) <= _LONGEST_VALUE and _SPEAKS.search(text) is not None


def is_method_named(text: str) -> bool:
    """Return whether a text, as a whole, names a supported method."""
    try:
        return read_method(text).recipe is not None
    except NotHonoured:
        return False


def names_full(text: str) -> bool:
    """Return whether a text, as a whole, names full fine-tuning."""
    return is_method_named(text) and method_of(str(read_method(text).recipe)) == FULL


def method_of_type(text: str) -> str:
    """Return the part of a run's type that names a method, if any: `LoRA`, `full` in `Fine-tuned (full)`."""
    remark = text.partition("(")[2].rstrip(") ")
    return next((part for part in (remark, text) if part and is_method_named(part)), "")
