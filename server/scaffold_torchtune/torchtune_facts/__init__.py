"""Facts about torchtune 0.6.1: its recipes, the recipe for a number of GPUs, and the known base models.

The recipes are the supported ones of torchtune/_recipe_registry.py, with their usual names. A document names a recipe,
or only the method (`LoRA`, `full fine-tuning`): the recipe then follows from the number of GPUs. The base models are
those that the bundled setup_finetune knows, read from models.yaml next to this file.

facts.py  facts extracted from torchtune: recipes, models, checkpoints, components and their arguments (generated files)
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from scaffold_torchtune.findings import one_of
from scaffold_torchtune.system.serialization import read_yaml

LORA: Final = "lora"
FULL: Final = "full"
RECIPES: Final = {
    LORA: ("lora_finetune_single_device", "lora_finetune_distributed"),
    FULL: ("full_finetune_single_device", "full_finetune_distributed"),
}
"""The recipes of each method: the one for a single GPU, and the one for several."""

RECIPE_NAMES: Final = tuple(name for names in RECIPES.values() for name in names)
"""Every supported recipe."""

OF_LORA: Final = (
    "lora_rank", "lora_alpha", "lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout",
    "save_adapter_weights_only", "stash_adapter_weights",
)  # fmt: skip
"""Settings of the adapter, which do not exist in full fine-tuning."""

_TUNING: Final = r"(?:[ _-]?(?:fine[ _-]?tun(?:e|ed|ing)|training|sft|ft))?"
_METHODS_IN_WORDS: Final = {
    LORA: re.compile(rf"(?:peft[ /:-]+)?lora{_TUNING}", re.IGNORECASE),
    FULL: re.compile(rf"full(?:[ _-](?:parameters?|weights?|model|rank))?{_TUNING}", re.IGNORECASE),
}


def method_in_words(text: str) -> str | None:
    """Return the method that a text names in words (`Full fine-tuning`), or None."""
    return next((method for method, words in _METHODS_IN_WORDS.items() if words.fullmatch(text)), None)


def method_of(recipe: str) -> str | None:
    """Return the method of a recipe, or the method itself; None if not supported."""
    return next((method for method, names in RECIPES.items() if recipe in {method, *names}), None)


def recipe_for_gpus(recipe: str, gpus: int) -> str:
    """Return the recipe of a method on that many GPUs; the name of a recipe is unchanged."""
    return RECIPES[recipe][gpus > 1] if recipe in RECIPES else recipe


def recipes_agree(one: str, other: str) -> bool:
    """Return whether one of the two is the same as the other, or a less exact form of it."""
    return one == other or (method_of(one) == method_of(other) and (one in RECIPES or other in RECIPES))


_GIB: Final = 1024**3
_NUMBERS: Final = {1: "one copy", 2: "two copies", 4: "four copies"}
_WORDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:[bk](?![a-z]))?|[a-z]+")
_APART: Final = re.compile(r"[\s._()-]*")
_COPIES: Final = "unsloth"  # organisations that publish copies of all models
_LISTED: Final = 4  # up to this many checkpoint files are listed individually, as in the stock configs


@dataclass(frozen=True)
class ModelEntry:
    """A base model with torchtune 0.6.1's settings.

    `publisher` is its organisation on Hugging Face, `files` its number of checkpoint files there, `bytes` the bytes of
    a parameter in them, `billions` its number of parameters in billions, `source` the stock config of the entry.
    `prompt` describes how the tokenizer treats the text of a prompt template, `system` how it treats a system message;
    `untrained_headers`: the special tokens around messages were never trained, see models.yaml.
    `tied`: its output layer is its embeddings, and does not support LoRA. `full_checkpointing` is the activation
    checkpointing of full fine-tuning, if different; `full_offload`: its weights and optimizer stay in the memory of the
    node.
    """

    name: str
    aliases: tuple[str, ...]
    component: str
    model_type: str
    publisher: str
    tokenizer: str
    tokenizer_files: tuple[tuple[str, str], ...]
    prompt: Literal["kept", "stripped", "own"]
    files: int
    billions: float
    bytes: int
    activation_checkpointing: bool
    source: str
    tied: bool = False
    full_checkpointing: bool | None = None
    full_offload: bool = False
    system: Literal["kept", "raises", "glued"] = "kept"
    untrained_headers: bool = False

    @property
    def full_component(self) -> str:
        """Return the builder for full fine-tuning, which has the same name as the LoRA builder without its prefix."""
        return self.component.replace(".lora_", ".")

    def checkpointing(self, *, full: bool) -> bool:
        """Return whether activations are recomputed in the backward pass instead of kept."""
        own = self.full_checkpointing if full else None
        return self.activation_checkpointing if own is None else own

    @property
    def file_names(self) -> list[str]:
        """Return the names of its checkpoint files on Hugging Face."""
        if self.files == 1:
            return ["model.safetensors"]
        return [f"model-{i:05}-of-{self.files:05}.safetensors" for i in range(1, self.files + 1)]

    @property
    def checkpoint_files(self) -> list[str] | dict[str, str]:
        """Return the value of `checkpointer.checkpoint_files`: names, or many files' format and last number."""
        if self.files <= _LISTED:
            return self.file_names
        return {"filename_format": "model-{}-of-{}.safetensors", "max_filename": f"{self.files:05}"}


@dataclass(frozen=True)
class Resources:
    """The node resources of a job: `mem` in the format of `--mem`, `cpus` per task, and the basis of each.

    `least` is the memory in GiB without which the weights cannot be saved.
    """

    mem: str
    cpus: int
    mem_source: str
    cpus_source: str
    least: float


def _copies(entry: ModelEntry, gpus: int, epochs: int) -> dict[str, int]:
    """Return the number of bf16 copies of the weights in the node's memory for full fine-tuning, with their purpose.

    Gradients and the two states of AdamW are as large as the weights and stay on the GPUs, unless FSDP offloads them to
    the CPU (fsdp_cpu_offload). full_finetune_single_device saves from the GPU, so the written file is the only copy.
    In full_finetune_distributed, rank 0 also gathers the weights on the CPU and, except in the last epoch, both states
    of the optimizer (training/checkpointing/_checkpoint_client.py, _save_checkpoint_sync).
    """
    copies = {"for saving": 1}
    if gpus > 1:
        copies = {"for saving": 2} | ({"for the optimizer's states, saved between epochs": 2} if epochs > 1 else {})
    if gpus > 1 and entry.full_offload:
        copies["for weights, gradients and optimizer, kept off the GPUs"] = 4
    return copies


@cache
def _entries() -> dict[str, ModelEntry]:
    """Every model by its name, in the order of the file."""
    path = Path(__file__).with_name("models.yaml")
    data: dict[str, Any] = read_yaml(path.read_text(encoding="utf-8")).data
    return {name: _entry(name, fields, data["families"][fields["family"]]) for name, fields in data["models"].items()}


def _entry(name: str, fields: dict[str, Any], family: dict[str, Any]) -> ModelEntry:
    values = family | {key: value for key, value in fields.items() if key != "family"}
    values |= {"aliases": tuple(fields["aliases"]), "tokenizer_files": tuple(family["tokenizer_files"].items())}
    return ModelEntry(name=name, **values)


@cache
def _by_label() -> dict[str, ModelEntry]:
    return {label.casefold(): entry for entry in _entries().values() for label in (entry.name, *entry.aliases)}


def known_models() -> tuple[str, ...]:
    """Return the names of all models, without their aliases."""
    return tuple(_entries())


def supported_models() -> str:
    """Return the choice of a supported model in prose: `one of A, B or C`."""
    return one_of(known_models(), len(known_models()))


def find_model(name: str) -> ModelEntry | None:
    """Return the model with that name or alias, in any case, or None."""
    return _by_label().get(name.casefold())


def _spelling(name: str) -> tuple[str, ...]:
    """Return the words of a name, separated by spaces, hyphens and changes from letters to digits; none of other texts.

    `Llama 3.2 1B Instruct` and `llama3.2_1b (Instruct)` have the same.
    """
    folded = name.casefold()
    return tuple(_WORDS.findall(folded)) if not _APART.sub("", _WORDS.sub("", folded)) else ()


@cache
def _by_spelling() -> dict[tuple[str, ...], ModelEntry]:
    return {_spelling(label): entry for label, entry in reversed(_by_label().items())}


@cache
def _publishers() -> frozenset[str]:
    return frozenset(entry.publisher.casefold() for entry in _entries().values()) | {_COPIES}


def model_by_spelling(name: str) -> ModelEntry | None:
    """Return the model of a name, also with the organisation that publishes it or with other separators, or None.

    `meta-llama/Llama-3.2-1B-Instruct` and `Llama 3.2 1B Instruct` are Llama-3.2-1B-Instruct.
    """
    organisation, slash, rest = name.strip().rpartition("/")
    found = find_model(rest) or _by_spelling().get(_spelling(rest))
    if found is None or (slash and organisation.casefold() not in {found.publisher.casefold(), _COPIES}):
        return None
    return found


def is_published(path: str) -> bool:
    """Return whether a text is the name of a known model on the Hugging Face Hub, with an organisation."""
    organisation, slash, name = path.partition("/")
    return bool(slash) and organisation.casefold() in _publishers() and model_by_spelling(name) is not None


def default_resources(entry: ModelEntry, gpus: int, *, full: bool = False, epochs: int = 1) -> Resources:
    """Return memory and CPUs for a run of the model on `gpus` GPUs of one node, with LoRA or with `full` fine-tuning.

    From the source of torchtune 0.6.1: the checkpoint files are mapped into memory (checkpointing/_utils.py,
    safe_torch_load), and every process of a distributed recipe maps the same pages, so they count once. With LoRA, only
    rank 0 gathers the weights on the CPU, merges the adapter and converts them for saving, which is two more copies in
    bf16; for full fine-tuning see `_copies`. Python, CUDA and the data set add 16 GiB. Each further process adds 8 GiB
    of its own and an eighth of the weights, for the query and key projections that the conversion at loading copies (8
    to 11 % of these models). The data loader works in the training process (num_workers is 0), so a process needs one
    CPU. Pages of mapped files can be evicted, so the least is the copies, and 2 GiB of Python and CUDA for each
    process.
    """
    weights = entry.billions * 1e9 * 2 / _GIB
    mapped = entry.billions * 1e9 * entry.bytes / _GIB
    copies = _copies(entry, gpus, epochs) if full else {"for saving": 2}
    needed = mapped + sum(copies.values()) * weights + 16 + (gpus - 1) * (weights / 8 + 8)
    mem = math.ceil(needed / 8) * 8
    more = f", {weights / 8 + 8:.1f} for each further process" if gpus > 1 else ""
    in_bf16 = ", ".join(f"{_NUMBERS[n]} of {weights:.1f} in bf16 {purpose}" for purpose, n in copies.items())
    mem_source = (
        f"{mapped:.1f} GiB of checkpoint files, {in_bf16}, 16 for the rest{more}, rounded up to a multiple of 8"
    )
    cpus_source = "one for each process, which in torchtune 0.6.1 also loads the data"
    return Resources(f"{mem}G", gpus, mem_source, cpus_source, sum(copies.values()) * weights + 2 * gpus)
