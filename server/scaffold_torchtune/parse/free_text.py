"""What free text says of the training: a note beside a run, and sentences of the sections that explain an experiment.

A note is about its run: what it names is what the run is to be, unless it compares (`unlike DoRA`) or is about another
time (`QLoRA later`). A sentence mentions much that no run does: only one that says what is done counts (`We fine-tune
with QLoRA`).
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from scaffold_torchtune.parse import methods
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.unsupported import asked_otherwise

_CITATION: Final = re.compile(
    r"\((?:[^()]{0,80}(?:et al|[12][0-9]{3}[a-z]?))[^()]{0,80}\)|\[@[^\]]{1,80}\]|\[[0-9, ]{1,20}\]"
)
_LONGEST: Final = 2_000  # characters of a text that are looked at

_CLAUSES: Final = re.compile(
    r"(?<=[.!?;])(?<!al\.)(?<!cf\.)(?<!vs\.)(?<!e\.g\.)(?<!i\.e\.) | [–—] "
    r"|, (?=but\b|while\b|whereas\b|although\b|as\b|following\b|like\b)"
)
_NOT_NOW: Final = re.compile(
    r"\?|(?<!\w)(?:later|future|next|eventually|afterwards|someday|todo|tbd|maybe|perhaps|possibly|might|may|could|would"
    r"|should (?:we|i)|if|whether|when|consider\w*|plann?(?:ed|ing)?|hope|previous\w*|earlier|prior"
    r"|last (?:time|year|week|month|experiment|run|sweep)|originally"
    r"|initially|once|was|were|had|did|didn't|has been|have been|failed|crashed|papers?|et al|authors?|literature"
    r"|researchers|people|others|they|many|most|works?|reported|shown|showed|known|popular|typical\w*|often|usual\w*"
    r"|follow-?up|out of scope|left (?:for|out|to)|abandoned|ruled out|dropped|alternative\w*|hypothes\w*|expect\w*"
    r"|question|see|cf|such as|e\.g|for example|related|pending|not (?:part|yet|used|done|needed)|compar\w+|vs\.?"
    r"|versus|ablations?|study whether|benefits?|cheaper|faster|better|worse|best)(?!\w)",
    re.IGNORECASE,
)
"""What makes a clause one about another time, other people or a comparison."""

_COMPARES: Final = frozenset(
    [
        "unlike",
        "than",
        "relative",
        "instead",
        "rather",
        "like",
        "alike",
        "similar",
        "from",
        "as",
        "over",
        "against",
        "beat",
        "beats",
        "match",
        "matches",
        "outperform",
        "outperforms",
        "replace",
        "replaces",
        "baseline",
        "reference",
        "between",
        "either",
        "without",
        "avoid",
        "avoids",
        "no",
        "not",
        "nor",
        "never",
        "skip",
        "skips",
        "exclude",
        "excludes",
        "omit",
        "omits",
        "lacks",
        "non",
        "half",
        "memory",
    ]
)
_DOES: Final = frozenset(
    [
        "use",
        "uses",
        "using",
        "with",
        "via",
        "by",
        "train",
        "trains",
        "fine-tune",
        "fine-tunes",
        "apply",
        "applies",
        "run",
        "runs",
    ]
)
_DENIES: Final = frozenset(["not", "never", "don't", "doesn't", "won't", "cannot", "can't", "nor", "without"])
_NEAR: Final = 4  # words before a name
_OF_OTHERS: Final = re.compile(
    r"[- ]{1,3}(?:results?|numbers|baselines?|counterparts?|scores?|style|like|inspired|equivalent|is|are|comes?|will"
    r"|follows?|needs?|can|cannot|gives?|does|do|has|have|takes?|tends?)(?!\w)",
    re.IGNORECASE,
)
_SAYS: Final = re.compile(
    r"(?<!\w)(?:we|i|runs?|models?|it|this|these|experiments?|training|adapters?|everything) (?:[\w-]+ ){0,6}?"
    r"(?:uses?|fine-? ?tunes?|trains?|apply|applies|adopts?|employs?|runs?|do|does|performs?|quanti[sz]es?)(?!\w)"
    r"|(?<!\w)(?:we|i) (?:\w+ )?(?:freeze|unfreeze|quanti[sz]e|update|optimi[sz]e)(?= )"
    r"|(?<!\w)[0-9]{1,4} (?:fine-? ?tuned|runs?|models?)(?: runs?| models?)? (?:with|using|in|by)(?!\w)"
    r"|^\W{0,9}(?:fine-? ?tuned|trained|quanti[sz]ed|optimi[sz]ed)(?!\w)"
    r"|(?<!\w)(?:all|each|every) (?:of the )?(?:runs?|models?)(?: (?:on|with|in|at|using|for|by)(?!\w)|:)"
    r"|(?<!\w)(?:is|are|be|being|gets?) (?:[\w-]+ ){0,2}?(?:trained|fine-? ?tuned|tuned|optimi[sz]ed|quanti[sz]ed"
    r"|loaded|run|done|performed|kept)(?!\w)"
    r"|^\W{0,9}(?:use|fine-? ?tune|train|apply|adopt|employ|run|perform|load|keep|all runs:?|this is|these are)(?!\w)"
    r"|^\W{0,9}(?:[\w-]{1,30} ){0,2}(?:methods?|approach|techniques?|strategy|set-?up|adapters?|training|fine-? ?tuning"
    r"|optimi[sz]er|precision|dtype|quanti[sz]ation|schedul\w{1,3}|layers?|stage)(?: [\w-]{1,30})?:"
    r"|(?<!\w)(?:goal|aim|objective|plan|purpose|task)(?: is)?:?(?: to)? (?:fine-? ?tune|train|use|apply|run)(?!\w)",
    re.IGNORECASE,
)
_BEGINS: Final = re.compile(
    r"\W{0,9}(?:(?:table|figure) [0-9]{1,3}[.:] )?(?:(?:an?|the|our|this) )?(?:[\w.-]{1,30} ){0,2}", re.IGNORECASE
)
_IS_NAMED: Final = re.compile(
    r"[- ]{1,3}(?:[\w-]{1,20} ){0,2}?(?:fine-? ?tun\w+"
    r"|training|sweep|grid|study|runs|experiments?|adapters|tuning)(?!\w)",
    re.IGNORECASE,
)
_OF_WHAT: Final = re.compile(r" (?:of|on|for)(?!\w)")
_METHOD: Final = re.compile(
    r"(?<![\w-])(?:(?P<full>full(?:[ -](?:parameters?|weights?|model))?[ -](?:fine[ -]?tun\w{1,9}|ft)"
    r"|(?:all|every) (?:model )?(?:weights?|parameters?) (?:are|is) (?:trained|updated|trainable)"
    r"|(?:train|update)s? all (?:model )?(?:weights|parameters))|(?P<lora>lora|low[ -]rank adapt\w{1,6}))(?![\w-])",
    re.IGNORECASE,
)
_NODES: Final = re.compile(
    r"(?<![\w.-])(?:[2-9]|[1-9][0-9]{1,3}|two|three|four|eight|multiple|several) (?:compute )?nodes(?!\w)"
    r"|multi-?nodes?(?!\w)",
    re.IGNORECASE,
)
_PARTS: Final = re.compile(r"[;,] |(?<=[.!?]) | [–—-] | (?:and|but|because|due|so|since) |[;,.!]$", re.IGNORECASE)
_LEADING: Final = re.compile(
    r"(?:(?:please|use|uses|using|with|set|sets|run|runs|train|trains|try|needs?|only|just|this one|this run|here|at"
    r"|for|to|on|a|an|the|its|own|now) )+",
    re.IGNORECASE,
)
_TRAILING: Final = re.compile(
    r" (?:here|instead|only|please|now|too|for this (?:run|one|row)|in this (?:run|one|row)|this time)$", re.IGNORECASE
)
_STATED: Final = re.compile(
    r"(?<![\w.])(?:(?P<label>(?:peak )?learning rate|lr|batch size|lora rank|rank|lora alpha|lora dropout|weight decay"
    r"|seed|max(?:imum)? sequence length|warm-?up steps)"
    r" (?:of |is |= )?(?P<value>[0-9][0-9.]{0,15}(?:e[-+]?[0-9]{1,3})?)"
    r"|(?P<number>[0-9]{1,9}) (?P<counted>epochs?|gpus?|warm-?up steps))"
    r"(?![\w%]|[.,][0-9]| ?[-–/]| (?:and|or|to) [0-9]|, ?[0-9])",
    re.IGNORECASE,
)
_ONE_OF_SEVERAL: Final = re.compile(r"[0-9] (?:and|or|to) $|[0-9], $|[0-9] ?[-–/] ?$")


class Named(NamedTuple):
    """What a text says is done: `other` is what is not scaffolded, `recipe` is LoRA or full fine-tuning."""

    other: str | None = None
    recipe: str | None = None


def in_note(text: str) -> Named:
    """Return what a note beside a run says of how it is trained."""
    return _first(text, _is_meant)


def in_sentences(text: str) -> Named:
    """Return what sentences say is done, of all that they mention."""
    return _first(text, lambda clause, match: _is_meant(clause, match) and _is_said(clause, match))


def settings_in_note(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of which a part of a note says nothing else: `use lr 3e-4 here`, `5 epochs`."""
    for part in _PARTS.split(_plain(text)):
        said = part.strip(" .!(*)")
        said = _LEADING.sub("", said, count=1) if _LEADING.match(said) else said
        while _TRAILING.search(said):
            said = _TRAILING.sub("", said)
        if (found := methods.setting(said)) is not None:
            yield found


def settings_in_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings that sentences say the runs have, by label: `We train for 3 epochs`."""
    for clause in _CLAUSES.split(_plain(text)):
        says = None if _NOT_NOW.search(clause) else _SAYS.search(clause)
        for match in _STATED.finditer(clause, says.end()) if says else ():
            before = clause[: match.start()]
            is_one = match["counted"] and _ONE_OF_SEVERAL.search(before[-30:])
            if not _is_compared(before) and not is_one:
                yield match["label"] or match["counted"], (match["value"] or match["number"]).rstrip(".")


def _plain(text: str) -> str:
    return " ".join(_CITATION.sub(" ", text[:_LONGEST]).split())


def _first(text: str, counts: Callable[[str, re.Match[str]], bool]) -> Named:
    found = Named()
    for clause in _CLAUSES.split(_plain(text)):
        if _NOT_NOW.search(clause):
            continue
        named = (*asked_otherwise(clause), *_NODES.finditer(clause))
        other = next((match for match in named if counts(clause, match)), None)
        if other is not None:
            return Named(other=other[0])
        for match in _METHOD.finditer(clause):
            if found.recipe is None and counts(clause, match):
                found = Named(recipe=recipes.FULL if match["full"] else recipes.LORA)
    return found


def _is_meant(clause: str, match: re.Match[str]) -> bool:
    """Whether a name is neither what something is compared with, nor what something is told about."""
    return not _is_compared(clause[: match.start()]) and not _OF_OTHERS.match(clause, match.end())


def _is_compared(before: str) -> bool:
    """Whether one of the last words before a name compares with it, or denies it: `unlike the DoRA`."""
    words = [word.strip("()[],.:;*`'\"") for word in before[-80:].lower().split()[-_NEAR - 1 :]]
    for i in range(len(words) - 1, max(len(words) - 1 - _NEAR, -1), -1):
        if words[i] in _DOES:
            return i > 0 and words[i - 1] in _DENIES
        if words[i] in _COMPARES:
            return True
    return False


def _is_said(clause: str, match: re.Match[str]) -> bool:
    """Whether a sentence says of a name that it is what is done: `We train with it`, `A QLoRA sweep over ranks`."""
    says = _SAYS.search(clause)
    if match[0][:3].lower() in {"all", "eve", "tra", "upd"} or (says is not None and says.end() <= match.start()):
        return True
    begins = _BEGINS.fullmatch(clause[: match.start()]) is not None
    of_what = _OF_WHAT if "fine" in match[0].lower() else _IS_NAMED
    return begins and of_what.match(clause, match.end()) is not None
