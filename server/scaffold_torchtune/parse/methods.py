"""What a text says of the method: known words and nothing else, beside settings such as `rank 8` that it gives too.

A word that is not known to be harmless may make another training of it (`LoRA + DPO`, `LoRA on attention only`), and
is refused by name.
"""

import re
from typing import Final, NamedTuple

from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import by_label
from scaffold_torchtune.settings.unsupported import other_training
from scaffold_torchtune.system.text import shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model

EXPECTED: Final = "LoRA or full fine-tuning"
"""What a method may be, as messages say it."""


class NotHonoured(Exception):
    """A line asks for what no scaffold has: what is wrong with it, what to write, what is allowed.

    `several`: it names more than one method, each of which could be honoured.
    """

    def __init__(self, what: str, fix: str, *, expected: str = "", several: bool = False) -> None:
        super().__init__(what)
        self.what, self.fix, self.expected, self.several = what, fix, expected, several


class Method(NamedTuple):
    """The method or recipe that a text names, if any; the settings that it gives besides; the projections it names."""

    recipe: str | None
    settings: dict[str, str]
    modules: tuple[str, ...] = ()


_LONGEST: Final = 300
_SEPARATORS: Final = re.compile(
    r"[()\[\],;/+&|]|\s[-–—]+\s|\s{0,9}:\s"
    r"|(?<!\w)(?:and|with|using|via|by|on|at|plus|in|for|or|vs\.?|versus)(?!\w)",
    re.IGNORECASE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS_WORDS: Final = _words(
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
_COUNTED: Final = re.compile(r"(?P<value>[0-9]{1,6})\s*(?:x\s*)?(?P<label>gpus?|epochs?|warmup steps)")
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
_PARTS: Final = re.compile(r"(?<=[A-Za-z]{2})-")
_NO: Final = re.compile(r"(?:no|not|without|non)\s{1,9}(?:any )?(?P<rest>.+)")
_EDGES: Final = " \t`\"'“”*.~"


def read(text: str) -> Method:
    """Return what a text says of the method.

    Raises:
        NotHonoured: it names no method, more than one, or something that is not known to be harmless.
    """
    found = _Found()
    if len(text) > _LONGEST:
        raise NotHonoured("is a text, not a method", _fix(None), expected=EXPECTED)
    text = _MARKS.sub("", text.translate(_HYPHENS))
    for part in _SEPARATORS.split(text):
        found.take(part.strip(_EDGES))
    if found.unknown:
        named = next((other for part in found.unknown if (other := other_training(part))), None) or other_training(text)
        what = shown(named or found.unknown[0])
        why = "is not scaffolded" if named else "is not known to change nothing"
        raise NotHonoured(f"names {what}, which {why}", _fix(found.method), expected=EXPECTED)
    if other := other_training(text):
        raise NotHonoured(f"names {shown(other)}, which is not scaffolded", _fix(found.method), expected=EXPECTED)
    if len(found.recipes) > 1 or (found.method == recipes.LORA and found.denied_lora):
        raise NotHonoured("names more than one method", _fix(None), expected=EXPECTED, several=True)
    method = found.method
    if method is None:
        raise NotHonoured("names no method that is scaffolded", _fix(None), expected=EXPECTED)
    return Method(method, found.settings, tuple(found.modules))


def _fix(method: str | None) -> str:
    written = {recipes.LORA: "LoRA", recipes.FULL: "full fine-tuning"}.get(recipes.method_of(method or "") or "", "")
    alone = f"write {written} alone" if written else f"write {EXPECTED}"
    return f"{alone}, if that is what the runs are; else do not scaffold this experiment with this tool"


def _are_harmless(part: str, words: str) -> bool:
    """Return whether a part says nothing that would make another training: a model's name says nothing either."""
    if _HARMLESS.fullmatch(words) or set(words.split()) <= _HARMLESS_WORDS:
        return True
    others = [word for word in part.split() if find_model(word) is None]
    return (
        len(others) < len(part.split()) and set(" ".join(others).lower().replace("-", " ").split()) <= _HARMLESS_WORDS
    )


class _Found:
    """What the parts of a text have said so far."""

    def __init__(self) -> None:
        self.recipes: list[str] = []
        self.settings: dict[str, str] = {}
        self.modules: list[str] = []
        self.unknown: list[str] = []
        self.denied_lora = False

    @property
    def method(self) -> str | None:
        """The recipe, else the method; LoRA where only a setting of the adapter is given."""
        of_lora = any(name in recipes.OF_LORA for name in self.settings)
        return self.recipes[0] if self.recipes else recipes.LORA if of_lora else None

    def take(self, part: str) -> None:
        """Take one part of a text."""
        words = " ".join(part.lower().replace("-", " ").split())
        if not words or self._method(part, words) or self._denied(words) or self._setting(part):
            return
        if words.rstrip("= ") in {"target_modules", "target modules"}:  # whose names follow
            return
        if _MODULE.fullmatch(words):
            self.modules.append(words)
        elif not (_are_harmless(part, words)) and not self._holds(part):
            self.unknown.append(part)

    def _method(self, part: str, words: str) -> bool:
        recipe = part.strip("`").removesuffix(".py")  # as the file of a recipe is called
        named = recipe if recipe in recipes.NAMES else recipes.in_words(words)
        if named is None:
            return False
        same = next((one for one in self.recipes if recipes.agree(one, named)), None)
        if same is None:
            self.recipes.append(named)
        elif named in recipes.NAMES:  # which says it more exactly
            self.recipes[self.recipes.index(same)] = named
        return True

    def _denied(self, words: str) -> bool:
        """Take `no LoRA`, which full fine-tuning may say, and `without quantization`."""
        match = _NO.fullmatch(words)
        if match is None:
            return False
        self.denied_lora |= recipes.in_words(match["rest"]) == recipes.LORA
        harmless = set(match["rest"].split()) <= {"adapter", "adapters", "peft", "change", "changes"}
        return harmless or self.denied_lora or other_training(f"+{match['rest']}") is not None

    def _setting(self, part: str) -> bool:
        """Take `rank 8`, `r=8`, `alpha 16`, `2 GPUs`."""
        found = setting(part)
        if found is None:
            return False
        name, value = found
        if self.settings.setdefault(name, value) != value:
            self.unknown.append(part)
        return True

    def _holds(self, part: str) -> bool:
        """Take `LoRA r=16`, `rank-8 LoRA` and `full fine-tuning of all weights`: a method, and the rest as a part."""
        whole = part.split()
        ends = (
            end for end in range(len(whole) - 1, 0, -1) if recipes.in_words(" ".join(whole[:end]).replace("-", " "))
        )
        if (end := next(ends, None)) is not None:
            named, rest = [" ".join(whole[:end])], " ".join(whole[end:])
        else:
            words = [one for word in whole for one in (_PARTS.split(word) if _is_compound(word) else [word])]
            named = [word for word in words if recipes.in_words(word) == recipes.LORA or word in recipes.NAMES]
            rest = " ".join(word for word in words if word not in named)
        if not named or not rest:
            return False
        for one in (*named, rest):
            self.take(one)
        return True


def _is_compound(word: str) -> bool:
    return word not in recipes.NAMES and find_model(word) is None


def setting(text: str) -> tuple[str, str] | None:
    """Return parameter and value of a text that is a setting and nothing else: `rank 8`, `r=8`, `2 GPUs`."""
    lowered = text.lower().strip()
    written = lowered if "e-" in lowered else lowered.replace("-", " ")
    match = _COUNTED.fullmatch(written) or _SETTING.fullmatch(written)
    parameter = by_label(match["label"].replace("α", "alpha")) if match else None
    return (
        None
        if match is None or parameter is None or parameter.name not in _OF_METHODS
        else (parameter.name, match["value"])
    )


def speaks_of_method(text: str) -> bool:
    """Return whether a text, short enough for a value, names a method that is scaffolded, whatever else it says."""
    return len(text) <= _LONGEST_VALUE and _SPEAKS.search(text) is not None


def is_named(text: str) -> bool:
    """Return whether a text, as a whole, names a method that is scaffolded."""
    try:
        return read(text).recipe is not None
    except NotHonoured:
        return False
