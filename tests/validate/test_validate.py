"""The validate stage with correct files."""

import re

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Scalar, errors_in
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.validate import arrivals, directives, validate_run
from support.good_files import (
    CONFIG,
    EXTERNAL_CONFIG,
    EXTERNAL_SLURM,
    GOOD_CONFIG,
    GOOD_SLURM,
    RUN,
    SETUP,
    SLURM,
    VALUES,
    files_of,
    planned,
    replaced,
)
from support.wording import absent


def good_cases() -> dict[str, tuple[PlannedRun, dict[str, str | None], bool]]:
    json_run = planned()
    parquet = planned({"dataset_ext": ".parquet"}, data="/scratch/me/data/words.parquet")
    parquet_config = replaced(
        GOOD_CONFIG, "source: json", "source: parquet", ".json\n  field: train", ".parquet\n  split: train"
    )
    two = planned(
        {"gpus": 2, "gpu_type": "a100", "account": "lab", "partition": "", "mem": "16384M", "cpus_per_task": 2}
    )
    two_slurm = replaced(
        GOOD_SLURM,
        "tune run lora_finetune_single_device",
        "tune run --nproc_per_node 2 lora_finetune_distributed",
        "--gres=gpu:1",
        "-A lab --gres gpu:a100:2",
        "--mem=8G",
        "--mem 16G",
        "--cpus-per-task=1",
        "-c2",
    )
    alpha = planned(without="lora_alpha")
    modules = planned({"modules": "gcc/12, cuda/12.4"})
    modules_slurm = replaced(GOOD_SLURM, "eval ", "module purge\nmodule load gcc/12\nmodule load cuda/12.4\neval ")
    project = planned({"project_dir": "/scratch/me/projects"}, without="output_dir_base")
    project_config = replaced(
        GOOD_CONFIG, "/scratch/me/out/capitals/ck-out-rank8_lr1e-5", f"/scratch/me/projects/capitals/{RUN}/artifacts/"
    )
    project_slurm = replaced(
        GOOD_SLURM, "/scratch/me/out/capitals/ck-out-rank8_lr1e-5", f"/scratch/me/projects/capitals/{RUN}/artifacts"
    )
    plain = planned({"system_prompt": "", "input_key": "question", "output_key": "output", "prompt": "Say {input}!"})
    plain_config = replaced(
        GOOD_CONFIG,
        "  new_system_prompt: Capitalise the word.\n",
        "  column_map: {input: question, output: output}\n",
        "max_seq_len: 2048\n",
        "max_seq_len: 2048\n  prompt_template: {user: ['Say ', '!'], assistant: ['', '']}\n",
    )
    relative = planned(data="data/words.json")
    return {
        "json": (json_run, files_of(json_run), True),
        "parquet": (parquet, files_of(parquet, parquet_config), True),
        "two GPUs": (two, files_of(two, slurm=two_slurm), True),
        "alpha is not planned": (alpha, files_of(alpha), True),
        "modules": (modules, files_of(modules, slurm=modules_slurm), True),
        "project directory": (project, files_of(project, project_config, project_slurm), True),
        "columns and a prompt": (plain, files_of(plain, plain_config), True),
        "a relative data path": (relative, files_of(relative), True),
        "external script": (json_run, files_of(json_run, EXTERNAL_CONFIG, EXTERNAL_SLURM), False),
    }


@pytest.mark.parametrize("case", good_cases())
def test_good_files_have_no_error_or_warning(case: str) -> None:
    run, files, bundled = good_cases()[case]
    found = [f for f in validate_run(run, files, bundled=bundled) if f.severity is not Severity.INFO]
    assert found == []
    if bundled:
        assert validate_run(run, files, bundled=True) == ()


@pytest.mark.parametrize("name", [SETUP, CONFIG, SLURM])
def test_a_missing_file_is_an_error(name: str) -> None:
    run = planned()
    found = errors_in(validate_run(run, {**files_of(run), name: None}, bundled=False))
    assert [(f.code, f.file) for f in found] == [("missing-file", f"{RUN}/{name}")]
    assert ("render" in found[0].fix) is (name == SETUP)
    assert absent(found[0].fix, "setup") == []


OTHER: dict[str, Scalar] = {
    "dataset_ext": ".parquet",
    "dataset_type": "chat_dataset",
    "lr_scheduler": "get_other",
    "torchtune_model_name": "Qwen2.5-3B",
    "time": "01:00:00",
    "account": "lab",
    "apply_lora_to_mlp": False,
    "apply_lora_to_output": True,
    "lora_attn_modules": "q_proj,v_proj",
    "batch_size_val": 3,
    "checkpoint_files": "model-00001-of-00002.safetensors,model-00002-of-00002.safetensors",
    "clip_grad_norm": 0.5,
    "comment": "a sweep",
    "constraint": "a100",
    "cpus_per_task": 9,
    "custom_recipe": "mine.recipe",
    "enable_activation_checkpointing": True,
    "epochs_to_save": "1,2",
    "exclude": "gpu[01-03]",
    "gpu_type": "a100",
    "input_key": "question",
    "max_steps_per_epoch": 5,
    "mail_type": "END",
    "mail_user": "ada@example.org",
    "mem": "99G",
    "modules": "gcc/12",
    "offline": True,
    "output_key": "answer",
    "partition": "gpu",
    "project_dir": "/p",
    "prompt": "Say {input}",
    "qos": "high",
    "requeue": True,
    "reservation": "maintenance",
    "resume_from_checkpoint": True,
    "save_last_epoch_only": True,
    "stash_adapter_weights": True,
    "training_samples": 7,
    "venv": "mine",
    "wandb_entity": "team",
    "wandb_group": "sweep",
    "wandb_mode": "online",
    "wandb_tags": "lora,words",
}


def other_value(name: str) -> Scalar:
    value = VALUES.get(name)
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


def test_every_known_setting_has_a_value_in_this_module() -> None:
    assert {*VALUES, *OTHER} == arrivals.FINETUNE_SETTINGS | directives.JOB_SETTINGS


@pytest.mark.parametrize("name", sorted({*VALUES, *OTHER}))
def test_every_known_setting_is_compared(name: str) -> None:
    """Plan a different value, with setup_finetune.yaml to match: the outputs must be reported as wrong."""
    data = "/scratch/me/data/words.json" if name != "dataset_label" else "/scratch/me/data/wordsx.json"
    data = "data/words.json" if name in {"input_dir_base", "input_formatting"} else data
    run = planned({name: other_value(name)}, data=data)
    found = errors_in(validate_run(run, files_of(run), bundled=True))
    assert found
    assert {f.file for f in found} <= {f"{RUN}/{CONFIG}", f"{RUN}/{SLURM}"}


def test_a_setting_without_a_known_place_is_reported() -> None:
    run = planned({"nonsense": 1})
    found = validate_run(run, files_of(run), bundled=True)
    assert [(f.code, f.severity, f.field) for f in found] == [("unproven-setting", Severity.WARNING, "nonsense")]


def test_a_value_in_a_directory_chosen_by_the_user_is_only_a_warning() -> None:
    run = planned().model_copy(update={"name": "rank9", "directory": "rank9"})
    found = validate_run(run, files_of(run), bundled=True)
    names = [f for f in found if f.code == "name-mismatch"]
    assert [(f.field, f.severity) for f in names] == [("lora_rank", "warning"), ("my_wandb_run_name", "error")]


def test_lists_in_place_of_nodes_are_reported() -> None:
    run = planned()
    config = re.sub(r"(model|dataset|checkpointer):\n(  .*\n)+", r"\1: [1, {a: 2}]\n", GOOD_CONFIG)
    found = validate_run(run, files_of(run, config), bundled=True)
    assert {f.field for f in errors_in(found)} >= {"lora_rank", "dataset_type", "model_checkpoint"}
