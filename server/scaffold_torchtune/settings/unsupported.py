"""Requests about a training that this tool cannot honour, by the labels or words that documents use for them.

Such a line is refused anywhere in a document: otherwise the runs would differ from the described ones.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_STEPS_FOLLOW: Final = (
    "the number of steps follows from the data, the batch size and the epochs; only max_steps_per_epoch can limit it"
)
_IN_BF16: Final = "models are trained in bf16, without quantization"
_PLAIN_LORA: Final = "only plain LoRA is supported, not its variants"
_ADAMW: Final = "the optimizer is always AdamW with PyTorch's default betas and epsilon"
_SUPERVISED: Final = "only supervised fine-tuning is supported"
_BY_DIRECTORY: Final = (
    "a run has the name of its directory, which is derived from the varying parameters (or from Run Name, with"
    " `--names table`)"
)
_NO_CONFIG: Final = "values are not read from a config file"
_OF_WANDB: Final = "the supported Weights & Biases settings are project, entity, group, tags and mode"
_ONE_PROCESS: Final = "a run has one process for each GPU that it requests"
_ALL_LAYERS: Final = "all layers are trained in the same way"
_SHARDED: Final = "torchtune's recipes distribute a model with FSDP"
_AS_PUBLISHED: Final = "the model and its tokenizer are used as published"
_SHUFFLED: Final = "samples are always shuffled, and an incomplete last batch is dropped"
_THE_SCHEDULE: Final = "after the warm-up, the learning rate falls to zero with torchtune's cosine schedule"


# --- text that a line under a label may have because it is true of every run. torch.optim.AdamW has these constants

_BF16_WORDS: Final = re.compile(
    r"(?:pure |native |torch\.)?(?:bf16|bfloat16|brain ?float ?16)(?:[- ](?:mixed|true|pure|precision)){0,2}(?:\W.*)?"
    r"|auto|defaults?",
    re.IGNORECASE | re.DOTALL,
)
_YES: Final = re.compile(r"(?:yes|true|on|auto|enabled?|1)(?:\W.*)?", re.IGNORECASE | re.DOTALL)
_ADAMW_WORDS: Final = re.compile(
    r"(?:torch\.optim\.|torch |pytorch(?:'s)? )?adamw(?:_torch(?:_fused)?|_hf)?(?: ?optimi[sz]er)?(?:\W.*)?|defaults?",
    re.IGNORECASE | re.DOTALL,
)
_USUAL_BETAS: Final = r"[(\[]?\s{0,9}0?\.90{0,9}\s{0,9},\s{0,9}0?\.9990{0,9}\s{0,9}[)\]]?"
_BETA_1: Final = r"0?\.90{0,9}"
_BETA_2: Final = r"0?\.9990{0,9}"
_EPSILON: Final = r"1(?:\.0{0,9})?e-0?8|0?\.00000001|10\s?\^\s?-8|10⁻⁸"
_CROSS_ENTROPY: Final = re.compile(
    r"(?:(?:standard|token[- ]level|chunked|causal|ce|lm|next[- ]token|negative|log|likelihood|cross[- _]?entropy|nll"
    r"|sft|default|prediction|language modell?ing|(?:torchtune\.modules\.loss\.)?cewithchunkedoutputloss"
    r"|torchtune(?:'s)?|loss|\(ce\)|over|on|the"
    r"|answers?|outputs?|completions?|tokens?|only|of)[\s,()-]{0,9})+",
    re.IGNORECASE,
)
_NO_AMP: Final = re.compile(rf"(?:no|false|off|none|disabled)|{_BF16_WORDS.pattern}", re.IGNORECASE | re.DOTALL)
_THE_BETAS: Final = re.compile(_USUAL_BETAS)
_THE_BETA_1: Final = re.compile(_BETA_1)
_THE_BETA_2: Final = re.compile(_BETA_2)
_THE_EPSILON: Final = re.compile(_EPSILON)
_NO_PARALLEL: Final = re.compile(r"1|no|none|false|off|disabled", re.IGNORECASE)
_OWN_TEMPLATE: Final = re.compile(
    r"(?:tokenizer_?)?defaults?|auto|none|(?:the )?model(?:'s)?(?: own)?|native", re.IGNORECASE
)
_OF_SUPERVISED: Final = re.compile(
    r"(?!(?:pt|rm|ppo|dpo|kto|orpo|grpo|pre-?train\w*|rlhf|seq_|token_|question_|feature_|classif\w*|regress\w*"
    r"|reward\w*)).*",
    re.IGNORECASE | re.DOTALL,
)
_ALL_BITS: Final = re.compile(
    r"16(?:[- ]?bits?)?(?:\W.*)?|none|no|false|off|0|bf16|bfloat16", re.IGNORECASE | re.DOTALL
)
_THE_SPLIT: Final = re.compile(r"(?:train(?:ing)?|all|none|no|defaults?)(?:\W.*)?|[0-9].*", re.IGNORECASE | re.DOTALL)
_ALL_DATA: Final = re.compile(
    r"(?:100 ?%|1(?:\.0{1,3})?|all|full|whole|entire|none|no)(?:\W.*)?", re.IGNORECASE | re.DOTALL
)
_THE_MODEL: Final = re.compile(
    r"(?:the )?(?:base|pre-?trained|original|published|hugging ?face|hf|released)"
    r"(?:[ -](?:model|weights|checkpoints?))?"
    r"|(?:the )?model|none|no|false|off|defaults?|(?:[\w.-]{1,60}/)?(?:llama|qwen|mistral|gemma|phi)[\w. -]{0,60}",
    re.IGNORECASE,
)
_EVERY_LAYER: Final = re.compile(r"(?:all|every)(?: layers?)?|none|no|false|off|defaults?", re.IGNORECASE)
_NO_BIAS: Final = re.compile(r"(?!(?:all|lora_only|lora only|true|yes)\b).*", re.IGNORECASE | re.DOTALL)


class _Group(NamedTuple):
    """Comma-separated labels, the reason why only `so` is possible, the text to write, and the setting to use instead.

    Without `so`, the only accepted text denies the setting.
    """

    labels: str
    why: str
    so: re.Pattern[str] | None = None
    usual: str = ""
    instead: str = ""


_GROUPS: Final = (
    _Group(
        "base config, torchtune config, recipe config, stock config",
        _NO_CONFIG,
    ),
    _Group(
        "max steps",
        "max_steps_per_epoch limits the steps of each epoch; the total cannot be limited",
    ),
    _Group(
        "total steps, training steps, max train steps",
        _STEPS_FOLLOW,
    ),
    _Group(
        "quantization, quantisation, quantize, quantized, quantize base, base quantization, qlora, "
        "use qlora, load in 4bit, load in 8bit, load in 4 bit, load in 8 bit, 4 bit, 8 bit, 4bit, "
        "8bit, nf4, quant type, bnb 4bit quant type, bnb 4bit use double quant, double quantization, "
        "bitsandbytes, quantization config, qat, fp8, fp16, fp32, float16, float32, "
        "full precision",
        _IN_BF16,
    ),
    _Group("bits, quantization bits, quantization bit", _IN_BF16, _ALL_BITS),
    _Group(
        "bnb 4bit compute dtype, precision, dtype, data type, mixed precision, training precision, "
        "model precision, compute precision, numerical precision, weight precision, torch dtype, "
        "model dtype, compute dtype, training dtype, weight dtype, weights dtype, param dtype, "
        "parameter dtype, amp dtype, half precision, fp16 bf16, bf16 fp16, bf16 or fp16, "
        "mixed precision training, mixed precision type",
        _IN_BF16,
        _BF16_WORDS,
        "bf16",
    ),
    _Group(
        "amp, autocast",
        _IN_BF16,
        _NO_AMP,
    ),
    _Group(
        "bf16, bfloat16, use bf16, pure bf16",
        _IN_BF16,
        _YES,
        "yes",
    ),
    _Group(
        "dora, use dora, rslora, use rslora, rs lora, loftq, pissa, adalora, lora plus, lora plus lr ratio, "
        "loraplus lr ratio, lora bias, init lora weights, modules to save, lora variant, rank pattern, "
        "alpha pattern, lora init, lora initialization, lora modules to save, additional target, "
        "additional trainable modules, use galore, galore, use badam, badam, use apollo, use lisa, lisa, "
        "pissa init, use pissa, use loftq, use adalora, lora target linear, lora target parameters",
        _PLAIN_LORA,
    ),
    _Group(
        "frozen layers, freeze layers, freeze, "
        "unfrozen layers, layers to freeze, freeze embeddings, train embeddings, unfreeze layers, "
        "freeze trainable layers, freeze trainable modules, trainable modules, unfrozen parameters, "
        "freeze extra modules",
        _ALL_LAYERS,
    ),
    _Group("layers to transform, trainable layers, layers to train", _ALL_LAYERS, _EVERY_LAYER),
    _Group(
        "momentum, amsgrad, nesterov",
        _ADAMW,
    ),
    _Group(
        "adam betas, betas, optimizer betas",
        _ADAMW,
        _THE_BETAS,
    ),
    _Group(
        "beta1, adam beta1, beta 1",
        _ADAMW,
        _THE_BETA_1,
    ),
    _Group(
        "beta2, adam beta2, beta 2",
        _ADAMW,
        _THE_BETA_2,
    ),
    _Group(
        "adam epsilon, epsilon, eps, adam eps, optimizer eps, optimizer epsilon",
        _ADAMW,
        _THE_EPSILON,
    ),
    _Group(
        "optimizer, optimiser, optim, optimizer type, optimizer name, optimizer class, "
        "optimization algorithm, optimiser type, optim type",
        _ADAMW,
        _ADAMW_WORDS,
        "AdamW",
    ),
    _Group(
        "min lr, min learning rate, minimum learning rate, final lr, final learning rate, end lr, lr end, "
        "num cycles, lr cycles, min lr ratio, lr min, min lr rate, cosine min lr ratio, decay steps, "
        "lr decay steps, lr decay iters, lr decay ratio, decay ratio, lr end ratio",
        _THE_SCHEDULE,
    ),
    _Group(
        "attn dropout, attention dropout, hidden dropout, residual dropout, resid dropout, "
        "embedding dropout, embed dropout, rope scaling, rope theta, rope base, rope factor, yarn, "
        "sliding window, resize vocab, add tokens, added tokens, new tokens, special tokens, "
        "new special tokens, resize token embeddings, additional special tokens",
        _AS_PUBLISHED,
    ),
    _Group(
        "shuffle, shuffle data, shuffle dataset, data shuffling, dataloader drop last, drop last",
        _SHUFFLED,
        _YES,
        "yes",
    ),
    _Group(
        "group by length, length grouped sampling",
        _SHUFFLED,
    ),
    _Group(
        "mask prompt, mask inputs, mask input, train on completions only, completion only loss, "
        "assistant only loss, train on responses only",
        "masking is set by Train on input",
        _YES,
        "yes",
    ),
    _Group(
        "chat template, chat format, conversation template",
        "samples are formatted by the model's tokenizer in torchtune",
        _OWN_TEMPLATE,
    ),
    _Group(
        "split, train split, training split, data split, dataset split",
        "runs train on the `train` split of the data set",
        _THE_SPLIT,
        "train",
    ),
    _Group(
        "data fraction, train fraction, training fraction, dataset fraction, sample fraction, subset, data subset, "
        "data percentage, percent of data, training data fraction",
        "the part of the data to train on is set as a number of samples",
        _ALL_DATA,
        "all",
        "training_samples",
    ),
    _Group(
        "init from, initialize from, initialise from, initialized from, start from, starts from, warm start, "
        "initial checkpoint, init checkpoint, starting checkpoint, start checkpoint, initial weights, starting weights",
        "a run starts from the model in the directory that is listed under 'Models'",
        _THE_MODEL,
        "base",
    ),
    _Group(
        "val set size, test size, val size",
        "the data set is used with its own splits, and is not split further",
    ),
    _Group(
        "tensor parallel, tensor parallel size, tensor parallel dim, context parallel, "
        "context parallel size, pipeline parallel, pipeline parallel size, data parallel replicate dim, "
        "expert parallel",
        _SHARDED,
        _NO_PARALLEL,
    ),
    _Group(
        "stage, training stage, task type",
        _SUPERVISED,
        _OF_SUPERVISED,
    ),
    _Group(
        "bias",
        _PLAIN_LORA,
        _NO_BIAS,
    ),
    _Group(
        "dpo, dpo beta, beta, pref beta, pref loss, num generations, reward functions, reward funcs, "
        "kl coef, reference model, ref model, reward model, teacher model, teacher, rlhf, grpo, ppo, orpo, "
        "kto, kl coefficient, distillation, preference data, preference optimization",
        _SUPERVISED,
    ),
    _Group(
        "label smoothing, label smoothing factor",
        "the loss is cross-entropy without smoothing",
    ),
    _Group(
        "loss, loss function, loss type, training loss",
        "the loss is cross-entropy on the answers",
        _CROSS_ENTROPY,
        "cross-entropy",
    ),
    _Group(
        "ema, ema decay, weight averaging, swa",
        "weights are not averaged",
    ),
    _Group(
        "curriculum learning",
        "samples are shuffled",
    ),
    _Group(
        "neftune, neftune alpha, neftune noise alpha",
        "no noise is added to embeddings",
    ),
    _Group(
        "early stopping, early stopping patience, patience",
        "torchtune's recipes always train all epochs",
    ),
    _Group(
        "deepspeed, deepspeed config, zero stage",
        _SHARDED,
    ),
    _Group(
        "venv, virtual environment",
        "jobs activate a conda environment",
    ),
    _Group(
        "my wandb run name, wandb run name, w b run name, weights biases run name, wandb name, w b name",
        _BY_DIRECTORY,
    ),
    _Group(
        "wandb sweep, w b sweep, wandb sweep id, wandb host, wandb base url, wandb api key, w b api key, "
        "wandb run id, wandb id, wandb resume, w b host, wandb log model, wandb watch",
        _OF_WANDB,
    ),
    _Group(
        "tasks per node, ntasks per node, processes per node, nproc per node",
        _ONE_PROCESS,
    ),
)

_BY_LABEL: Final = {label: group for group in _GROUPS for label in group.labels.split(", ")}

NOT_PLANNED: Final = {label: group.why for label, group in _BY_LABEL.items()}
"""Labels of unsupported settings, in lower case, words separated by spaces, with reasons."""

CONSTANTS: Final = frozenset(label for label, group in _BY_LABEL.items() if group.so is not None)
"""Those labels that may describe every run."""

_ADAMW_SETTING: Final = re.compile(
    r"(?P<label>weight[- ]decay|wd|decay|lr|learning[- ]rate|peak lr)\s{0,9}(?:of|=|:|is)?\s{0,9}"
    r"(?P<value>[0-9.]{1,20}(?:e[-+]?[0-9]{1,3})?)",
    re.IGNORECASE,
)
_USUAL_CONSTANT: Final = re.compile(
    rf"(?:adam )?(?:betas?|β)\s{{0,9}}[=:]?\s{{0,9}}{_USUAL_BETAS}"
    rf"|(?:adam )?(?:beta[ _]?1|β_?1|β₁)\s{{0,9}}[=:]?\s{{0,9}}{_BETA_1}(?![0-9])"
    rf"|(?:adam )?(?:beta[ _]?2|β_?2|β₂)\s{{0,9}}[=:]?\s{{0,9}}{_BETA_2}(?![0-9])"
    rf"|(?:adam )?(?:eps(?:ilon)?|ε|ϵ)\s{{0,9}}[=:]?\s{{0,9}}(?:{_EPSILON})(?![0-9])"
    r"|(?:amsgrad|nesterov)\s{0,9}[=:]\s{0,9}(?:no|false|off)",
    re.IGNORECASE,
)
_ANOTHER_CONSTANT: Final = re.compile(
    r"[0-9]|\b(?:paged|cpu|offload\w*|amsgrad|nesterov|schedule[- ]?free|fused in backward|momentum|sgd|lion"
    r"|adafactor)\b",
    re.IGNORECASE,
)


_TECHNIQUES: Final = re.compile(
    r"(?<![\w-])(?:"
    r"q-?[ld]ora|dora|vera adapters?|rs-?lora|rank[ -]stabili[sz]ed(?: lora)?"
    r"|ada-?lora|loft-?q|pissa|olora|lora\+|lora-fa|galore|re-?lora|\(?ia\)?3"
    r"|(?:lo)?reft|bitfit"
    r"|dpo|orpo|kto|simpo|ppo|grpo|rloo|rlhf|rlaif|reinforcement[ -]learning|reward[ -]model\w*"
    r"|(?:lora|full)_dpo\w*|ppo_full\w*|qat_\w+|(?:lora_)?knowledge_distillation\w*"
    r"|(?:continued|continual|domain[ -]adaptive) pre-?training"
    r"|preference[ -](?:optimi[sz]ation|tuning|learning)"
    r"|qat|quanti[sz]\w*|ptq|gptq|awq|nf4|fp[48]|int[48]|[2-8][ -]?bits?(?! (?:per|of|long|each)\b)|bitsandbytes|bnb"
    r"|(?:knowledge[ -])?distill\w*|(?:prefix|prompt)[ -]tun\w*|p-tuning|soft[ -]prompts?"
    r")(?!\w)",
    re.IGNORECASE,
)
_NEGATED: Final = re.compile(
    r"\b(?:no|not|without|non|w/o|instead of|rather than|unlike|never|un)\b[\s:-]*(?:(?:any|using|with|a)\s+)?$",
    re.IGNORECASE,
)
_TOO: Final = re.compile(r"\s{0,9}(?:,?\s{0,9}\b(?:or|nor)\b|/)\s{0,9}(?:any\s+|using\s+)?", re.IGNORECASE)
_SWITCHED_OFF: Final = re.compile(r"\s{0,9}(?:[:=]|is)?\s{0,9}(?:no|none|off|false|disabled|not used)\b", re.IGNORECASE)
_MARKS: Final = re.compile(r"[`*✓✔☑✅†‡]")
_UNSAID: Final = frozenset({"n/a", "na", "-", "–", "—", "null", "tbd"})
_NOTHING: Final = frozenset(
    {
        "",
        "no",
        "none",
        "off",
        "false",
        "disabled",
        "disable",
        "default",
        "defaults",
        "0",
        "0.0",
        "n/a",
        "na",
        "-",
        "–",
        "—",
    }
    | {"not used", "unused", "never", "null", "bf16", "bfloat16"}
)


_OTHERWISE: Final = re.compile(
    r"(?<![\w-])(?:"
    r"sgd|adafactor|rmsprop|adagrad|(?:lion|sophia|muon|lamb|prodigy|shampoo|adam|adamax|nadam) optimi[sz]er"
    r"|optimi[sz]er:? (?:is )?(?:lion|sophia|muon|lamb|prodigy|shampoo|adam(?!w))|(?:with|using) adam(?![\w-])"
    r"|(?:(?<=use )|(?<=uses ))adam(?![\w'’-])"
    rf"|betas?(?: of)?\s?[=:]?\s?(?!{_USUAL_BETAS})[(\[]?0?\.[0-9]{{1,6}},\s?0?\.[0-9]{{1,6}}[)\]]?"
    r"|paged[ _-]?adamw?|adamw?[ _-]?(?:8|4|32)[ _-]?bit"
    r"|(?:fp|float)[ -]?(?:16|32|64)|half[ -]precision|full[ -]precision"
    r"|(?:linear|constant|polynomial|exponential|inverse[ -]sq(?:ua)?rt|wsd|one[ -]?cycle)"
    r"[ -](?:lr|learning[ -]rate|schedul\w+|decay)"
    r"|(?:cosine|decay\w*|anneal\w*)(?: schedule| decay)? (?:down )?to (?!zero|0(?:\.0)?(?![.0-9%]))[0-9a-z.%]{1,20}"
    r"|min(?:imum)?[ _-]lr|final lr"
    r"|cosine (?:annealing )?(?:with )?(?:warm )?restarts|early[ -]stop\w*|label[ -]smoothing|neftune"
    r"|(?:attention|attn|mlp)(?:[ -](?:layers?|modules?|projections?|weights?))?[ -]only"
    r"|only (?:the )?(?:attention|mlp)|(?:first|last|top|bottom|upper|lower) (?:[0-9]{1,3} |few |half of the )?layers"
    r"|(?:freez\w+|frozen|unfreez\w+|unfrozen) (?:the |all |most |some ){0,2}"
    r"(?:embeddings?|layers?|lower|first|bottom|attention|mlp)"
    r"|lora (?:on|to|for|in) (?:the )?(?:token )?embeddings?|(?:train|updat|tun)\w{1,4}"
    r" (?:also )?(?:the )?(?:token )?embeddings"
    r")(?!\w)",
    re.IGNORECASE,
)
"""Words for a different training, apart from techniques: optimizers, precisions, schedules, layers."""


def other_training(text: str) -> str | None:
    """Return the first unsupported technique that a text requests; None if it requests none, or only denies some.

    `4-bit`, `QLoRA` and `DPO after SFT` request one; `no quantization or DoRA` does not.
    """
    return next((match[0] for match in _named(_TECHNIQUES, text)), None)


def asked_otherwise(text: str) -> Iterator[re.Match[str]]:
    """Yield where a text names an unsupported technique, optimizer, precision or similar, and does not deny it."""
    yield from _named(_TECHNIQUES, text)
    yield from _named(_OTHERWISE, text)


def _named(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    denied, end = False, 0
    for match in pattern.finditer(text):
        also = denied and bool(_TOO.fullmatch(text, end, match.start()))
        denied = also or bool(_NEGATED.search(text, max(0, match.start() - 40), match.start()))
        end = match.end()
        if not denied and not _SWITCHED_OFF.match(text, end):
            yield match


def asks_for_nothing(text: str) -> bool:
    """Return whether a text denies a setting: `no`, `false`, `none (bf16)`, `default`."""
    text = text.strip()
    text = (text.rpartition("(")[0].strip() or text) if text.endswith(")") else text
    plain = text.strip().strip("`\"'.").lower()
    return plain in _NOTHING


def is_refused(label: str, text: str) -> bool:
    """Return whether the text under a label, normalized by `normalize`, requests something unsupported.

    A label of `NOT_PLANNED` may describe every run: `Mixed precision: bf16`, `Optimizer: AdamW (eps 1e-8)`.
    """
    if label not in NOT_PLANNED:
        return False
    so = _BY_LABEL[label].so
    if so is None:
        return not asks_for_nothing(text)
    plain = _MARKS.sub("", text).strip().strip("\"'").rstrip(".")
    if not plain or plain.lower() in _UNSAID:
        return False
    if not so.fullmatch(plain):
        return True
    rest = _ADAMW_SETTING.sub("", _USUAL_CONSTANT.sub("", plain)) if so is _ADAMW_WORDS else ""
    return bool(_ANOTHER_CONSTANT.search(rest)) or next(asked_otherwise(plain), None) is not None


def usual_of(label: str) -> str:
    """Return the text to write under a label that may describe every run; empty for other labels."""
    return _BY_LABEL[label].usual if label in _BY_LABEL else ""


def instead_of(label: str) -> str:
    """Return the supported setting that may replace a label; empty without one."""
    return _BY_LABEL[label].instead if label in _BY_LABEL else ""


def beside_optimizer(label: str, text: str) -> dict[str, str]:
    """Return the settings next to an optimizer, by their names in documents: `AdamW (weight decay 0.1)`."""
    if label not in _BY_LABEL or _BY_LABEL[label].so is not _ADAMW_WORDS:
        return {}
    found = _ADAMW_SETTING.finditer(_USUAL_CONSTANT.sub("", text))
    return {"weight decay" if match["label"][0] in "wdWD" else "lr": match["value"] for match in found}
