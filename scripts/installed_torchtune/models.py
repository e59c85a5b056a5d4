"""Models: what a config must hold for each, read from its stock configs or those of its sibling."""

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from installed_torchtune.components import component
from installed_torchtune.sizes import sizes
from installed_torchtune.stock import stock_config


class Stock(NamedTuple):
    """The stock configs for a model; there may be none that trains all of it."""

    lora: str
    full: str | None


class Model(NamedTuple):
    """A model of the facts. Without stock configs of its own, it names the sibling whose configs stand in."""

    name: str
    sibling: str | None = None
    builder_suffix: tuple[str, str] | None = None  # how the builders differ from the sibling's
    aliases: tuple[str, ...] = ()


def _single_device(prefix: str) -> Stock:
    """The configs of a model that has both for a single device."""
    return Stock(f"{prefix}_lora_single_device", f"{prefix}_full_single_device")


STOCK = {
    "Llama-3.2-1B-Instruct": _single_device("llama3_2/1B"),
    "Llama-3.2-3B-Instruct": _single_device("llama3_2/3B"),
    "Llama-3.1-8B-Instruct": _single_device("llama3_1/8B"),
    "Llama-3.3-70B-Instruct": Stock("llama3_3/70B_lora", "llama3_3/70B_full"),
    "Qwen2.5-0.5B-Instruct": _single_device("qwen2_5/0.5B"),
    "Qwen2.5-1.5B-Instruct": _single_device("qwen2_5/1.5B"),
    "Qwen2.5-3B-Instruct": _single_device("qwen2_5/3B"),
    "Qwen2.5-7B-Instruct": _single_device("qwen2_5/7B"),
    "Qwen2.5-14B-Instruct": Stock("qwen2_5/14B_lora_single_device", None),
    "Mistral-7B-v0.1": Stock("mistral/7B_lora_single_device", "mistral/7B_full_low_memory"),
    "gemma-2-2b": Stock("gemma2/2B_lora_single_device", "gemma2/2B_full"),
    "gemma-2-9b": Stock("gemma2/9B_lora_single_device", "gemma2/9B_full"),
    "Phi-3-mini-4k-instruct": Stock("phi3/mini_lora_single_device", "phi3/mini_full_low_memory"),
    "phi-4": Stock("phi4/14B_lora_single_device", "phi4/14B_full_low_memory"),
}
_BASE_BUILDERS = ("_instruct", "_base")
MODELS = (
    Model("Llama-3.2-1B", "Llama-3.2-1B-Instruct"),
    Model("Llama-3.2-1B-Instruct"),
    Model("Llama-3.2-3B", "Llama-3.2-3B-Instruct"),
    Model("Llama-3.2-3B-Instruct"),
    Model("Llama-3.1-8B", "Llama-3.1-8B-Instruct", aliases=("Meta-Llama-3.1-8B",)),
    Model("Llama-3.1-8B-Instruct", aliases=("Meta-Llama-3.1-8B-Instruct",)),
    Model("Llama-3.3-70B-Instruct", aliases=("Llama-3.3-70B",)),
    Model("Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct"),
    Model("Qwen2.5-0.5B-Instruct"),
    Model("Qwen2.5-1.5B", "Qwen2.5-1.5B-Instruct", _BASE_BUILDERS),
    Model("Qwen2.5-1.5B-Instruct"),
    Model("Qwen2.5-3B", "Qwen2.5-3B-Instruct"),
    Model("Qwen2.5-3B-Instruct"),
    Model("Qwen2.5-7B", "Qwen2.5-7B-Instruct", _BASE_BUILDERS),
    Model("Qwen2.5-7B-Instruct"),
    Model("Qwen2.5-14B", "Qwen2.5-14B-Instruct", _BASE_BUILDERS),
    Model("Qwen2.5-14B-Instruct"),
    Model("Mistral-7B-v0.1", aliases=("Mistral-7B",)),
    Model("Mistral-7B-Instruct-v0.1", "Mistral-7B-v0.1", aliases=("Mistral-7B-Instruct",)),
    Model("gemma-2-2b", aliases=("Gemma2-2B",)),
    Model("gemma-2-2b-it", "gemma-2-2b"),
    Model("gemma-2-9b", aliases=("Gemma2-9B",)),
    Model("gemma-2-9b-it", "gemma-2-9b"),
    Model("Phi-3-mini-4k-instruct", aliases=("Phi-3-mini", "Phi-3-mini-instruct")),
    Model("phi-4"),
)


def builders(entry: Model, stock: Stock) -> tuple[str, str]:
    """The dotpaths of what builds the model for LoRA and for full training, each known to exist."""
    lora: str = stock_config(stock.lora)["model"]["_component_"]
    full: str = stock_config(stock.full)["model"]["_component_"] if stock.full else lora.replace("lora_", "")
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
    stock = STOCK[stands_for]
    config = stock_config(stock.lora)
    folder = config["checkpointer"]["checkpoint_dir"].rstrip("/")
    if PurePosixPath(folder).name.removeprefix("Meta-") != stands_for:
        raise SystemExit(f"{stock.lora} is for {folder}, not for {stands_for}")
    lora, full = builders(entry, stock)
    return {
        "aliases": list(entry.aliases),
        "lora_builder": lora,
        "full_builder": full,
        "tokenizer": config["tokenizer"]["_component_"],
        "tokenizer_files": tokenizer_files(config, folder),
        "model_type": config["checkpointer"]["model_type"],
        "stock_config": stock.lora if entry.sibling is None else None,
        "sibling": entry.sibling,
        **sizes(lora, full),
    }


def all_models() -> dict[str, Any]:
    """The facts of every model, by its name."""
    return {entry.name: model(entry) for entry in MODELS}
