"""Foreign input: configurations of other tools as the summary, and Hub data sets or URLs as a path."""

import re
import shlex
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.pipeline import steps
from support.corpus_cases import plan_of
from support.document_forms import LOC, LOCAL, MARKDOWN, MD, YAML, YML, write
from support.scaffolding import refusal

AXOLOTL = """\
base_model: meta-llama/Llama-3.2-1B
load_in_8bit: true
# where the data come from
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
adapter: lora
lora_r: 32
micro_batch_size: 2
num_epochs: 1
learning_rate: 0.0002
"""
LLAMA_FACTORY = """\
### model
model_name_or_path: meta-llama/Meta-Llama-3.1-8B-Instruct
### method
stage: sft
finetuning_type: lora
lora_rank: 8
cutoff_len: 2048
per_device_train_batch_size: 1
num_train_epochs: 3.0
"""
TORCHTUNE = """\
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  lora_rank: 64
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: /tmp/Llama-3.2-1B-Instruct/
dataset:
  _component_: torchtune.datasets.instruct_dataset
  data_files: /data/words.json
optimizer:
  _component_: torch.optim.AdamW
  lr: 3e-4
batch_size: 4
"""
TRL = "model_name_or_path: Qwen/Qwen2.5-7B\nper_device_train_batch_size: 8\nnum_train_epochs: 3\ndataset_name: a/b\n"
OTHERS = {
    "DeepSpeed": '{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 1}',
    "Accelerate": "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 4\n",
    "Weights & Biases": "program: train.py\nmethod: grid\nmetric: {name: loss}\nparameters: {lr: {values: [1e-5]}}\n",
    "PEFT": '{"peft_type": "LORA", "r": 8, "base_model_name_or_path": "google/gemma-2-2b"}',
    "config.json": '{"architectures": ["L"], "model_type": "llama", "hidden_size": 3}',
    "setup_finetune.yaml": "my_wandb_project: w\ntorchtune_model_name: Llama-3.2-1B\ndataset_label: x\nlora_rank: 8\n",
}
TOOLS = {"axolotl": AXOLOTL, "LLaMA-Factory": LLAMA_FACTORY, "torchtune": TORCHTUNE, "TRL": TRL, **OTHERS}
OPTIONS = {
    "axolotl": "--model Llama-3.2-1B --rank 32 --lr 2e-4 --batch-size 2 --epochs 1",
    "LLaMA-Factory": "--model Llama-3.1-8B-Instruct --rank 8 --batch-size 1 --epochs 3",
    "torchtune": "--model Llama-3.2-1B-Instruct --rank 64 --lr 3e-4 --batch-size 4 --data /data/words.json",
    "TRL": "--model Qwen2.5-7B --batch-size 8 --epochs 3",
}


def problems(name: str, text: str) -> list[Finding]:
    with pytest.raises(Refused) as refused:
        plan_of((name, text), (LOC, LOCAL))
    return list(refused.value.problems)


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("name", [MD, YML])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_configuration_of_a_different_tool_is_refused_with_only_that_problem(
    tool: str, name: str, fenced: bool
) -> None:
    text = TOOLS[tool]
    if fenced:
        name, text = MD, f"# Two words\n\nWe use this:\n\n```yaml\n{text.rstrip()}\n```\n"
    (problem,) = problems(name, text)
    assert (problem.code, problem.file, problem.line) == ("not-a-summary", name, 1)
    assert tool in problem.message
    command = problem.fix.split("`")[1]
    assert shlex.split(command)[:3] == ["scaffold-torchtune", "new", "DIR"]
    if tool in OPTIONS:
        assert command == f"scaffold-torchtune new DIR {OPTIONS[tool]}"


def test_the_suggested_command_creates_a_summary_with_the_values_of_the_configuration(tmp_path: Path) -> None:
    folder = write(tmp_path / "sweep", md=AXOLOTL)
    fix = refusal(steps.parse, folder).problems[0].fix
    words = shlex.split(fix.split("`")[1])[1:]
    words[1] = str(tmp_path / "made")
    assert main([*words, "--conda-env", "tune", "--data", "data/words.json", "--model-dir", "/m"]) == 0
    text = (tmp_path / "made" / "experiment_summary.md").read_text()
    assert "| Llama-3.2-1B | 32 | 2e-4 |" in re.sub(r" +\|", " |", text.replace("`", ""))


@pytest.mark.parametrize(("name", "text"), [(MD, MARKDOWN), (YML, YAML)])
def test_a_summary_that_contains_a_configuration_is_still_a_summary(name: str, text: str) -> None:
    if name == MD:
        assert plan_of((name, f"{text}\n## Notes\n\n```yaml\n{AXOLOTL}```\n"), (LOC, LOCAL)).runs
    else:
        shown = "base_model: x\nmicro_batch_size: 2\nadapter: lora\nlora_r: 8\n"
        assert "not-a-summary" not in [problem.code for problem in problems(name, text + shown)]


@pytest.mark.parametrize("written", [
    "tatsu-lab/alpaca", "`tatsu-lab/alpaca`", "tatsu-lab/alpaca (52k samples)", "hf://datasets/tatsu-lab/alpaca",
    "https://huggingface.co/datasets/tatsu-lab/alpaca", "[alpaca](https://huggingface.co/datasets/tatsu-lab/alpaca)",
])  # fmt: skip
@pytest.mark.parametrize("label", ["Path", "Dataset", "Name", "Source", "Hugging Face"])
def test_a_hub_data_set_is_refused_with_the_download_command(label: str, written: str) -> None:
    (problem,) = problems(MD, MARKDOWN.replace("- **Path**: `/data/words.json`", f"- **{label}**: {written}"))
    assert (problem.code, problem.field, problem.line) == ("invalid-value", "dataset", 19)
    assert "--repo-type dataset tatsu-lab/alpaca " in problem.fix


def test_a_hub_data_set_is_refused_everywhere_in_the_yaml_form() -> None:
    (problem,) = problems(YML, YAML.replace("/data/words.json", "tatsu-lab/alpaca"))
    assert (problem.field, "tatsu-lab/alpaca" in problem.fix) == ("dataset", True)
    of_run = YAML.replace("    type: fine-tuned\n", "    type: fine-tuned\n    dataset_path: tatsu-lab/alpaca\n", 1)
    assert "hf download" in problems(YML, of_run)[0].fix


@pytest.mark.parametrize(
    "url", ["s3://lab/words.json", "https://lab.org/w.parquet", "gs://lab/words.json", "file:///w.json"]
)
def test_a_url_is_refused_as_the_path_of_a_data_set(url: str) -> None:
    (problem,) = problems(MD, MARKDOWN.replace("`/data/words.json`", url))
    assert (problem.code, problem.field, problem.line) == ("invalid-value", "dataset", 19)
    (problem,) = problems(YML, YAML.replace("/data/words.json", url))
    assert (problem.code, problem.field) == ("invalid-value", "dataset")


@pytest.mark.parametrize("path", ["data/words.json", "data/v1.2/words.parquet", "a/b.parquet", "./x/y.json"])
def test_a_relative_path_is_not_mistaken_for_a_hub_data_set(path: str) -> None:
    assert plan_of((MD, MARKDOWN.replace("/data/words.json", path)), (LOC, LOCAL)).runs
