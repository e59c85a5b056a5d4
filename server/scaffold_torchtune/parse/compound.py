"""Lines that give several settings, or use their own notation: methods, LoRA's modules, batches, GPUs, W&B.

`GPUs: 8 (2 nodes)` gives GPUs and nodes, `Batch size: 4 (effective 32)` is compared with the plan, and `Target modules:
q_proj, gate_proj, up_proj, down_proj` corresponds to three settings of torchtune.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from scaffold_torchtune.findings import Scalar, shown
from scaffold_torchtune.parse import notations, values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.parse.notations import NotHonoured
from scaffold_torchtune.settings.kinds import PROJECTIONS
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import (
    NOT_PLANNED,
    asked_otherwise,
    asks_for_nothing,
    beside_optimizer,
    is_refused,
    other_training,
)
from scaffold_torchtune.system.markdown import Table
from scaffold_torchtune.torchtune_facts import LORA, method_in_words

_WANDB: Final = r"(?:wandb|w b|weights (?:and )?biases)"
_IS_WANDB: Final = re.compile(
    rf"{_WANDB}(?: (?:logging|enabled|tracking|log))?|(?:use|enable|log to|logging to|track with) {_WANDB}"
)
_IS_NO_WANDB: Final = re.compile(rf"{_WANDB} (?:disabled|off)|(?:disable|no) {_WANDB}")
_IS_OFFLINE: Final = re.compile(rf"{_WANDB} offline(?: mode)?|offline {_WANDB}")
_IS_ONLINE: Final = re.compile(rf"{_WANDB} online(?: mode)?|online {_WANDB}")
_LOGGERS: Final = frozenset(
    {"logger", "metric logger", "report to", "tracker", "experiment tracker", "experiment tracking", "tracking"}
    | {"logging backend", "metric logging", "tracking backend"}
)
_RECIPES_TOO: Final = frozenset({"custom recipe"})
_RECIPE: Final = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*", re.ASCII)
_GPUS_TOO: Final = frozenset({"gpus per node", "gpus node", "gpu per node"})  # a run has one node
_OF_LORA: Final = frozenset(
    {"lora", "use lora", "lora config", "lora configuration", "lora settings", "lora parameters", "peft config"}
    | {"lora hyperparameters", "lora enabled", "enable lora"}
)
_NO_LORA: Final = re.compile(
    r"(?:no|without|not)\s{1,9}(?:lora|adapters?|peft)|fft|all(?:\s{1,9}(?:weights|parameters|layers))?", re.IGNORECASE
)
_ON: Final = frozenset({"yes", "true", "on", "enabled", "enable", "1", "default"})
_OFF: Final = frozenset({"no", "false", "off", "none", "disabled", "disable", "0", "never"})
_MODES: Final = frozenset({"online", "offline", "disabled"})

OF_OTHER_RUNS: Final = frozenset(
    {
        "recipe",
        "lora_attn_modules",
        "apply_lora_to_mlp",
        "apply_lora_to_output",
        "target_modules",
        "wandb_mode",
        "nodes",
    }
    | {"effective_batch_size"}
)
"""Parameters that must not contradict the runs even in sections that are not read as settings."""

NOT_BY_RUN: Final = frozenset(
    {"base_recipe", "conda_env", "modules", "offline", "wandb_entity", "my_wandb_project", "account", "partition"}
    | {"constraint", "reservation", "exclude", "mail_user", "mail_type"}
)
"""Parameters that are the same for all runs and change a run: a row must not give them."""

_STOCK: Final = re.compile(
    r"(?<![\w/])(?:llama|qwen|mistral|gemma|phi|code_llama)[0-9_]*/\w+_(?:lora|full|qlora|qat|dpo|knowledge)\w*"
)
"""A stock config of torchtune: its values are not used."""

_COUNTS: Final = {"one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "six": 6, "eight": 8}
_NUMBER: Final = rf"(?P<count>[0-9]{{1,6}}|{'|'.join(_COUNTS)})"
_NODES: Final = re.compile(
    rf"(?:\b(?:on|across|over|in)\s+|[x×*]\s*)?\b(?:{_NUMBER}|(?P<many>multi(?:ple)?|several))[\s-]+(?:compute\s+)?nodes?\b\s*(?:each\b)?(?:\s*[x×*])?",
    re.IGNORECASE,
)  # fmt: skip
_PER_NODE: Final = re.compile(r"(?:\(\s{0,9})?\b(?:per|each|a|on each)\s{1,9}node\b(?:\s{0,9}\))?", re.IGNORECASE)
_SOME_GPUS: Final = re.compile(
    r"\b(?P<gpus>[0-9]{1,6})\s*[x×]?\s*(?:[A-Za-z][A-Za-z0-9-]{0,20}\s+)?GPUs?\b", re.IGNORECASE
)
_WORDS_OF_A_VALUE: Final = 3
_EDGES: Final = " \t,;()x×*–—-"
_EFFECTIVE: Final = re.compile(
    r"(?:an?\s{1,9})?(?:effective|total|global)(?:\s{1,9}batch(?:\s{1,9}size)?)?\s{0,9}(?:of|is|=|:)?\s{0,9}(?P<size>[0-9]{1,9})"
    r"|=\s{0,9}(?P<product>[0-9]{1,9})",
    re.IGNORECASE,
)  # fmt: skip
_ACCUMULATED: Final = re.compile(
    r"(?:[x×*]\s{0,9})?\b(?P<before>[0-9]{1,9})\s{0,9}(?:steps?\s{1,9}(?:of\s{1,9})?)?(?:grad(?:ient)?\s{1,9})?accum\w{0,9}(?:\s{1,9}steps?)?"
    r"|\b(?:grad(?:ient)?\s{1,9})?accum\w{0,9}(?:\s{1,9}steps?)?\s{0,9}(?:of|is|=|:)?\s{0,9}(?P<after>[0-9]{1,9})",
    re.IGNORECASE,
)
_PER_DEVICE: Final = re.compile(r"(?:\(\s{0,9})?\bper[\s-]{1,9}(?:device|gpu|process)\b(?:\s{0,9}\))?", re.IGNORECASE)
_OF_A_BATCH: Final = re.compile(r"effective|total|global|accum|[0-9]\s*[x×*]|[x×*]\s*[0-9]", re.IGNORECASE)
_LEADING: Final = re.compile(r"(?P<value>[0-9]{1,9})(?P<rest>(?:[^0-9].*)?)", re.DOTALL)
_PERCENT: Final = re.compile(
    r"(?P<value>[0-9]{1,3}(?:\.[0-9]{1,6})?)\s*(?:%|percent)(?:\s+of\s+(?:all\s+|the\s+)?(?:training\s+)?steps)?",
    re.IGNORECASE,
)
_BESIDE: Final = re.compile(
    r"(?:with\s+)?(?:warm-?\s?up\s*(?:steps|ratio|fraction)?\s*(?:of|=|:)?\s*)?"
    r"(?:(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%|(?P<ratio>0?\.[0-9]{1,9})|(?P<steps>[0-9]{1,9})(?:\s+steps)?)"
    r"(?:\s*(?:of\s+)?warm-?\s?up(?:\s+steps)?)?",
    re.IGNORECASE,
)

_OF_A_SCHEDULE: Final = re.compile(r"warm|\bmin|\bto\b|decay|cycle|restart|period|end", re.IGNORECASE)
_BETWEEN_PARTS: Final = re.compile(
    r" ?[,;+()] ?| (?:with|then|after|and|followed by|preceded by) | (?=without )", re.IGNORECASE
)
_LEADING_WORDS: Final = re.compile(
    r"(?:(?:and|then|with|an?|the|followed by|after|preceded by)(?: |$)){1,3}", re.IGNORECASE
)
_IS_COSINE: Final = re.compile(
    r"cosine(?: (?:lr|learning[ -]rate))?(?: (?:schedul(?:e|er|ing)|annealing|decay)){0,2}(?: to (?:zero|0))?",
    re.IGNORECASE,
)
_AMOUNT: Final = (
    r"(?:the )?(?:first )?(?:(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,6})?) ?%(?: of (?:all |the )?(?:training )?steps)?"
    r"|(?P<ratio>0?\.[0-9]{1,9})|(?P<steps>[0-9]{1,9})(?:[ -](?:optimizer |training )?steps?)?)"
)
_WARM_UP: Final = r"(?:linear )?(?:lr )?warm-? ?up(?: (?:phase|period|steps|ratio|fraction))?"
_IS_WARM_UP: Final = [
    re.compile(rf"{_WARM_UP}(?: ?[:=]| of| over| for| during| in)?(?: {_AMOUNT})?", re.IGNORECASE),
    re.compile(rf"{_AMOUNT}(?: of)? {_WARM_UP}", re.IGNORECASE),
    re.compile(rf"(?P<no>no|without(?: an?)?) {_WARM_UP}", re.IGNORECASE),
]
_ATTENTION: Final = dict(zip(PROJECTIONS, PROJECTIONS, strict=True)) | {
    "o_proj": "output_proj",
    "out_proj": "output_proj",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "output_proj",
}
_MLP: Final = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3", "w1": "w1", "w2": "w2", "w3": "w3"}
_WHOLE_MLP: Final = frozenset({"mlp", "ffn", "feed_forward"})
_OUTPUT: Final = frozenset({"lm_head", "output", "output_layer"})
_ALL_LINEAR: Final = frozenset({"all linear", "all linear layers", "all linear modules", "all-linear"})
_BETWEEN: Final = re.compile(r"[\s,;/+&|]+(?:and\s+)?")
_WRITE_PLACES: Final = (
    "list the attention projections to which LoRA should apply (of q_proj, k_proj, v_proj, output_proj), and gate_proj,"
    " up_proj and down_proj if it should apply to the MLP"
)

_GIVE_METHOD: Final = (
    "write `-` instead, and `full fine-tuning` in a column `Method` of the table of runs; if all runs use it, add"
    " `- **Method:** full fine-tuning` to Configuration"
)


def parameter_of(label: str) -> Parameter | None:
    """Return the parameter that a label means, including special labels (`Use W&B`, `Custom recipe`)."""
    words = normalize(label)
    if words in _RECIPES_TOO | _OF_LORA or method_in_words(words):
        return PARAMETERS["recipe"]
    if words in _GPUS_TOO:
        return PARAMETERS["gpus"]
    return PARAMETERS["wandb_mode"] if _switches_wandb(words) or words in _LOGGERS else by_label(label)


def has_words_of_its_own(label: str) -> bool:
    """Return whether the meaning of a label's text depends on the label, and not only on its parameter."""
    words = normalize(label)
    return _switches_wandb(words) or words in _LOGGERS | _OF_LORA or method_in_words(words) is not None


def reads(label: str) -> bool:
    """Return whether a line with a label may give more than one value of its parameter."""
    parameter = parameter_of(label)
    return has_words_of_its_own(label) or (parameter is not None and parameter.name in _READERS)


def names_wandb(label: str) -> bool:
    """Return whether a label mentions Weights & Biases."""
    return re.search(rf"\b{_WANDB}\b", normalize(label)) is not None


def _switches_wandb(words: str) -> bool:
    return any(pattern.fullmatch(words) for pattern in (_IS_WANDB, _IS_NO_WANDB, _IS_OFFLINE, _IS_ONLINE))


def parts(label: str, field: SourceText) -> dict[str, SourceText]:
    """Return the texts of a line by parameter; empty if the line changes nothing, or its label is not a parameter.

    Raises:
        NotHonoured: the line asks for something unsupported.
    """
    parameter, words = parameter_of(label), normalize(label)
    if parameter is None or (values.is_unset(field.text) and not says_none(label, field.text)):
        return {}
    found: _Read
    if words in _OF_LORA or method_in_words(words):
        found = _named_method(method_in_words(words) or LORA, field)
    elif has_words_of_its_own(label):
        found = {"wandb_mode": mode} if (mode := _mode_of(words, field)) else {}
    elif words in {"recipe", *_RECIPES_TOO} and _RECIPE.fullmatch(field.text) and not other_training(field.text):
        return {"recipe": field}  # the plan checks whether the name is supported
    elif (read := _READERS.get(parameter.name)) is not None:
        found = read(field)
    else:
        return {parameter.name: field}
    return {name: text if isinstance(text, SourceText) else _part_of(field, text) for name, text in found.items()}


def says_none(label: str, text: str) -> bool:
    """Return whether `none` is a value of a label: no logger, no LoRA in attention, no weight decay."""
    parameter = parameter_of(label)
    if parameter is not None and values.means_none(parameter, text):
        return True
    of_places = parameter is not None and parameter.name in {"lora_attn_modules", "target_modules", "lr_scheduler"}
    return text.strip(" `()").lower() == "none" and (of_places or has_words_of_its_own(label))


def _part_of(field: SourceText, text: str) -> SourceText:
    return replace(field, text=text, full=None, source=None)


def _whole(field: SourceText) -> str:
    """Return the whole text after a label, with white space collapsed to keep the patterns below fast."""
    return " ".join((field.full or field.text).split())


_Read = Mapping[str, SourceText | str]


def _method(field: SourceText) -> _Read:
    """Return the method, and other settings of the line."""
    found = notations.read_method(_whole(field))
    named = {} if found.recipe is None else {"recipe": found.recipe}
    return {**named, **found.settings, **(places_of(" ".join(found.modules)) if found.modules else {})}


def _named_method(method: str, field: SourceText) -> _Read:
    """Return the method that a label names, with other settings of the line: `LoRA: r=16`, `LoRA: yes`."""
    text = _whole(field)
    plain = text.strip(" `\"'.").lower()
    if plain in _OFF and method == LORA:
        raise NotHonoured(
            "which switches LoRA off without a different method",
            "write {line} instead, if full fine-tuning is intended",
            line=("recipe", "full fine-tuning"),
        )
    if plain in _ON | _OFF:
        return {"recipe": method if plain in _ON else LORA}
    return _method(_part_of(field, f"{method}, {text}"))


def _targets(field: SourceText) -> _Read:
    text = _whole(field)
    return {} if text.lower().strip("`\"'") in {"default", "defaults"} else places_of(text)


def places_of(text: str) -> dict[str, str]:
    """Return the settings for LoRA's modules, from names of torchtune and Hugging Face.

    Raises:
        NotHonoured: torchtune cannot apply LoRA to exactly these modules.
    """
    plain = text.strip().strip("[](){}").replace('"', "").replace("'", "").replace("`", "").strip().lower()
    if plain in _ALL_LINEAR:
        return _as_settings(list(PROJECTIONS), mlp=True, output=False)
    names = [name for name in _BETWEEN.split(plain) if name]
    attention = [_ATTENTION[name] for name in names if name in _ATTENTION]
    mlp = {_MLP[name] for name in names if name in _MLP} | ({"w1", "w2", "w3"} if _WHOLE_MLP & set(names) else set())
    unknown = [name for name in names if name not in _ATTENTION | _MLP and name not in _WHOLE_MLP | _OUTPUT]
    if unknown or not names:
        is_whole = not unknown or unknown[0] == plain
        part = "which" if is_whole else f"of which {shown(unknown[0])}"
        raise NotHonoured(f"{part} is not a module that supports LoRA", _WRITE_PLACES)
    if mlp and len(mlp) != len({"w1", "w2", "w3"}):
        what = "which has only some of the MLP projections; torchtune applies LoRA to all three of them or to none"
        raise NotHonoured(what, "list gate_proj, up_proj and down_proj, or none of them")
    if not attention:
        raise NotHonoured("which has no attention projection; torchtune's LoRA needs at least one", _WRITE_PLACES)
    return _as_settings(attention, mlp=bool(mlp), output=bool(_OUTPUT & set(names)))


def _as_settings(attention: list[str], *, mlp: bool, output: bool) -> dict[str, str]:
    return {
        "lora_attn_modules": ",".join(attention),
        "apply_lora_to_mlp": "yes" if mlp else "no",
        "apply_lora_to_output": "yes" if output else "no",
    }


def _projections(field: SourceText) -> _Read:
    """Return names of projections with commas; other texts are unchanged, and fail later with the allowed names."""
    plain = _whole(field).strip("[](){}").replace('"', "").replace("'", "").replace("`", "")
    names = [name for name in _BETWEEN.split(plain.strip()) if name]
    if names == ["none"]:
        raise NotHonoured("which has no attention projection; torchtune's LoRA needs at least one", _WRITE_PLACES)
    known = all(name.lower() in _ATTENTION for name in names) and names
    return {"lora_attn_modules": ",".join(_ATTENTION[n.lower()] for n in names) if known else field}


def _gpus(field: SourceText) -> _Read:
    """Return GPUs, their type, and their nodes."""
    whole = _whole(field)
    match, rest = _NODES.search(whole), whole
    if match is None and not _PER_NODE.search(whole):
        return values.requested_gpus(field)
    if match is not None:
        rest = f"{whole[: match.start()].rstrip(_EDGES)} {whole[match.end() :].strip(_EDGES)}".strip()
    rest = _PER_NODE.sub(" ", rest).strip(_EDGES)
    found: dict[str, SourceText | str] = {**values.requested_gpus(_part_of(field, rest))} if rest else {}
    return found | ({"nodes": _count(match)} if match else {})


def _nodes(field: SourceText) -> _Read:
    """Return the nodes, and the GPUs of the line."""
    whole = _whole(field)
    match = re.fullmatch(
        rf"{_NUMBER}\s*(?:(?:compute\s+)?nodes?)?(?P<rest>(?:[^0-9].*)?)", whole, re.IGNORECASE | re.DOTALL
    )
    if match is None:
        return {"nodes": field}
    gpus = _SOME_GPUS.search(match["rest"])
    if gpus is None:
        return {"nodes": _part_of(field, f"{_count(match)} {match['rest'].strip()}".strip())}
    return {"nodes": _count(match), "gpus": gpus["gpus"]}


def _count(match: re.Match[str]) -> str:
    count = (match["count"] or "2").lower()  # `multi-node`: more than one
    return str(_COUNTS.get(count, count))


def _batch(name: str) -> Callable[[SourceText], _Read]:
    """Return the reader of a number of samples or accumulated steps, which the effective size may follow."""

    def read(field: SourceText) -> _Read:
        match = _LEADING.fullmatch(_whole(field))
        rest = match["rest"] if match else ""
        if match is None or not (_OF_A_BATCH.search(rest) or _PER_DEVICE.search(rest)):
            return {name: field}
        found = {name: match["value"]}
        rest = _PER_DEVICE.sub(" ", rest)
        accumulated = _ACCUMULATED.search(rest)
        if accumulated and name == "batch_size":
            found["gradient_accumulation_steps"] = accumulated["before"] or accumulated["after"]
            rest = f"{rest[: accumulated.start()]} {rest[accumulated.end() :]}"
        effective = _EFFECTIVE.search(rest)
        if effective:
            found["effective_batch_size"] = effective["size"] or effective["product"]
            rest = f"{rest[: effective.start()]} {rest[effective.end() :]}"
        if rest := " ".join(rest.split()).strip(_EDGES + "=."):
            what = f"with {shown(rest)} after the number, so the number may be per GPU or per step"
            raise NotHonoured(
                what,
                "write only the samples per GPU here, and give 'Gradient accumulation steps' as a separate setting",
            )
        return found

    return read


def _effective(field: SourceText) -> _Read:
    match = _LEADING.fullmatch(_whole(field))
    product = match is not None and re.fullmatch(r"\s*(?:=|\()[0-9x×* ]*\)?", match["rest"])
    return {"effective_batch_size": match["value"] if match and product else field}


_ALPHA: Final = re.compile(
    r"(?:=\s?)?(?:(?P<factor>[0-9]{1,4}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s?[x×*·]?\s?(?:the\s)?(?:lora[\s_])?(?:rank|r)"
    r"|(?:lora[\s_])?(?:rank|r)\s?[x×*·]\s?(?P<after>[0-9]{1,4}(?:\.[0-9]{1,6})?)"
    r"|(?P<word>twice|double|half|same as|equal to)?\s?(?:the\s)?(?:lora[\s_])?(?:rank|r))",
    re.IGNORECASE,
)
_FACTORS: Final = {"twice": "2", "double": "2", "half": "0.5"}


def _alpha(field: SourceText) -> _Read:
    """Return alpha, or its ratio to the rank: `2 x rank`, `rank`, `twice the rank`."""
    match = _ALPHA.fullmatch(values.without_remark(_whole(field)).strip("`"))
    if match is None:
        return {"lora_alpha": field}
    return {"lora_alpha_ratio": match["factor"] or match["after"] or _FACTORS.get((match["word"] or "").lower(), "1")}


def _warmup(field: SourceText) -> _Read:
    match = _PERCENT.fullmatch(values.without_remark(_whole(field)))
    if match:
        return {"warmup_ratio": _fraction(match)}
    steps = re.fullmatch(r"([0-9]{1,9})\s+(?:optimizer\s+)?steps", _whole(field))
    return {"num_warmup_steps": steps[1] if steps else field}


def _scheduler(field: SourceText) -> _Read:
    """Return the schedule, and the warm-up of the line: `cosine (3% warm-up)`, `warm-up over 20 steps, then cosine`."""
    whole = _whole(field)
    if described := _described(whole):
        return described
    schedule = values.without_remark(whole)
    remark = whole.removeprefix(schedule).strip(" ()")
    match = _BESIDE.fullmatch(remark)
    if match is None:
        if _OF_A_SCHEDULE.search(remark) and any(character.isdigit() for character in remark):
            what = f"with {shown(remark)} after the schedule, which is not understood"
            raise NotHonoured(what, "give 'Warmup steps' or 'Warmup ratio' as a separate setting, or omit this remark")
        return {"lr_scheduler": field}
    if match["percent"]:
        return {"lr_scheduler": schedule, "warmup_ratio": format(float(match["percent"]) / 100, ".12g")}
    return {
        "lr_scheduler": schedule,
        "warmup_ratio" if match["ratio"] else "num_warmup_steps": match["ratio"] or match["steps"],
    }


def _described(text: str) -> dict[str, str]:
    """Return the settings of a description of torchtune's schedule, a linear warm-up and a cosine; empty for others."""
    found, parts = dict[str, str](), [_LEADING_WORDS.sub("", each, count=1) for each in _BETWEEN_PARTS.split(text)]
    parts = [part.strip(" .") for part in parts if part.strip(" .")]
    schedules = [part for part in parts if _IS_COSINE.fullmatch(part)]
    for part in parts if len(schedules) == 1 and len(parts) > 1 else ():
        match = next((match for form in _IS_WARM_UP if (match := form.fullmatch(part))), None)
        given = {name: each for name, each in match.groupdict().items() if each} if match else {}
        if match is None and part not in schedules:
            return {}
        for name, each in given.items():
            ratio = format(float(each) / 100, ".12g") if name == "percent" else each
            is_number = name in {"steps", "no"}
            found["num_warmup_steps" if is_number else "warmup_ratio"] = "0" if name == "no" else ratio
    return {"lr_scheduler": "cosine", **found} if len(schedules) == 1 and len(parts) > 1 else {}


def _ratio(field: SourceText) -> _Read:
    match = _PERCENT.fullmatch(values.without_remark(_whole(field)))
    return {"warmup_ratio": _fraction(match) if match else field}


def _fraction(match: re.Match[str]) -> str:
    return format(float(match["value"]) / 100, ".12g")


def _mode_of(words: str, field: SourceText) -> SourceText | str | None:
    """Return the mode of Weights & Biases that a line asks for; None if it does not change the mode.

    Raises:
        NotHonoured: the line names another logger, or its meaning is unclear.
    """
    whole = _whole(field)
    plain, _, remark = whole.strip("`\"' ").lower().partition("(")
    value, mode = plain.strip(" `\"'.,;"), remark.rstrip(") ")
    if value in _MODES:
        return value
    if value in _ON | _OFF:
        on = value in _ON
        if _IS_OFFLINE.fullmatch(words):
            return "offline" if on else "online"
        if _IS_ONLINE.fullmatch(words):
            return "online" if on else "offline"
        if _IS_NO_WANDB.fullmatch(words):
            on = not on
        return "disabled" if not on else mode if mode in _MODES else None
    if re.fullmatch(_WANDB, normalize(value)):
        return mode if mode in _MODES else None
    if words in _LOGGERS:
        raise NotHonoured(
            "which is not Weights & Biases, the only supported logger",
            "write `W&B`, or set the mode of W&B instead: {line} (other modes: `online` and `disabled`)",
            expected="W&B",
            line=("wandb_mode", "offline"),
        )
    raise NotHonoured(
        "which is not a mode of Weights & Biases",
        "write `online`, `offline` or `disabled` as 'W&B mode', or the name of a project as 'W&B project'",
        expected="online, offline or disabled",
    )


def _of_lora(name: str, value: Callable[[SourceText], _Read] | None = None) -> Callable[[SourceText], _Read]:
    """Return the reader of a setting of LoRA, which may say that the run uses full fine-tuning: `full`, `- (full)`.

    `value` reads any other text.
    """

    def read(field: SourceText) -> _Read:
        text = _whole(field)
        without = values.without_remark(text)
        stated = text.removeprefix(without).strip(" ()") if values.is_empty(without) else text
        if not text[:1].isdigit() and (_NO_LORA.fullmatch(stated) or notations.names_full(stated)):
            raise NotHonoured(f"which asks for full fine-tuning, a method without {name}", _GIVE_METHOD)
        return value(field) if value else {name: field}

    return read


_READERS: Final[dict[str, Callable[[SourceText], _Read]]] = {
    "recipe": _method,
    "lora_rank": _of_lora("lora_rank"),
    "lora_alpha": _of_lora("lora_alpha", _alpha),
    "lora_dropout": _of_lora("lora_dropout"),
    "target_modules": _targets,
    "lora_attn_modules": _projections,
    "gpus": _gpus,
    "nodes": _nodes,
    "batch_size": _batch("batch_size"),
    "gradient_accumulation_steps": _batch("gradient_accumulation_steps"),
    "effective_batch_size": _effective,
    "num_warmup_steps": _warmup,
    "lr_scheduler": _scheduler,
    "warmup_ratio": _ratio,
}


def beside(label: str, field: SourceText) -> dict[str, SourceText]:
    """Return the settings, by parameter, in a line about something that all runs have: `AdamW (weight decay 0.1)`."""
    found = beside_optimizer(normalize(label), _whole(field))
    return {name: _part_of(field, text) for each, text in found.items() if (name := _name_of(each))}


def _name_of(label: str) -> str:
    parameter = by_label(label)
    return parameter.name if parameter else ""


_EVERY: Final = re.compile(
    r"(?:yes|true|on)?[\s(,:;–—-]*every\s+(?P<steps>[1-9][0-9]{0,8})\s+steps?(?:\s+during\s+training)?[\s).]*",
    re.IGNORECASE,
)


def validation_steps(text: SourceText) -> SourceText:
    """Return `Yes (every 25 steps during training)` as the number of steps, `Yes` as cruijff_kit's 50, `No` as 0.

    Other text is unchanged, and fails later as an invalid number of steps: `once per epoch`, `every 1,000 steps`.
    """
    written = (text.full or text.text).strip()
    if written.lower() in {"no", "false", "off", "none", "disabled"}:
        steps = "0"
    elif written.lower() in {"yes", "true", "on"}:
        steps = "50"
    else:
        every = _EVERY.fullmatch(written)
        steps = every["steps"] if every else written
    return replace(text, text=steps, full=None, source=None)


VALUE_COLUMNS: Final = frozenset({"value", "values", "setting", "level", "default"})
"""The headers of the column of values in a table of settings."""

_USED_COLUMNS: Final = frozenset(
    {"used", "used here", "ours", "our value", "our setting", "our choice", "selected", "chosen", "final", "this work"}
    | {"this study", "this experiment"}
)
_REMARK_COLUMNS: Final = frozenset(
    {"note", "notes", "comment", "comments", "remark", "remarks", "description", "rationale", "reason", "why", "unit"}
    | {"units", "source", "reference", "justification", "meaning", "explanation", "details", "status"}
)
# Columns of values that the runs do not have.
_OTHER_COLUMNS: Final = frozenset(
    {"range", "ranges", "search range", "search space", "candidates", "alternatives", "tried", "tested", "considered"}
    | {"min", "minimum", "max", "maximum", "typical", "recommended", "suggested", "usual", "paper", "original"}
    | {"previous", "pilot", "ref", "refs", "citation", "symbol", "type", "section", "no", "priority"}
)
_BESIDE_USED: Final = frozenset({"default", "defaults", "values", "levels"})
_EXCEPTIONS: Final = frozenset({"exception", "exceptions", "override", "overrides", "except"})
_IS_USED: Final = frozenset({"yes", "no", "y", "n", "x", "true", "false", "✓", "✔", "✅", "✗", "✘", "❌"})
_NUMBERS: Final = frozenset({"int", "float", "time", "memory"})


def column_of_values(table: Table, names_some_runs: Callable[[str], bool]) -> int | None:
    """Return the column of a table of settings with the values of all runs; None if several columns may be that."""
    header = [normalize(cell.plain) for cell in table.header]
    rows = [[cell.plain for cell in (row.active or row.cells)[: len(header)]] for row in table.rows]
    rows = [[*cells, *[""] * (len(header) - len(cells))] for cells in rows]
    used = [i for i, label in enumerate(header) if i and label in _USED_COLUMNS]
    used = [i for i in used if {cells[i].lower() for cells in rows} - _IS_USED - {""}]
    columns = used or [i for i, label in enumerate(header) if i and label in VALUE_COLUMNS]
    if len(columns) > 1 or len(header) < len(("name", "value")):
        return None
    column, ignored = columns[0] if columns else 1, _REMARK_COLUMNS | (_OTHER_COLUMNS if columns else set())
    others = {i: label for i, label in enumerate(header) if i not in {0, column} and label not in ignored}
    others = {i: label for i, label in others.items() if label.partition(" ")[0] not in _REMARK_COLUMNS}
    if not columns and any(others.values()):  # values of several kinds of runs
        return None
    for cells in rows:
        for i, label in others.items():
            of_some = label in _EXCEPTIONS or names_some_runs(table.header[i].plain)
            if label in _BESIDE_USED and used:
                differs = values.is_empty(cells[column])
            else:
                differs = of_some or _differs(cells[0], cells[column], cells[i], names_some_runs)
            if differs and not values.is_empty(cells[i]) and parameter_of(cells[0]) is not None:
                return None
    return column


def _differs(label: str, text: str, other: str, names_some_runs: Callable[[str], bool]) -> bool:
    """Return whether another column gives a setting another value, or its value for some runs: `4 for big`."""
    parameter = parameter_of(label)
    if parameter is None:
        return False
    one, two = (_value_in(parameter, each) for each in (text, other))
    if two is not None:
        return parameter.kind in _NUMBERS and one != two
    return "lora" not in other.lower() and any(map(names_some_runs, (other, other.partition(":")[0])))


def _value_in(parameter: Parameter, text: str) -> Scalar:
    """Return the value of a text, or of its first word."""
    texts = (text, text.partition(" ")[0].rstrip(".,;:"))
    found = (values.value_of(parameter, SourceText(each, 0, "")) for each in texts if each)
    return next((value for value in found if value is not None), None)


def asks_for_several_nodes(text: str) -> bool:
    """Return whether any text mentions more than one node to train on."""
    match = _NODES.search(text)
    return match is not None and _count(match) not in {"0", "1"}


def asked_of(label: str, text: str) -> str | None:
    """Return the unsupported request of a line with an unknown label: a technique, a stock config, several nodes."""
    if normalize(label) in NOT_PLANNED:
        return label if is_refused(normalize(label), text) else None
    if asks_for_nothing(text):
        return None
    stock = _STOCK.search(text)
    found = other_training(label.replace("_", " ")) or other_training(text) or (stock[0] if stock else None)
    if found is None and len(text.split()) <= _WORDS_OF_A_VALUE:  # `Opt: sgd`, `Layers: last 8`
        both = (*asked_otherwise(f"{label}: {text}"), *asked_otherwise(f"{text} {label}"))
        found = both[0][0] if both else None
    return found or (text if asks_for_several_nodes(text) else None)


_UNTRAINED = re.compile(
    r"(?:\(?none\)?|off|no(?: (?:fine-?)?(?:training|tuning))?|(?:not fine-?|un)(?:tuned|trained)|base(?: model)?"
    r"|zero-?shot)(?: \((?!.{0,80}(?:lora|full))[^()]{1,80}\))?", re.IGNORECASE,
)  # fmt: skip


def says_untrained(parameter: Parameter, text: str) -> bool:
    """Return whether a text is the method of a run that is not trained: `none (base model)`, `zero-shot`."""
    return parameter.name == "recipe" and _UNTRAINED.fullmatch(text.strip(" `*.")) is not None
