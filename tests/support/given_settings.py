"""A non-default value of each setting that a document may give, independent of the table of parameters."""

from scaffold_torchtune.findings import Scalar

# The text of a document for a setting, and its value in the plan.
BY_RUN: dict[str, tuple[str, Scalar]] = {
    "wandb_group": ("sweep", "sweep"),
    "wandb_tags": ("one, two", "one,two"),
    "wandb_mode": ("online", "online"),
    "dataset_type": ("chat_dataset", "chat_dataset"),
    "training_samples": ("77", 77),
    "system_prompt": ("Say it.", "Say it."),
    "prompt": ("Say {input}", "Say {input}"),
    "input_key": ("question", "question"),
    "output_key": ("answer", "answer"),
    "train_on_input": ("yes", True),
    "packed": ("yes", True),
    "max_seq_len": ("512", 512),
    "lora_rank": ("24", 24),
    "lora_alpha": ("99", 99),
    "lora_attn_modules": ("q_proj, k_proj", "q_proj,k_proj"),
    "apply_lora_to_mlp": ("no", False),
    "apply_lora_to_output": ("yes", True),
    "lora_dropout": ("0.25", 0.25),
    "lr": ("3e-6", 3e-6),
    "lr_scheduler": ("cosine", "get_cosine_schedule_with_warmup"),
    "num_warmup_steps": ("13", 13),
    "weight_decay": ("0.125", 0.125),
    "batch_size": ("6", 6),
    "batch_size_val": ("5", 5),
    "epochs": ("7", 7),
    "gradient_accumulation_steps": ("3", 3),
    "clip_grad_norm": ("0.75", 0.75),
    "max_steps_per_epoch": ("21", 21),
    "seed": ("4711", 4711),
    "enable_activation_checkpointing": ("yes", True),
    "log_every_n_steps": ("17", 17),
    "run_val_every_n_steps": ("19", 19),
    "save_adapter_weights_only": ("yes", True),
    "save_last_epoch_only": ("yes", True),
    "epochs_to_save": ("1,2", "1,2"),
    "stash_adapter_weights": ("yes", True),
    "resume_from_checkpoint": ("yes", True),
    "time": ("3:00:00", "3:00:00"),
    "gpus": ("2", 2),
    "gpu_type": ("h100", "h100"),
    "mem": ("48G", "48G"),
    "cpus_per_task": ("9", 9),
    "qos": ("high", "high"),
    "requeue": ("no", False),
}
"""Settings that may differ by run."""

OF_LOCAL: dict[str, tuple[str, Scalar]] = {
    "my_wandb_project": ("cities", "cities"),
    "wandb_entity": ("team", "team"),
    "output_dir_base": ("/out", "/out"),
    "conda_env": ("kit", "kit"),
    "modules": ("cuda/12, gcc/13.1", "cuda/12,gcc/13.1"),
    "models_dir": ("/base", "/base"),
    "account": ("lab", "lab"),
    "partition": ("gpu", "gpu"),
    "constraint": ("a100&nvlink", "a100&nvlink"),
    "reservation": ("course", "course"),
    "exclude": ("node[01-03]", "node[01-03]"),
    "mail_user": ("ada@example.org", "ada@example.org"),
    "mail_type": ("end, fail", "END,FAIL"),
    "comment": ("a second try", "a second try"),
    "offline": ("yes", True),
    **{
        name: BY_RUN[name]
        for name in (
            "wandb_group", "wandb_tags", "wandb_mode", "time", "gpus", "gpu_type", "mem", "cpus_per_task", "qos",
            "requeue",
        )
    },
}  # fmt: skip
"""Settings that claude.local.md may give."""

OF_TEMPLATES: dict[str, tuple[str, Scalar]] = {
    "venv": ("/opt/venv", "/opt/venv"),
    "base_recipe": ("llama3_2", "llama3_2"),
    "custom_recipe": ("kit.recipes.lora_finetune_single_device", "kit.recipes.lora_finetune_single_device"),
}
"""Settings that only a plain template may give."""

OF_ANY_TEMPLATE: dict[str, tuple[str, Scalar]] = BY_RUN | OF_LOCAL | OF_TEMPLATES
