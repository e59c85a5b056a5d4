"""What people ask of a training that no scaffold can honour, by the label or the words in which they ask for it.

Such a line is refused wherever it stands: the runs would be other runs than the document describes.
"""

import re
from collections.abc import Mapping
from typing import Final

_STEPS_FOLLOW: Final = "the steps follow from the data, the batch size and the epochs"
_IN_BF16: Final = "models are trained in bf16, not quantized"
_PLAIN_LORA: Final = "LoRA is set up plain, without variants of it"
_ADAMW: Final = "the optimizer is AdamW with torch's own constants"
_SUPERVISED: Final = "what is scaffolded is supervised fine-tuning"
_BY_DIRECTORY: Final = (
    "a run is called as its directory, which follows from what varies (or from Run Name, with --names table)"
)
_NO_CONFIG: Final = "nothing is taken from a config; write the values that you want from it as settings"
_OF_WANDB: Final = "of Weights & Biases, what is planned is project, entity, group, tags and mode"
_ONE_PROCESS: Final = "a run has one process for each GPU of its node"
_ALL_LAYERS: Final = "every layer is trained alike"
_THE_SCHEDULE: Final = "the schedule is torchtune's cosine, from the warm-up down to zero in half a period"


def _by_label(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return reasons by label, from labels that stand apart by commas."""
    return {label: why for labels, why in reasons.items() for label in labels.split(", ")}


NOT_PLANNED: Final = _by_label(
    {
        "base config, torchtune config, recipe config, stock config": _NO_CONFIG,
        "max steps": "max_steps_per_epoch limits the steps of each epoch, nothing those of all",
        "total steps, training steps, max train steps": _STEPS_FOLLOW,
        "quantization, quantisation, quantize, quantized, quantize base, base quantization, qlora, use qlora, "
        "load in 4bit, load in 8bit, load in 4 bit, load in 8 bit, bits, 4 bit, 8 bit, 4bit, 8bit, nf4, quant "
        "type, bnb 4bit quant type, bnb 4bit compute dtype, bnb 4bit use double quant, double quantization, "
        "quantization bits, bitsandbytes, quantization config, qat, fp8, fp16, fp32, float16, float32": _IN_BF16,
        "dora, use dora, rslora, use rslora, rs lora, loftq, pissa, adalora, lora plus, lora plus lr ratio, "
        "loraplus lr ratio, lora bias, init lora weights, modules to save, lora variant, rank pattern, alpha "
        "pattern, lora init, lora initialization": _PLAIN_LORA,
        "layers to transform, trainable layers, frozen layers, freeze layers, layers to train, freeze, "
        "unfrozen layers, layers to freeze, freeze embeddings, train embeddings": _ALL_LAYERS,
        "momentum, adam betas, betas, beta1, beta2, adam beta1, adam beta2, adam epsilon, epsilon, eps, "
        "amsgrad": _ADAMW,
        "min lr, min learning rate, minimum learning rate, final lr, final learning rate, end lr, lr end, num "
        "cycles, lr cycles, min lr ratio": _THE_SCHEDULE,
        "dpo, dpo beta, reference model, ref model, reward model, teacher model, teacher, rlhf, grpo, ppo, "
        "orpo, kto, kl coefficient, distillation, preference data, preference optimization": _SUPERVISED,
        "label smoothing, label smoothing factor": "the loss is cross-entropy without smoothing",
        "neftune, neftune alpha, neftune noise alpha": "no noise is added to embeddings",
        "early stopping, early stopping patience, patience": "torchtune's recipes train all epochs",
        "deepspeed, deepspeed config, zero stage": "torchtune's recipes shard with FSDP",
        "venv, virtual environment": "jobs activate a conda environment",
        "my wandb run name, wandb run name, w b run name, weights biases run name, wandb name, w b name": _BY_DIRECTORY,
        "wandb sweep, w b sweep, wandb sweep id, wandb host, wandb base url, wandb api key, w b api key, "
        "wandb run id, wandb id, wandb resume, w b host, wandb log model, wandb watch": _OF_WANDB,
        "tasks per node, ntasks per node, processes per node, nproc per node": _ONE_PROCESS,
    }
)
"""Labels of what no scaffold can honour, in lower case, words apart by spaces, and why."""

_TECHNIQUES: Final = re.compile(
    r"(?<![\w-])(?:"
    r"q-?lora|dora|rs-?lora|ada-?lora|loft-?q|pissa|olora|lora\+|lora-fa|galore|re-?lora|\(?ia\)?3|(?:lo)?reft|bitfit"
    r"|dpo|orpo|kto|simpo|ppo|grpo|rloo|rlhf|rlaif|reinforcement[ -]learning|reward[ -]model\w*"
    r"|preference[ -](?:optimi[sz]ation|tuning|learning)"
    r"|qat|quanti[sz]\w*|ptq|gptq|awq|nf4|fp[48]|int[48]|[2-8][ -]?bits?|bitsandbytes|bnb"
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
    | {"not used", "unused", "never", "null", "bf16", "bfloat16", "16", "16-bit", "16 bit", "16bit"}
)


def other_training(text: str) -> str | None:
    """Return the first technique that a text names and that no scaffold has; None where it names none, or only denies.

    `4-bit`, `QLoRA` and `DPO after SFT` name one; `no quantization or DoRA` does not.
    """
    denied, end = False, 0
    for match in _TECHNIQUES.finditer(text):
        also = denied and bool(_TOO.fullmatch(text, end, match.start()))
        denied = also or bool(_NEGATED.search(text, max(0, match.start() - 40), match.start()))
        end = match.end()
        if not denied and not _SWITCHED_OFF.match(text, end):
            return match[0]
    return None


def asks_for_nothing(text: str) -> bool:
    """Return whether a text says of something that there is none of it: `no`, `false`, `none (bf16)`, `default`."""
    text = text.strip()
    text = text.rpartition("(")[0] if text.endswith(")") else text
    plain = text.strip().strip("`\"'.").lower()
    return plain in _NOTHING
