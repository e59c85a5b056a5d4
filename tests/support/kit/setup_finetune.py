"""A stand-in for cruijff_kit's setup_finetune.py: the interface of three of its generations, none of its code.

`generation.json` in the same directory defines the generation: its options with their defaults, and the values that it
writes by itself. Known faults are as in the real ones: unknown keys are dropped, modules delete the lines with conda.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TEMPLATE = yaml.safe_load((HERE / "templates" / "finetune_template.yaml").read_text())
GENERATION = json.loads((HERE / "generation.json").read_text())
MODELS = {
    "Llama-3.2-1B-Instruct": ("llama3_2.lora_llama3_2_1b", "LLAMA3_2", ["model.safetensors"], 1),
    "Llama-3.2-3B-Instruct": (
        "llama3_2.lora_llama3_2_3b",
        "LLAMA3_2",
        [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)],
        1,
    ),
    "Llama-3.3-70B-Instruct": (
        "llama3_3.lora_llama3_3_70b",
        "LLAMA3",
        {"filename_format": "model-{}-of-{}.safetensors", "max_filename": "00030"},
        4,
    ),
}
SLURM_ALONE = {"time", "gpus", "conda_env", "account", "partition", "constraint", "mem", "cpus_per_task"}
ELSEWHERE = {
    "dataset_ext", "dataset_type", "experiment_name", "gradient_accumulation_steps", "input_dir_base", "input_key",
    "lora_dropout", "lora_rank", "lr", "lr_scheduler", "max_seq_len", "model_checkpoint", "num_warmup_steps",
    "output_dir_base", "output_key", "packed", "project_dir", "prompt", "system_prompt", "torchtune_model_name",
    "train_on_input", "training_samples", "weight_decay",
}  # fmt: skip
OWN = "cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config_file", default="setup_finetune.yaml")
    for name, default in GENERATION["options"].items():
        parser.add_argument(f"--{name}", default=default, type=type(default) if default is not None else str)
    given = parser.parse_args()
    for key, value in (yaml.safe_load(Path(given.config_file).read_text()) or {}).items():
        if hasattr(given, key):
            default = GENERATION["options"].get(key)
            convert = GENERATION["converts"] and isinstance(value, str) and type(default) in {int, float}
            setattr(given, key, type(default)(value) if convert else value)
    return given


def data_set(given: argparse.Namespace, split: str, model: str) -> dict[str, Any]:
    path = "${input_dir}/${dataset_label}"
    if given.dataset_type == "chat_completion":
        return {
            "_component_": OWN, "source": "json", "data_files": f"{path}.json", "split": split, "model_path": model,
            "prompt": given.prompt, "system_prompt": given.system_prompt, "input_key": given.input_key,
            "output_key": given.output_key, "train_on_input": given.train_on_input, "packed": given.packed,
        }  # fmt: skip
    if GENERATION["own_data_sets"]:
        raise KeyError("data_dir")
    found: dict[str, Any] = {"_component_": f"torchtune.datasets.{given.dataset_type}", "packed": True}
    if given.dataset_ext == ".json":
        found |= {"source": "json", "data_files": f"{path}.json", "field": split}
    else:
        found |= {"source": "parquet", "data_dir": f"{path}/{split}.parquet", "split": split}
    found["train_on_input"] = given.train_on_input
    return found | ({"new_system_prompt": given.system_prompt} if given.system_prompt else {})


def config(given: argparse.Namespace, output: str) -> dict[str, Any]:
    name = getattr(given, "torchtune_model_name", "Llama-3.2-1B-Instruct")
    folder = getattr(given, "model_checkpoint", None) or name
    if name not in MODELS:
        raise ValueError(f"Unknown model: '{name}'")
    component, model_type, files, _ = MODELS[name]
    model = "${models_dir}/" + folder
    found: dict[str, Any] = {n: value for n, value in vars(given).items() if n not in SLURM_ALONE | ELSEWHERE}
    found |= {
        "output_dir": output,
        "input_dir": given.input_dir_base + given.input_formatting,
        "model": {
            "_component_": f"torchtune.models.{component}",
            "lora_attn_modules": ["q_proj", "v_proj", "output_proj"],
            "apply_lora_to_mlp": True,
            "lora_rank": given.lora_rank,
            "lora_alpha": given.lora_rank * 2,
            "lora_dropout": getattr(given, "lora_dropout", 0.0),
        },
        "tokenizer": {
            "_component_": "torchtune.models.llama3.llama3_tokenizer",
            "path": f"{model}/original/tokenizer.model",
            "max_seq_len": getattr(given, "max_seq_len", 2048),
        },
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": f"{model}/",
            "checkpoint_files": files,
            "recipe_checkpoint": None,
            "output_dir": "${output_dir}",
            "model_type": model_type,
        },
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "weight_decay": getattr(given, "weight_decay", TEMPLATE["optimizer"]["weight_decay"]),
            "lr": given.lr,
        },
        "lr_scheduler": {
            "_component_": f"torchtune.training.lr_schedulers.{given.lr_scheduler}",
            "num_warmup_steps": given.num_warmup_steps,
        },
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.WandBLogger",
            "mode": "offline",
            "project": "${my_wandb_project}",
            "name": "${my_wandb_run_name}",
            "log_dir": "${output_dir}/logs",
        },
        "dataset": data_set(given, "train", model),
        "gradient_accumulation_steps": getattr(given, "gradient_accumulation_steps", 1),
        "seed": getattr(given, "seed", TEMPLATE["seed"]),
        "resume_from_checkpoint": False,
        "compile": False,
        "log_peak_memory_stats": True,
        "device": "cuda",
        "dtype": "bf16",
        "enable_activation_checkpointing": False,
        "enable_activation_offloading": False,
        "shuffle": True,
        "hf_token": "token_here",
    }
    if given.run_val_every_n_steps:
        found["dataset_val"] = data_set(given, "validation", model)
    else:
        found.pop("run_val_every_n_steps")
    return found


def script(given: argparse.Namespace, output: str) -> str:
    text = (HERE / "templates" / "finetune_template.slurm").read_text()
    chosen = GENERATION["slurm"]
    gpus = given.gpus
    if gpus == 1:  # the default and a given value are indistinguishable
        gpus = MODELS[getattr(given, "torchtune_model_name", "Llama-3.2-1B-Instruct")][-1]
    recipe = given.custom_recipe or chosen["recipe"]
    own = given.custom_recipe or "." in recipe
    if gpus > 1 and (not given.custom_recipe or GENERATION["converts"]):
        recipe = recipe.replace("single_device_nightly", "distributed_stable").replace("single_device", "distributed")
    values = {
        "JOBNAME": given.my_wandb_run_name, "TIME": given.time, "NETID": os.environ["USER"], "OUT": output,
        "MEM": getattr(given, "mem", None) or chosen["mem"], "CPUS": str(chosen["cpus"]), "ENV": given.conda_env,
        "RECIPE": f"--nproc_per_node={gpus} " * (gpus > 1) + recipe + ".__main__" * bool(own),
        "GPUS": str(gpus),
    }  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    for name in ("account", "partition", "constraint"):
        value = getattr(given, name) or chosen.get(name)
        if value:
            text = text.replace(f"##SBATCH --{name}=<{name}>", f"#SBATCH --{name}={value}")
    if given.venv:
        text = text.replace(f"conda activate {given.conda_env}", f"source $PROJECT/venvs/{given.venv}/bin/activate")
    if GENERATION["project_dir"]:
        text = text.replace("##SBATCH --output=", "#SBATCH --output=")
    if given.modules:
        text = "\n".join(line for line in text.splitlines() if "conda" not in line)
        loads = "".join(f"\nmodule load {name.strip()}" for name in given.modules.split(","))
        text = text.replace("module purge", f"module purge{loads}")
    return text


def main() -> None:
    given = arguments()
    if GENERATION["project_dir"]:
        if not given.project_dir:
            raise SystemExit("ERROR: Required path argument(s) not provided: --project_dir")
        if not given.dataset_type:
            raise ValueError("dataset_type is required but was not provided.")
        output = f"{given.project_dir.rstrip('/')}/{given.experiment_name}/{given.my_wandb_run_name}/artifacts/"
    else:
        output = f"{given.output_dir_base.rstrip('/')}/{given.experiment_name}/ck-out-{given.my_wandb_run_name}/"
    Path("finetune.yaml").write_text(yaml.dump(config(given, output), sort_keys=False))
    Path("finetune.slurm").write_text(script(given, output))


if __name__ == "__main__":
    main()
