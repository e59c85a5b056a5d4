"""Values that people write for methods, LoRA, W&B, nodes and batches are used or refused, wherever they are written."""

import functools
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.pipeline.prepare import prepare
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import by_label, normalize
from support.sampling import spread

GUIDE = (Path(__file__).parents[2] / "workflows/recipes.md").read_text()
MODEL = "Llama-3.1-8B-Instruct"  # its output layer has separate weights

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

USUAL = {
    "Epochs": "2",
    "Batch size": "4",
    "LoRA rank": "8",
    "Learning rate": "1e-4",
    "Gradient accumulation steps": "1",
}
LOCAL = "- conda_env: tune\n- my_wandb_project: words\n- output_dir_base: /scratch/out\n"
REFUSALS = {"unsupported-setting", "ambiguous", "misspelt-field", "invalid-value", "wrong-recipe"}
HARMLESS = {"not-seen", "long-warmup", "overridden"}
"""Findings about files on this machine, about few steps, and about a line that overrides claude.local.md."""


def cases() -> list[tuple[str, str, str]]:
    """Return the rows of the guide's table: label, value and result."""
    table = GUIDE[GUIDE.index("| line, column or key | result |") :].split("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines()[2:]]
    return [(*said.strip().split(": ", 1), becomes.strip()) for said, becomes in rows]  # type: ignore[misc]


def _name(label: str) -> str:
    parameter = by_label(label)
    return parameter.name if parameter else label


def _typed(value: str) -> str:
    """Return a value as YAML: numbers and booleans unchanged, anything else in quotes."""
    return value if re.fullmatch(r"[0-9.]+|true|false", value) else json.dumps(value)


def written(folder: Path, form: str, label: str, value: str, becomes: str = "") -> Path:
    """Write the experiment with the line as `configuration`, `column`, `controls` or `parameters`."""
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
    """Return the settings of the only run, and the codes of the warnings."""
    plan = prepare(Request(folder)).plan
    told = {f.code for f in plan.warnings if f.severity is not Severity.INFO} - HARMLESS
    return {name: setting.value for name, setting in plan.runs[0].settings.items()}, told


@functools.cache
def usual_settings(form: str) -> tuple[dict[str, Scalar], set[str]]:
    """Return the settings and codes of the experiment without an additional line."""
    with tempfile.TemporaryDirectory() as folder:
        return settings_of(written(Path(folder, "usual"), form, "", ""))


def changed(before: Mapping[str, Scalar], after: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the settings that differ, by name; a recipe has one of its names in documents."""
    left_out = {"lora_alpha"} if after.get("lora_rank") != before.get("lora_rank") else set()
    names = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)} - left_out - {"input_dir_base"}
    return {name: after.get(name) for name in names}


def expected(becomes: str) -> dict[str, str]:
    """Return the settings that the guide names, by name."""
    return dict(re.findall(r"`(\w+)`(?: ([^ ]+?))?(?:, (?=`)|$)", becomes))


FORMS = ("configuration", "column", "controls", "parameters")
OF_ONE_RUN = {"column", "parameters"}
"""The forms in which the value belongs to one run."""

OF_ALL_RUNS = {"Hardware", "Offline", "W&B entity", "Conda environment", "Base recipe"}
"""Labels that a row cannot set: in a table, these are unused columns."""


@pytest.mark.parametrize(
    ("label", "value", "becomes", "form"),
    spread(
        [
            (label, value, becomes, form)
            for label, value, becomes in cases()
            for form in FORMS
            if label not in OF_ALL_RUNS or form not in OF_ONE_RUN
        ],
        every=6,
    ),
)
def test_a_value_has_the_result_that_the_guide_documents(
    tmp_path: Path, form: str, label: str, value: str, becomes: str
) -> None:
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
    usual, usually = usual_settings(form)
    planned, told = settings_of(folder)
    assert told - {"disk-space"} <= usually  # the free space depends on the machine
    found = changed(usual, planned)
    if becomes in {"LoRA", "no change"}:
        assert found == {}
        return
    named = expected(becomes)
    assert named
    for name, named_value in named.items():
        if name == "recipe":
            assert found["custom_recipe"] == "full_finetune_single_device"
        elif named_value:
            is_so = {"yes": True, "no": False}.get(named_value, named_value)
            assert planned[name] == is_so or str(planned[name]) == named_value
    assert set(found) - set(named) <= {"lora_alpha", "lora_rank", "custom_recipe", *OF_FULL}


OF_FULL = {
    "lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout", "save_adapter_weights_only",
}  # fmt: skip


SAID = {
    "Method": (
        "LoRA (DoRA)",
        "LoRA and DPO",
        "DPO",
        "QLoRA, rank 8",
        "LoRA, 8-bit",
        "LoRA + quantization",
        "LoRA (rsLoRA)",
        "LoRA then RLHF",
        "LoRA on the last 4 layers",
        "LoRA for attention",
        "LoRA, embeddings too",
        "prefix tuning",
        "LoRA with knowledge distillation",
        "LoRA (NF4 base)",
        "adapters",
        "GRPO",
        "LoRA/QAT",
        "full, frozen embeddings",
        "LoRA on all linear layers",
        "LoRA with neftune",
        "half LoRA",
        "LoRA?",
        "LoRA via axolotl",
        "see the paper",
    ),
    "Approach": ("QLoRA", "DPO after SFT", "4-bit LoRA", "LoRA + DPO"),
    "Technique": ("DoRA", "quantization-aware training"),
    "Adapter": ("QLoRA", "LoRA with DoRA"),
    "PEFT": ("IA3", "AdaLoRA", "yes, with DoRA"),
    "Training stage": ("DPO", "RLHF"),
    "Model precision": ("4-bit", "int8 base"),
    "QLoRA": ("yes", "true", "enabled"),
    "DoRA": ("yes", "on"),
    "Use rsLoRA": ("yes",),
    "Bits": ("4", "8"),
    "LoRA variant": ("DoRA",),
    "LoRA bias": ("all",),
    "LoRA placement": ("attention",),
    "Batch strategy": ("dynamic",),
    "Node type": ("2 nodes",),
    "Nodes": ("2", "two", "4 (8 GPUs each)", "2 x 4 GPUs"),
    "Compute": ("2 nodes x 4 GPUs", "multi-node"),
    "GPUs": ("8 across 2 nodes", "2 nodes x 4 GPUs", "8 (multi-node)", "16 GPUs on 4 nodes"),
    "Tasks per node": ("4",),
    "Effective batch size": ("8", "64"),
    "Global batch size": ("128",),
    "Total batch size": ("16 (4 x 4)",),
    "Batch size": ("4 (effective 16)", "4 x 4", "16 (total)", "4 (x 4 accumulation = 64)"),
    "Gradient accumulation": ("2 (effective 64)",),
    "W&B": ("lab/words", "tensorboard"),
    "W&B mode": ("sometimes", "dryrun"),
    "W&B host": ("https://wandb.lab",),
    "W&B artifacts": ("yes",),
    "Logger": ("mlflow", "stdout"),
    "Target modules": ("attention", "q_proj, up_proj", "embed_tokens", "lm_head", "all layers"),
    "LoRA attention modules": ("q_prj", "mlp", "none"),
    "Apply LoRA to MLP": ("only gate", "up_proj"),
    "Warmup ratio": ("10", "1.5", "about a tenth"),
    "Freeze layers": ("0-10",),
    "Modules to save": ("lm_head",),
    "Replicates": ("3", "five"),
    "Number of seeds": ("3",),
    "Subset": ("half", "first 1000"),
    "Train split": ("validation",),
    "Start from": ("runs/r8/epoch_1",),
    "Logging": ("W&B online",),
    "LR decay": ("none",),
    "Optimizer": ("AdamW 8-bit", "paged AdamW", "Lion"),
    "Precision": ("fp8", "bf16, 4-bit base", "fp32"),
    "LoRA dropout": ("0.1 (DoRA)",),
    "Epochs": ("2 (then DPO)",),
    "DPO beta": ("0.1",),
    "Reference model": ("base",),
}
"""Values that request different runs, by label: none of them is supported, so each is refused."""


@pytest.mark.parametrize("form", ["configuration", "controls"])
@pytest.mark.parametrize("label", spread(SAID, every=3))
def test_a_request_for_different_runs_is_refused(tmp_path: Path, form: str, label: str) -> None:
    for number, value in enumerate(SAID[label]):
        folder = written(tmp_path / str(number), form, label, value)
        with pytest.raises(Refused) as refused:
            settings_of(folder)
        found = [p for p in refused.value.problems if p.severity is Severity.ERROR]
        assert {p.code for p in found} <= REFUSALS | {"missing-field"}, value
        text = next(folder.glob("experiment_summary.*")).read_text().splitlines()
        assert any(label in text[(p.line or 1) - 1] or value in text[(p.line or 1) - 1] for p in found), value


@pytest.mark.parametrize("label", ["Method", "QLoRA", "Use DoRA", "Bits", "Nodes", "W&B", "Target modules"])
def test_a_request_in_a_row_is_refused_only_for_fine_tuned_rows(tmp_path: Path, label: str) -> None:
    value = {"Method": "LoRA (4-bit)", "QLoRA": "yes"}.get(label, SAID.get(label, ("yes",))[0])
    folder = written(tmp_path / "sweep", "column", label, value)
    with pytest.raises(Refused) as refused:
        settings_of(folder)
    (found,) = {p.line: p for p in refused.value.problems if p.severity is Severity.ERROR}.values()
    summary = folder / "experiment_summary.md"
    assert summary.read_text().splitlines()[(found.line or 0) - 1].startswith("| a |")
    summary.write_text(summary.read_text().replace(f"{value} | Fine-tuned", "- | Fine-tuned"))
    assert settings_of(folder)[0]["lora_rank"] == 8


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("Overview", "- **Method:** QLoRA"),
        ("Overview", "- **Method:** full fine-tuning"),
        ("Overview", "- **Training method:** LoRA + DPO"),
        ("Overview", "- **Nodes:** 4"),
        ("Setup notes", "- **W&B mode:** online"),
        ("Setup notes", "- **Target modules:** q_proj, v_proj"),
        ("Setup notes", "- **Effective batch size:** 64"),
    ],
)
def test_a_section_without_settings_may_not_contradict_the_plan(tmp_path: Path, section: str, line: str) -> None:
    folder = written(tmp_path / "sweep", "configuration", "", "")
    summary = folder / "experiment_summary.md"
    summary.write_text(summary.read_text().replace("## All Runs", f"## {section}\n\n{line}\n\n## All Runs"))
    with pytest.raises(Refused) as refused:
        settings_of(folder)
    (found,) = [p for p in refused.value.problems if p.severity is Severity.ERROR]
    assert summary.read_text().splitlines()[(found.line or 0) - 1] == line


@pytest.mark.parametrize(
    "line",
    [
        "- **Method:** a grid over ranks and rates",
        "- **Method:** LoRA",
        "- **Nodes:** 1",
        "- **Notes:** unlike QLoRA, nothing is quantized",
        "- **W&B mode:** offline",
    ],
)
def test_a_section_without_settings_may_confirm_the_plan(tmp_path: Path, line: str) -> None:
    usual = settings_of(written(tmp_path / "usual", "configuration", "", ""))
    folder = written(tmp_path / "sweep", "configuration", "", "")
    summary = folder / "experiment_summary.md"
    summary.write_text(summary.read_text().replace("## All Runs", f"## Overview\n\n{line}\n\n## All Runs"))
    planned, told = settings_of(folder)
    assert (changed(usual[0], planned), told) == ({}, usual[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "QLoRA"), ("training", {"method": "QLoRA"}), ("lora", {"use_dora": True}), ("quantization", "4-bit"),
        ("experiment", {"name": "sweep", "method": "DPO"}), ("output", {"wandb_mode": "sometimes"}),
        ("variables", {"method": ["LoRA", "QLoRA"]}), ("wandb", {"mode": "online"}), ("slurm", {"nodes": 2}),
        ("output", {"wandb": "disabled"}), ("training", {"target_modules": "q_proj"}), ("training", {"seed": 7}),
        ("slurm", {"account": "lab2"}), ("lora", {"r": 16}), ("precision", "fp16"), ("notes", "We train with QLoRA."),
        ("num_seeds", 3), ("replicates", 5), ("design", "We train with an effective batch size of 64."),
        ("notes", ["One model.", "All runs use DoRA."]), ("plan", "LoRA is applied to attention only here."),
        ("optimizer", {"name": "adamw", "betas": [0.9, 0.95]}), ("variables", {"optimizer": ["AdamW", "SGD"]}),
        ("variables", {"precision": ["bf16", "fp16"]}), ("description", "All runs use DoRA, as in the paper."),
    ],
)  # fmt: skip
def test_a_section_of_the_yaml_form_may_not_request_different_runs(tmp_path: Path, key: str, value: object) -> None:
    folder = written(tmp_path / "sweep", "controls", "", "")
    summary = folder / "experiment_summary.yaml"
    text = summary.read_text()
    text = text.replace("experiment: {name: sweep}\n", "") if key == "experiment" else text
    summary.write_text(f"{text}\n{key}: {json.dumps(value)}\n")
    with pytest.raises(Refused) as refused:
        settings_of(folder)
    last = len(summary.read_text().splitlines())
    assert {p.line for p in refused.value.problems if p.severity is Severity.ERROR} == {last}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("design", "We use one seed and a batch size of 4, with LoRA."), ("num_seeds", 1),
        ("variables", {"seeds": [14], "lora_ranks": [8]}), ("evaluation_plan", "We evaluate with five seeds in total."),
        ("hypothesis", "QLoRA is no better"), ("notes", "QLoRA is left for later."),
        ("variables", {"optimizer": ["AdamW"]}),
        ("tools", {"preparation": "torchtune", "evaluation": "inspect-ai, 4-bit judge"}), ("optimizer", "AdamW"),
    ],
)  # fmt: skip
def test_a_section_of_the_yaml_form_may_confirm_the_plan(tmp_path: Path, key: str, value: object) -> None:
    usual, usually = settings_of(written(tmp_path / "usual", "controls", "", ""))
    folder = written(tmp_path / "sweep", "controls", "", "")
    summary = folder / "experiment_summary.yaml"
    summary.write_text(f"{summary.read_text()}\n{key}: {json.dumps(value)}\n")
    planned, told = settings_of(folder)
    assert (changed(usual, planned), told - {"unused-field"}) == ({}, usually)


@pytest.mark.parametrize("form", ["column", "parameters"])
@pytest.mark.parametrize("label", ["Base recipe", "Conda environment", "W&B entity", "Offline", "W&B project"])
def test_a_setting_that_all_runs_share_is_refused_in_a_row(tmp_path: Path, form: str, label: str) -> None:
    name = {"W&B project": "wandb project", "Conda environment": "conda env"}.get(label, label)
    folder = written(tmp_path / "sweep", form, name if form == "parameters" else label, "other")
    with pytest.raises(Refused) as refused:
        settings_of(folder)
    (found,) = [p for p in refused.value.problems if p.severity is Severity.ERROR]
    assert found.code == "misspelt-field"


def test_the_yaml_form_accepts_lists_for_settings_with_several_values(tmp_path: Path) -> None:
    folder = written(tmp_path / "sweep", "controls", "", "")
    summary = folder / "experiment_summary.yaml"
    summary.write_text(
        summary.read_text().replace("controls:\n", "controls:\n  lora_attn_modules: [v_proj, q_proj]\n")
        + "output: {wandb_mode: disabled, wandb_tags: [one, two]}\n"
    )
    planned, _ = settings_of(folder)
    assert [planned[name] for name in ("lora_attn_modules", "wandb_mode", "wandb_tags")] == [
        "q_proj,v_proj", "disabled", "one,two",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("notes", ["We train for nine epochs."], "epochs"), ("description", "Runs log online to wandb.", "wandb_mode"),
        ("variables", {"seeds": [1, 2, 3]}, "seed"), ("variables", {"lora_ranks": [8, 64]}, "lora_rank"),
        ("approach", "We use learning rates 1e-4 and 3e-4 with three seeds.", "seed"),
    ],
)  # fmt: skip
def test_levels_in_texts_of_the_yaml_form_are_compared_with_the_runs(
    tmp_path: Path, key: str, value: object, field: str
) -> None:
    folder = written(tmp_path / "sweep", "controls", "", "")
    summary = folder / "experiment_summary.yaml"
    summary.write_text(f"{summary.read_text()}\n{key}: {json.dumps(value)}\n")
    plan = prepare(Request(folder)).plan
    assert field in {f.field for f in plan.warnings if f.code == "levels-differ"}
