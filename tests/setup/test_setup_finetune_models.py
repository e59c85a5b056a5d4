"""The models of the bundled setup_finetune: their names, checkpoints and memory."""

from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.torchtune_facts import default_resources, find_model, known_models
from scaffold_torchtune.torchtune_facts.facts import load
from support.setup_texts import config_of, text_of


def test_a_model_is_found_in_any_case_and_by_alias() -> None:
    assert known_models()[0] == "Llama-3.2-1B"
    assert len(known_models()) == len(set(known_models())) == len(load().models)
    for alias, name in {
        "llama-3.2-1b-instruct": "Llama-3.2-1B-Instruct",
        "Meta-Llama-3.1-8B-Instruct": "Llama-3.1-8B-Instruct",
        "Gemma2-2B": "gemma-2-2b",
        "Gemma-2-9B-Instruct": "gemma-2-9b-it",
        "Phi-4": "phi-4",
        "mistral-7b": "Mistral-7B-v0.1",
    }.items():
        entry = find_model(alias)
        assert entry is not None
        assert entry.name == name
    assert find_model("GPT-2") is None


def test_labels_of_models_are_unique() -> None:
    entries = [entry for name in known_models() if (entry := find_model(name))]
    labels = [label.casefold() for entry in entries for label in (entry.name, *entry.aliases)]
    assert len(labels) == len(set(labels))


def test_an_unknown_model_is_refused_with_a_similar_one() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of(torchtune_model_name="Llama-3.2-1B-Instrct"))
    (problem,) = refusal.value.problems
    assert problem.code == "unknown-model"
    assert "'Llama-3.2-1B-Instruct'" in problem.message


@pytest.mark.parametrize(
    ("model", "files"),
    [
        ("Qwen2.5-1.5B", ["model.safetensors"]),
        ("Qwen2.5-3B", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
        ("gemma-2-9b", {"filename_format": "model-{}-of-{}.safetensors", "max_filename": "00008"}),
    ],
)
def test_checkpoint_files(model: str, files: Any) -> None:
    assert config_of(torchtune_model_name=model)["checkpointer"]["checkpoint_files"] == files


def test_base_and_instruct_may_have_different_components() -> None:
    base, instruct = (config_of(torchtune_model_name=f"Qwen2.5-7B{end}") for end in ("", "-Instruct"))
    assert base["model"]["_component_"].endswith("lora_qwen2_5_7b_base")
    assert instruct["model"]["_component_"].endswith("lora_qwen2_5_7b_instruct")
    assert base["tokenizer"]["path"] == "${models_dir}/Qwen2.5-7B/vocab.json"
    assert base["tokenizer"]["merges_file"] == "${models_dir}/Qwen2.5-7B/merges.txt"
    assert base["enable_activation_checkpointing"] is True


def test_the_checkpoint_directory_may_have_a_different_name() -> None:
    config = config_of(model_checkpoint="my-llama")
    assert config["checkpointer"]["checkpoint_dir"] == "${models_dir}/my-llama/"
    assert config["tokenizer"]["path"] == "${models_dir}/my-llama/original/tokenizer.model"


def test_memory_depends_on_the_model_and_the_processes() -> None:
    small, large = find_model("Llama-3.2-1B"), find_model("Llama-3.3-70B")
    assert small is not None
    assert large is not None
    assert (default_resources(small, 1).mem, default_resources(small, 1).cpus) == ("24G", 1)
    assert (default_resources(large, 4).mem, default_resources(large, 4).cpus) == ("488G", 4)
    assert default_resources(large, 4).mem_source != default_resources(large, 1).mem_source
