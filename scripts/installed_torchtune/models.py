"""Models: what a config must hold for each, read from its stock configs or those of its sibling."""

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from installed_torchtune.components import component
from installed_torchtune.stock import stock_config


class Model(NamedTuple):
    """Where a model's facts come from: the stock LoRA and full configs, and the sibling whose configs stand in."""

    name: str
    lora_config: str
    full_config: str | None
    sibling: str | None = None  # the model that the configs are for, where it is another
    builder_suffix: tuple[str, str] | None = None  # how the builders differ from the sibling's
    aliases: tuple[str, ...] = ()


_BASE_BUILDERS = ("_instruct", "_base")
MODELS = (
    Model("Llama-3.2-1B", "llama3_2/1B_lora_single_device", "llama3_2/1B_full_single_device", "Llama-3.2-1B-Instruct"),
    Model("Llama-3.2-1B-Instruct", "llama3_2/1B_lora_single_device", "llama3_2/1B_full_single_device"),
    Model("Llama-3.2-3B", "llama3_2/3B_lora_single_device", "llama3_2/3B_full_single_device", "Llama-3.2-3B-Instruct"),
    Model("Llama-3.2-3B-Instruct", "llama3_2/3B_lora_single_device", "llama3_2/3B_full_single_device"),
    Model(
        "Llama-3.1-8B",
        "llama3_1/8B_lora_single_device",
        "llama3_1/8B_full_single_device",
        "Llama-3.1-8B-Instruct",
        aliases=("Meta-Llama-3.1-8B",),
    ),
    Model(
        "Llama-3.1-8B-Instruct",
        "llama3_1/8B_lora_single_device",
        "llama3_1/8B_full_single_device",
        aliases=("Meta-Llama-3.1-8B-Instruct",),
    ),
    Model("Llama-3.3-70B-Instruct", "llama3_3/70B_lora", "llama3_3/70B_full", aliases=("Llama-3.3-70B",)),
    Model(
        "Qwen2.5-0.5B", "qwen2_5/0.5B_lora_single_device", "qwen2_5/0.5B_full_single_device", "Qwen2.5-0.5B-Instruct"
    ),
    Model("Qwen2.5-0.5B-Instruct", "qwen2_5/0.5B_lora_single_device", "qwen2_5/0.5B_full_single_device"),
    Model(
        "Qwen2.5-1.5B",
        "qwen2_5/1.5B_lora_single_device",
        "qwen2_5/1.5B_full_single_device",
        "Qwen2.5-1.5B-Instruct",
        _BASE_BUILDERS,
    ),
    Model("Qwen2.5-1.5B-Instruct", "qwen2_5/1.5B_lora_single_device", "qwen2_5/1.5B_full_single_device"),
    Model("Qwen2.5-3B", "qwen2_5/3B_lora_single_device", "qwen2_5/3B_full_single_device", "Qwen2.5-3B-Instruct"),
    Model("Qwen2.5-3B-Instruct", "qwen2_5/3B_lora_single_device", "qwen2_5/3B_full_single_device"),
    Model(
        "Qwen2.5-7B",
        "qwen2_5/7B_lora_single_device",
        "qwen2_5/7B_full_single_device",
        "Qwen2.5-7B-Instruct",
        _BASE_BUILDERS,
    ),
    Model("Qwen2.5-7B-Instruct", "qwen2_5/7B_lora_single_device", "qwen2_5/7B_full_single_device"),
    Model("Qwen2.5-14B", "qwen2_5/14B_lora_single_device", None, "Qwen2.5-14B-Instruct", _BASE_BUILDERS),
    Model("Qwen2.5-14B-Instruct", "qwen2_5/14B_lora_single_device", None),
    Model("Mistral-7B-v0.1", "mistral/7B_lora_single_device", "mistral/7B_full_low_memory", aliases=("Mistral-7B",)),
    Model(
        "Mistral-7B-Instruct-v0.1",
        "mistral/7B_lora_single_device",
        "mistral/7B_full_low_memory",
        "Mistral-7B-v0.1",
        aliases=("Mistral-7B-Instruct",),
    ),
    Model("gemma-2-2b", "gemma2/2B_lora_single_device", "gemma2/2B_full", aliases=("Gemma2-2B",)),
    Model("gemma-2-2b-it", "gemma2/2B_lora_single_device", "gemma2/2B_full", "gemma-2-2b"),
    Model("gemma-2-9b", "gemma2/9B_lora_single_device", "gemma2/9B_full", aliases=("Gemma2-9B",)),
    Model("gemma-2-9b-it", "gemma2/9B_lora_single_device", "gemma2/9B_full", "gemma-2-9b"),
    Model(
        "Phi-3-mini-4k-instruct",
        "phi3/mini_lora_single_device",
        "phi3/mini_full_low_memory",
        aliases=("Phi-3-mini", "Phi-3-mini-instruct"),
    ),
    Model("phi-4", "phi4/14B_lora_single_device", "phi4/14B_full_low_memory"),
)


def builders(entry: Model) -> tuple[str, str]:
    """The dotpaths of what builds the model for LoRA and for full training, each known to exist."""
    lora: str = stock_config(entry.lora_config)["model"]["_component_"]
    full: str = lora.replace("lora_", "")
    if entry.full_config:
        full = stock_config(entry.full_config)["model"]["_component_"]
    if entry.builder_suffix:
        old, new = entry.builder_suffix
        lora, full = lora.removesuffix(old) + new, full.removesuffix(old) + new
    for builder in (lora, full):
        component(builder)
    return lora, full


def tokenizer_files(config: dict[str, Any], folder: str) -> dict[str, str]:
    """The arguments of a config's tokenizer that are files of the checkpoint, as paths below its folder."""
    return {
        key: value.removeprefix(folder + "/")
        for key, value in config["tokenizer"].items()
        if isinstance(value, str) and value.startswith(folder + "/")
    }


def model(entry: Model) -> dict[str, Any]:
    """What a config must hold for a model; exits where the stock config turns out to be for another model."""
    stands_for = entry.sibling or entry.name
    config = stock_config(entry.lora_config)
    folder = config["checkpointer"]["checkpoint_dir"].rstrip("/")
    if PurePosixPath(folder).name.removeprefix("Meta-") != stands_for:
        raise SystemExit(f"{entry.lora_config} is for {folder}, not for {stands_for}")
    lora, full = builders(entry)
    return {
        "aliases": list(entry.aliases),
        "lora_builder": lora,
        "full_builder": full,
        "tokenizer": config["tokenizer"]["_component_"],
        "tokenizer_files": tokenizer_files(config, folder),
        "model_type": config["checkpointer"]["model_type"],
        "stock_config": entry.lora_config if entry.sibling is None else None,
        "sibling": entry.sibling,
    }


def all_models() -> dict[str, Any]:
    """The facts of every model, by its name."""
    return {entry.name: model(entry) for entry in MODELS}
