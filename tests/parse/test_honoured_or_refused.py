"""What people write of methods, LoRA, W&B, nodes and batches is honoured or refused, wherever they write it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.pipeline.prepare import prepare
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import by_label, normalize

GUIDE = (Path(__file__).parents[2] / "workflows/torchtune.md").read_text()
MODEL = "Llama-3.1-8B-Instruct"  # whose output layer has weights of its own

MARKDOWN = """\
# sweep

## All Runs

| Run Name | Model | {header}Type |
|---|---|{rule}---|
| a | {model} | {cell}Fine-tuned |

## Resources

### Models

- **{model}**: `/models/{model}`

### Dataset

- **Path**: `words.json`

## Configuration

{lines}
"""

YAML = """\
experiment: {{name: sweep}}
controls:
{lines}
models:
  base:
    - {{name: {model}, path: /models/{model}}}
data:
  training: {{path: words.json}}
runs:
  - name: a
    type: fine-tuned
    model: {model}
    parameters:
{own}
"""

USUAL = {"Epochs": "2", "Batch size": "4", "LoRA rank": "8", "Learning rate": "1e-4", "Gradient accumulation steps": "1"}
LOCAL = "- conda_env: tune\n- my_wandb_project: words\n- output_dir_base: /scratch/out\n"
REFUSALS = {"unsupported-setting", "ambiguous", "misspelt-field", "invalid-value", "wrong-recipe"}
HARMLESS = {"not-seen", "long-warmup", "overridden"}
"""Findings about what lies on this machine, that steps are few, and that the line wins over claude.local.md."""


def cases() -> list[tuple[str, str, str]]:
    """The rows of the guide's table: label, value, and what becomes of it."""
    table = GUIDE[GUIDE.index("| a line, column or key | what becomes of it |") :].split("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines()[2:]]
    return [(*said.strip().split(": ", 1), becomes.strip()) for said, becomes in rows]  # type: ignore[misc]


def _name(label: str) -> str:
    parameter = by_label(label)
    return parameter.name if parameter else label


def _typed(value: str) -> str:
    """A value as YAML has it: numbers and booleans as they are, the rest in quotes."""
    return value if re.fullmatch(r"[0-9.]+|true|false", value) else json.dumps(value)


def written(folder: Path, form: str, label: str, value: str, becomes: str = "") -> Path:
    """The experiment, with the line in a form: `configuration`, `column`, `controls` or `parameters`."""
    folder.mkdir(exist_ok=True)
    (folder / "words.json").write_text(json.dumps({"train": [{"input": "a", "output": "A"}] * 400}))
    (folder / "claude.local.md").write_text(LOCAL)
    given = {_name(label), *expected(becomes), *({"lora_rank"} if "`recipe` full" in becomes else set())}
    usual = {k: v for k, v in USUAL.items() if _name(k) not in given}
    if form in {"configuration", "column"}:
        lines = [f"- **{k}:** {v}" for k, v in usual.items()]
        lines += [f"- **{label}:** {value}"] if label and form == "configuration" else []
        header, rule, cell = (f"{label} | ", "---|", f"{value} | ") if form == "column" else ("", "", "")
        text = MARKDOWN.format(model=MODEL, header=header, rule=rule, cell=cell, lines="\n".join(lines))
        (folder / "experiment_summary.md").write_text(text)
    else:
        key = normalize(label).replace(" ", "_")
        lines = [f"  {_name(k)}: {v}" for k, v in usual.items()]
        own = "      seed: 14"
        if label and form == "controls":
            lines.append(f"  {key}: {_typed(value)}")
        elif label:
            own += f"\n      {key}: {_typed(value)}"
        (folder / "experiment_summary.yaml").write_text(YAML.format(model=MODEL, lines="\n".join(lines), own=own))
    return folder


def settings_of(folder: Path) -> tuple[dict[str, Scalar], set[str]]:
    """What is planned of the one run, and the codes of what is told about it."""
    plan = prepare(Request(folder)).plan
    told = {f.code for f in plan.warnings if f.severity is not Severity.INFO} - HARMLESS
    return {name: setting.value for name, setting in plan.runs[0].settings.items()}, told


def changed(before: Mapping[str, Scalar], after: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What differs, by name; a recipe is one of its names in documents."""
    left_out = {"lora_alpha"} if after.get("lora_rank") != before.get("lora_rank") else set()
    names = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)} - left_out - {"input_dir_base"}
    return {name: after.get(name) for name in names}


def expected(becomes: str) -> dict[str, str]:
    """The settings that the guide names, by name."""
    return dict(re.findall(r"`(\w+)`(?: ([^ ]+?))?(?:, (?=`)|$)", becomes))


FORMS = ("configuration", "column", "controls", "parameters")
OF_ALL_RUNS = {"Hardware", "Offline", "W&B entity", "Conda environment", "Base recipe"}
"""What no row says: in a table, these are columns for people."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("label", "value", "becomes"), cases())
def test_what_the_guide_says_becomes_of_it(tmp_path: Path, form: str, label: str, value: str, becomes: str) -> None:
    if form in {"column", "parameters"} and label in OF_ALL_RUNS:
        pytest.skip("it is the same for all runs")
    folder = written(tmp_path / "sweep", form, label, value, becomes)
    if becomes == "refused":
        with pytest.raises(Refused) as refused:
            settings_of(folder)
        (problem,) = {(p.code, p.line): p for p in refused.value.problems if p.severity is Severity.ERROR}.values()
        assert problem.code in REFUSALS
        assert problem.fix
        text = next(folder.glob("experiment_summary.*")).read_text().splitlines()
        line = problem.line or 0
        assert value in text[line - 1] or label in text[line - 1], problem
        return
    usual, usually = settings_of(written(tmp_path / "usual", form, "", ""))
    planned, told = settings_of(folder)
    assert told <= usually
    found = changed(usual, planned)
    if becomes == "LoRA" or becomes == "nothing":
        assert found == {}
        return
    named = expected(becomes)
    assert named
    for name, text in named.items():
        if name == "recipe":
            assert found["custom_recipe"] == "full_finetune_single_device"
        elif text:
            is_so = {"yes": True, "no": False}.get(text, text)
            assert planned[name] == is_so or str(planned[name]) == text
    assert set(found) - set(named) <= {"lora_alpha", "lora_rank", "custom_recipe", *OF_FULL}


OF_FULL = {
    "lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout", "save_adapter_weights_only",
}  # fmt: skip
