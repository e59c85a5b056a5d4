"""The data sets and prompts of the bundled setup_finetune."""

from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.setup.bundled import build
from support.setup_texts import config_of, problems_of, text_of


def test_parquet_is_one_file_with_one_split() -> None:
    node = config_of(dataset_ext=".parquet")["dataset"]
    assert node["source"] == "parquet"
    assert node["data_files"] == "${input_dir}/${dataset_label}.parquet"
    assert node["split"] == "train"
    assert "field" not in node


def test_columns_with_other_names() -> None:
    assert "column_map" not in config_of()["dataset"]
    assert config_of(input_key="question")["dataset"]["column_map"] == {"input": "question", "output": "output"}
    assert config_of(output_key="answer")["dataset"]["column_map"] == {"input": "input", "output": "answer"}


def test_training_samples_limit_the_split() -> None:
    assert config_of(training_samples=100)["dataset"]["split"] == "train[:100]"


def test_chat_dataset() -> None:
    node = config_of(dataset_type="chat_dataset", system_prompt="Be kind.")["dataset"]
    assert node["_component_"] == "torchtune.datasets.chat_dataset"
    assert (node["conversation_column"], node["conversation_style"]) == ("messages", "openai")
    assert node["new_system_prompt"] == "Be kind."


def test_text_completion_dataset() -> None:
    node = config_of(dataset_type="text_completion_dataset")["dataset"]
    assert node["column"] == "text"
    assert "train_on_input" not in node
    assert config_of(dataset_type="text_completion_dataset", input_key="body")["dataset"]["column"] == "body"


def test_chat_completion_of_cruijff_kit() -> None:
    changes = {"prompt": "Say {input} and {other}\n", "system_prompt": "S", "training_samples": 5, "input_key": "q"}
    node = config_of(dataset_type="chat_completion", **changes)["dataset"]
    assert node == {
        "_component_": "cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset",
        "source": "json",
        "data_files": "${input_dir}/${dataset_label}.json",
        "split": "train",
        "model_path": "${models_dir}/Llama-3.2-1B-Instruct",
        "prompt": "Say {input} and {other}\n",
        "system_prompt": "S",
        "input_key": "q",
        "output_key": "output",
        "train_on_input": False,
        "max_samples": 5,
        "packed": False,
    }


def test_text_completion_of_cruijff_kit_has_no_system_prompt() -> None:
    node = config_of(dataset_type="text_completion")["dataset"]
    assert node["_component_"].endswith("text_completion.text_completion_dataset")
    assert node["prompt"] == "{input}"
    assert "system_prompt" not in node
    assert "tokenizer" in config_of(dataset_type="text_completion", prompt="A: {input}")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"dataset_type": "chat_completion", "dataset_ext": ".parquet"}, "dataset_ext"),
        ({"dataset_type": "chat_completion", "packed": True}, "packed"),
        ({"dataset_type": "text_completion", "system_prompt": "S"}, "system_prompt"),
        ({"dataset_type": "text_completion_dataset", "system_prompt": "S"}, "system_prompt"),
        ({"dataset_type": "text_completion_dataset", "output_key": "a"}, "output_key"),
        ({"dataset_type": "text_completion_dataset", "prompt": "A: {input}"}, "prompt"),
        ({"dataset_type": "chat_dataset", "input_key": "a"}, "input_key"),
        ({"torchtune_model_name": "Mistral-7B-v0.1", "system_prompt": "S"}, "system_prompt"),
        ({"torchtune_model_name": "gemma-2-2b", "system_prompt": "S"}, "system_prompt"),
        (
            {"torchtune_model_name": "gemma-2-9b-it", "system_prompt": "S", "dataset_type": "chat_dataset"},
            "system_prompt",
        ),
        ({"torchtune_model_name": "Mistral-7B-v0.1", "prompt": "{input}\n"}, "prompt"),
        ({"prompt": "Capitalize: {input}\n"}, "prompt"),
        ({"prompt": "{input} "}, "prompt"),
        ({"prompt": "{input} {output}"}, "prompt"),
        ({"prompt": "{input}{input}", "torchtune_model_name": "Qwen2.5-0.5B"}, "prompt"),
        ({"dataset_ext": ".parquet", "run_val_every_n_steps": 10}, "run_val_every_n_steps"),
        ({"base_recipe": "llama3_2/1B_lora_single_device"}, "base_recipe"),
        ({"lr_scheduler": "get_linear_schedule_with_warmup"}, "lr_scheduler"),
        ({"custom_recipe": "lora_dpo_single_device"}, "custom_recipe"),
        ({"custom_recipe": "qat_distributed", "gpus": 2}, "custom_recipe"),
        ({"custom_recipe": "dev/generate_v2"}, "custom_recipe"),
    ],
)
def test_unsupported_values_are_refused(changes: dict[str, Any], key: str) -> None:
    assert problems_of(text_of(**changes)) == [("unsupported-setting", key)]


@pytest.mark.parametrize("prompt", ["no place", "", "{input} }", "{input!r}", "{ input }"])
def test_a_prompt_must_contain_the_input(prompt: str) -> None:
    assert problems_of(text_of(prompt=prompt)) == [("invalid-value", "prompt")]


def test_an_unknown_dataset_type_is_refused_with_a_similar_one() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of(dataset_type="instruct_datset", prompt="{input}"))
    (problem,) = refusal.value.problems
    assert (problem.code, problem.field) == ("invalid-value", "dataset_type")
    assert "'instruct_dataset'" in problem.message


@pytest.mark.parametrize(
    ("model", "prompt", "template"),
    [
        ("Llama-3.2-1B", "{input}", None),
        ("Llama-3.2-1B", "{input}\n", {"user": ["", "\n"]}),
        ("Qwen2.5-0.5B", "Word: {input}\n", {"user": ["Word: ", "\n"]}),
        ("Qwen2.5-0.5B", "{{a}} {input} {{b}}", {"user": ["{a} ", " {b}"]}),
        ("Mistral-7B-v0.1", "{input}", None),
    ],
)
def test_a_prompt_becomes_the_tokenizers_template(model: str, prompt: str, template: Any) -> None:
    assert config_of(torchtune_model_name=model, prompt=prompt)["tokenizer"].get("prompt_template") == template


def test_a_prompt_is_not_checked_for_an_unknown_model() -> None:
    assert problems_of(text_of(torchtune_model_name="GPT-2", prompt="A {input}")) == [
        ("unknown-model", "torchtune_model_name")
    ]
