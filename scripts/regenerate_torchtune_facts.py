"""Write server/scaffold_torchtune/torchtune_facts/facts.json from the installed torchtune.

Run it with a Python that has torch 2.13.0, torchtune 0.6.1 and torchao 0.14.1:

    python scripts/regenerate_torchtune_facts.py            writes the file
    python scripts/regenerate_torchtune_facts.py --check    compares, prints a diff and exits 1 where they differ

Everything is read from the package itself: its recipe registry, the stock configs, the source of the recipes, the
signatures of the components. What torchtune does not say (a sibling model without a stock config, other spellings of a
name) stands in the small tables at the top.
"""

import argparse
import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

FACTS = Path(__file__).resolve().parent.parent / "server" / "scaffold_torchtune" / "torchtune_facts" / "facts.json"

RECIPES = (
    "lora_finetune_single_device",
    "lora_finetune_distributed",
    "full_finetune_single_device",
    "full_finetune_distributed",
)
FAMILIES = ("llama3_1", "llama3_2", "llama3_3", "qwen2_5", "mistral", "gemma2", "phi3", "phi4")
EXTRA_COMPONENTS = (
    "torch.optim.Adam",
    "torch.optim.AdamW",
    "torch.optim.SGD",
    "torchtune.datasets.chat_dataset",
    "torchtune.datasets.instruct_dataset",
    "torchtune.datasets.text_completion_dataset",
    "torchtune.training.FullModelHFCheckpointer",
)
COMPONENT_MODULES = ("torchtune.training.lr_schedulers", "torchtune.training.metric_logging")
# Arguments of datasets.load_dataset, and of its JSON and parquet builders, that a data set node may pass on. A list of
# our own, each asserted to exist, so that a newer release of datasets does not change the facts.
LOADER_ARGUMENTS = ("cache_dir", "data_dir", "data_files", "features", "name", "num_proc", "revision", "split")
JSON_ARGUMENTS = ("encoding", "field")
PARQUET_ARGUMENTS = ("columns", "filters")


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


def package_folder(name: str) -> Path:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed here")
    return Path(spec.origin).parent


def component(dotpath: str) -> Callable[..., Any]:
    """The object that a `_component_` names."""
    module, _, name = dotpath.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def signature(dotpath: str) -> dict[str, Any]:
    """The arguments of a component, those without a default, and whether it takes any others."""
    parameters = inspect.signature(component(dotpath)).parameters.values()
    named = [p for p in parameters if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    return {
        "arguments": [p.name for p in named],
        "required": [p.name for p in named if p.default is p.empty],
        "open": any(p.kind is p.VAR_KEYWORD for p in parameters),
    }


# ---- stock configs


def stock_config(name: str) -> dict[str, Any]:
    """A stock config as plain data, its interpolations left as they stand."""
    from omegaconf import OmegaConf

    path = package_folder("recipes") / "configs" / f"{name}.yaml"
    data = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(data, dict):
        raise SystemExit(f"{path} is not a mapping")
    return typing.cast("dict[str, Any]", data)


def registry() -> dict[str, Any]:
    """The recipes of torchtune by name."""
    from torchtune import _recipe_registry

    return {recipe.name: recipe for recipe in _recipe_registry.get_all_recipes()}


def covered_configs() -> Iterator[str]:
    """The stock configs of the recipes and families covered."""
    for name in RECIPES:
        for config in registry()[name].configs:
            if config.name.partition("/")[0] in FAMILIES:
                yield config.name


def components_in(node: Any) -> Iterator[str]:
    """Every `_component_` in plain data."""
    if isinstance(node, dict):
        if isinstance(node.get("_component_"), str):
            yield node["_component_"]
        for value in node.values():
            yield from components_in(value)


def all_components() -> dict[str, Any]:
    """Every component that the covered models can be trained with, by its dotpath."""
    names = set(EXTRA_COMPONENTS)
    for config in covered_configs():
        names.update(components_in(stock_config(config)))
    for family in FAMILIES:
        module = importlib.import_module(f"torchtune.models.{family}")
        builders = [n for n, o in vars(module).items() if getattr(o, "__module__", "").endswith("._model_builders")]
        names.update(f"torchtune.models.{family}.{builder}" for builder in builders)
    for path in COMPONENT_MODULES:
        module = importlib.import_module(path)
        own = [n for n, o in vars(module).items() if getattr(o, "__module__", "") == path and not n.startswith("_")]
        names.update(f"{path}.{n}" for n in own if n.startswith("get_cosine") or n.endswith("Logger"))
    return {name: signature(name) for name in sorted(names) if not name.startswith("bitsandbytes.")}


# ---- what recipes read


class _Uses(ast.NodeVisitor):
    """Collects what a piece of source reads of one configuration, and to whom it hands it whole."""

    def __init__(self, names: set[str], module: ModuleType) -> None:
        self.names = names
        self.module = module
        self.attributes: set[str] = set()
        self.optional: set[str] = set()
        self.calls: list[tuple[Any, int | str]] = []

    def _is_config(self, node: ast.expr) -> bool:
        return (isinstance(node, ast.Name) and node.id in self.names) or (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr == "_cfg"
        )

    def _resolve(self, node: ast.expr) -> Any:
        """The object behind a dotted name, or behind a constant; None where it is not known."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return getattr(self.module, node.id, None)
        return getattr(self._resolve(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self._is_config(node.value) and node.attr != "get":
            self.attributes.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "get" and self._is_config(function.value):
            self.optional.add(str(self._resolve(node.args[0])))
        handed: list[tuple[int | str, ast.expr]] = list(enumerate(node.args))
        handed += [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
        self.calls += [(self._resolve(function), where) for where, value in handed if self._is_config(value)]
        self.generic_visit(node)


def recipe_module(name: str) -> ModuleType:
    """A recipe's file as a module; torchtune forbids to import them as a package."""
    path = package_folder("recipes") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"stock_recipe_{name}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def uses(thing: Any, names: set[str], seen: set[Any]) -> tuple[set[str], set[str]]:
    """The keys that a module, class or function reads of the configuration: as attributes, and through `get`."""
    if thing in seen:
        return set(), set()
    seen.add(thing)
    module = thing if inspect.ismodule(thing) else inspect.getmodule(thing)
    if module is None or not module.__name__.startswith(("stock_recipe_", "torchtune.")):
        return set(), set()
    visitor = _Uses(names, module)
    visitor.visit(ast.parse(textwrap.dedent(inspect.getsource(thing))))
    attributes, optional = visitor.attributes, visitor.optional
    for called, where in visitor.calls:
        if inspect.isfunction(called) or inspect.isclass(called):
            parameters = list(inspect.signature(called).parameters)
            name = parameters[where] if isinstance(where, int) else where
            more = uses(called, {name}, seen)
            attributes, optional = attributes | more[0], optional | more[1]
    return attributes, optional


def recipe(name: str) -> dict[str, Any]:
    """What a recipe reads; required is what it reads without a default and every stock config of it has."""
    attributes, optional = uses(recipe_module(name), {"cfg"}, set())
    entry = registry()[name]
    stock = [set(stock_config(config.name)) for config in entry.configs]
    return {
        "distributed": entry.supports_distributed,
        "reads": sorted(attributes | optional),
        "required": sorted(attributes.intersection(*stock)),
    }


# ---- models


def model(entry: Model) -> dict[str, Any]:
    """One model of the registry, from its stock config or its sibling's."""
    config = stock_config(entry.lora_config)
    folder = config["checkpointer"]["checkpoint_dir"].rstrip("/")
    stands_for = entry.sibling or entry.name
    if PurePosixPath(folder).name.removeprefix("Meta-") != stands_for:
        raise SystemExit(f"{entry.lora_config} is for {folder}, not for {stands_for}")
    lora = config["model"]["_component_"]
    full = stock_config(entry.full_config)["model"]["_component_"] if entry.full_config else lora.replace("lora_", "")
    if entry.builder_suffix:
        lora, full = (
            builder.removesuffix(entry.builder_suffix[0]) + entry.builder_suffix[1] for builder in (lora, full)
        )
    for builder in (lora, full):
        component(builder)
    files = {
        key: value.removeprefix(folder + "/")
        for key, value in config["tokenizer"].items()
        if isinstance(value, str) and value.startswith(folder + "/")
    }
    return {
        "aliases": list(entry.aliases),
        "lora_builder": lora,
        "full_builder": full,
        "tokenizer": config["tokenizer"]["_component_"],
        "tokenizer_files": files,
        "model_type": config["checkpointer"]["model_type"],
        "stock_config": entry.lora_config if entry.sibling is None else None,
        "sibling": entry.sibling,
    }


def loader_arguments() -> dict[str, list[str]]:
    """What a data set node may pass on to datasets.load_dataset, for each source."""
    import datasets
    from datasets.packaged_modules.json.json import JsonConfig
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    known = set(inspect.signature(datasets.load_dataset).parameters)
    for names, config in ((JSON_ARGUMENTS, JsonConfig), (PARQUET_ARGUMENTS, ParquetConfig)):
        missing = set(names) - set(inspect.signature(config).parameters) | set(LOADER_ARGUMENTS) - known
        if missing:
            raise SystemExit(f"datasets {datasets.__version__} does not take {sorted(missing)}")
    return {
        "json": sorted(LOADER_ARGUMENTS + JSON_ARGUMENTS),
        "parquet": sorted(LOADER_ARGUMENTS + PARQUET_ARGUMENTS),
    }


def collect() -> dict[str, Any]:
    """All facts as plain data."""
    from torchtune.modules import peft
    from torchtune.training.checkpointing._utils import ModelType

    return {
        "torchtune": importlib.metadata.version("torchtune"),
        "recipes": {name: recipe(name) for name in RECIPES},
        "models": {entry.name: model(entry) for entry in MODELS},
        "model_types": [member.name for member in ModelType],
        "lora_attn_modules": list(typing.get_args(peft.LORA_ATTN_MODULES)),
        "loader_arguments": loader_arguments(),
        "components": all_components(),
    }


def main() -> int:
    """Write the facts, or compare them with what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 with a diff where they differ")
    arguments = parser.parse_args()
    text = json.dumps(collect(), indent=1) + "\n"
    if not arguments.check:
        FACTS.write_text(text, encoding="utf-8")
        print(f"wrote {FACTS.name}")
        return 0
    before = FACTS.read_text(encoding="utf-8") if FACTS.exists() else ""
    diff = list(difflib.unified_diff(before.splitlines(), text.splitlines(), "facts.json", "installed", lineterm=""))
    print("\n".join(diff) if diff else "facts.json is current")
    return 1 if diff else 0


if __name__ == "__main__":
    sys.exit(main())
