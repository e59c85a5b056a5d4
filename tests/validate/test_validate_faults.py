"""The validate stage with correct files that have one fault each."""

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.validate import validate_run
from support.good_files import CONFIG, GOOD_CONFIG, RUN, SETUP, SLURM, files_of, planned, replaced

# ruff: noqa: E501 - the table of faults has one fault a line


# One fault each: the file, the replacement, then the code, the field and the text on the line of the finding.
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
    (SETUP, "lora_rank: 8\nlora_alpha: 16", "lora_rank: 16\nlora_alpha: 8", "value-mismatch", "lora_alpha", "lora_a"),
    (SETUP, "lora_rank: 8", "model:\n  lora_rank: 8", "missing-value", "lora_rank", ""),
    (SETUP, "lora_rank: 8", "model:\n  lora_rank: 8", "unplanned-value", "model", "model:"),
    (SETUP, "lora_rank: 8", "lora_ranl: 8", "unplanned-value", "lora_ranl", "lora_ranl"),
    (SETUP, "dataset_label: words", "dataset_label: numbers", "value-mismatch", "dataset_label", "dataset_label"),
    (SETUP, "Llama-3.2-1B-Instruct\nmodel", "Llama-3.2-3B-Instruct\nmodel", "value-mismatch", "torchtune_model_name", "-3B"),
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
    (CONFIG, "[model.safetensors]", "[modle.safetensors]", "value-mismatch", "checkpoint_files", "checkpoint_files"),
    (CONFIG, "torch.optim.AdamW", "torch.optim.SGD", "unplanned-value", "optimizer._component_", "SGD"),
    (CONFIG, "log_dir: ${output_dir}/logs", "log_dir: /scratch/me/logs", "unplanned-value", "metric_logger.log_dir", "log_dir"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "[q_prj, v_proj]", "value-mismatch", "lora_attn_modules", "lora_attn"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "[]", "missing-value", "lora_attn_modules", "lora_attn"),
    (CONFIG, "[q_proj, v_proj, output_proj]", "q_proj", "wrong-type", "lora_attn_modules", "lora_attn"),
    (CONFIG, "apply_lora_to_mlp: true", "apply_lora_to_mlp: false", "unplanned-value", "model.apply_lora_to_mlp", "apply_lora"),
    (CONFIG, "seed: 14", "seed: 14\nhf_token: token_here", "unplanned-value", "hf_token", "hf_token"),
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
    (SLURM, "--time=00:59:00", "--time=3540", "value-mismatch", "time", "--time"),
    (SLURM, "--mem=8G\n#SBATCH --time=00:59:00", "--mem=00:59:00\n#SBATCH --time=8G", "value-mismatch", "time", "--time=8G"),
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
    (SLURM, "#SBATCH --mem=8G\n", "", "missing-value", "mem", ""),
    (SLURM, "#SBATCH --cpus-per-task=1\n", "", "missing-value", "cpus_per_task", ""),
    (SLURM, "#SBATCH --mem=8G", "# SBATCH --mem=8G", "unreadable-file", "", "# SBATCH"),
    (SLURM, "#SBATCH --mem=8G", "#sbatch --mem=8G", "unreadable-file", "", "#sbatch"),
    (SLURM, "#!/bin/bash", "#!/usr/bin/env python3", "unreadable-file", "", "python3"),
    (SLURM, "mkdir", "exit 0\nmkdir", "unplanned-value", "exit", "exit 0"),
    (SLURM, "mkdir", "sed -i s/8/9/ finetune.yaml\nmkdir", "unplanned-value", "sed", "sed"),
    (SLURM, "tune run", "false && tune run", "unplanned-value", "tune run", "tune run"),
    (SLURM, "tune run", "CUDA_VISIBLE_DEVICES=7 tune run", "unplanned-value", "tune run", "tune run"),
    (SLURM, "finetune.yaml\n", "finetune.yaml &\n", "unplanned-value", "tune run", "tune run"),
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
def test_each_fault_is_reported_at_its_line(file: str, old: str, new: str, code: str, field: str, part: str) -> None:
    run = planned()
    files = files_of(run)
    files[file] = replaced(str(files[file]), old, new)
    errors = errors_in(validate_run(run, files, bundled=True))
    found = [f for f in errors if (f.code, f.field or "", f.file) == (code, field, f"{RUN}/{file}")]
    assert found, errors
    assert found[0].line in lines_with(str(files[file]), part), found[0]
    assert all(f.fix and f.message for f in found)
    assert {f.file for f in errors} == {f"{RUN}/{file}"}
