"""The validate stage with configs of different plans, in different notations and with mistakes: the exact findings."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.validate import validate_run
from support.good_files import GOOD_CONFIG, files_of, planned, replaced

# ruff: noqa: E501 - the table of cases has one case a line


Found = list[tuple[str, str, str | None]]
OUT = "/scratch/me/out/capitals/ck-out-rank8_lr1e-5"
PROMPT = ("max_seq_len: 2048\n", "max_seq_len: 2048\n  prompt_template: {user: ['Say ', '!']}\n")
FILES = "[model.safetensors]"
EPOCHS = ("seed: 14\n", "seed: 14\nepochs_to_save: [1, 2]\n")
UNREAD = ("unread-setting", "warning", "epochs_to_save")


def error(field: str, code: str = "value-mismatch") -> tuple[str, str, str]:
    return code, "error", field


NO_MLP = error("model.apply_lora_to_mlp", "unplanned-value")

# The planned settings in addition to the usual ones (None: not planned), the replacements in the config, the findings.
CASES: list[tuple[dict[str, Scalar], tuple[str, ...], Found]] = [
    # other notations of the same numbers
    ({}, ("lr: 1.0e-05", "lr: 1e-5"), []),
    ({}, ("lr: 1.0e-05", "lr: 0.00001"), []),
    ({}, ("lr: 1.0e-05", "lr: 1E-05"), []),
    ({"lora_dropout": 0}, ("lora_dropout: 0.0", "lora_dropout: 0"), []),
    ({"lora_dropout": 0}, (), []),
    ({"weight_decay": 0}, ("weight_decay: 0.01", "weight_decay: 0.0"), []),
    ({"lr": 1}, ("lr: 1.0e-05", "lr: 1.0"), [error("lr", "name-mismatch")]),
    ({"clip_grad_norm": 1}, ("seed: 14\n", "seed: 14\nclip_grad_norm: 1.0\n"), []),
    ({"weight_decay": "0.01"}, (), [error("weight_decay", "wrong-type")]),
    # settings that are not planned are not required
    ({"lora_alpha": None, "lora_rank": None}, (), []),
    ({"lora_alpha": None}, ("lora_alpha: 16", "lora_alpha: 8"), [error("lora_alpha")]),
    ({"lora_alpha": None, "lora_rank": "8"}, (), [error("lora_rank", "wrong-type")]),
    ({"model_checkpoint": None, "torchtune_model_name": None}, (), []),
    ({"model_checkpoint": None}, ("checkpoint_dir: ${models_dir}/", "checkpoint_dir: /stale/"), [error("model_checkpoint")]),
    ({"lr_scheduler": None}, (), []),
    ({"my_wandb_project": None}, ("  project: ${my_wandb_project}\n", "", "WandBLogger", "DiskLogger", "  mode: offline\n", "", "  name: ${my_wandb_run_name}\n", "", "my_wandb_project: my_project\n", "", "my_wandb_run_name: rank8_lr1e-5\n", ""), [error("my_wandb_run_name", "missing-value")]),
    ({"experiment_name": None}, (OUT, "/scratch/me/out/ck-out-rank8_lr1e-5"), [error("output_dir_base", "unplanned-value")]),
    ({"output_dir_base": None}, ("  output_dir: ${output_dir}", "  output_dir: /elsewhere"), []),
    ({"packed": None, "train_on_input": None, "dataset_type": None}, (), []),
    ({"system_prompt": None}, (), [error("dataset.new_system_prompt", "unplanned-value")]),
    ({"run_val_every_n_steps": None}, (), []),
    # the location of the data
    ({"input_dir_base": "/other"}, (), []),
    # a prompt
    ({"prompt": "Say {input}!"}, PROMPT, []),
    ({"prompt": "Say {input}?"}, PROMPT, [error("prompt")]),
    ({"prompt": "Tell {input}!"}, PROMPT, [error("prompt")]),
    ({"prompt": "Say {input}"}, (*PROMPT, "['Say ', '!']", "['Say ']"), [error("prompt", "missing-value")]),
    ({"prompt": "Say {input}!"}, (*PROMPT, "['Say ', '!']", "'Say {input}!'"), [error("prompt", "missing-value")] * 2),
    ({"prompt": "{input}"}, (), []),
    ({"prompt": ""}, (), []),
    ({"prompt": "Say it"}, (*PROMPT, "['Say ', '!']", "['Say it', '']"), [error("prompt", "invalid-value")]),
    # checkpoint files
    ({}, (FILES, "[model-00001-of-00002.safetensors, model-00002-of-00002.safetensors]"), []),
    ({}, (FILES, "{filename_format: 'model-{}-of-{}.safetensors', max_filename: '00002'}"), []),
    ({}, (FILES, "[model-00001-of-00002.safetensors]"), [error("checkpoint_files")]),
    ({}, (FILES, "[model-00000-of-00002.safetensors, model-00001-of-00002.safetensors]"), [error("checkpoint_files")]),
    ({}, (FILES, "[model-00001-of-00002.safetensors, model-00002-of-00003.safetensors]"), [error("checkpoint_files")] * 2),
    ({}, (FILES, "[model-1-of-2.safetensors, other-2-of-2.safetensors]"), [error("checkpoint_files")] * 2),
    ({}, (FILES, "[model-1-of-2.safetensors, model-2-of-2.bin]"), [error("checkpoint_files")] * 2),
    ({}, (FILES, "[model.safetensors, model.safetensors]"), [error("checkpoint_files")]),
    ({}, (FILES, "model.safetensors"), [error("checkpoint_files", "wrong-type")]),
    ({}, (FILES, "[1]"), [error("checkpoint_files", "wrong-type")]),
    ({}, (FILES, "{filename_format: 'model-{}.safetensors', max_filename: '00002'}"), [error("checkpoint_files")]),
    ({}, (FILES, "{filename_format: 3, max_filename: '00002'}"), [error("checkpoint_files")]),
    ({}, (FILES, "{filename_format: 'model-{}-of-{}.safetensors', max_filename: 00002}"), [error("checkpoint_files", "wrong-type")]),
    ({}, (FILES, "{filename_format: 'model-{}-of-{}.safetensors', max_filename: '0000'}"), [error("checkpoint_files", "wrong-type")]),
    ({}, (FILES, "{}"), [error("model_checkpoint", "missing-value")]),
    ({}, (FILES, "''"), [error("model_checkpoint", "missing-value")]),
    ({}, (f"  checkpoint_files: {FILES}\n", ""), [error("model_checkpoint", "missing-value")]),
    # wrong types
    ({}, ("batch_size: 4", "batch_size: [4]"), [error("batch_size")]),
    ({}, ("output_dir: " + OUT, "output_dir: 5"), [*[error("output_dir_base")] * 2, error("metric_logger.log_dir", "unplanned-value")]),
    ({"dataset_type": "chat_completion"}, ("_component_: torchtune.datasets.instruct_dataset", "_component_: 5"), [error("dataset_type"), error("model_checkpoint", "missing-value"), error("system_prompt", "missing-value"), error("dataset_ext", "unplanned-value"), error("dataset.new_system_prompt", "unplanned-value")]),
    ({}, ("_component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "_component_: 5"), [error("loss._component_", "wrong-type")]),
    ({}, ("_component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "_component_: [a]"), [error("loss._component_", "wrong-type")]),
    # epochs_to_save
    ({"epochs_to_save": "1,2"}, EPOCHS, [UNREAD]),
    ({"epochs_to_save": "1,2"}, (*EPOCHS, "[1, 2]", "[1, '2']"), [error("epochs_to_save"), UNREAD]),
    ({"epochs_to_save": "1"}, (*EPOCHS, "[1, 2]", "[1, true]"), [error("epochs_to_save"), UNREAD]),
    ({"epochs_to_save": "all"}, (*EPOCHS, "[1, 2]", "all"), [UNREAD]),
    ({"epochs_to_save": "none"}, (*EPOCHS, "[1, 2]", "[none]"), [error("epochs_to_save"), UNREAD]),
    # interpolation
    ({}, ("lora_rank: 8", "lora_rank: ${nope}"), [error("model.lora_rank"), error("lora_rank", "name-mismatch")]),
    ({}, ("resume_from_checkpoint: false", "resume_from_checkpoint: ${nope}"), [error("resume_from_checkpoint")]),
    ({}, ("_component_: torchtune.modules.loss.CEWithChunkedOutputLoss", "_component_: ${oc.env:LOSS}"), [error("loss._component_")]),
    # LoRA
    ({}, ("  lora_attn_modules: [q_proj, v_proj, output_proj]\n", ""), [error("lora_attn_modules", "missing-value")]),
    ({}, ("[q_proj, v_proj, output_proj]", "[output_proj, q_proj, v_proj]"), []),
    ({"lora_attn_modules": "q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[k_proj, q_proj]"), []),
    ({"lora_attn_modules": "q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[k_proj, k_proj]"), [error("lora_attn_modules")]),
    ({"lora_attn_modules": "q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[k_proj, q_proj, q_proj]"), [error("lora_attn_modules")]),
    ({"lora_attn_modules": "q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[k_proj]"), [error("lora_attn_modules")]),
    ({"lora_attn_modules": "q_proj,q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[q_proj, k_proj, k_proj]"),
     [error("lora_attn_modules")]),
    ({"lora_attn_modules": "q_proj,q_proj,k_proj"}, ("[q_proj, v_proj, output_proj]", "[q_proj, k_proj, q_proj]"), []),
    ({}, ("[q_proj, v_proj, output_proj]", "[k_proj]"), [error("model.lora_attn_modules", "unplanned-value")]),
    ({}, ("[q_proj, v_proj, output_proj]", "[q_prj, v_prj]", "to_mlp: true", "to_mlp: false"), [*[error("lora_attn_modules")] * 2, NO_MLP]),
    ({}, ("[q_proj, v_proj, output_proj]", "[]", "to_mlp: true", "to_mlp: false"), [error("lora_attn_modules", "missing-value"), NO_MLP]),
    ({}, ("[q_proj, v_proj, output_proj]", "[[q_proj], 5]"), [error("lora_attn_modules")] * 2),
    ({}, ("to_mlp: true", "to_mlp: 'true'"), [error("apply_lora_to_mlp", "missing-value")]),
    # packed
    ({"packed": True}, ("packed: false", "packed: true"), []),
    ({"max_seq_len": None}, ("  max_seq_len: 2048\n", ""), []),
    ({"packed": True, "max_seq_len": None}, ("packed: false", "packed: true", "  max_seq_len: 2048\n", ""), [error("max_seq_len", "missing-value")]),
    # unplanned values that would change the run
    ({}, ("recipe_checkpoint: null", "recipe_checkpoint: null\n  adapter_checkpoint: old.pt"), [error("checkpointer.adapter_checkpoint", "unplanned-value")]),
    ({}, ("recipe_checkpoint: null", "recipe_checkpoint: null\n  resume_from_checkpoint: true"), [error("checkpointer.resume_from_checkpoint", "unplanned-value")]),
    ({}, ("recipe_checkpoint: null", "recipe_checkpoint: null\n  resume_from_checkpoint: false"), []),
    ({}, ("recipe_checkpoint: null", "recipe_checkpoint: null\n  should_load_recipe_state: true"), [error("checkpointer.should_load_recipe_state", "unplanned-value")]),
    ({}, ("lora_rank: 8\n", "lora_rank: 8\n  quantize_base: true\n"), [error("model.quantize_base", "unplanned-value")]),
    ({}, ("lora_rank: 8\n", "lora_rank: 8\n  quantize_base: false\n  use_dora: false\n"), []),
    ({}, ("source: json\n", "source: json\n  filter_fn: mine\n"), [error("dataset.filter_fn", "unplanned-value")]),
    ({}, ("source: json\n", "source: json\n  data_dir: /mine\n"), [error("dataset.data_dir", "unplanned-value")]),
    ({}, ("source: json\n", "source: json\n  tokenizer: mine\n"), [error("dataset.tokenizer", "unplanned-value")]),
    ({}, ("num_warmup_steps: 100", "num_warmup_steps: 100\n  last_epoch: 2"), [error("lr_scheduler.last_epoch", "unplanned-value")]),
    ({}, ("num_warmup_steps: 100", "num_warmup_steps: 100\n  optimizer: 2"), [error("lr_scheduler.optimizer", "unplanned-value")]),
    ({}, ("num_warmup_steps: 100", "num_warmup_steps: 100\n  num_training_steps: 2"), [error("lr_scheduler.num_training_steps", "unplanned-value")]),
    ({}, ("fused: true", "fused: true\n  params: []"), [error("optimizer.params", "unplanned-value")]),
    ({}, ("max_seq_len: 2048", "max_seq_length: 2048"), [error("max_seq_len", "missing-value"), error("tokenizer.max_seq_length", "unplanned-value")]),
    ({}, ("checkpoint_files:", "checkpoint_file:"), [error("model_checkpoint", "missing-value"), error("checkpointer.checkpoint_file", "unplanned-value")]),
    ({"num_warmup_steps": None}, ("  num_warmup_steps: 100\n", ""), [error("lr_scheduler.num_warmup_steps", "missing-value")]),
    # unknown schedulers and components
    ({"lr_scheduler": "get_linear_schedule_with_warmup"}, ("get_cosine", "get_linear"), [error("lr_scheduler._component_", "unplanned-value")]),
    ({"dataset_type": "strange"}, ("torchtune.datasets.instruct_dataset", "strange"), [error("dataset_type", "invalid-value"), error("dataset._component_", "unplanned-value")]),
    ({}, ("seed: 14", "seed: 14\nextra:\n  _component_: other.thing"), [error("extra._component_", "unplanned-value")]),
    # keys of the recipe
    ({}, ("seed: 14", "seed: 14\nprofiler:\n  enabled: false"), []),
    ({}, ("seed: 14\n", ""), [error("seed", "missing-value")]),
    ({}, ("shuffle: true\n", ""), [error("shuffle", "missing-value")]),
    ({}, ("seed: 14", "seed: 14\nlora_rank: 8"), [error("lora_rank", "unplanned-value")]),
    ({}, ("seed: 14", "seed: 14\ndataset_val:\n  source: json"), [error("run_val_every_n_steps", "unplanned-value")]),
    ({}, ("seed: 14", "seed: 14\nrun_val_every_n_steps: ''"), [error("run_val_every_n_steps", "unplanned-value")]),
    ({}, ("  new_system_prompt: Capitalise the word.\n", "  new_system_prompt: ''\n"), [error("system_prompt")]),
    ({"system_prompt": ""}, ("Capitalise the word.", "''"), []),
    ({"custom_recipe": "mine"}, ("seed: 14", "seed: 14\nextra: 1"), [error("custom_recipe", "wrong-recipe")]),
]  # fmt: skip


def found(changes: dict[str, Scalar], config: str) -> Found:
    run = planned(changes)
    settings = {name: setting for name, setting in run.settings.items() if changes.get(name, "") is not None}
    run = run.model_copy(update={"settings": settings})
    return [(f.code, str(f.severity), f.field) for f in validate_run(run, files_of(run, config), bundled=True)]


@pytest.mark.parametrize(("changes", "pairs", "expected"), CASES)
def test_each_config_has_exactly_these_findings(
    changes: dict[str, Scalar], pairs: tuple[str, ...], expected: Found
) -> None:
    assert sorted(map(str, found(changes, replaced(GOOD_CONFIG, *pairs)))) == sorted(map(str, expected))
