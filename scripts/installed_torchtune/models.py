"""Models: what a config must hold for each, read from its stock configs or those of its sibling."""

from pathlib import PurePosixPath
from typing import Any

from installed_torchtune.components import component
from installed_torchtune.sizes import sizes
from installed_torchtune.stock import MODELS, Model, stock_config
from installed_torchtune.values import values_of_model


def builders(stock: Model, suffix: tuple[str, str] | None) -> tuple[str, str]:
    """Return the dotpaths of the model's builders for LoRA and for full training; each exists."""
    lora: str = stock_config(stock.lora)["model"]["_component_"]
    full: str = stock_config(stock.full)["model"]["_component_"] if stock.full else lora.replace("lora_", "")
    if suffix:
        old, new = suffix
        lora, full = lora.removesuffix(old) + new, full.removesuffix(old) + new
    for builder in (lora, full):
        component(builder)
    return lora, full


def tokenizer_files(config: dict[str, Any], folder: str) -> dict[str, str]:
    """Return the arguments of a config's tokenizer that are files of the checkpoint, as paths below its folder."""
    return {
        key: value.removeprefix(folder + "/")
        for key, value in config["tokenizer"].items()
        if isinstance(value, str) and value.startswith(folder + "/")
    }


def facts_of(name: str, model: Model) -> dict[str, Any]:
    """Return the required values of a config for a model; exit if the stock config is for a different model."""
    stands_for = model.sibling or name
    stock = MODELS[stands_for]
    config = stock_config(stock.lora)
    folder = config["checkpointer"]["checkpoint_dir"].rstrip("/")
    if PurePosixPath(folder).name.removeprefix("Meta-") != stands_for:
        raise SystemExit(f"{stock.lora} is for {folder}, not for {stands_for}")
    lora, full = builders(stock, model.builder_suffix)
    return {
        "lora_builder": lora,
        "full_builder": full,
        "tokenizer": config["tokenizer"]["_component_"],
        "tokenizer_files": tokenizer_files(config, folder),
        "model_type": config["checkpointer"]["model_type"],
        "stock_config": stock.lora if model.sibling is None else None,
        "sibling": model.sibling,
        "stock": values_of_model(stock.lora),
        **sizes(lora, full),
    }


def all_models() -> dict[str, Any]:
    """Return the facts of every model, by its name."""
    return {name: facts_of(name, model) for name, model in MODELS.items()}
