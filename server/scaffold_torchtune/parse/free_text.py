"""Statements about the training in free text: notes of runs, and sentences in sections that explain an experiment.

A note describes its run: everything that it names applies to the run, unless it is a comparison (`unlike DoRA`) or
about another time (`QLoRA later`). A sentence may mention much that no run uses: only a statement of what is done is
used (`We fine-tune with QLoRA`).
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from scaffold_torchtune.parse import notations
from scaffold_torchtune.parse.drafts import LONGEST, NOT_NOW, clauses, clauses_now, is_compared, plain_text
from scaffold_torchtune.settings.parameters import by_label
from scaffold_torchtune.settings.unsupported import asked_otherwise
from scaffold_torchtune.torchtune_facts import FULL, LORA, known_models

_OF_OTHERS: Final = re.compile(
    r"[- ]{1,3}(?:results?|numbers|baselines?|counterparts?|scores?|style|like|inspired|equivalent|is|are|comes?|will"
    r"|follows?|needs?|can|cannot|gives?|does|do|has|have|takes?|tends?)(?!\w)(?! (?:training|fine|tuning|adapters?))",
    re.IGNORECASE,
)
_RUNS: Final = (
    r"(?:(?:(?:all|each|every|both|these)(?: of)?(?: the| our)?|the|our) (?:fine-?tuned |lora )?|^\W{0,9})"
    r"(?:runs?|jobs?)"
)
_SAYS: Final = re.compile(
    r"(?<!\w)(?:we|i|runs?|models?|it|this|these|experiments?|training|adapters?|everything) (?:[\w-]+ ){0,6}?"
    r"(?:uses?|fine-? ?tunes?|trains?|apply|applies|adopts?|employs?|runs?|do|does|makes?|performs?"
    r"|quanti[sz]es?|adds?|sets?|keeps?|choose|picks?|selects?)(?!\w)"
    r"|(?<!\w)(?:we|i) (?:\w+ )?(?:freeze|unfreeze|quanti[sz]e|update|optimi[sz]e)(?= )"
    r"|(?<!\w)[0-9]{1,4} (?:fine-? ?tuned|runs?|models?)(?: runs?| models?)? (?:with|using|in|by)(?!\w)"
    r"|^\W{0,9}(?:fine-? ?tuned|trained|quanti[sz]ed|optimi[sz]ed)(?!\w)"
    r"|(?<!\w)(?:all|each|every) (?:of the )?(?:runs?|models?)(?: (?:on|with|in|at|using|for|by)(?!\w)|:)"
    rf"|(?<!\w){_RUNS} (?:each )?(?:gets?|has|have|requests?|(?:is|are) (?:given|allocated|assigned))(?!\w)"
    r"|^\W{0,9}(?:all|each) (?:with|using)(?!\w)"
    r"|(?<!\w)(?:is|are|be|being|gets?) (?:[\w-]+ ){0,2}?(?:trained|fine-? ?tuned|tuned|optimi[sz]ed|quanti[sz]ed"
    r"|loaded|run|done|performed|kept|applied|restricted|limited|inserted)(?!\w)"
    r"|^\W{0,9}(?:use|fine-? ?tune|train|apply|adopt|employ|run|perform|load|keep|all runs:?|this is|these are)(?!\w)"
    r"|^\W{0,9}(?:[\w-]{1,30} ){0,2}(?:methods?|approach|techniques?|strategy|set-?up|adapters?|training|fine-? ?tuning"
    r"|optimi[sz]er|precision|dtype|quanti[sz]ation|schedul\w{1,3}|layers?|stage)(?: [\w-]{1,30})?"
    r"(?::| (?:is|are|will be)(?! (?:not|no)\b)(?!\w))"
    r"|^\W{0,9}(?:[\w-]{1,30} )?(?:precision|optimi[sz]er|dtype|scheduler)(?= )"
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
_ON_WHAT: Final = re.compile(
    r" (?:on|for|with|over) (?!.{0,200}(?<!\w)(?:is|are|needs?|has|have|can|will|gives?|makes?|takes?"
    r"|the other hand)(?!\w))",
    re.IGNORECASE,
)
_FIRST: Final = 4  # characters before a name that begins a text
_METHOD: Final = re.compile(
    r"(?<![\w-])(?:(?P<full>full(?:y|[ -](?:parameters?|weights?|model))?[ -](?:fine[ -]?tun\w{1,9}|ft)"
    r"|full[ -](?:parameters?|weights?|model)[ -](?:sft|training|tuning|updates?|optimi[sz]ation)"
    r"|(?:without|no|not use|don['’]t use) (?:any )?(?:lora|adapters?|peft)(?! (?:on|to|for|dropout|bias))"
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
    r"(?:(?:please|we|use|uses|using|with|set|sets|run|runs|train|trains|try|needs?|only|just|this one|this run|here|at"
    r"|for|to|on|a|an|the|its|own|now|but|and|also|plus|rerun|reruns|retry|repeat|repeated"
    r"|has|have|gets?|given|is|are|it|which|trained|limited) )+",
    re.IGNORECASE,
)
_SAME_AS: Final = re.compile(
    r"same (?P<label>[a-z][a-z -]{1,30}) as (?:in )?[\w.+-]{1,60} \(?(?P<value>[0-9][0-9.e-]{0,15})", re.IGNORECASE
)
_TRAILING: Final = re.compile(
    r" (?:here|instead|(?:instead of|rather than|not) \S{1,20}(?: [a-z]{1,12})?|is used|are used|only|please|now|too"
    r"|for this (?:run|one|row)|in this (?:run|one|row)|this time)$",
    re.IGNORECASE,
)
COUNTS: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "twenty": 20, "a single": 1, "single": 1,
}  # fmt: skip
_COUNT: Final = rf"(?:[0-9]{{1,9}}|{'|'.join(COUNTS)})"
_ONE_OF_SEVERAL: Final = re.compile(r"[0-9] (?:and|or|to) $|[0-9], $|[0-9] ?[-–/] ?$")
_POWER: Final = r"(?: ?[×x*·] ?10 ?(?:\^|\*\*)? ?\{?[-−–⁻]?[0-9⁰¹²³⁴-⁹]{1,3}\}?)"
_VALUE: Final = rf"[0-9][0-9.]{{0,15}}(?:e[-+−]?[0-9]{{1,3}}|{_POWER})?"
_A_GPU: Final = r"(?:nvidia )?(?:rtx ?|[ahlv])[0-9]{2,4}[a-z]{0,2}(?:[ -][0-9]{2,3} ?gb)?"
_OF_ANOTHER: Final = (
    rf"(?:[\w%]|[.,][0-9]| ?[-–×x*] ?[0-9]| ?[×x*] ?[a-z]| {_A_GPU}| ?%| (?:h|d|min|[kmgt]b|full|complete)(?!\w)"
    r"| (?:different |random |warm|learning|gradient |training |batch|lora )?"
    r"(?:epoch|pass|gpu|cpu|core|step|accumulation|sample|seed|run|node|token|model|condition|data|hour|minute|day"
    r"|layer|replic|repeat|rank|rate|size))"
)
"""Text after a number that is not the last one of a list, but of another setting: `seed 0, 1 × A100`."""
_STATED: Final = re.compile(
    r"(?<![\w.])(?:(?P<label>(?:effective|total|global)(?: \((?:effective|total|global)\))? batch(?: size)?"
    r"|(?:peak )?learning rate|lr|(?:mini-?)?batch size|mini-?batches|lora rank|rank|lora alpha|alpha"
    r"|(?:lora |(?<!attention )(?<!hidden ))dropout|weight decay|(?:number of )?epochs|seed"
    r"|max(?:imum)? sequence length|warm-?up steps|(?:gradient )?accumulation(?: steps)?)"
    r"(?P<verb>(?: of| is| are| at| to|:)?(?: (?:set|fixed|kept|held|equal)(?: constant)?(?: to| at)?)? ?=?) ?"
    rf"(?:(?P<product>[0-9]{{1,6}}(?: ?[×x*] ?[0-9]{{1,6}}){{1,2}}) ?= ?)?(?P<value>{_VALUE})"
    rf"|(?P<number>{_COUNT}) ?(?:[x×] ?)?(?:{_A_GPU} gpus?|{_A_GPU}s?(?![ -]?(?:gpus?|hours?|days?|partition|nodes?)))"
    rf"|(?P<count>{_COUNT}) (?P<counted>(?:full |complete )?(?:epochs?|passes(?= over| through))|gpus?|warm-?up steps"
    r"|(?:gradient )?accumulation steps))"
    rf"(?![\w%]|[.,][0-9]| ?[-–/]| ?[×x*] ?\w| (?:and|or|to) [0-9]|, ?(?>{_VALUE})(?!{_OF_ANOTHER}))",
    re.IGNORECASE,
)
_OF_SOMETHING_ELSE: Final = re.compile(
    r" (?:for|in|of|during|at|when) (?:the |all |our )?(?:data |final |greedy |batched )?"
    r"(?:splits?|splitting|sampl\w+|eval\w*|shuffl\w+|inference|generat\w+|decod\w+|judg\w*|scor\w+|test\w*"
    r"|controls?|baselines?|base model)(?!\w)",
    re.IGNORECASE,
)
"""Words after a setting of something other than the training: `a batch size of 32 for evaluation`."""

_OF_ALL_JOBS: Final = re.compile(
    r",? (?:in (?:parallel|total|all)|overall|at (?:once|a time|the same time)|(?:across|for) (?:all |the )?"
    r"(?:runs|jobs|models|experiments?))(?!\w)",
    re.IGNORECASE,
)
_NOT_OF_A_RUN: Final = re.compile(
    rf"{_ONE_OF_SEVERAL.pattern}|(?<!\w)(?:every|each|per|after|first|last|within) $"
    rf"|(?<!\w){_COUNT} (?:runs|jobs|models|experiments) (?:[a-z]+ )?on (?:the )?$",
    re.IGNORECASE,
)
"""Words before a number that is not that of each run: `every 2 epochs`, `after 1 epoch`, `4 jobs on 4 GPUs`."""

_IS_SO: Final = re.compile(r" (?:is|are|set|fixed|kept|held)(?!\w)|=", re.IGNORECASE)
_PROMPTS: Final = r"(?:the )?(?:prompts?|instructions?|inputs?|questions?)(?: tokens?)?"
_IN_WORDS: Final = [
    ("gradient clipping", "",
     (rf"(?:gradients?|grad(?:ient)? norms?) (?:is |are |be )?clip\w{{1,4}} (?:at|to) (?P<value>{_VALUE})"
     rf"|gradient clipping (?:of |at |to |is |with )?(?:a norm of )?(?P<other>{_VALUE})")),
    ("weight_decay", "0",
     (r"(?:no|without)(?: any)? weight decay(?!(?: (?:is|are|used|applied)){0,2} (?:to|on|for|in|sched\w*)(?!\w))"
      r"|weight decay (?:is )?(?:not used|off|disabled)")),
    ("max_seq_len", "",
     (r"(?:truncat\w{1,4}|cut|limited|restricted) (?:to|at|after) (?P<value>[0-9][0-9,]{0,9}) tokens"
     r"|(?:context|sequence|maximum|max)(?: sequence)? (?:length|window) (?:of |is |= )?(?P<other>[0-9][0-9,]{0,9})"
     r"|longer than (?P<longer>[0-9][0-9,]{0,9}) tokens (?:are|is) (?:truncated|cut)")),
    ("packed", "yes",
     (r"(?:samples|sequences|examples|rows|data|inputs) (?:are|is) packed"
     r"|(?:we|it|runs) packs? (?:samples|sequences|examples|rows)|(?:with|uses?) (?:sample |sequence )?packing")),
    ("packed", "no", r"(?:without|no) (?:sample |sequence )?packing|(?:not|never) packed"),
    ("train_on_input", "yes",
     (rf"(?:not|never|don['’]t|without) mask\w{{0,3}} {_PROMPTS}|trains? on {_PROMPTS} (?:too|as well)"
     r"|loss (?:is )?(?:computed |taken )?(?:on|over) (?:the )?(?:full|whole|entire|all tokens)")),
    ("train_on_input", "no",
     (rf"(?<!not )(?<!never )(?<!don't )(?<!without )mask\w{{0,3}} {_PROMPTS}"
     r"|(?:prompts?|inputs?)(?: tokens)? (?:are|is) masked")),
    ("num_warmup_steps", "0", r"(?:no|without)(?: any)?(?: lr| learning rate)? warm-?up"),
    ("num_warmup_steps", "",
     (rf"warm-?up (?:phase |period )?(?:of|is|lasts|takes|covers|over|for|during) (?:the first )?"
     rf"(?P<value>{_COUNT}) (?:optimi[sz]er |training )?steps"
     rf"|(?P<other>{_COUNT})[- ]steps? (?:of )?(?:linear )?warm-?up")),
    ("gradient_accumulation_steps", "",
     (rf"(?:gradients? (?:are|is) (?:being )?accumulated|accumulat(?:es?|ing) (?:the )?gradients)"
     rf" (?:over|for|across|every) (?P<value>{_COUNT}) (?:micro-?)?(?:steps|batches)")),
    ("run_val_every_n_steps", "",
     (rf"validat\w{{1,5}} (?:(?:loss|is|are|runs?|computed|measured|logged|the|model|models) ){{0,4}}"
     rf"every (?P<value>{_COUNT}) (?:optimi[sz]er |training |gradient )?steps")),
    ("log_every_n_steps", "",
     (rf"(?:log|logs|logged|logging) (?:(?:the|training|loss|losses|metrics?|is|are|to|wandb|w&b) ){{0,4}}"
     rf"every (?P<value>{_COUNT}) (?:optimi[sz]er |training |gradient )?steps")),
    ("training_samples", "",
     (r"(?:train|trains|trained|training|fine-?tune|fine-?tunes|fine-?tuned) (?:[\w.-]{1,40} ){0,4}?on (?:the )?"
     r"(?P<value>[0-9][0-9,]{0,9}) (?:training )?(?:samples|examples|rows)"
     r"(?! (?:per|of|from|for|each|in)(?!\w)|/)")),
    ("warmup_ratio", "",
     (r"(?P<value>[0-9]{1,3}(?:\.[0-9]{1,6})? ?%|0?\.[0-9]{1,9}) (?:linear )?(?:of )?warm-?up"
     r"|warm-?up (?:ratio |fraction |proportion )?(?:of |is |over |for |during |covers |takes |lasts )?(?:the )?"
     r"(?:first )?"
     r"(?P<other>[0-9]{1,3}(?:\.[0-9]{1,6})? ?%|0?\.[0-9]{1,9})")),
    ("max_steps_per_epoch", "",
     (r"(?:for|at most|exactly|up to|maximum of|lasts?|takes?|trains?) (?P<value>[0-9][0-9,]{0,9})"
     r" (?:optimi[sz]er |training |gradient |update )?steps")),
]  # fmt: skip
_NOT_OF_LENGTHS: Final = re.compile(
    r"warm|(?<!\w)(?:eval\w*|generat\w+|decod\w+|inference|sampling|answers?|outputs?)(?!\w)", re.IGNORECASE
)
_BOUNDS: Final = ("at most", "up to", "maximum of")
_SAID_SO: Final = [
    (name, value, re.compile(rf"(?<![\w-])(?:{form})(?!\w)", re.IGNORECASE)) for name, value, form in _IN_WORDS
]
_ALPHA: Final = re.compile(
    r"(?<!\w)(?:lora )?(?:alpha|α) ?(?:(?:is |are |will be )?(?:set |fixed |kept )?(?:to |at |equal to )?|equals |=)? ?"
    r"(?:(?P<factor>[0-9]{1,3}(?:\.[0-9]{1,3})?) ?[x×*·]? ?|(?P<word>twice|double|half) )?(?:the )?(?:lora )?"
    r"(?:rank|r)(?![\w-])",
    re.IGNORECASE,
)
_FACTORS: Final = {"twice": 2.0, "double": 2.0, "half": 0.5}
_A_PLACE: Final = r"(?:(?:[qkvo]|out|output|gate|up|down)_proj|[qkvo]|mlp|lm_head)"
_PLACED: Final = re.compile(
    r"(?<!\w)lora(?: adapters)?(?: (?:is|are))?(?: only)?"
    r"(?: (?:applied|added|used|restricted|limited|inserted|attached))?"
    r"(?: only)? (?:to|on|in|for)(?: only)?(?: the)? (?P<only>only )?"
    r"(?:(?P<attention>attention(?: layers| modules| projections)?)"
    r"(?P<too> and (?:the )?mlp)?|(?P<linear>all linear)(?: layers| modules)?"
    rf"|(?P<names>{_A_PLACE}(?:(?:, and |, | and | ?/ ?){_A_PLACE}){{0,7}}))(?P<alone> only| alone)?(?!\w)",
    re.IGNORECASE,
)
_OF_PLACES: Final = re.compile(r"(?:attention|mlp)(?:[ -]\w+)?[ -]only|only (?:the )?(?:attention|mlp)", re.IGNORECASE)
_OTHER_WORDS: Final = re.compile(
    r"(?P<epochs>(?:full |complete )?(?:passes ?|epochs?)|number of epochs)|mini-?batch(?: size|es)", re.IGNORECASE
)
_WHOLE_STEP: Final = re.compile(
    r",? \(?(?:effective|total|global|in total|overall|across (?:all |the |[0-9]{1,4} )?gpus)(?!\w)", re.IGNORECASE
)
_LISTED: Final = re.compile(
    r"(?<![\w.])(?P<label>(?:peak )?learning rates?|lrs?|batch sizes?|(?:lora )?ranks?|alphas?|(?:random )?seeds?)"
    r"(?: of| in| from| ∈|:| =)? ?[({\[]?(?P<values>(?:"
    rf"{_VALUE}(?:, and |, or |, | and | or | ?/ ?)){{1,20}}{_VALUE})(?!{_OF_ANOTHER})",
    re.IGNORECASE,
)
_BETWEEN_VALUES: Final = re.compile(r", and |, or |, | and | or | ?/ ?")
_COUNTED_LEVELS: Final = re.compile(
    rf"(?<![\w.])(?P<count>{_COUNT}|multiple|several) "
    r"(?:(?:random|different|distinct|independent|training|lora|peak) ){0,2}"
    r"(?P<what>seeds?|replicates?|replications?|repeats|repetitions|learning rates|lrs|ranks|batch sizes)(?!\w)",
    re.IGNORECASE,
)
_AT_LEAST: Final = re.compile(
    r"(?:at least|at most|up to|more than|fewer than|less than|about|around|over) $|[0-9] ?[-–] ?$", re.IGNORECASE
)
_OF_EVALUATION: Final = re.compile(
    r"(?<!\w)(?:eval\w*|sampl(?:er|ing|ed)|decod\w+|inference|generat\w+|judg\w+|bootstrap\w*)(?!\w)", re.IGNORECASE
)
_OF_ALL: Final = re.compile(
    r"(?<!\w)(?:all|each|every|both) (?:of the )?(?:fine-?tuned )?(?:runs?|models?|adapters?|conditions?)(?!\w)",
    re.IGNORECASE,
)

# --- Weights & Biases

_WANDB: Final = r"(?:wandb|w ?& ?b|weights (?:&|and) biases)"
_ANY_WANDB: Final = re.compile(rf"(?<!\w){_WANDB}(?!\w)", re.IGNORECASE)
_NO_WANDB: Final = re.compile(
    rf"(?<!\w)(?:no|without|do not use|don['’]t use|(?:not|never) (?:be )?(?:log\w*|report\w*|sent) (?:to|in))"
    rf" {_WANDB}(?!\w)"
    rf"|(?<!\w){_WANDB}(?: (?:logging|tracking|reporting))?:? (?:is |will be )?(?:not used|disabled|off"
    r"|(?:turned|switched) off)(?!\w)",
    re.IGNORECASE,
)
_WANDB_MODE: Final = re.compile(r"(?<![\w-])(?P<mode>online|offline|disabled)(?![\w-])", re.IGNORECASE)
_LOGGING_IS: Final = re.compile(
    r"\W{0,9}(?:metrics?|logs?|logging|tracking|logging mode|metrics? logging)\W{1,5}"
    r"(?P<mode>online|offline|disabled)\W{0,5}$",
    re.IGNORECASE,
)
_OF_LOGGING: Final = re.compile(
    r"(?<!\w)(?:log|track|report|record|sync|stream|run|mode)\w{0,5}(?!\w)"
    rf"|{_WANDB}[ :,(=-]{{1,3}}(?:is |in |set to )?(?:online|offline|disabled)|(?:online|offline) {_WANDB}",
    re.IGNORECASE,
)
_NOT_OF_WANDB: Final = re.compile(
    r"(?<!\w)(?:nodes?|clusters?|hubs?|internet|not|never|no|dashboards?|pages?)(?!\w)", re.IGNORECASE
)


class Named(NamedTuple):
    """The training that a text describes: `other` is an unsupported technique, `recipe` is LoRA or full fine-tuning."""

    other: str | None = None
    recipe: str | None = None


def in_note(text: str) -> Named:
    """Return the training that a note of a run describes."""
    return _first(text, _applies)


def in_sentences(text: str) -> Named:
    """Return the training that sentences describe, without other techniques that they mention."""
    return _first(text, lambda clause, match: _applies(clause, match) and _is_stated(clause, match))


def settings_in_note(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings in parts of a note that contain nothing else: `use lr 3e-4 here`, `5 epochs`."""
    for part in _PARTS.split(plain_text(text)):
        stated = whole = part.strip(" .!(*)`")
        if same := _SAME_AS.fullmatch(stated):
            stated = f"{same['label']} {same['value']}"
        stated = _LEADING.sub("", stated, count=1) if _LEADING.match(stated) else stated
        while _TRAILING.search(stated):
            stated = _TRAILING.sub("", stated)
        found = notations.setting_beside_method(stated) or _alone(stated)
        found = found or _in_words(stated, whole, f"uses {stated}", f"trained {_TRAILING.sub('', whole)}")
        if found is not None:
            yield found


def _alone(part: str) -> tuple[str, str] | None:
    """Return parameter and value of a text that is a setting and nothing else: `batch size of 8`, `two A100s`."""
    match = _STATED.fullmatch(part)
    label, value = _read(match) if match else ("", "")
    parameter = by_label(label)
    return (parameter.name, value) if parameter else None


def _read(match: re.Match[str]) -> tuple[str, str]:
    """Return label and value of a setting that a sentence states."""
    value = match["value"] or match["number"] or match["count"]
    label = _without_aside(match["label"] or match["counted"] or "gpus")
    label = _OTHER_WORDS.sub(lambda found: "epochs" if found["epochs"] else "batch size", label)
    return label, str(COUNTS.get(value.lower(), value)).rstrip(".")


def _in_words(*parts: str) -> tuple[str, str] | None:
    """Return parameter and value of a text that states a setting in words and nothing else: `no warm-up`."""
    for name, value, form in _SAID_SO:
        match = next(filter(None, map(form.fullmatch, parts)), None)
        parameter = by_label(name) if match else None
        if parameter is not None and match is not None:
            return parameter.name, value or _number_of(match)
    return None


def _number_of(match: re.Match[str]) -> str:
    found = next(each for each in match.groups() if each)
    return str(COUNTS.get(found.lower(), found)).replace(",", "").rstrip(".")


class Stated(NamedTuple):
    """A setting that a text gives for the runs: its label and values.

    `number`: the number of its values. `of_all`: the text mentions all runs. `replicates`: the number is of runs that
    differ only in their seeds. `at_most`: the value is only an upper bound.
    """

    label: str
    values: tuple[str, ...] = ()
    number: int = 0
    of_all: bool = False
    replicates: bool = False
    at_most: bool = False


SEVERAL: Final = -1
"""An unknown number that is greater than one."""


def settings_alone(text: str) -> list[tuple[str, str]]:
    """Return the settings of a text that contains nothing else: `LoRA rank 8, alpha 8.`."""
    parts = [part for part in _PARTS.split(plain_text(text)) if part.strip(" .!(*)")]
    found = list(settings_in_note(text))
    return found if len(found) == len(parts) else []


def settings_in_sentences(text: str) -> Iterator[Stated]:
    """Yield the settings that sentences give for the runs, by label: `We train for 3 epochs`."""
    for clause in clauses_now(text):
        says, end = _SAYS.search(clause), 0
        for match in _STATED.finditer(clause):
            before, follows, end = clause[: match.start()], match.start() == end + 2, match.end()
            label, value = _read(match)
            is_stated = (says and says.end() <= match.start()) or (match["verb"] and _IS_SO.search(match["verb"]))
            is_one = not match["label"] and not follows and _NOT_OF_A_RUN.search(before[-60:])
            is_of_others = _OF_SOMETHING_ELSE.match(clause, match.end()) or (
                label.lower().startswith("gpu") and _OF_ALL_JOBS.match(clause, match.end())
            )
            if not is_stated or is_compared(before) or is_one or is_of_others:
                continue
            if label.lower() == "batch size" and _WHOLE_STEP.match(clause, match.end()):
                label = "effective batch size"
            yield Stated(label, (value,), of_all=_OF_ALL.search(clause) is not None)


def settings_in_words(text: str) -> Iterator[Stated]:
    """Yield the settings that sentences give in words: `Sequences are truncated to 512 tokens`, `no warm-up`."""
    for clause in clauses_now(text, of_levels=True):
        for name, value, form in _SAID_SO:
            match = form.search(clause)
            is_of_else = match is not None and name[:3] == "max" and _NOT_OF_LENGTHS.search(clause, 0, match.start())
            if match and not is_of_else and not is_compared(clause[: match.start()]):
                is_of_all, is_bound = _OF_ALL.search(clause) is not None, match[0].lower().startswith(_BOUNDS)
                yield Stated(name, (value or _number_of(match),), of_all=is_of_all, at_most=is_bound)


def alphas_in_sentences(text: str) -> Iterator[float]:
    """Yield the values of alpha in ranks that sentences give: `alpha = 2 x rank`."""
    for clause in clauses_now(text):
        for match in _ALPHA.finditer(clause):
            if not is_compared(clause[: match.start()]):
                yield float(match["factor"]) if match["factor"] else _FACTORS.get((match["word"] or "").lower(), 1.0)


def places_in_sentences(text: str) -> Iterator[str]:
    """Yield the modules to which LoRA is applied according to sentences: `LoRA on q_proj and v_proj`."""
    for clause in clauses_now(text):
        match = _PLACED.search(clause)
        if match is None or is_compared(clause[: match.start()]):
            continue
        if match["names"]:
            yield match["names"]
        elif match["linear"] or match["too"]:
            yield "all linear" if match["linear"] else "attention and mlp"
        elif match["only"] or match["alone"]:
            yield "attention"


_DURATION: Final = rf"{_COUNT}(?:\.[0-9])? ?(?:days?|hours?|hrs?|h|minutes?|mins?)(?!\w)"
_TIME_LIMIT: Final = re.compile(
    rf"(?:time limit|wall-?time(?: limit)?) (?:of|is|to) (?P<limit>{_DURATION})"
    r"|(?:jobs?|runs?) (?:runs? |takes? |lasts? |is limited to |are limited to )?(?:for )?(?:at most|up to)"
    rf" (?P<most>{_DURATION})"
    rf"|{_RUNS} (?:each )?(?:gets?|has|have|requests?|(?:is|are) (?:given|allowed|limited to)) (?P<given>{_DURATION})"
    r"(?! of (?!wall|run|comp|time|gpu))",
    re.IGNORECASE,
)
_TIME_OF_NOTE: Final = re.compile(
    rf"(?:[\w-]{{1,60}} ){{0,3}}(?:gets?|given|has|have|limited to|time limit(?: of|:| is)?) (?P<given>{_DURATION})"
    rf"(?: here| instead| each)?|(?P<instead>{_DURATION}) (?:(?:instead of|rather than) {_DURATION}|limit|time limit)",
    re.IGNORECASE,
)
_OF_RUN: Final = re.compile(
    r"(?: (?:optimi[sz]er|runs?|training|precision|mode|instead|here|only)){1,2}$", re.IGNORECASE
)
_A_PROMPT: Final = re.compile(
    r"system prompt(?: (?:of|for|in) [\w.=-]{1,60})?(?: (?:is|reads|says))?:? "
    r"(?:[\"“`](?P<text>[^\"“”`]{1,300})[\"”`])",
    re.IGNORECASE,
)
_A_FILE: Final = re.compile(r"(?<![\w./])(?P<path>[\w./~+-]{1,200}\.(?:jsonl?|parquet))(?!\w)", re.ASCII)
_NOT_FOR_TRAINING: Final = re.compile(r" (?:for|as|to)(?! (?:training|fine-?tuning))(?!\w)")
_TRAINS_ON: Final = re.compile(
    r"(?<!\w)(?:train\w{0,3}|fine-?tun\w{1,3}) (?:[\w.-]{1,40} ){0,4}on (?:the )?$"
    rf"|(?<!\w){_RUNS} uses? (?:the )?(?:file |data(?: ?set)? |training data )?$",
    re.IGNORECASE,
)
_USES_FILE: Final = re.compile(r"(?<!\w)(?:train\w{0,3}|uses?|using|data(?: ?set)?:?|on|with) (?:[\w-]{1,20} ){0,2}$")
_TRAINS_MODEL: Final = re.compile(
    r"(?<!\w)(?:trains?|fine-?tun(?:e|es|ing)(?: of)?|starts? from)"
    r"(?: (?:the|our|both|two|three|base|models?|and|small|pre-?trained|(?=[a-z.-]{0,40}[0-9])[\w.-]{1,80}),?){0,8} $",
    re.IGNORECASE,
)
_BASE_MODEL: Final = re.compile(r"(?<!\w)(?:base(?: models?)?|starts? from(?: the)?) $", re.IGNORECASE)
_SIZE: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?(?:B(?: (?:model|one))?|b model)")


@functools.cache
def _model_names() -> re.Pattern[str]:
    names = "|".join(map(re.escape, sorted(known_models(), key=len, reverse=True)))
    return re.compile(rf"(?<![\w.-])(?:{names})(?![\w]|[-.][\w])", re.IGNORECASE)


def times_in_sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the time limits that sentences give jobs, and whether it is only an upper bound (`at most 2 hours`)."""
    for clause in clauses_now(text):
        for match in _TIME_LIMIT.finditer(clause):
            yield match["limit"] or match["given"] or match["most"], match["most"] is not None


def times_in_note(text: str) -> Iterator[str]:
    """Yield the time limits in parts of a note that contain nothing else: `gets 6 hours`, `6 h instead of 2 h`."""
    for part in _PARTS.split(plain_text(text)):
        if match := _TIME_OF_NOTE.fullmatch(part.strip(" .!(*)`")):
            yield match["given"] or match["instead"]


def statement(part: str) -> str:
    """Return a part of a sentence about a run as a note if it is a setting, a method or a data set, and nothing else.

    Anything else gives an empty string: it may be a mere mention.
    """
    part = part.strip(" .,;:!(*)`")
    name = _OF_RUN.sub("", _LEADING.sub("", part, count=1).strip("`"))
    if any(any(read(part)) for read in (settings_in_note, times_in_note, models_in_note)):
        return part
    other = next(asked_otherwise(name), None)
    if _METHOD.fullmatch(name) or (other is not None and other[0] == name):
        return name
    return f"uses {name}" if _A_FILE.fullmatch(name) else ""


def prompts_in_sentences(text: str) -> Iterator[str]:
    """Yield the system prompts that sentences quote."""
    written = plain_text(text)
    for match in _A_PROMPT.finditer(written):
        before = written[max(0, match.start() - 80) : match.start()]
        before = before[before.rfind(". ") + 1 :]
        if not (NOT_NOW.search(before) or _OF_EVALUATION.search(before) or is_compared(before)):
            yield match["text"]


def data_in_text(text: str, *, of_note: bool) -> Iterator[str]:
    """Yield the files on which a sentence or a note trains: `We train on data/words.json`."""
    for clause in clauses_now(text):
        for match in () if _OF_EVALUATION.search(clause) else _A_FILE.finditer(clause):
            before = clause[: match.start()]
            is_other = not of_note and _NOT_FOR_TRAINING.match(clause, match.end())
            if (_USES_FILE if of_note else _TRAINS_ON).search(before[-200:]) and not (is_other or is_compared(before)):
                yield match["path"]


def models_in_sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the models that sentences train, by name, and whether the sentence calls it a base model."""
    for clause in clauses_now(text):
        for match in _model_names().finditer(clause):
            before = clause[: match.start()][-200:]
            if _TRAINS_MODEL.search(before) and not is_compared(before.replace(" from ", " ")):
                yield match[0], _BASE_MODEL.search(before) is not None


def models_in_note(text: str) -> Iterator[str]:
    """Yield the models in parts of a note that contain nothing else: `on the 8B model`."""
    for part in _PARTS.split(plain_text(text)):
        stated = _LEADING.sub("", part.strip(" .!(*)"), count=1)
        if _SIZE.fullmatch(stated) or _model_names().fullmatch(stated):
            yield stated.split()[0]


def is_of_places(name: str) -> bool:
    """Return whether a name means only attention, which is a supported place for LoRA."""
    return _OF_PLACES.fullmatch(name) is not None and "mlp" not in name.lower()


def levels_in_sentences(text: str) -> Iterator[Stated]:
    """Yield the levels that sentences list, and numbers of levels: `ranks 8, 16 and 32`, `with three seeds each`."""
    for clause in clauses_now(text, of_levels=True):
        for match in _LISTED.finditer(clause):
            if not is_compared(clause[: match.start()]):
                listed = _BETWEEN_VALUES.split(match["values"])
                yield Stated(_singular(match["label"]), tuple(value.rstrip(".") for value in listed))
        for match in _COUNTED_LEVELS.finditer(clause):
            before, word, what = clause[: match.start()], match["count"].lower(), match["what"].lower()
            is_vague = _AT_LEAST.search(before[-15:]) or _ONE_OF_SEVERAL.search(before[-30:].removesuffix(", "))
            if is_vague or is_compared(before) or _OF_EVALUATION.search(clause):
                continue
            count = SEVERAL if word in {"multiple", "several"} else int(COUNTS.get(word, word))
            is_of_seeds = what[:4] in {"seed", "repl", "repe"}
            if is_of_seeds or count != 1:
                yield Stated("seed" if is_of_seeds else _singular(what), number=count, replicates=what[:3] == "rep")


def names_wandb(text: str) -> bool:
    """Return whether a text mentions Weights & Biases."""
    return _ANY_WANDB.search(text[:LONGEST]) is not None


def modes_in_sentences(text: str) -> Iterator[str]:
    """Yield the modes of Weights & Biases that sentences give for the runs: `Runs log online to W&B`."""
    if match := _LOGGING_IS.match(text[:LONGEST]):
        yield match["mode"].lower()
    for clause in clauses(text):
        if _ANY_WANDB.search(clause) is None:
            continue
        if _NO_WANDB.search(clause):
            yield "disabled"
        modes = {match["mode"].lower() for match in _WANDB_MODE.finditer(clause)}
        is_stated = _OF_LOGGING.search(clause) and not _NOT_OF_WANDB.search(clause) and not NOT_NOW.search(clause)
        if len(modes) == 1 and is_stated and not _NO_WANDB.search(clause):
            yield modes.pop()


def of_levels(name: str, label: str, text: str) -> Stated | None:
    """Return the text after a label of several values, which is a list or their number; None for prose."""
    whole = plain_text(text).strip("`[]{}() ")
    if len(parts := _BETWEEN_VALUES.split(whole)) > 1:
        return Stated(name, tuple(part.strip("` ") for part in parts))
    match = _HOW_MANY.match(whole)
    if match is None or _OF_EVALUATION.search(whole):
        return None
    is_of_replicates = _OF_REPLICATES.search(label) is not None
    return Stated(name, number=int(COUNTS.get(match[0].lower(), match[0])), replicates=is_of_replicates)


def count_of_levels(text: str) -> int | None:
    """Return the number of levels that a text gives instead of the levels: `3 seeds`, `two values`."""
    match = _NUMBER_OF_LEVELS.fullmatch(plain_text(text).strip("`() ."))
    return int(COUNTS.get(match["count"].lower(), match["count"])) if match else None


_NUMBER_OF_LEVELS: Final = re.compile(
    rf"(?P<count>{_COUNT}) (?:(?:random|different|distinct|independent) ){{0,2}}"
    r"(?:seeds?|replicates?|repeats?|repetitions?|values|levels|(?:lora )?ranks|learning rates|lrs|batch sizes|alphas)"
    r"(?: (?:per|each|for each)(?: [\w-]{1,20}){0,3})?",
    re.IGNORECASE,
)
_HOW_MANY: Final = re.compile(rf"{_COUNT}(?![\w.])", re.IGNORECASE)
_OF_REPLICATES: Final = re.compile(r"replic|repeat|repetition|runs? per", re.IGNORECASE)
_LABELLED: Final = re.compile(r"\W{0,9}(?P<label>[A-Za-z][\w&/() -]{0,40}?)\s{0,3}:\s(?P<rest>.*)", re.DOTALL)
_LONGEST_LABEL: Final = 4


def of_a_label(text: str) -> tuple[str, str]:
    """Return label and value of a line such as `Schedule: 3 epochs, lr 1e-4`; empty strings for a sentence.

    A label about another time or other people, such as `Previous run`, is not a label.
    """
    match = _LABELLED.match(plain_text(text))
    if match is None or len(match["label"].split()) > _LONGEST_LABEL or NOT_NOW.search(match["label"]):
        return "", ""
    return match["label"], match["rest"]


def _singular(label: str) -> str:
    return label.lower().removesuffix("s")


def _without_aside(label: str) -> str:
    return " ".join(re.sub(r"\([^()]*\)", " ", label).split())


def _first(text: str, counts: Callable[[str, re.Match[str]], bool]) -> Named:
    found = Named()
    for clause in clauses_now(text):
        named = [*asked_otherwise(clause), *_NODES.finditer(clause)]
        is_placed = _PLACED.search(clause) is not None  # supported
        named = [match for match in named if not (is_placed and _OF_PLACES.fullmatch(match[0]))]
        other = next((match for match in named if counts(clause, match)), None)
        if other is not None:
            return Named(other=other[0])
        for match in _METHOD.finditer(clause):
            if found.recipe is None and counts(clause, match):
                found = Named(recipe=FULL if match["full"] else LORA)
    return found


def _applies(clause: str, match: re.Match[str]) -> bool:
    """Return whether a name is neither the object of a comparison nor the subject of a remark."""
    return not is_compared(clause[: match.start()]) and not _OF_OTHERS.match(clause, match.end())


def _is_stated(clause: str, match: re.Match[str]) -> bool:
    """Return whether a sentence states that a technique is used: `We train with it`, `A QLoRA sweep over ranks`."""
    says = _SAYS.search(clause)
    if match[0][:3].lower() in {"all", "eve", "tra", "upd"} or (says is not None and says.end() <= match.start()):
        return True
    begins = _BEGINS.fullmatch(clause[: match.start()]) is not None
    named = (_IS_NAMED, _ON_WHAT) if match.start() < _FIRST else (_IS_NAMED,)
    of_what = (_OF_WHAT,) if "fine" in match[0].lower() else named
    return begins and any(pattern.match(clause, match.end()) for pattern in of_what)
