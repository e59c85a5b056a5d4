"""Settings that must agree with each other: nodes, effective batch sizes, warm-up ratios, the W&B mode."""

import json
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import Interface, Option, Options, Plan, Setting, SourceKind
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.prepare import prepare
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.preflight import data_files, disk
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import KEYS
from support.documents import LOCAL, SUMMARY, local_md, parsed, planned, refusal, runs, summary, told
from support.experiments import make_experiment
from support.templates import planned_with
from support.wording import absent

ROWS = 100


def planned_of(rows: int | None, text: str, local: str | None = None, **options: Any) -> Plan:
    """Return the plan of the documents, with a data set of this many rows."""
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True, train_rows=lambda *_: rows)
    return make_plan(parsed(text, local), Options(**options), context)


def steps_of(plan: Plan) -> list[Scalar]:
    return [run.value("num_warmup_steps") for run in plan.runs]


# --- nodes


@pytest.mark.parametrize("count", ["1", "1 node", "one", "1 (4 GPUs)"])
def test_a_run_uses_one_node(count: str) -> None:
    plan = planned(summary(training={"Nodes": count}))
    assert plan.runs[0].value("gpus") == (4 if "GPUs" in count else 1)
    assert "nodes" not in plan.runs[0].settings


@pytest.mark.parametrize("count", ["2", "2 nodes", "two", "2 (4 GPUs each)"])
def test_several_nodes_are_refused_with_their_line(count: str) -> None:
    (problem,) = refusal(planned, summary(training={"Nodes": count}))
    assert (problem.code, problem.field, problem.expected, problem.actual, problem.line) == (
        "unsupported-setting", "nodes", 1, 2, 25,
    )  # fmt: skip


def test_nodes_in_claude_local_md_count_only_for_jobs() -> None:
    local = local_md() + "\n## SLURM Defaults\n\n- Nodes: 2\n"
    (problem,) = refusal(planned, summary(), local)
    assert (problem.file, problem.field, problem.line) == (LOCAL, "nodes", local.splitlines().index("- Nodes: 2") + 1)
    assert planned(summary(), local_md() + "\n## Cluster\n\n- Nodes: 120\n").warnings == ()


def test_several_nodes_in_a_row_are_refused_at_the_row() -> None:
    (problem,) = refusal(planned, summary(table=runs(2, Seed=["1", "2"], Nodes=["1", "2"])))
    assert (problem.field, problem.line) == ("nodes", 7)


# --- effective batch sizes


@pytest.mark.parametrize(
    ("said", "training", "gpus"),
    [
        ("4", {}, None),
        ("32", {"Gradient accumulation": "8"}, None),
        ("64", {"Gradient accumulation": "8"}, "2"),
        ("8 = 4 x 2", {}, "2"),
    ],
)
def test_a_matching_effective_batch_size_is_accepted(said: str, training: dict[str, str], gpus: str | None) -> None:
    plan = planned(summary(training={"Effective batch size": said, **training}), local_md(gpus=gpus))
    assert plan.warnings == ()
    assert "effective_batch_size" not in plan.runs[0].settings


@pytest.mark.parametrize(
    ("said", "gpus", "accumulation"), [("32", None, 8), ("32", "2", 4), ("6", None, None), ("2", None, None)]
)
def test_a_different_effective_batch_size_is_refused_with_the_right_accumulation(
    said: str, gpus: str | None, accumulation: int | None
) -> None:
    text = summary(training={"Effective batch size": said})
    (problem,) = refusal(planned, text, local_md(gpus=gpus))
    assert told([problem]) == [("ambiguous", "effective_batch_size", SUMMARY, 25)]
    assert (problem.expected, problem.actual) == (int(said), 4 * int(gpus or 1))
    if accumulation is None:
        assert "Gradient accumulation" not in problem.fix
        return
    assert absent(problem.fix, f"- **Gradient accumulation steps:** {accumulation}") == []
    mended = summary(training={"Effective batch size": said, "Gradient accumulation steps": str(accumulation)})
    assert planned(mended, local_md(gpus=gpus)).warnings == ()


def test_the_effective_batch_size_of_a_row_is_compared_with_that_row() -> None:
    table = runs(2, Batch_Size=["4", "8"], Effective_Batch_Size=["4", "4"])
    (problem,) = refusal(planned, summary(table=table, training={"Batch size": None}))
    assert (problem.line, problem.expected, problem.actual) == (7, 4, 8)
    plan = planned(
        summary(table=table.replace("| 4 | Fine-tuned", "| 8 | Fine-tuned").replace("| 4 | 8 |", "| 4 | 4 |"))
    )
    assert [run.directory for run in plan.runs] == ["bs4", "bs8"]


# --- alpha as a multiple of the rank


def alphas_of(plan: Plan) -> list[Scalar]:
    return [run.value("lora_alpha") for run in plan.runs]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("2 x rank", [16, 32]), ("2 x LoRA rank", [16, 32]), ("rank", [8, 16]), ("2 × lora_rank", [16, 32]),
     ("2r", [16, 32]), ("4*r", [32, 64]), ("rank x 4", [32, 64]), ("0.5 x rank", [4, 8]), ("twice the rank", [16, 32]),
     ("same as rank", [8, 16]), ("`2 x rank` (usual)", [16, 32]), ("2 x rank (usual)", [16, 32])],
)  # fmt: skip
def test_alpha_may_be_a_multiple_of_the_rank(written: str, expected: list[int]) -> None:
    table = runs(2, LoRA_Rank=["8", "16"])
    plan = planned(summary(table=table, training={"LoRA alpha": written}))
    assert alphas_of(plan) == expected
    assert [run.directory for run in plan.runs] == ["rank8", "rank16"]
    sources = [run.settings["lora_alpha"].source for run in plan.runs]
    assert [(source.file, source.line) for source in sources] == [(SUMMARY, 25)] * 2
    column = planned(summary(table=runs(2, LoRA_Rank=["8", "16"], LoRA_alpha=[written, written])))
    assert alphas_of(column) == expected


@pytest.mark.parametrize("label", ["Alpha (x rank)", "LoRA alpha / rank", "α/r", "Alpha ratio", "lora_alpha_ratio"])
def test_a_column_of_multiples_of_the_rank_is_read_as_alpha(label: str) -> None:
    rows = runs(2, LoRA_Rank=["8", "16"], Alpha=["1", "2"]).replace("Alpha", label)
    assert alphas_of(planned(summary(table=rows))) == [8, 32]
    assert alphas_of(planned(summary(training={label: "4"}))) == [32, 64]


def test_a_multiple_in_a_template_is_used_if_the_documents_give_none() -> None:
    assert set(alphas_of(planned_with("lora_alpha_ratio: 1\n", summary()))) == {8, 16}
    assert set(alphas_of(planned_with("lora_alpha: 5\n", summary(training={"LoRA alpha": "rank"})))) == {8, 16}


@pytest.mark.parametrize("written", ["2 x", "x rank", "2 x batch size", "rank + 8", "rank / 2", "2 to 4 x rank"])
def test_another_formula_for_alpha_is_refused(written: str) -> None:
    (problem,) = refusal(planned, summary(training={"LoRA alpha": written}))
    assert (problem.code, problem.field, problem.line) == ("invalid-value", "lora_alpha", 25)


def test_a_multiple_that_is_not_a_whole_number_is_refused() -> None:
    problems = refusal(planned, summary(training={"LoRA alpha": "0.3 x rank"}))
    assert {(each.code, each.field, each.line) for each in problems} == {("invalid-value", "lora_alpha", 25)}


def test_alpha_and_a_different_multiple_are_refused() -> None:
    problems = refusal(planned, summary(training={"LoRA alpha": "2 x rank", "Alpha": "16"}))
    assert [(each.code, each.field, each.line, each.expected) for each in problems] == [
        ("ambiguous", "lora_alpha", 25, "32")
    ]


def test_a_multiple_of_the_rank_is_refused_for_full_fine_tuning() -> None:
    table = runs(1, LoRA_Rank=["-"])
    problems = refusal(planned, summary(table=table, training={"Method": "full", "LoRA alpha": "2 x rank"}))
    assert [(each.code, each.field) for each in problems] == [("unsupported-setting", "lora_alpha_ratio")]


def test_an_accumulation_of_the_documents_is_replaced() -> None:
    training = {"Effective batch size": "32", "Gradient accumulation": "2 (per GPU)"}
    (problem,) = refusal(planned, summary(training=training))
    assert (problem.expected, problem.actual) == (32, 8)
    assert problem.fix.startswith(f"replace `2` with `8` in {SUMMARY}:26")


def test_runs_that_need_different_accumulations_get_a_column() -> None:
    table = runs(3, Batch_Size=["4", "8", "16"])
    text = summary(table=table, training={"Batch size": None, "Effective batch size": "16"})
    (problem,) = refusal(planned, text)
    assert (problem.expected, problem.actual) == (16, 4)
    assert "with `4` for bs4, `2` for bs8, and `1` for the other run" in problem.fix
    columns = runs(3, Batch_Size=["4", "8", "16"], Gradient_accumulation=["4", "2", "1"])
    assert planned(summary(table=columns, training={"Batch size": None, "Effective batch size": "16"})).warnings == ()


def test_a_column_of_accumulations_is_corrected_in_its_rows() -> None:
    table = runs(3, Batch_Size=["4", "8", "16"], Gradient_accumulation=["4", "4", "4"])
    (problem,) = refusal(planned, summary(table=table, training={"Batch size": None, "Effective batch size": "16"}))
    assert "replace `4` with `2` in the column 'Gradient accumulation' (line 7)" in problem.fix
    assert "replace `4` with `1` in the column 'Gradient accumulation' (line 8)" in problem.fix


def test_an_effective_batch_size_that_no_accumulation_gives_has_no_value_in_its_fix() -> None:
    table = runs(2, Batch_Size=["4", "6"])
    (problem,) = refusal(planned, summary(table=table, training={"Batch size": None, "Effective batch size": "16"}))
    assert (problem.expected, problem.actual) == (16, 4)
    assert absent(problem.fix, "effective batch size") == []
    assert "accumulation" not in problem.fix


# --- Configuration overridden by rows


def overridden(text: str) -> Finding:
    (found,) = [each for each in planned(text).warnings if each.code == "overridden"]
    return found


def test_a_line_that_every_row_overrides_may_be_removed() -> None:
    table = runs(2, Batch_Size=["8", "16"])
    found = overridden(summary(table=table, training={"Batch size": "4"}))
    assert (found.field, found.expected, found.actual) == ("batch_size", 4, 8)
    assert found.fix.startswith("if the rows are correct, remove line ")


def test_a_line_that_other_rows_use_is_written_into_them_first() -> None:
    table = runs(3, Batch_Size=["8", "-", "16"])
    found = overridden(summary(table=table, training={"Batch size": "4"}))
    assert (found.field, found.expected, found.actual) == ("batch_size", 4, 8)
    write = "write `4` in the column 'Batch Size' (line 7)"
    assert found.fix.startswith(f"if the rows are correct, keep 4 for the run 'run_2': {write}, then remove line ")


@pytest.mark.parametrize(
    ("training", "others"),
    [
        ({"LoRA": "r=4, alpha=32, dropout=0.05"}, {"lora_alpha", "lora_dropout"}),
        ({"Method": "LoRA (rank 4)"}, {"recipe"}),
    ],
)
def test_a_line_of_several_settings_is_not_removed(training: dict[str, str], others: set[str]) -> None:
    table = runs(2, LoRA_Rank=["8", "16"])
    found = overridden(summary(table=table, training=training))
    assert (found.field, found.expected, found.actual) == ("lora_rank", 4, 8)
    assert found.fix.startswith("if the rows are correct, remove only lora_rank (4) from line ")
    assert absent(found.fix, *others) == []


def test_a_lora_setting_of_full_fine_tuning_is_removed_with_its_line() -> None:
    table = runs(2, LoRA_Rank=["-", "-"], Learning_Rate=["1e-5", "2e-5"])
    (problem,) = refusal(planned, summary(table=table, training={"Recipe": "full", "LoRA rank": "16"}))
    assert problem.fix.startswith(f"remove line {problem.line} of {SUMMARY}")


def test_a_lora_setting_in_the_line_of_the_recipe_is_removed_alone() -> None:
    table = runs(2, LoRA_Rank=["-", "-"], Learning_Rate=["1e-5", "2e-5"])
    (problem,) = refusal(planned, summary(table=table, training={"Method": "full fine-tuning, dropout 0.1"}))
    assert problem.field == "lora_dropout"
    assert problem.fix.startswith("remove only lora_dropout (0.1) from line ")
    assert absent(problem.fix, "recipe") == []


# --- jobs that begin again


def test_resuming_is_suggested_only_for_runs_that_can_resume() -> None:
    table = runs(2, LoRA_Rank=["8", "-"], Recipe=["LoRA", "full"])
    mixed = summary(table=table, training={"Requeue": "yes"})
    (found,) = [each for each in planned(mixed).warnings if each.code == "begins-anew"]
    assert absent(found.fix, "`Resume from checkpoint` to the table of runs, with `yes` for rank8_recipe-lora") == []
    table = runs(2, LoRA_Rank=["-", "-"], Learning_Rate=["1e-5", "2e-5"])
    only_full = summary(table=table, training={"Requeue": "yes", "Recipe": "full"})
    (found,) = [each for each in planned(only_full).warnings if each.code == "begins-anew"]
    assert "Resume" not in found.fix


# --- warm-up


@pytest.mark.parametrize(
    ("ratio", "expected"), [("0.1", 5), ("10%", 5), ("0.03", 2), ("0", 0), ("1", 50), ("0.06", 3), ("3 %", 2)]
)
def test_a_warm_up_ratio_becomes_steps_rounded_up(ratio: str, expected: int) -> None:
    """Expect steps of 100 rows in batches of 4: 25 in each of 2 epochs."""
    plan = planned_of(ROWS, summary(training={"Warmup ratio": ratio}))
    assert steps_of(plan) == [expected] * 2
    source = plan.runs[0].settings["num_warmup_steps"].source
    assert (source.kind, source.file, source.line) == (SourceKind.CONFIGURATION, SUMMARY, 25)


def test_a_warm_up_ratio_uses_the_steps_of_the_run() -> None:
    training = {"Warmup ratio": "0.5", "Gradient accumulation": "2", "Training samples": "64", "Epochs": "1"}
    assert steps_of(planned_of(ROWS, summary(training=training), local_md(gpus="2"))) == [2, 2]
    limited = {"Warmup ratio": "0.5", "Max steps per epoch": "6"}
    assert steps_of(planned_of(ROWS, summary(training=limited))) == [6, 6]


def test_warm_up_ratios_of_rows_name_runs_by_their_steps() -> None:
    plan = planned_of(ROWS, summary(table=runs(2, Warmup_Ratio=["0.1", "0.2"])))
    assert [run.directory for run in plan.runs] == ["num_warmup_steps5", "num_warmup_steps10"]
    assert [run.settings["num_warmup_steps"].source.line for run in plan.runs] == [6, 7]


@pytest.mark.parametrize(("rows", "training"), [(None, {}), (ROWS, {"Packed": "yes"})])
def test_a_ratio_is_refused_if_the_number_of_steps_is_unknown(rows: int | None, training: dict[str, str]) -> None:
    (problem,) = refusal(planned_of, rows, summary(training={"Warmup ratio": "0.1", **training}))
    assert told([problem]) == [("unsupported-setting", "warmup_ratio", SUMMARY, 25)]
    assert absent(problem.fix, "- **Warmup steps:** NUMBER", "0.1") == []


def test_a_ratio_of_zero_needs_no_data() -> None:
    assert steps_of(planned_of(None, summary(training={"Warmup ratio": "0"}))) == [0, 0]


def test_a_ratio_together_with_steps_is_refused() -> None:
    (problem,) = refusal(planned_of, ROWS, summary(training={"Warmup ratio": "0.1", "Warmup steps": "5"}))
    assert told([problem]) == [("ambiguous", "warmup_ratio", SUMMARY, 25)]


def test_a_template_may_give_a_ratio() -> None:
    (problem,) = refusal(planned_with, "warmup_ratio: 0.1\n", summary())
    assert problem.code == "unsupported-setting"
    plan = planned_with("warmup_ratio: 0\n", summary())
    assert steps_of(plan) == [0, 0]


def test_the_ratio_uses_the_rows_of_the_data_file(tmp_path: Path) -> None:
    path = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
    replace = {path: "EXPERIMENT/data/words.json", "- **Epochs:** 2": "- **Epochs:** 2\n- **Warmup ratio:** 0.25"}
    experiment = make_experiment(tmp_path / "sweep", replace=replace)
    rows = [{"input": "a", "output": "A"}] * 80
    (experiment / "data" / "words.json").write_text(json.dumps({"train": rows}))
    assert steps.plan(Request(experiment)).common["num_warmup_steps"].value == 10


# --- Weights & Biases


def mode_of(text: str, local: str) -> Setting:
    return planned(text, local).runs[0].settings["wandb_mode"]


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ({}, "offline"),
        ({"offline": "yes"}, "offline"),
        ({"offline": "no"}, "online"),
        ({"offline": "no", "wandb_mode": "disabled"}, "disabled"),
        ({"wandb_mode": "online"}, "online"),
    ],
)
def test_the_wandb_mode_is_offline_by_default(local: dict[str, str], expected: str) -> None:
    assert mode_of(summary(), local_md(**local)).value == expected


def test_the_summary_overrides_claude_local_md() -> None:
    setting = mode_of(summary(training={"W&B mode": "disabled"}), local_md(wandb_mode="online"))
    assert (setting.value, setting.source.file, setting.source.line) == ("disabled", SUMMARY, 25)


def test_online_mode_on_nodes_without_internet_is_refused() -> None:
    (problem,) = refusal(planned, summary(training={"W&B mode": "online"}), local_md(offline="yes"))
    assert told([problem]) == [("ambiguous", "wandb_mode", SUMMARY, 25)]
    assert absent(problem.message, LOCAL) == []


# --- environment settings in the summary


@pytest.mark.parametrize(
    ("label", "name", "value"),
    [
        ("Conda environment", "conda_env", "other"), ("Account", "account", "lab2"), ("Partition", "partition", "gpu2"),
        ("Constraint", "constraint", "a100"), ("W&B entity", "wandb_entity", "team"), ("Modules", "modules", "gcc/13"),
        ("Offline", "offline", True), ("Reservation", "reservation", "course"),
    ],
)  # fmt: skip
def test_the_summary_may_give_the_environment_of_all_runs(label: str, name: str, value: Scalar) -> None:
    text = summary(training={label: "yes" if value is True else str(value)})
    plan = planned(text)
    assert plan.runs[0].settings[name].value == value
    assert plan.runs[0].settings[name].source.line == 25
    warned: list[Finding] = [w for w in plan.warnings if w.code == "overridden"]
    assert [(w.field, w.line) for w in warned] == ([("conda_env", 25)] if name == "conda_env" else [])


def test_an_environment_in_the_summary_is_not_required_in_claude_local_md() -> None:
    plan = planned(summary(training={"Conda environment": "tune2"}), local_md(conda_env=None))
    assert plan.runs[0].settings["conda_env"].value == "tune2"


@pytest.mark.parametrize("ratio", [None, "0.1"])
def test_a_data_set_is_read_once_with_or_without_a_warm_up_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: str | None
) -> None:
    lines = {"- **Epochs:** 2": f"- **Epochs:** 2\n- **Warmup ratio:** {ratio}"} if ratio else {}
    lines["/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"] = "EXPERIMENT/data/words.json"
    experiment = make_experiment(tmp_path / "sweep", replace=lines)
    opened: list[str] = []
    read = disk.regular_file

    def counted(path: str) -> Any:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(data_files, "regular_file", counted)
    plan = prepare(Request(experiment)).plan
    assert len(opened) == len({run.data_path for run in plan.runs}) == 1
    assert ("steps" in (plan.runs[0].settings["num_warmup_steps"].source.note or "")) is bool(ratio)


# --- the accumulation of an external script


def interface_of(*names: str, default: int | None = None) -> Interface:
    """Return the interface of a script with all options except these, or with a default for the accumulation."""
    options = {key: Option() for key in KEYS if key not in names}
    if default is not None:
        options["gradient_accumulation_steps"] = Option(default=default)
    return Interface(options=options)


STEPS = "gradient_accumulation_steps"


@pytest.mark.parametrize(
    ("interface", "training", "planned_value", "kind", "is_written"),
    [
        (Interface(), {"Effective batch size": "4"}, 1, SourceKind.DERIVED, True),
        (Interface(), {}, None, None, False),
        (
            Interface(),
            {"Gradient accumulation steps": "1", "Effective batch size": "4"},
            1,
            SourceKind.CONFIGURATION,
            True,
        ),
        (interface_of(), {"Effective batch size": "4"}, 1, SourceKind.DERIVED, True),
        (interface_of(default=1), {"Effective batch size": "4"}, 1, SourceKind.DERIVED, True),
        (interface_of(default=1), {}, 1, SourceKind.DEFAULT, True),
        (interface_of(STEPS), {"Effective batch size": "4"}, 1, SourceKind.DERIVED, False),
        (interface_of(STEPS), {}, None, None, False),
    ],
)
def test_a_stated_effective_batch_size_plans_the_accumulation_of_an_external_script(
    interface: Interface,
    training: dict[str, str],
    planned_value: int | None,
    kind: SourceKind | None,
    *,
    is_written: bool,
) -> None:
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True, interface=interface)
    plan = make_plan(parsed(summary(training=training)), Options(setup_script="/lab/setup_finetune.py"), context)
    for run in plan.runs:
        setting = run.settings.get(STEPS)
        assert (setting and setting.value, setting and setting.source.kind) == (planned_value, kind)
        assert (setting is not None and STEPS not in run.unwritten) == is_written
