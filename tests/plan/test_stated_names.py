"""Patterns and examples of names that a summary states are compared with the names of run directories and outputs."""

import time
from pathlib import Path

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.document_forms import YAML, write
from support.experiments import change, make_experiment, many_runs
from support.sampling import spread

OLD = "- **Naming pattern:** `ck-out-{run_name}/epoch_{N}`"
FIRST = "rank8_lr1e-5"
PATTERN = "rank{lora_rank}_lr{lr}"
BASE = "/scratch/gpfs/LAB/ada/ck-outputs"
EXPERIMENT = "cap_4L_lora_lr_sweep"


def found(place: Path, text: str, **given: object) -> list[Finding]:
    """Return the findings about names if the text, under Output, replaces the pattern of the summary."""
    experiment = make_experiment(place / "sweep", replace={OLD: text})
    warnings = steps.plan(Request(experiment, **given)).warnings  # type: ignore[arg-type]
    assert [each for each in warnings if each.code == "unused-field"] == []
    return [each for each in warnings if each.code == "naming-differs"]


@pytest.mark.parametrize("text", spread([
    "- **Naming pattern:** `ck-out-{run_directory}/epoch_{N}`",
    "- **Naming pattern:** `ck-out-{my_wandb_run_name}/epoch_0`",
    "- **Naming pattern:** `rank{N}_lr{LR}`",
    "- **Naming:** rank{lora_rank}_lr{learning_rate}",
    "- **Naming pattern:** `rank<R>_lr<LR>/`",
    "- **Naming pattern:** rank[rank]_lr[lr]",
    "- **Naming pattern:** `rank$RANK_lr$LR`",
    "- **Naming pattern:** `rank${rank}_lr${lr}`",
    "- **Naming pattern:** `rank{{ lora_rank }}_lr{{ lr }}`",
    "- **Naming pattern:** `rank%(rank)s_lr%(lr)s`",
    "- **Naming pattern:** `rank%d_lr%s`",
    "- **Naming pattern:** `rankR_lrLR`, e.g. `rank8_lr1e-5`",
    "- **Naming pattern:** `rank*_lr*`",
    "- **Naming pattern:** `rank{8,16}_lr{1e-5,5e-5}`",
    "- **Naming pattern:** rank{LoRA Rank}_lr{Learning Rate} (as in rank16_lr5e-5)",
    f"- **Naming pattern:** `{BASE}/{EXPERIMENT}/ck-out-rank{{R}}_lr{{LR}}/epoch_{{N}}`",
    "- **Naming pattern:** `{output_dir_base}/{experiment_name}/ck-out-{run_directory}/epoch_{N}/adapter_model.pt`",
    f"- **Example:** `{BASE}/{EXPERIMENT}/ck-out-{FIRST}/epoch_1`",
    "- **Run directories:** `rank8_lr1e-5/`, `rank16_lr1e-5/`, ...",
    "- **Checkpoint naming:** `epoch_{N}`",
    "- **Naming pattern:** rank, then learning rate",
    "- **Naming pattern:** LoRA rank + lr",
    "- **Naming pattern:** by what was varied, and the date",
    "The run directories are named by rank and learning rate.",
    "- **Naming pattern:** none",
    "- **Naming pattern:** `{run}.json`",
    "- **Dataset naming:** `words_{N}L.json`",
    "- **Naming pattern:** `ck-out-Llama-3.2-1B-Instruct_base`",
    "## Naming Conventions\n```\nrank8_lr1e-5/\n├── finetune.yaml\n└── finetune.slurm\n```",
    "## Naming Conventions\nRuns are named `rank{R}_lr{LR}`: `rank8_lr1e-5` has `lora_rank` 8 and `lr` 1e-5.",
    "## Evaluation\n- **Naming pattern:** `eval_{task}_{rank}`",
    "## Evaluation\nRun directories are named `eval_{rank}`.",
], every=3))  # fmt: skip
def test_a_matching_pattern_has_no_finding(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.parametrize(("text", "planned"), spread([
    ("- **Naming pattern:** `{model}_rank{rank}_lr{lr}`", f"ck-out-{FIRST}/epoch_0"),
    ("- **Naming:** <model>-r<rank>-lr<lr>", f"ck-out-{FIRST}/epoch_0"),
    ("- **Run directory pattern:** r[rank]_lr[lr]", FIRST),
    ("- **Run directories:** `lr$LR_rank$RANK`", FIRST),
    ("- **Run directory names:** `%(rank)s_%(lr)s`", FIRST),
    ("- **W&B run name pattern:** `{model}-{rank}`", FIRST),
    ("- **Run name format:** `r{rank}`", FIRST),
    ("- **Directory structure:** `{experiment}/r{rank}/`", FIRST),
    ("- **Naming pattern:** `rank{R}_lr{LR}_seed{S}`", f"ck-out-{FIRST}/epoch_0"),
    ("- **Naming pattern:** `rank{8|32}_lr{LR}`", "ck-out-rank16_lr1e-5/epoch_0"),
    ("- **Naming pattern:** `{date}_{run_directory}`", f"ck-out-{FIRST}/epoch_0"),
    ("- **Naming pattern:** `SFT_rankR_lrLR`", f"ck-out-{FIRST}/epoch_0"),
    ("- **Checkpoint naming:** `checkpoint-{step}`", f"ck-out-{FIRST}/epoch_0"),
    (f"- **Naming pattern:** `{BASE}/ck-out-{{run_name}}/epoch_{{N}}`", f"{BASE}/{EXPERIMENT}/ck-out-{FIRST}/epoch_0"),
    ("- **Naming pattern:** `r8-lr5e-5`", "ck-out-rank8_lr5e-5/epoch_0"),
    (f"- **Example:** `{BASE}/ck-out-Llama-3.2-1B-Instruct_rank16_lr1e-5/epoch_0`",
     f"{BASE}/{EXPERIMENT}/ck-out-rank16_lr1e-5/epoch_0"),
    ("- **Run directories:** same as the Run Name", FIRST),
    ("- **Naming pattern:** model, then rank, then learning rate", PATTERN),
    ("## Naming Conventions\nRuns are named by model, rank and learning rate.", PATTERN),
    ("\n| Setting | Value |\n|---|---|\n| Naming pattern | `{model}_{rank}` |", f"ck-out-{FIRST}/epoch_0"),
    ("## Naming Conventions\nRuns are named `{model}_r{rank}_lr{lr}`.", FIRST),
    ("## Naming Conventions\n- **Runs:** `r{rank}_lr{lr}`\n- **Data:** `words_{N}`", FIRST),
    ("## Naming\n```\nr8_lr1e-5/\n  finetune.yaml\n```", FIRST),
    ("## Notes\nThe run directories are named `r{rank}-lr{lr}`, one for each run.", FIRST),
], every=3))  # fmt: skip
def test_a_pattern_that_differs_is_one_warning_with_pattern_and_name(text: str, planned: str, tmp_path: Path) -> None:
    (each,) = found(tmp_path, text)
    assert (each.severity, each.expected, each.file) == ("warning", planned, "experiment_summary.md")
    assert each.actual is not None
    assert str(each.actual) in text
    lines = (tmp_path / "sweep" / "experiment_summary.md").read_text().splitlines()
    assert str(each.actual) in lines[(each.line or 0) - 1]


@pytest.mark.parametrize("text", [OLD, "- **Naming pattern:** ck-out-<run name>", "- **Run directories:** `$RUN_NAME`"])
def test_a_run_name_that_may_be_the_directory_is_an_info_with_both_names(text: str, tmp_path: Path) -> None:
    (each,) = found(tmp_path, text)
    assert (each.severity, each.expected, each.actual) == ("info", FIRST, "Llama-3.2-1B-Instruct_rank8_lr1e-5")


@pytest.mark.parametrize("text", [
    OLD, "- **Run directories:** same as the Run Name", "- **Naming pattern:** `{model}_rank{rank}_lr{lr}`",
    "- **Naming pattern:** `ck-out-Llama-3.2-1B-Instruct_rank8_lr1e-5/epoch_0`",
])  # fmt: skip
def test_names_of_the_table_match_a_pattern_of_run_names(text: str, tmp_path: Path) -> None:
    (each,) = found(tmp_path, text)
    assert "--names table" in each.fix
    assert found(tmp_path / "other", text, names="table") == []


def test_a_warning_replaces_the_info(tmp_path: Path) -> None:
    (each,) = found(tmp_path, f"{OLD}\n- **Example:** `{BASE}/ck-out-r8_lr1e-5/epoch_0`")
    assert each.severity == "warning"


@pytest.mark.parametrize(("pattern", "codes"), [
    ("ck-out-{run_name}", []), ("{run_name}", []), ("run_{name}", ["naming-differs"]),
])  # fmt: skip
def test_the_yaml_form_is_compared_too(pattern: str, codes: list[str], tmp_path: Path) -> None:
    experiment = write(tmp_path / "sweep", yml=f"output: {{naming_pattern: '{pattern}'}}\n{YAML}")
    warnings = steps.plan(Request(experiment)).warnings
    assert [each.code for each in warnings if each.code in {"naming-differs", "unused-field"}] == codes


def test_a_scaffold_reports_a_different_name_once(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={OLD: "- **Naming pattern:** `r{rank}`"})
    result = steps.scaffold(Request(experiment))
    told = [*result.plan.warnings, *result.render.warnings, *result.setup.warnings, *result.validation.all_findings()]
    assert [each.code for each in told].count("naming-differs") == 1
    assert (experiment / "scaffold.log").read_text().count("naming-differs") <= 1


@pytest.mark.parametrize(
    "pattern", spread(["{a}" * 60 + "x", "*" * 200, "[" * 150 + "{rank}", "<" * 200, "A_" * 100], every=5)
)
def test_a_hostile_pattern_is_compared_quickly(pattern: str, tmp_path: Path) -> None:
    experiment = many_runs(tmp_path, 60)
    summary = experiment / "experiment_summary.md"
    change(summary, OLD, f"- **Naming pattern:** `{pattern}`")
    began = time.process_time()
    steps.plan(Request(experiment))
    assert time.process_time() - began < 20  # exponential: hours
