"""The base models that the bundled setup_finetune knows, read from registry.yaml next to this file."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from scaffold_torchtune.shared import yamlio

_GIB: Final = 1024**3
_LISTED: Final = 4  # up to so many checkpoint files are listed one by one, as the stock configs do


@dataclass(frozen=True)
class ModelEntry:
    """A base model as torchtune 0.6.1 sets it up.

    `files` is its number of checkpoint files on Hugging Face, `bytes` the bytes of a parameter in them, `billions` its
    number of parameters in billions, `source` the stock config that the entry was read from. `prompt` says what the
    tokenizer does with the text of a prompt template, see registry.yaml.
    """

    name: str
    aliases: tuple[str, ...]
    component: str
    model_type: str
    tokenizer: str
    tokenizer_files: tuple[tuple[str, str], ...]
    prompt: Literal["kept", "stripped", "own"]
    files: int
    billions: float
    bytes: int
    activation_checkpointing: bool
    source: str

    @property
    def checkpoint_files(self) -> list[str] | dict[str, str]:
        """The value of `checkpointer.checkpoint_files`: names, or for many files torchtune's format and last number."""
        if self.files == 1:
            return ["model.safetensors"]
        if self.files <= _LISTED:
            return [f"model-{i:05}-of-{self.files:05}.safetensors" for i in range(1, self.files + 1)]
        return {"filename_format": "model-{}-of-{}.safetensors", "max_filename": f"{self.files:05}"}


@dataclass(frozen=True)
class Resources:
    """What a job asks of its node: `mem` as `--mem` takes it, `cpus` per task, and how each comes about."""

    mem: str
    cpus: int
    mem_source: str
    cpus_source: str

    @property
    def source(self) -> str:
        """How both come about, in one line."""
        return f"mem: {self.mem_source}; cpus: {self.cpus_source}"


@cache
def _entries() -> dict[str, ModelEntry]:
    """Every model by its name, in the order of the file."""
    path = Path(__file__).with_name("registry.yaml")
    data: dict[str, Any] = yamlio.read(path.read_text(encoding="utf-8")).data
    return {name: _entry(name, fields, data["families"][fields["family"]]) for name, fields in data["models"].items()}


def _entry(name: str, fields: dict[str, Any], family: dict[str, Any]) -> ModelEntry:
    own = {key: value for key, value in fields.items() if key not in {"family", "aliases"}}
    shared = {key: value for key, value in family.items() if key != "tokenizer_files"}
    return ModelEntry(
        name=name,
        aliases=tuple(fields["aliases"]),
        tokenizer_files=tuple(family["tokenizer_files"].items()),
        **own,
        **shared,
    )


@cache
def _by_label() -> dict[str, ModelEntry]:
    return {label.casefold(): entry for entry in _entries().values() for label in (entry.name, *entry.aliases)}


def known_models() -> tuple[str, ...]:
    """The names of all models, without their aliases."""
    return tuple(_entries())


def find_model(name: str) -> ModelEntry | None:
    """The model of that name or alias, whatever its case, or None."""
    return _by_label().get(name.casefold())


def default_resources(entry: ModelEntry, gpus: int) -> Resources:
    """Memory and CPUs for a LoRA run of the model on `gpus` GPUs of one node.

    Read from torchtune 0.6.1: the checkpoint files are mapped into memory (checkpointing/_utils.py, safe_torch_load),
    and every process of lora_finetune_distributed maps the same pages, so the load counts once; only rank 0 gathers
    the weights on the CPU, merges the adapter and converts them for saving, which is two more copies in bf16. On top
    come 16 GiB for Python, CUDA and the data set. Each further process takes 8 GiB of its own and an eighth of the
    weights, for the query and key projections that the conversion on load copies (8 to 11 % of the models here). The
    data loader works in the training process (num_workers is 0), so a process needs one CPU.
    """
    weights = entry.billions * 1e9 * 2 / _GIB
    mapped = entry.billions * 1e9 * entry.bytes / _GIB
    needed = mapped + 2 * weights + 16 + (gpus - 1) * (weights / 8 + 8)
    mem = math.ceil(needed / 8) * 8
    more = f", {weights / 8 + 8:.1f} for each further process" if gpus > 1 else ""
    mem_source = (
        f"{mapped:.1f} GiB of checkpoint files, two copies of {weights:.1f} in bf16 for saving, 16 for the rest{more}, "
        "rounded up to a multiple of 8"
    )
    return Resources(f"{mem}G", gpus, mem_source, "one for each process, which in torchtune 0.6.1 also loads the data")
