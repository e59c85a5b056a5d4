"""A planned run and its correct files: finetune.yaml and finetune.slurm, independent of the code of the project."""

from collections.abc import Mapping

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.system.serialization import yaml_scalar

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

# The files of another script: more keys, its own lines, a longer notation of the same values.
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
    changes: Mapping[str, Scalar] | None = None,
    *,
    data: str = "/scratch/me/data/words.json",
    without: str = "",
    generation: str = "2025-12",
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
        generation=generation,
    )


def setup_of(run: PlannedRun) -> str:
    return "".join(f"{name}: {yaml_scalar(setting.value)}\n" for name, setting in run.settings.items())


def files_of(run: PlannedRun, config: str = GOOD_CONFIG, slurm: str = GOOD_SLURM) -> dict[str, str | None]:
    return {SETUP: setup_of(run), CONFIG: config, SLURM: slurm}


def replaced(text: str, *pairs: str) -> str:
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new, 1)
    return text
