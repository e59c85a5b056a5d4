"""Experiments that differ from the example, and their results with three generations of cruijff_kit's script.

The expected results are the same for the real scripts and for the stand-ins.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from scaffold_torchtune.findings import Refused, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from support.experiments import make_experiment
from support.templates import JSON, NAME, OWN_RECIPE

_1B, _3B, _70B = "Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "Llama-3.3-70B-Instruct"
_ALL: Final = ("november", "december", "august")
PASSES: Final = ("", "")
"""The value for a result without a problem, instead of the problem's code and field."""

Problem = tuple[str, str]


@dataclass(frozen=True)
class Unlike:
    """The differences of an experiment, and, by generation, the first problem for which it is refused.

    `runs` is the summary in the YAML form, instead of Markdown.
    """

    ends: tuple[Problem, Problem, Problem]
    replace: dict[str, str] = field(default_factory=dict)
    template: str = ""
    names: str | None = None
    runs: dict[str, Any] = field(default_factory=dict)


def _gpus(number: int) -> dict[str, str]:
    return {"**Default GPUs**: `1`": f"**Default GPUs**: `{number}`", "**GPUs:** 1": f"**GPUs:** {number}"} | {
        "- **Recipe:** lora_finetune_single_device\n": ""
    }


def _other(model: str) -> dict[str, str]:
    """Return the last two runs with another model."""
    return {f"| {_1B} | 16 |": f"| {model} | 16 |"}


def _configured(*lines: str) -> dict[str, str]:
    return {"**Epochs:** 2": "\n- ".join(["**Epochs:** 2", *lines])}


_BY_RUN: Final = {
    "| Batch Size | Type |": "| Batch Size | Dataset | Type |",
    "------------|------|-": "------------|---|------|-",
    "| 1e-5 | 4 |": "| 1e-5 | 4 | /data/first.json |",
    "| 5e-5 | 4 |": "| 5e-5 | 4 | - |",
    "| - | - | - | Control": "| - | - | - | - | Control",
}
_COMPUTE: Final = {"time": "12:30:00", "gpus": 2, "mem": "80G"}
_YAML: Final[dict[str, Any]] = {
    "experiment": {"name": "sweep", "question": "q"},
    "controls": {"epochs": 1, "batch_size": 4, "dataset_type": "chat_completion", "system_prompt": 'Say "it\'s" – ünï'},
    "models": {"base": [{"name": name, "path": f"/models/{name}"} for name in (_1B, _3B)]},
    "data": {"training": {"path": "/data/words.json", "format": "json", "splits": {"train": 80, "validation": 9}}},
    "output": {"wandb_project": "words"},
    "runs": [
        {"name": "conda-r4", "type": "fine-tuned", "model": _1B, "parameters": {"lora_rank": 4}},
        {
            "name": "Llama-3.2-3B_r8", "type": "fine-tuned", "model": _3B, "compute": _COMPUTE,
            "parameters": {"lora_rank": 8, "prompt": "Say:\n\t{input}\n", "system_prompt": ""},
        },
        {"name": "base", "type": "control", "model": _1B, "parameters": {}},
    ],
}  # fmt: skip

_NO_MODELS: Final = ("untaken-setting", "torchtune_model_name")
_NO_PARQUET: Final = ("value-mismatch", "dataset_ext")
_WRONG_GPUS: Final = ("value-mismatch", "gpus")
_WRONG_RECIPE: Final = ("wrong-recipe", "custom_recipe")
UNLIKE: Final = {
    "two models": Unlike((_NO_MODELS, PASSES, PASSES), _other(_3B)),
    "a model that the script gives four GPUs where one is asked for": Unlike(
        (_NO_MODELS, _WRONG_GPUS, _WRONG_GPUS), _other(_70B)
    ),
    "that model on four": Unlike((_NO_MODELS, PASSES, PASSES), {_1B: _70B, **_gpus(4)}),
    "a model that the script does not know": Unlike(
        (_NO_MODELS, ("setup-would-fail", "setup_script"), ("setup-would-fail", "setup_script")),
        _other("Qwen2.5-0.5B-Instruct"),
    ),
    "two GPUs": Unlike((PASSES, PASSES, PASSES), _gpus(2)),
    "a recipe for one GPU on two": Unlike(
        (_WRONG_RECIPE, _WRONG_RECIPE, _WRONG_RECIPE), _gpus(2), f"custom_recipe: {OWN_RECIPE}\n"
    ),
    "Parquet": Unlike(
        (("missing-value", "dataset_label"), _NO_PARQUET, _NO_PARQUET),
        {"words_4L_80P_300.json": "words_4L_80P_300.parquet", "**Format:** JSON": "**Format:** Parquet"},
    ),
    "data sets by run": Unlike((PASSES, PASSES, PASSES), _BY_RUN),
    "half a day": Unlike((PASSES, PASSES, PASSES), {"0:59:00": "12:30:00"}),
    "a prompt of many signs": Unlike(
        (("untaken-setting", "prompt"), PASSES, PASSES),
        _configured("**Prompt:** `\"it's\" {{x}} <MEM> {input} %s # : – ünï`"),
    ),
    "names that the script has words of": Unlike(
        (PASSES, PASSES, PASSES), {f"{_1B}_rank8_lr1e-5 ": "conda-MEM_ACT "}, names="table"
    ),
    "a template": Unlike((PASSES, PASSES, ("untaken-setting", "stash_adapter_weights")), template=JSON),
    "the YAML form": Unlike((("untaken-setting", "torchtune_model_name"), PASSES, PASSES), runs=_YAML),
}  # fmt: skip


def ends(folder: Path, unlike: Unlike, generation: str, script: Path) -> tuple[set[Problem], ScaffoldResult | None]:
    """Scaffold in a new directory; return the problem of the refusal, which wrote nothing, or the result."""
    chat = _configured("**Dataset type:** chat_completion") if generation == "august" and not unlike.runs else {}
    replace = {old: new + chat[old].removeprefix(old) if old in chat else new for old, new in unlike.replace.items()}
    directory = make_experiment(folder / "sweep", replace={**chat, **replace})
    if unlike.runs:
        (directory / "experiment_summary.md").unlink()
        (directory / "experiment_summary.yaml").write_text(yaml.safe_dump(unlike.runs, sort_keys=False))
    given: dict[str, Any] = {"setup_script": str(script), "names": unlike.names, "activate": False}
    if unlike.template:
        given["template"] = folder / NAME
        given["template"].write_text(unlike.template)
    before = {path.name for path in directory.iterdir()}
    try:
        return set(), steps.scaffold(Request(directory, **given))
    except Refused as refused:
        problems = errors_in(refused.problems)
    assert {path.name for path in directory.iterdir()} - {"scaffold.log"} == before
    assert all(problem.fix for problem in problems)
    return {(problem.code, str(problem.field)) for problem in problems}, None


def holds(folder: Path, name: str, generation: str, script: Path) -> None:
    """Assert that an experiment ends as expected with the script of a generation."""
    expected = UNLIKE[name].ends[_ALL.index(generation)]
    problems, result = ends(folder, UNLIKE[name], generation, script)
    if expected != PASSES:
        assert expected in problems
        return
    assert not problems
    assert result is not None
    assert result.ok
    assert [f.sentence() for run in result.validation.runs for f in run.findings if f.severity != "info"] == []
