# ruff: noqa: E501 - the table of faults has one fault a line
"""The validate stage against good files, and against the same files with one fault each."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.errors import CODES, Finding, Scalar, Severity, errors_in
from scaffold_torchtune.models.base import Setting, Source, SourceKind
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared import yamlio
from scaffold_torchtune.validate import finetune, job, validate_run

SETUP, CONFIG, SLURM = "setup_finetune.yaml", "finetune.yaml", "finetune.slurm"
RUN = "rank8_lr1e-5"
DEFAULTS = {"log_every_n_steps", "weight_decay", "seed"}

VALUES: dict[str, Scalar] = {
    "experiment_name": "capitals",
    "my_wandb_project": "my_project",
    "my_wandb_run_name": RUN,
    "output_dir_base": "/scratch/me/out/",
    "input_dir_base": "/scratch/me/data/",
    "input_formatting": "",
    "dataset_label": "words",
    "dataset_ext": ".json",
    "dataset_type": "instruct_dataset",
    "system_prompt": "Capitalise the word.",
    "train_on_input": False,
    "packed": False,
    "max_seq_len": 2048,
    "torchtune_model_name": "Llama-3.2-1B-Instruct",
    "model_checkpoint": "Llama-3.2-1B-Instruct",
    "models_dir": "/scratch/me/models/",
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "lr": 1e-5,
    "lr_scheduler": "get_cosine_schedule_with_warmup",
    "num_warmup_steps": 100,
    "weight_decay": 0.01,
    "batch_size": 4,
    "epochs": 2,
    "gradient_accumulation_steps": 3,
    "seed": 14,
    "log_every_n_steps": 5,
    "run_val_every_n_steps": 0,
    "save_adapter_weights_only": True,
    "time": "00:59:00",
    "gpus": 1,
    "conda_env": "tuning",
}

GOOD_CONFIG = """\
my_wandb_project: my_project
my_wandb_run_name: rank8_lr1e-5
dataset_label: words
input_dir: /scratch/me/data/
models_dir: /scratch/me/models/
output_dir: /scratch/me/out/capitals/ck-out-rank8_lr1e-5
model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  lora_attn_modules: [q_proj, v_proj, output_proj]
  apply_lora_to_mlp: true
  lora_rank: 8
  lora_alpha: 16
  lora_dropout: 0.0
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  path: ${models_dir}/Llama-3.2-1B-Instruct/original/tokenizer.model
  max_seq_len: 2048
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: ${models_dir}/Llama-3.2-1B-Instruct/
  checkpoint_files: [model.safetensors]
  recipe_checkpoint: null
  output_dir: ${output_dir}
  model_type: LLAMA3_2
resume_from_checkpoint: false
save_adapter_weights_only: true
dataset:
  _component_: torchtune.datasets.instruct_dataset
  source: json
  data_files: ${input_dir}/${dataset_label}.json
  field: train
  packed: false
  train_on_input: false
  new_system_prompt: Capitalise the word.
seed: 14
shuffle: true
batch_size: 4
optimizer:
  _component_: torch.optim.AdamW
  fused: true
  weight_decay: 0.01
  lr: 1.0e-05
lr_scheduler:
  _component_: torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup
  num_warmup_steps: 100
loss:
  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss
epochs: 2
max_steps_per_epoch: null
gradient_accumulation_steps: 3
compile: false
metric_logger:
  _component_: torchtune.training.metric_logging.WandBLogger
  mode: offline
  project: ${my_wandb_project}
  name: ${my_wandb_run_name}
  log_dir: ${output_dir}/logs
log_every_n_steps: 5
log_peak_memory_stats: true
device: cuda
dtype: bf16
enable_activation_checkpointing: false
enable_activation_offloading: false
"""

GOOD_SLURM = """\
#!/bin/bash
#SBATCH --job-name=rank8_lr1e-5
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=00:59:00 # Time limit
#SBATCH --gres=gpu:1
#SBATCH --output=slurm-%j.out
##SBATCH --account=<ACT>

eval "$(conda shell.bash hook)"
conda activate tuning
mkdir -p /scratch/me/out/capitals/ck-out-rank8_lr1e-5/logs
tune run lora_finetune_single_device \\
    --config finetune.yaml
"""

# What a script of another kind writes: more keys, its own lines, a long way to say the same.
EXTERNAL_CONFIG = (
    GOOD_CONFIG.replace("  train_on_input: false\n", "  train_on_input: false\n  split: train\n")
    .replace("  packed: false\n", "")
    .replace("lr: 1.0e-05", "lr: 1e-5")
    .replace("ck-out-rank8_lr1e-5", "ck-out-rank8_lr1e-5/")
    + "input_formatting: ''\nhf_token: token_here\nvenv: ''\nmodules: ''\ncustom_recipe: null\n"
    + "profiler:\n  _component_: torchtune.training.setup_torch_profiler\n  enabled: false\n"
)
EXTERNAL_SLURM = GOOD_SLURM.replace(
    "##SBATCH --account", "#SBATCH --mail-type=begin\n#SBATCH --mail-type=end\n#SBATCH --mail-user=me@site\n##SBATCH -A"
).replace("eval ", "module purge\nmodule load anaconda3/2025.6\neval ")


def planned(
    changes: Mapping[str, Scalar] | None = None, *, data: str = "/scratch/me/data/words.json", without: str = ""
) -> PlannedRun:
    values = {**VALUES, **(changes or {})}
    values.pop(without, None)
    sources = {name: SourceKind.DEFAULT if name in DEFAULTS else SourceKind.CONFIGURATION for name in values}
    return PlannedRun(
        directory=RUN,
        name="first",
        line=3,
        model=str(values.get("torchtune_model_name")),
        data_path=data,
        parameters={"lora_rank": 8, "lr": 1e-5},
        settings={n: Setting(value=v, source=Source(kind=sources[n])) for n, v in values.items()},
    )


def setup_of(run: PlannedRun) -> str:
    return "".join(f"{name}: {yamlio.scalar(setting.value)}\n" for name, setting in run.settings.items())


def files_of(run: PlannedRun, config: str = GOOD_CONFIG, slurm: str = GOOD_SLURM) -> dict[str, str | None]:
    return {SETUP: setup_of(run), CONFIG: config, SLURM: slurm}


def replaced(text: str, *pairs: str) -> str:
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def good_cases() -> dict[str, tuple[PlannedRun, dict[str, str | None], bool]]:
    json_run = planned()
    parquet = planned({"dataset_ext": ".parquet"}, data="/scratch/me/data/words.parquet")
    parquet_config = replaced(
        GOOD_CONFIG, "source: json", "source: parquet", ".json\n  field: train", ".parquet\n  split: train"
    )
    two = planned({"gpus": 2, "account": "lab", "partition": "", "mem": "16384M", "cpus_per_task": 2})
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


# One fault each: the file, what is replaced by what, then the code, field and the text on the line of the finding.
FAULTS: list[tuple[str, str, str, str, str, str]] = [
    # in setup_finetune.yaml
    (SETUP, "lora_rank: 8", "lora_rank: 9", "value-mismatch", "lora_rank", "lora_rank"),
    (SETUP, "lora_rank: 8", "lora_rank: '8'", "wrong-type", "lora_rank", "lora_rank"),
    (SETUP, "lr: 1.0e-05", "lr: '1e-05'", "wrong-type", "lr", "lr:"),
    (SETUP, "packed: false", "packed: 'false'", "wrong-type", "packed", "packed"),
    (SETUP, "packed: false", "packed: 0", "value-mismatch", "packed", "packed"),
    (SETUP, "epochs: 2\n", "", "missing-value", "epochs", ""),
    (SETUP, "epochs: 2\n", "epoch: 2\n", "unplanned-value", "epoch", "epoch"),
    (SETUP, "epochs: 2\n", "epochs: 2\nextra: 1\n", "unplanned-value", "extra", "extra"),
    (SETUP, "epochs: 2\n", "epochs: 2\nepochs: 2\n", "unreadable-file", "", "epochs"),
    (SETUP, "epochs: 2\n", "epochs: [2\n", "unreadable-file", "", "gradient_accumulation_steps"),
    # hyperparameters, in the config
    (CONFIG, "lora_rank: 8", "lora_rank: 64", "value-mismatch", "lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: '8'", "wrong-type", "lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: 8.0", "wrong-type", "lora_rank", "lora_rank"),
    (CONFIG, "  lora_rank: 8\n", "", "missing-value", "lora_rank", "model:"),
    (CONFIG, "lora_rank: 8", "lora_ranl: 8", "unplanned-value", "model.lora_ranl", "lora_ranl"),
    (CONFIG, "lora_rank: 8\n  lora_alpha: 16", "lora_rank: 16\n  lora_alpha: 8", "value-mismatch", "lora_alpha", "lora_a"),
    (CONFIG, "lora_alpha: 16", "lora_alpha: '88'", "value-mismatch", "lora_alpha", "lora_alpha"),
    (CONFIG, "  lora_dropout: 0.0\n", "", "missing-value", "lora_dropout", "model:"),
    (CONFIG, "lora_dropout: 0.0", "lora_dropout: 0.1", "value-mismatch", "lora_dropout", "lora_dropout"),
    (CONFIG, "lr: 1.0e-05", "lr: 1.0e-04", "value-mismatch", "lr", "lr: 1"),
    (CONFIG, "lr: 1.0e-05", "lr: '1e-5'", "wrong-type", "lr", "lr: '"),
    (CONFIG, "  lr: 1.0e-05\n", "", "missing-value", "lr", "optimizer:"),
    (CONFIG, "  lr: 1.0e-05\nlr_scheduler:\n", "lr_scheduler:\n  lr: 1.0e-05\n", "unplanned-value", "lr_scheduler.lr", "lr: 1"),
    (CONFIG, "weight_decay: 0.01", "weight_decay: 0.1", "value-mismatch", "weight_decay", "weight_decay"),
    (CONFIG, "weight_decay: 0.01", "wieght_decay: 0.01", "unplanned-value", "optimizer.wieght_decay", "wieght"),
    (CONFIG, "num_warmup_steps: 100", "num_warmup_steps: 10", "value-mismatch", "num_warmup_steps", "num_warm"),
    (CONFIG, "get_cosine_schedule", "get_linear_schedule", "value-mismatch", "lr_scheduler", "get_linear"),
    (CONFIG, "batch_size: 4", "batch_size: 2", "value-mismatch", "batch_size", "batch_size"),
    (CONFIG, "batch_size: 4\n", "", "missing-value", "batch_size", ""),
    (CONFIG, "batch_size: 4\noptimizer:\n", "optimizer:\n  batch_size: 4\n", "unplanned-value", "optimizer.batch_size", "batch_s"),
    (CONFIG, "batch_size: 4\n", "batch_size: 4\nlearning_rate: 1.0e-05\n", "unplanned-value", "learning_rate", "learning"),
    (CONFIG, "epochs: 2", "epochs: true", "value-mismatch", "epochs", "epochs"),
    (CONFIG, "gradient_accumulation_steps: 3", "gradient_accumulation_steps: 1", "value-mismatch", "gradient_accumulation_steps", "gradient"),
    (CONFIG, "seed: 14", "seed: null", "missing-value", "seed", "seed"),
    (CONFIG, "log_every_n_steps: 5", "log_every_n_steps: 1", "value-mismatch", "log_every_n_steps", "log_every"),
    (CONFIG, "only: true", "only: false", "value-mismatch", "save_adapter_weights_only", "save_adapter"),
    (CONFIG, "only: true", "only: 'true'", "wrong-type", "save_adapter_weights_only", "save_adapter"),
    (CONFIG, "compile: false\n", "", "missing-value", "compile", ""),
    (CONFIG, "resume_from_checkpoint: false", "resume_from_checkpoint: true", "unplanned-value", "resume_from_checkpoint", "resume"),
    # the model, in the config
    (CONFIG, "lora_llama3_2_1b", "lora_llama3_2_3b", "value-mismatch", "torchtune_model_name", "3_2_3b"),
    (CONFIG, "lora_llama3_2_1b", "llama3_2_1b", "value-mismatch", "torchtune_model_name", "3_2_1b"),
    (CONFIG, "llama3.llama3_tokenizer", "llama2.llama2_tokenizer", "value-mismatch", "torchtune_model_name", "llama2"),
    (CONFIG, "original/tokenizer.model", "tokenizer.model", "value-mismatch", "torchtune_model_name", "path: "),
    (CONFIG, "  path: ${models_dir}/L", "  path: /other/L", "value-mismatch", "torchtune_model_name", "path: "),
    (CONFIG, "checkpoint_dir: ${models_dir}/", "checkpoint_dir: /stale/", "value-mismatch", "model_checkpoint", "checkpoint_dir"),
    (CONFIG, "model_type: LLAMA3_2", "model_type: llama3_2", "value-mismatch", "torchtune_model_name", "model_type"),
    (CONFIG, "[model.safetensors]", "[]", "missing-value", "model_checkpoint", "checkpoint_files"),
    (CONFIG, "  output_dir: ${output_dir}\n", "  output_dir: /stale\n", "value-mismatch", "output_dir_base", "/stale"),
    (CONFIG, "FullModelHFCheckpointer", "FullModelMetaCheckpointer", "value-mismatch", "torchtune_model_name", "Meta"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "[q_prj, v_proj]", "value-mismatch", "lora_attn_modules", "lora_attn"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "[]", "missing-value", "lora_attn_modules", "lora_attn"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "q_proj", "wrong-type", "lora_attn_modules", "lora_attn"),
    (CONFIG, "  apply_lora_to_mlp: true\n", "", "missing-value", "apply_lora_to_mlp", "model:"),
    (CONFIG, "  lora_rank: 8\n", "  lora_rank: 8\n  use_dora: true\n", "unplanned-value", "model.use_dora", "use_dora"),
    (CONFIG, "recipe_checkpoint: null", "recipe_checkpoint: old.pt", "unplanned-value", "checkpointer.recipe_checkpoint", "old.pt"),
    (CONFIG, "  max_seq_len: 2048\n", "", "missing-value", "max_seq_len", "tokenizer:"),
    # data and output, in the config
    (CONFIG, "instruct_dataset", "chat_dataset", "value-mismatch", "dataset_type", "chat_dataset"),
    (CONFIG, "  data_files: ", "  data_dir: ", "missing-value", "dataset_label", "dataset:"),
    (CONFIG, "dataset_label: words", "dataset_label: numbers", "value-mismatch", "dataset_label", "data_files"),
    (CONFIG, "input_dir: /scratch/me/data/", "input_dir: /stale", "value-mismatch", "dataset_label", "data_files"),
    (CONFIG, "  field: train\n", "", "missing-value", "dataset_ext", "dataset:"),
    (CONFIG, "field: train", "field: validation", "value-mismatch", "dataset_ext", "field"),
    (CONFIG, "  field: train\n", "  field: train\n  split: train[:10]\n", "value-mismatch", "dataset_ext", "split"),
    (CONFIG, "source: json", "source: parquet", "value-mismatch", "dataset_ext", "source"),
    (CONFIG, "  source: json\n", "", "missing-value", "dataset_ext", "dataset:"),
    (CONFIG, "packed: false", "packed: true", "value-mismatch", "packed", "packed"),
    (CONFIG, "train_on_input: false", "train_on_inputs: false", "unplanned-value", "dataset.train_on_inputs", "train_on_inputs"),
    (CONFIG, "Capitalise the word.", "Capitalize the word.", "value-mismatch", "system_prompt", "new_system"),
    (CONFIG, "  new_system_prompt:", "  system_prompt:", "missing-value", "system_prompt", "dataset:"),
    (CONFIG, "output_dir: /scratch/me/out/capitals/", "output_dir: /scratch/me/out/", "value-mismatch", "output_dir_base", "output_dir: /s"),
    (CONFIG, "ck-out-rank8_lr1e-5", "ck-out-rank8_lr1e-4", "value-mismatch", "output_dir_base", "output_dir: /s"),
    (CONFIG, "project: ${my_wandb_project}", "project: other", "value-mismatch", "my_wandb_project", "project: o"),
    (CONFIG, "name: ${my_wandb_run_name}", "name: rank64", "value-mismatch", "my_wandb_run_name", "name: rank64"),
    (CONFIG, "WandBLogger", "DiskLogger", "value-mismatch", "my_wandb_project", "DiskLogger"),
    (CONFIG, "loss.CEWith", "loss.NoSuch", "unplanned-value", "loss._component_", "NoSuch"),
    (CONFIG, "device: cuda", "run_val_every_n_steps: 10\ndevice: cuda", "unplanned-value", "run_val_every_n_steps", "run_val"),
    # interpolation and form, in the config
    (CONFIG, "lora_rank: 8", "lora_rank: ${oc.env:RANK}", "value-mismatch", "model.lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: ${nope}", "value-mismatch", "model.lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: ${model.lora_rank}", "value-mismatch", "model.lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: '${'", "value-mismatch", "model.lora_rank", "lora_rank"),
    (CONFIG, "lora_rank: 8", "lora_rank: ${loss}", "value-mismatch", "lora_rank", "lora_rank"),
    (CONFIG, "seed: 14", "seed: [14", "unreadable-file", "", "shuffle"),
    (CONFIG, GOOD_CONFIG, "- a\n- b\n", "unreadable-file", "", "- a"),
    # directives, in the script
    (SLURM, "#!/bin/bash\n", "", "unreadable-file", "", "#SBATCH --job-name"),
    (SLURM, "--job-name=rank8_lr1e-5", "--job-name=rank8", "value-mismatch", "my_wandb_run_name", "--job-name"),
    (SLURM, "#SBATCH --job-name", "##SBATCH --job-name", "missing-value", "my_wandb_run_name", ""),
    (SLURM, "--time=00:59:00", "--time=00:15:00", "value-mismatch", "time", "--time"),
    (SLURM, "--time=00:59:00", "-t 1:00", "value-mismatch", "time", "-t 1"),
    (SLURM, "--time=00:59:00", "--time=soon", "value-mismatch", "time", "--time"),
    (SLURM, "#SBATCH --time=00:59:00 # Time limit\n", "", "missing-value", "time", ""),
    (SLURM, "--gres=gpu:1", "--gres=gpu:4", "value-mismatch", "gpus", "--gres"),
    (SLURM, "#SBATCH --gres=gpu:1\n", "", "missing-value", "gpus", ""),
    (SLURM, "--nodes=1", "--nodes=2", "value-mismatch", "nodes", "--nodes"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH --account=<ACT>", "placeholder-left", "", "<ACT>"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH -A stale", "unplanned-value", "account", "-A stale"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH --constraint=a100", "unplanned-value", "constraint", "a100"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH --array=0-9", "unplanned-value", "array", "--array"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH --mem=16G", "duplicate-directive", "mem", "--mem=16G"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH 'open", "unreadable-file", "", "'open"),
    (SLURM, "##SBATCH --account=<ACT>", "#SBATCH word", "unreadable-file", "", "word"),
    (SLURM, "--output=slurm-%j.out", "--output=logs/%j.out", "unplanned-value", "output", "--output"),
    (SLURM, "tune run", "#SBATCH --qos=high\ntune run", "late-directive", "qos", "--qos"),
    (SLURM, "#SBATCH --mem=8G", "#SBATCH --mem=8G\r", "unreadable-file", "", "--mem"),
    # commands, in the script
    (SLURM, "conda activate tuning", "conda activate other", "value-mismatch", "conda_env", "conda activate"),
    (SLURM, "conda activate tuning\n", "", "missing-value", "conda_env", ""),
    (SLURM, "eval ", "module load gcc\neval ", "unplanned-value", "modules", "module load"),
    (SLURM, "lora_finetune_single_device", "lora_finetune_distributed", "wrong-recipe", "gpus", "tune run"),
    (SLURM, "lora_finetune_single_device", "full_finetune_single_device", "wrong-recipe", "gpus", "tune run"),
    (SLURM, "tune run", "tune run --nproc_per_node=1", "wrong-recipe", "gpus", "tune run"),
    (SLURM, "tune run", "tune run --nnodes=2", "unplanned-value", "tune run", "tune run"),
    (SLURM, "--config finetune.yaml", "--config ../old/finetune.yaml", "value-mismatch", "config", "tune run"),
    (SLURM, " \\\n    --config finetune.yaml", "", "missing-value", "config", "tune run"),
    (SLURM, "finetune.yaml", "finetune.yaml optimizer.lr=1e-4", "unplanned-value", "optimizer.lr", "tune run"),
    (SLURM, "tune run", "echo tune run", "missing-value", "tune run", ""),
    (SLURM, "mkdir", "tune run lora_finetune_single_device --config finetune.yaml\nmkdir", "unplanned-value", "tune run", "tune run lora_finetune_single_device \\"),
    (SLURM, "mkdir -p /scratch/me/out", "mkdir -p /scratch/you/out", "unplanned-value", "output_dir_base", "mkdir"),
    (SLURM, "eval ", 'echo "', "unreadable-file", "", "echo"),
]  # fmt: skip


def lines_with(text: str, part: str) -> set[int | None]:
    return {number for number, line in enumerate(text.split("\n"), 1) if part in line} if part else {None, 1}


@pytest.mark.parametrize(("file", "old", "new", "code", "field", "part"), FAULTS)
def test_each_fault_is_found_where_it_is(file: str, old: str, new: str, code: str, field: str, part: str) -> None:
    run = planned()
    files = files_of(run)
    files[file] = replaced(str(files[file]), old, new)
    errors = errors_in(validate_run(run, files, bundled=True))
    found = [f for f in errors if (f.code, f.field or "", f.file) == (code, field, f"{RUN}/{file}")]
    assert found, errors
    assert found[0].line in lines_with(str(files[file]), part), found[0]
    assert all(f.fix and f.message for f in found)
    assert {f.file for f in errors} == {f"{RUN}/{file}"}


@pytest.mark.parametrize("name", [SETUP, CONFIG, SLURM])
def test_a_missing_file_is_an_error(name: str) -> None:
    run = planned()
    found = errors_in(validate_run(run, {**files_of(run), name: None}, bundled=False))
    assert [(f.code, f.file) for f in found] == [("missing-file", f"{RUN}/{name}")]


OTHER: dict[str, Scalar] = {
    "dataset_ext": ".parquet",
    "dataset_type": "chat_dataset",
    "lr_scheduler": "get_other",
    "torchtune_model_name": "Qwen2.5-3B",
    "time": "01:00:00",
    "account": "lab",
    "batch_size_val": 3,
    "constraint": "a100",
    "cpus_per_task": 9,
    "custom_recipe": "mine.recipe",
    "epochs_to_save": "1,2",
    "input_key": "question",
    "max_steps_per_epoch": 5,
    "mem": "99G",
    "modules": "gcc/12",
    "output_key": "answer",
    "partition": "gpu",
    "project_dir": "/p",
    "prompt": "Say {input}",
    "save_last_epoch_only": True,
    "stash_adapter_weights": True,
    "training_samples": 7,
    "venv": "mine",
}


def other_value(name: str) -> Scalar:
    value = VALUES.get(name)
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize("name", sorted(finetune.SETTINGS | job.SETTINGS))
def test_no_known_setting_is_skipped(name: str) -> None:
    """Every setting is proven: planned otherwise, with setup_finetune.yaml to match, the outputs are found wrong."""
    data = "/scratch/me/data/words.json" if name != "dataset_label" else "/scratch/me/data/wordsx.json"
    data = "data/words.json" if name in {"input_dir_base", "input_formatting"} else data
    run = planned({name: other_value(name)}, data=data)
    found = errors_in(validate_run(run, files_of(run), bundled=True))
    assert found
    assert {f.file for f in found} <= {f"{RUN}/{CONFIG}", f"{RUN}/{SLURM}"}


def test_a_setting_whose_arrival_is_unknown_is_told() -> None:
    run = planned({"nonsense": 1})
    found = validate_run(run, files_of(run), bundled=True)
    assert [(f.code, f.severity, f.field) for f in found] == [("unproven-setting", Severity.WARNING, "nonsense")]


def only(run: PlannedRun, files: dict[str, str | None], *, bundled: bool = True) -> list[tuple[str, str, str | None]]:
    return [(f.code, str(f.severity), f.field) for f in validate_run(run, files, bundled=bundled)]


def test_defaults_of_an_external_script_are_warnings_only() -> None:
    run = planned()
    config = replaced(EXTERNAL_CONFIG, "weight_decay: 0.01", "weight_decay: 0.1", "seed: 14\n", "")
    found = [f for f in validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False) if f.severity != "info"]
    assert {(f.code, f.severity, f.field) for f in found} == {
        ("default-differs", "warning", "weight_decay"),
        ("default-differs", "warning", "seed"),
    }


def test_an_external_script_may_not_change_what_was_asked_for() -> None:
    run = planned()
    config = replaced(EXTERNAL_CONFIG, "lora_rank: 8", "lora_rank: 64")
    found = errors_in(validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False))
    assert {(f.code, f.field) for f in found} == {("value-mismatch", "lora_rank"), ("name-mismatch", "lora_rank")}


def test_the_known_fault_of_deleted_conda_lines_is_explained() -> None:
    run = planned({"modules": "gcc/12"})
    slurm = replaced(EXTERNAL_SLURM, "conda activate tuning\n", "", "anaconda3/2025.6", "gcc/12")
    found = errors_in(validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False))
    assert [(f.code, f.field) for f in found] == [("missing-value", "conda_env")]
    assert "known fault" in found[0].message


def test_an_external_scripts_own_recipe_is_told() -> None:
    run = planned()
    own = "kit.recipes.lora_finetune_single_device_nightly.__main__"
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", own)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    assert not errors_in(found)
    assert "wrong-recipe" in {f.code for f in found}
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", own.replace("single_device", "distributed"))
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    assert [f.code for f in errors_in(found)] == ["wrong-recipe"]


def test_a_custom_recipe_must_be_the_planned_one() -> None:
    run = planned({"custom_recipe": "mine.recipe"})
    good = replaced(GOOD_SLURM, "lora_finetune_single_device", "mine.recipe.__main__")
    assert only(run, files_of(run, slurm=good)) == []
    assert only(run, files_of(run)) == [("wrong-recipe", "error", "custom_recipe")]


def test_two_gpus_need_two_processes() -> None:
    run = planned({"gpus": 2})
    slurm = replaced(GOOD_SLURM, "gpu:1", "gpu:2", "lora_finetune_single_device", "lora_finetune_distributed")
    assert only(run, files_of(run, slurm=slurm)) == [("wrong-recipe", "error", "gpus")]
    slurm = replaced(slurm, "tune run", "tune run --standalone --nproc-per-node=2")
    assert only(run, files_of(run, slurm=slurm), bundled=False) == [("unplanned-value", "info", "tune run")]


def test_a_planned_virtual_environment() -> None:
    run = planned({"venv": "mine"})
    slurm = replaced(GOOD_SLURM, "conda activate tuning", "source $PROJECT/venvs/mine/bin/activate")
    assert only(run, files_of(run, slurm=slurm)) == []
    assert only(run, files_of(run, slurm=slurm.replace("/mine/", "/notmine/"))) == [("value-mismatch", "error", "venv")]


def test_modules_in_another_order() -> None:
    run = planned({"modules": "a/1,b/2"})
    slurm = replaced(GOOD_SLURM, "eval ", "module load b/2 a/1\neval ")
    assert only(run, files_of(run, slurm=slurm)) == [("value-mismatch", "error", "modules")]


def test_a_model_that_is_not_covered() -> None:
    run = planned({"torchtune_model_name": "Other-7B"})
    assert only(run, files_of(run)) == [("unknown-model", "error", "torchtune_model_name")]
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, EXTERNAL_SLURM), bundled=False)
    assert ("unknown-model", "warning") in {(f.code, str(f.severity)) for f in found}
    assert not errors_in(found)


def test_a_data_set_type_that_is_not_known() -> None:
    run = planned({"dataset_type": "strange"})
    assert only(run, files_of(run)) == [("invalid-value", "error", "dataset_type")]


def test_the_alias_of_a_model() -> None:
    run = planned({"torchtune_model_name": "llama-3.2-1b-INSTRUCT"})
    assert only(run, files_of(run)) == []


def test_validation_during_training() -> None:
    run = planned({"run_val_every_n_steps": 10})
    assert {f.field for f in validate_run(run, files_of(run), bundled=True)} >= {
        "run_val_every_n_steps",
        "dataset_type",
    }
    node = re.search(r"dataset:\n(  .*\n)+", GOOD_CONFIG)
    assert node is not None
    val = node[0].replace("dataset:", "dataset_val:", 1).replace("field: train", "field: validation")
    config = GOOD_CONFIG + val + "run_val_every_n_steps: 10\n"
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "run_val_every_n_steps")]


def test_packed_data_needs_a_length() -> None:
    run = planned({"packed": True, "max_seq_len": None})
    config = replaced(GOOD_CONFIG, "packed: false", "packed: true", "max_seq_len: 2048", "max_seq_len: null")
    assert only(run, files_of(run, config)) == [("missing-value", "error", "max_seq_len")]


def test_settings_that_stock_recipes_do_not_read() -> None:
    run = planned({"epochs_to_save": "1, 2"})
    config = GOOD_CONFIG + "epochs_to_save: [1, 2]\n"
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "epochs_to_save")]
    assert ("value-mismatch", "error", "epochs_to_save") in only(run, files_of(run, config.replace("[1, 2]", "[1]")))
    run = planned({"epochs_to_save": "none"})
    assert only(run, files_of(run, config.replace("[1, 2]", "[]")))[0][0] == "unread-setting"


def test_text_completion_has_no_place_for_prompts() -> None:
    changes: dict[str, Scalar] = {"dataset_type": "text_completion_dataset", "system_prompt": "", "input_key": "text"}
    run = planned(changes)
    config = replaced(
        GOOD_CONFIG, "instruct_dataset", "text_completion_dataset", "  train_on_input: false\n", "  column: text\n",
        "  new_system_prompt: Capitalise the word.\n", "",
    )  # fmt: skip
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "train_on_input")]
    run = planned({**changes, "system_prompt": "Be brief.", "output_key": "answer"})
    found = errors_in(validate_run(run, files_of(run, config), bundled=True))
    assert {f.field for f in found} == {"system_prompt", "output_key"}
    assert any("no place for a system prompt" in f.message for f in found)


def test_the_data_sets_of_cruijff_kit() -> None:
    run = planned({"dataset_type": "chat_completion", "prompt": "Say {input}", "input_key": "q", "training_samples": 5})
    node = """\
dataset:
  _component_: cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset
  source: json
  data_files: ${input_dir}/${dataset_label}.json
  split: train
  model_path: ${models_dir}/Llama-3.2-1B-Instruct
  prompt: Say {input}
  system_prompt: Capitalise the word.
  input_key: q
  max_samples: 5
  train_on_input: false
  packed: false
"""
    config = re.sub(r"dataset:\n(  .*\n)+", lambda _: node, GOOD_CONFIG)
    assert only(run, files_of(run, config)) == []
    found = errors_in(validate_run(run, files_of(run, config.replace("Say {input}", "{input}")), bundled=True))
    assert [(f.code, f.field) for f in found] == [("value-mismatch", "prompt")]
    found = errors_in(validate_run(run, files_of(run, config.replace("models_dir}/L", "models_dir}/l")), bundled=True))
    assert ("value-mismatch", "model_checkpoint") in {(f.code, f.field) for f in found}


def test_training_samples_of_torchtunes_own_data_sets() -> None:
    run = planned({"training_samples": 5})
    config = replaced(GOOD_CONFIG, "  field: train\n", "  field: train\n  split: train[:5]\n")
    assert only(run, files_of(run, config)) == []


def test_paths_given_in_other_ways() -> None:
    run = planned({"model_checkpoint": "/scratch/me/models/Llama-3.2-1B-Instruct"})
    assert only(run, files_of(run)) == []
    run = planned(without="models_dir")
    assert only(run, files_of(run)) == []
    run = planned(without="output_dir_base")
    assert only(run, files_of(run)) == []
    run = planned(without="model_checkpoint")
    assert only(run, files_of(run)) == []


def test_a_name_chosen_by_hand_is_not_held_against_the_run() -> None:
    run = planned().model_copy(update={"name": "rank9", "directory": "rank9"})
    found = validate_run(run, files_of(run), bundled=True)
    names = [f for f in found if f.code == "name-mismatch"]
    assert [(f.field, f.severity) for f in names] == [("lora_rank", "warning"), ("my_wandb_run_name", "error")]


def test_external_components_and_arguments() -> None:
    run = planned()
    config = replaced(
        EXTERNAL_CONFIG, "loss.CEWithChunkedOutputLoss", "loss.Newer", "  fused: true", "  fused: true\n  fast: true"
    )
    config += "extra:\n  _component_: other.package.thing\n"
    found = validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False)
    assert not errors_in(found)
    assert {(f.field, str(f.severity)) for f in found if f.field} >= {
        ("loss._component_", "warning"), ("optimizer.fast", "warning"), ("extra._component_", "info"),
    }  # fmt: skip
    config = replaced(EXTERNAL_CONFIG, "get_cosine", "get_linear")
    run = planned({"lr_scheduler": "get_linear_schedule_with_warmup"})
    errors = errors_in(validate_run(run, files_of(run, config, EXTERNAL_SLURM), bundled=False))
    assert [f.field for f in errors] == ["lr_scheduler._component_"]


def test_parts_that_are_no_nodes() -> None:
    run = planned()
    config = re.sub(r"(model|dataset|checkpointer):\n(  .*\n)+", r"\1: [1, {a: 2}]\n", GOOD_CONFIG)
    found = validate_run(run, files_of(run, config), bundled=True)
    assert {f.field for f in errors_in(found)} >= {"lora_rank", "dataset_type", "model_checkpoint"}


def check_anything(found: tuple[Finding, ...]) -> None:
    for item in found:
        assert item.code in CODES
        assert not re.search(r"[\x00-\x1f\x7f]", item.sentence())
        item.model_dump_json()


ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=[]), max_size=300)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.booleans())
@example("a: &a [*a]", "a: 0x" + "f" * 5000, "#SBATCH -\n#SBATCH --\n#SBATCH -Ax --=\n<<A\n\\", True)  # noqa: FBT003
@example("\ud800", "a: ${a}${a}\nb: ${b", "#!/bin/sh\n#SBATCH --gres= --time= --nodes=9999999999\n'", False)  # noqa: FBT003
def test_any_text_gives_findings_and_no_exception(setup: str, config: str, slurm: str, bundled: bool) -> None:
    check_anything(validate_run(planned(), {SETUP: setup, CONFIG: config, SLURM: slurm}, bundled=bundled))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_mutation_gives_findings_and_no_exception(data: Any) -> None:
    run = planned()
    files = files_of(run)
    name = data.draw(st.sampled_from([SETUP, CONFIG, SLURM]))
    text = str(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 30)))
        piece = data.draw(
            st.sampled_from(["${", "}", "<<X", "'", '"', "\\", "[", "- ", ": ", "\n", "#SBATCH -", "\x00"])
        )
        text = text[:start] + data.draw(st.one_of(st.just(piece), st.just(""), st.text(max_size=8))) + text[end:]
    files[name] = text
    check_anything(validate_run(run, files, bundled=data.draw(st.booleans())))
