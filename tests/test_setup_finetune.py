import itertools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from golden_files import golden
from scaffold_torchtune import setup_finetune
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.setup_finetune import build
from scaffold_torchtune.setup_finetune.registry import default_resources, find_model, known_models
from scaffold_torchtune.shared import yamlio

MINIMAL: dict[str, Any] = {
    "my_wandb_project": "words",
    "my_wandb_run_name": "rank8_lr1e-5",
    "torchtune_model_name": "Llama-3.2-1B-Instruct",
    "models_dir": "/data/models",
    "input_dir_base": "/data/sets",
    "input_formatting": "",
    "dataset_label": "words_5L",
    "dataset_ext": ".json",
    "output_dir_base": "/scratch/out",
    "conda_env": "tune",
    "epochs": 1,
    "batch_size": 4,
}


def text_of(**changes: Any) -> str:
    """A setup_finetune.yaml; a key whose change is `...` is left out."""
    keys = {name: value for name, value in {**MINIMAL, **changes}.items() if value is not ...}
    return "".join(f"{name}: {yamlio.scalar(value)}\n" for name, value in keys.items())


def config_of(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = yamlio.read(build(text_of(**changes)).finetune_yaml).data
    return data


def script_of(**changes: Any) -> str:
    return build(text_of(**changes)).finetune_slurm


def problems_of(text: str) -> list[tuple[str, str | None]]:
    with pytest.raises(Refused) as refusal:
        build(text)
    return [(p.code, p.field) for p in refusal.value.problems]


def test_both_files_in_full() -> None:
    outputs = build(
        text_of(
            experiment_name="capitals",
            lora_rank=8,
            lr=1e-5,
            system_prompt='Be brief: "one word".\n',
            time="0:59:00",
            account="lab",
            partition="gpu",
            constraint="a100|h100",
            modules="anaconda3/2025.6, cuda",
        )
    )
    made = {"finetune.yaml": outputs.finetune_yaml, "finetune.slurm": outputs.finetune_slurm}
    assert made == golden("setup_finetune", made)
    assert outputs.warnings == ()


def test_the_same_text_gives_the_same_bytes() -> None:
    assert build(text_of()) == build(text_of())


# --- values and their types


def test_numbers_are_numbers_in_every_loader() -> None:
    text = build(text_of() + "lr: 1e-5\n").finetune_yaml
    torchtunes: Any = OmegaConf.to_container(OmegaConf.create(text))
    for data in (yaml.safe_load(text), torchtunes):
        assert type(data["optimizer"]["lr"]) is float
        assert data["optimizer"]["lr"] == 1e-5
        assert type(data["model"]["lora_rank"]) is int


def test_omegaconf_resolves_every_interpolation() -> None:
    data: Any = OmegaConf.to_container(OmegaConf.create(build(text_of()).finetune_yaml), resolve=True)
    assert data["dataset"]["data_files"] == "/data/sets/words_5L.json"
    assert data["checkpointer"]["checkpoint_dir"] == "/data/models/Llama-3.2-1B-Instruct/"
    assert data["metric_logger"]["name"] == "rank8_lr1e-5"


def test_defaults_are_those_of_the_parameters() -> None:
    config = config_of()
    assert (config["model"]["lora_rank"], config["model"]["lora_alpha"]) == (64, 128)
    assert config["optimizer"]["lr"] == 1e-4
    assert config["tokenizer"]["max_seq_len"] == 2048


def test_given_values_arrive() -> None:
    config = config_of(
        lora_rank=16,
        lora_alpha=8,
        lora_dropout=0.1,
        weight_decay=0,
        num_warmup_steps=0,
        epochs=3,
        batch_size=2,
        seed=0,
        gradient_accumulation_steps=4,
        max_steps_per_epoch=10,
        log_every_n_steps=5,
        max_seq_len=512,
        save_adapter_weights_only=True,
        packed=True,
        train_on_input=True,
    )
    assert config["model"] | {"lora_rank": 16, "lora_alpha": 8, "lora_dropout": 0.1} == config["model"]
    assert config["optimizer"]["weight_decay"] == 0.0
    assert type(config["optimizer"]["weight_decay"]) is float
    assert config["lr_scheduler"]["num_warmup_steps"] == 0
    top = ("epochs", "batch_size", "seed", "gradient_accumulation_steps", "max_steps_per_epoch", "log_every_n_steps")
    assert [config[name] for name in top] == [3, 2, 0, 4, 10, 5]
    assert config["tokenizer"]["max_seq_len"] == 512
    assert config["save_adapter_weights_only"] is True
    assert (config["dataset"]["packed"], config["dataset"]["train_on_input"]) == (True, True)


@pytest.mark.parametrize("word", ["true", "True", "'true'", '"TRUE"'])
def test_booleans_may_be_quoted(word: str) -> None:
    config = yamlio.read(build(text_of() + f"packed: {word}\n").finetune_yaml).data
    assert config["dataset"]["packed"] is True


def test_null_and_empty_text_leave_an_optional_key_open() -> None:
    text = text_of() + "account: ''\nmax_steps_per_epoch: null\nbatch_size_val:\nvenv: ''\ninput_key: ''\n"
    outputs = build(text)
    assert outputs == build(text_of())


@pytest.mark.parametrize(
    "line",
    [
        "lora_rank: '8'",
        "lora_rank: 8.0",
        "lora_rank: 010",
        "lora_rank: 0x8",
        "lora_rank: 1_000",
        "lora_rank: +8",
        "lora_rank: -8",
        "lora_rank: 0",
        "lora_rank: true",
        "lora_rank:",
        "lora_rank: [8]",
        "lora_rank: 99999999999999999999",
        "lora_rank: 2000000000",
        "lr: '1e-5'",
        "lr: 0",
        "lr: 11",
        "lr: .nan",
        "lr: .inf",
        "lr: abc",
        "lr: 1:30",
        "lora_dropout: 1",
        "packed: yes",
        "packed: 1",
        "packed: 'on'",
        "packed: {a: 1}",
        "time: 12:30:00",
        "time: 30",
        "time: '0'",
        "time: 'soon'",
        "time: ''",
        "mem: 64",
        "mem: 64 GB",
        "account: 12",
        "account: on",
        "account: lab --exclusive",
        'account: "lab\\n#SBATCH --exclusive"',
        "account: -lab",
        "account: a..b",
        "partition: gpu;ls",
        "constraint: a100 h100",
        "constraint: $(ls)",
        "modules: /opt/module",
        "modules: ../module",
        "modules: a, ,b",
        "modules: a;b",
        "modules: [a, b]",
        "venv: /opt/$HOME/venv",
        "venv: ~/venv",
        "venv: -venv",
        'venv: "/opt/a\'b"',
        'venv: "/opt/a\\nb"',
        'venv: "/opt/\\u202eb"',
        "venv: '/opt/venv '",
        "model_checkpoint: /data/models/x",
        "input_key: a b",
        "custom_recipe: /abs/recipe.py",
        "custom_recipe: ../recipe.py",
        "custom_recipe: recipe; ls",
        "custom_recipe: --help",
        'system_prompt: "a\\0b"',
        "system_prompt: ${oc.env:HOME}",
        "system_prompt: ???",
        "system_prompt: 5",
        "system_prompt: null",
        "epochs_to_save: [1]",
        f"account: {'a' * 256}",
    ],
)
def test_a_value_that_does_not_fit_is_refused_at_its_line(line: str) -> None:
    key = line.split(":", maxsplit=1)[0]
    with pytest.raises(Refused) as refusal:
        build(text_of() + line + "\n")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.field, problem.file) == ("invalid-value", key, "setup_finetune.yaml")
    assert problem.line == len(MINIMAL) + 1
    assert problem.expected
    assert problem.fix
    assert "\n" not in problem.sentence()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("my_wandb_run_name", "../up"),
        ("my_wandb_run_name", "a b"),
        ("my_wandb_run_name", "<MEM>"),
        ("models_dir", "/home/$USER/models"),
        ("models_dir", "/data/${output_dir}"),
        ("input_dir_base", "/data/sets[1]"),
        ("input_formatting", "/raw"),
        ("input_formatting", "a/../b"),
        ("input_formatting", None),
        ("dataset_label", "a/b"),
        ("dataset_ext", ".csv"),
        ("dataset_ext", "json"),
        ("torchtune_model_name", "Llama 3.2 1B"),
        ("output_dir_base", "`ls`"),
    ],
)
def test_a_required_key_that_does_not_fit_is_refused(key: str, value: str | None) -> None:
    assert problems_of(text_of(**{key: value})) == [("invalid-value", key)]


def test_a_quoted_number_and_an_unquoted_time_come_with_advice() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of() + "lora_rank: '8'\ntime: 12:30:00\n")
    rank, time = refusal.value.problems
    assert "without quotes" in rank.fix
    assert (time.actual, "'12:30:00'" in time.fix) == ("12:30:00", True)


def test_user_in_a_path_is_to_be_written_out() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of(models_dir="/home/$USER/models"))
    assert "your user name" in refusal.value.problems[0].fix


# --- keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [("learning_rate", "'lr'"), ("lora_ranl", "'lora_rank'"), ("dataset_lable", "'dataset_label'"), ("zzzzzzzz", "")],
)
def test_an_unknown_key_is_refused_with_what_may_be_meant(key: str, meant: str) -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of() + f"{key}: 1\n")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.field, problem.line) == ("unknown-key", key, len(MINIMAL) + 1)
    assert meant in problem.message


@pytest.mark.parametrize("key", ["dataset", "model"])
def test_names_of_documents_are_no_keys(key: str) -> None:
    assert problems_of(text_of() + f"{key}: [a]\n") == [("unknown-key", key)]


@pytest.mark.parametrize("key", [key for key in MINIMAL if key != "input_formatting"])
def test_a_required_key_may_not_be_missing(key: str) -> None:
    assert problems_of(text_of(**{key: ...})) == [("missing-field", key)]


def test_all_problems_are_told_at_once() -> None:
    text = text_of(epochs=..., lr="fast", torchtune_model_name="Llama-9", lr_scheduler="get_linear") + "sed: 1\n"
    assert {code for code, _ in problems_of(text)} == {
        "missing-field",
        "invalid-value",
        "unknown-model",
        "unsupported-setting",
        "unknown-key",
    }


@pytest.mark.parametrize(
    "text", ["- a\n", "", "just text\n", "a: [\n", "a: 1\na: 2\n", "a: &x 1\nb: *x\n", "a: !x 1\n"]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        build(text, file="some.yaml")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.file) == ("unreadable-file", "some.yaml")


# --- places


def test_output_dir_of_2025() -> None:
    assert config_of()["output_dir"] == "/scratch/out/ck-out-rank8_lr1e-5/"
    assert config_of(output_dir_base="out/", experiment_name="e")["output_dir"] == "out/e/ck-out-rank8_lr1e-5/"


def test_output_dir_of_v034() -> None:
    config = config_of(output_dir_base=..., project_dir="/scratch/p", experiment_name="e")
    assert config["output_dir"] == "/scratch/p/e/rank8_lr1e-5/artifacts/"


def test_both_output_directories_are_ambiguous() -> None:
    assert problems_of(text_of(project_dir="/p", experiment_name="e")) == [("ambiguous", "project_dir")]


def test_project_dir_needs_an_experiment_name() -> None:
    assert problems_of(text_of(output_dir_base=..., project_dir="/p")) == [("missing-field", "experiment_name")]


@pytest.mark.parametrize(
    ("base", "folder", "meant"),
    [
        ("/data", ..., "/data/raw"),
        ("/data/", ..., "/data/raw"),
        ("/data/", "a/b", "/data/a/b"),
        ("/data", "", "/data"),
        ("/data/", "", "/data/"),
        ("/", "raw", "/raw"),
    ],
)
def test_input_dir(base: str, folder: Any, meant: str) -> None:
    assert config_of(input_dir_base=base, input_formatting=folder)["input_dir"] == meant


# --- models


def test_a_model_is_found_whatever_its_case_and_by_alias() -> None:
    assert known_models()[0] == "Llama-3.2-1B"
    assert len(known_models()) == len(set(known_models())) == 25
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


def test_no_label_means_two_models() -> None:
    entries = [entry for name in known_models() if (entry := find_model(name))]
    labels = [label.casefold() for entry in entries for label in (entry.name, *entry.aliases)]
    assert len(labels) == len(set(labels))


def test_an_unknown_model_is_refused_with_what_may_be_meant() -> None:
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


def test_base_and_instruct_may_differ_in_component() -> None:
    base, instruct = (config_of(torchtune_model_name=f"Qwen2.5-7B{end}") for end in ("", "-Instruct"))
    assert base["model"]["_component_"].endswith("lora_qwen2_5_7b_base")
    assert instruct["model"]["_component_"].endswith("lora_qwen2_5_7b_instruct")
    assert base["tokenizer"]["path"] == "${models_dir}/Qwen2.5-7B/vocab.json"
    assert base["tokenizer"]["merges_file"] == "${models_dir}/Qwen2.5-7B/merges.txt"
    assert base["enable_activation_checkpointing"] is True


def test_the_checkpoint_directory_may_have_another_name() -> None:
    config = config_of(model_checkpoint="my-llama")
    assert config["checkpointer"]["checkpoint_dir"] == "${models_dir}/my-llama/"
    assert config["tokenizer"]["path"] == "${models_dir}/my-llama/original/tokenizer.model"


def test_memory_follows_the_model_and_the_processes() -> None:
    small, large = find_model("Llama-3.2-1B"), find_model("Llama-3.3-70B")
    assert small is not None
    assert large is not None
    assert (default_resources(small, 1).mem, default_resources(small, 1).cpus) == ("24G", 1)
    assert (default_resources(large, 4).mem, default_resources(large, 4).cpus) == ("488G", 4)
    assert "further process" in default_resources(large, 4).source
    assert "further process" not in default_resources(large, 1).source


# --- data


def test_parquet_is_one_file_with_one_split() -> None:
    node = config_of(dataset_ext=".parquet")["dataset"]
    assert node["source"] == "parquet"
    assert node["data_files"] == "${input_dir}/${dataset_label}.parquet"
    assert node["split"] == "train"
    assert "field" not in node


def test_columns_by_other_names() -> None:
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
        ({"torchtune_model_name": "Mistral-7B-v0.1", "prompt": "{input}\n"}, "prompt"),
        ({"prompt": "Capitalize: {input}\n"}, "prompt"),
        ({"prompt": "{input} "}, "prompt"),
        ({"prompt": "{input} {output}"}, "prompt"),
        ({"prompt": "{input}{input}", "torchtune_model_name": "Qwen2.5-0.5B"}, "prompt"),
        ({"dataset_ext": ".parquet", "run_val_every_n_steps": 10}, "run_val_every_n_steps"),
        ({"base_recipe": "llama3_2/1B_lora_single_device"}, "base_recipe"),
        ({"lr_scheduler": "get_linear_schedule_with_warmup"}, "lr_scheduler"),
        ({"custom_recipe": "full_finetune_single_device"}, "custom_recipe"),
        ({"custom_recipe": "qat_distributed", "gpus": 2}, "custom_recipe"),
        ({"custom_recipe": "dev/generate_v2"}, "custom_recipe"),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], key: str) -> None:
    assert problems_of(text_of(**changes)) == [("unsupported-setting", key)]


@pytest.mark.parametrize("prompt", ["no place", "", "{input} }", "{input!r}", "{ input }"])
def test_a_prompt_must_hold_the_input(prompt: str) -> None:
    assert problems_of(text_of(prompt=prompt)) == [("invalid-value", "prompt")]


def test_an_unknown_dataset_type_is_refused_with_what_may_be_meant() -> None:
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


def test_a_prompt_is_not_judged_for_an_unknown_model() -> None:
    assert problems_of(text_of(torchtune_model_name="GPT-2", prompt="A {input}")) == [
        ("unknown-model", "torchtune_model_name")
    ]


# --- settings that no stock recipe reads


def test_what_the_recipe_does_not_read_is_written_with_a_warning() -> None:
    changes = {
        "run_val_every_n_steps": 10,
        "batch_size_val": 2,
        "save_last_epoch_only": True,
        "epochs_to_save": "1,2",
        "stash_adapter_weights": True,
    }
    outputs = build(text_of(**changes))
    config = yamlio.read(outputs.finetune_yaml).data
    assert {name: config[name] for name in changes} == changes
    assert config["dataset_val"]["field"] == "validation"
    assert [(w.code, w.field) for w in outputs.warnings] == [("unread-setting", name) for name in changes]
    assert all("lora_finetune_single_device of torchtune 0.6.1" in w.message for w in outputs.warnings)
    assert [w.line for w in outputs.warnings] == list(range(len(MINIMAL) + 1, len(MINIMAL) + 6))


def test_what_is_off_is_not_written() -> None:
    outputs = build(
        text_of(run_val_every_n_steps=0, save_last_epoch_only=False, stash_adapter_weights=False, epochs_to_save="")
    )
    assert outputs == build(text_of())


def test_a_custom_recipe_may_read_them() -> None:
    outputs = build(text_of(batch_size_val=2, custom_recipe="package.recipe"))
    assert outputs.warnings == ()
    assert yamlio.read(outputs.finetune_yaml).data["batch_size_val"] == 2


def test_validation_data_of_cruijff_kit_is_not_limited() -> None:
    config = config_of(dataset_type="chat_completion", run_val_every_n_steps=5, training_samples=3)
    assert config["dataset_val"]["split"] == "validation"
    assert "max_samples" not in config["dataset_val"]


def test_max_seq_len_is_not_read_by_the_data_sets_of_cruijff_kit() -> None:
    assert [w.field for w in build(text_of(dataset_type="chat_completion", max_seq_len=100)).warnings] == [
        "max_seq_len"
    ]
    assert build(text_of(dataset_type="chat_completion", max_seq_len=2048)).warnings == ()


# --- the batch script


def directives_of(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    names = [line.split("=", 1)[0] for line in lines]
    assert len(names) == len(set(names))
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpus": 4},
        {"venv": "/opt/my venvs/torch tune"},
        {"modules": "a,b/1.2"},
        {"output_dir_base": "/scratch/a; (ls) && b|c"},
        {"output_dir_base": "/scratch/#SBATCH --x=y/&& ls"},
        {"constraint": "[a100*2&h100|(b;c)],d"},
    ],
)
def test_the_script_parses(changes: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "finetune.slurm"
    script.write_text(script_of(**changes))
    subprocess.run(["/bin/bash", "-n", script], check=True)


def test_nothing_is_asked_for_that_nobody_asked_for() -> None:
    asked = {"job-name", "nodes", "ntasks", "cpus-per-task", "mem", "time", "gres", "output"}
    assert set(directives_of(script_of())) == asked
    assert "module" not in script_of()


def test_directives_come_before_every_command() -> None:
    lines = script_of(account="a", partition="b", constraint="c").splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])


def test_resources_may_be_given() -> None:
    script = script_of(mem="100G", cpus_per_task=3, gpus=2, time="1-00:00:00")
    found = directives_of(script)
    assert (found["mem"], found["cpus-per-task"], found["gres"], found["time"]) == ("100G", "3", "gpu:2", "1-00:00:00")
    assert script.count("as setup_finetune.yaml says") == 2


def last_line(script: str) -> str:
    return script.splitlines()[-1]


def test_more_gpus_take_the_distributed_recipe() -> None:
    script = script_of(gpus=2)
    assert last_line(script) == "tune run --nproc_per_node 2 lora_finetune_distributed --config finetune.yaml"
    assert directives_of(script)["cpus-per-task"] == "2"


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ("lora_finetune_single_device", "lora_finetune_single_device"),
        ("package.recipes.mine", "package.recipes.mine.__main__"),
        ("package.recipes.mine.__main__", "package.recipes.mine.__main__"),
        ("recipes/mine.py", "recipes/mine.py"),
        ("recipes/mine", "recipes/mine"),
        ("mine", "mine"),
    ],
)
def test_a_custom_recipe_stands_where_tune_finds_it(recipe: str, word: str) -> None:
    assert last_line(script_of(custom_recipe=recipe)) == f"tune run {word} --config finetune.yaml"


@pytest.mark.parametrize(("recipe", "gpus"), [("a.single_device_b", 2), ("lora_finetune_distributed", 1)])
def test_a_recipe_must_fit_the_gpus(recipe: str, gpus: int) -> None:
    assert problems_of(text_of(custom_recipe=recipe, gpus=gpus)) == [("wrong-recipe", "custom_recipe")]


def test_a_recipe_is_not_judged_by_gpus_that_do_not_fit() -> None:
    assert problems_of(text_of(custom_recipe="lora_finetune_distributed", gpus=0)) == [("invalid-value", "gpus")]


def test_conda_or_a_virtual_environment() -> None:
    with_modules, with_venv = script_of(modules="anaconda3"), script_of(venv="/opt/tune/", conda_env=...)
    assert "conda activate tune" in with_modules
    assert with_modules.index("module load anaconda3") < with_modules.index("conda activate")
    assert "source /opt/tune/bin/activate" in with_venv
    assert "conda" not in with_venv


TOOLS = """
conda() { if [ "$1" = shell.bash ]; then echo 'conda() { echo "conda $*"; return "${CONDA_FAILS:-0}"; }'; fi; }
module() { echo "module $*"; return ${MODULE_FAILS:-0}; }
tune() { echo "tune $*"; return 7; }
"""


def run_script(
    script: str, directory: Path, environment: dict[str, str], *, config: bool = True
) -> tuple[int, list[str]]:
    """Run the script with stand-ins for conda, module and tune; returns its exit status and what they were given."""
    (directory / "tools.sh").write_text(TOOLS)
    (directory / "finetune.slurm").write_text(script)
    if config:
        (directory / "finetune.yaml").write_text("a: 1\n")
    done = subprocess.run(
        ["/bin/bash", "finetune.slurm"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "BASH_ENV": "tools.sh"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_the_job_ends_as_its_training_does(tmp_path: Path) -> None:
    status, calls = run_script(script_of(modules="a/1", output_dir_base="out dir"), tmp_path, {})
    assert status == 7
    assert calls == [
        "module purge",
        "module load a/1",
        "conda activate tune",
        "tune run lora_finetune_single_device --config finetune.yaml",
    ]
    assert (tmp_path / "out dir" / "ck-out-rank8_lr1e-5" / "logs").is_dir()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CONDA_FAILS": "1"}, "cannot activate the conda environment tune"),
        ({"MODULE_FAILS": "1"}, "cannot load the module a"),
    ],
)
def test_the_job_stops_where_activation_fails(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    status, calls = run_script(script_of(modules="a", output_dir_base="out"), tmp_path, environment)
    assert status == 1
    assert calls[-1] == said
    assert not (tmp_path / "out").exists()


def test_the_job_stops_without_its_virtual_environment(tmp_path: Path) -> None:
    status, calls = run_script(script_of(venv="no venv", output_dir_base="out"), tmp_path, {})
    assert status == 1
    assert calls[-1] == "cannot activate the virtual environment no venv"


def test_the_job_must_be_submitted_from_its_run_directory(tmp_path: Path) -> None:
    status, calls = run_script(script_of(), tmp_path, {}, config=False)
    assert status == 1
    assert calls == [f"finetune.yaml is not in {tmp_path}: submit this job from its run directory"]


# --- reading back what was rendered


@pytest.mark.parametrize("text", ["a: '1'\n", "a: 1.0\n", "a: true\n", "a: 1\nb: 2\n", "b: 1\n"])
def test_another_value_or_type_is_noticed(text: str) -> None:
    with pytest.raises(AssertionError):
        setup_finetune._check_yaml(text, {"a": 1})  # noqa: SLF001 - the proof itself is under test


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/bash\n#SBATCH --mem=2G\ntune run\n",
        "#!/bin/bash\n#SBATCH --mem=1G\n#SBATCH --mem=1G\ntune run\n",
        "#!/bin/bash\nls\n#SBATCH --mem=1G\ntune run\n",
        "#!/bin/bash\n#SBATCH --mem=1G\ntune run x\n",
    ],
)
def test_another_job_is_noticed(script: str) -> None:
    with pytest.raises(AssertionError):
        setup_finetune._check_slurm(script, [("mem", "1G")], ["tune", "run"])  # noqa: SLF001 - likewise


def test_every_model_on_one_and_two_gpus_with_both_formats() -> None:
    for model, gpus, extension in itertools.product(known_models(), (1, 2), (".json", ".parquet")):
        assert build(text_of(torchtune_model_name=model, gpus=gpus, dataset_ext=extension)).warnings == ()
