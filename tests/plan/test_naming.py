from typing import Any

import pytest

from scaffold_torchtune.models import Plan
from scaffold_torchtune.plan.naming import is_safe
from scaffold_torchtune.settings.parameters import PARAMETERS
from support.documents import MODEL, SUMMARY, planned, refusal, runs, summary, table, told
from support.wording import absent


def plan_of(count: int, **columns: Any) -> Plan:
    return planned(summary(table=runs(count, controls=1, **columns)))


def directories(plan: Plan) -> list[str]:
    return [run.directory for run in plan.runs]


def test_names_contain_exactly_the_varying_parameters() -> None:
    plan = plan_of(4, LoRA_Rank=["8", "8", "16", "16"], Learning_Rate=["1e-5", "5e-5"] * 2, Seed=["7"] * 4)
    assert plan.varying == ("lora_rank", "lr")
    assert plan.pattern == "rank{lora_rank}_lr{lr}"
    assert directories(plan) == ["rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5"]


def test_notations_of_one_value_do_not_vary() -> None:
    plan = plan_of(3, LoRA_Rank=["4", "8", "16"], Learning_Rate=["1e-5", "0.00001", "1E-05"])
    assert plan.varying == ("lora_rank",)
    assert {run.parameters["lr"] for run in plan.runs} == {1e-5}


def test_names_have_the_canonical_form_of_values() -> None:
    plan = plan_of(3, Learning_Rate=["0.00001", "5 × 10^-5", "1E-04"])
    assert directories(plan) == ["lr1e-5", "lr5e-5", "lr1e-4"]


def test_values_of_controls_do_not_vary() -> None:
    rows = table(
        ["Run Name", "Model", "LoRA Rank", "Batch Size", "Type"],
        [["a", MODEL, "8", "4", "Fine-tuned"], ["b", MODEL, "16", "4", "Fine-tuned"], ["c", "other", "-", "1",
         "Control"]],
    )  # fmt: skip
    assert planned(summary(table=rows)).varying == ("lora_rank",)


def test_a_blank_cell_has_the_value_of_configuration() -> None:
    text = summary(table=runs(2, LoRA_Rank=["8", "16"], Seed=["3", "-"]), training={"Seed": "3"})
    assert planned(text).varying == ("lora_rank",)
    text = summary(table=runs(2, Seed=["3", "-"]), training={"Seed": "4"})
    assert directories(planned(text)) == ["seed3", "seed4"]


@pytest.mark.parametrize("said", ["none", "None", "(none)", "`none`", "off", "no", "disabled"])
@pytest.mark.parametrize(
    ("label", "name", "shared"),
    [
        ("Clip grad norm", "clip_grad_norm", "1.0"), ("Gradient clipping", "clip_grad_norm", "1.0"),
        ("Max steps per epoch", "max_steps_per_epoch", "20"), ("Training samples", "training_samples", "100"),
        ("Validation batch size", "batch_size_val", "8"),
    ],
)  # fmt: skip
def test_none_in_a_cell_overrides_the_value_of_configuration(label: str, name: str, shared: str, said: str) -> None:
    cells: dict[str, Any] = {label: [said, shared, "-", "default"]}
    rows = runs(4, LoRA_Rank=["4", "8", "16", "32"], **cells)
    plan = planned(summary(table=rows, training={label: shared}))
    assert [run.value(name) for run in plan.runs] == [None, *[PARAMETERS[name].read(shared)] * 3]
    assert plan.runs[0].directory == f"rank4_{name}-none"
    (found,) = [each for each in plan.warnings if each.code == "overridden"]
    assert (found.field, found.expected, found.actual) == (name, PARAMETERS[name].read(shared), None)


def test_zero_is_refused_and_none_is_among_the_allowed_values() -> None:
    (found,) = refusal(planned, summary(table=runs(2, LoRA_Rank=["8", "16"], Clip_grad_norm=["0", "1"])))
    assert (found.code, found.field, found.line) == ("invalid-value", "clip_grad_norm", 6)
    assert "none" in str(found.expected)


def test_none_for_validation_steps_is_zero() -> None:
    rows = runs(2, Validation_every_n_steps=["none", "-"])
    plan = planned(summary(table=rows, training={"Validation every n steps": "50"}))
    assert [run.value("run_val_every_n_steps") for run in plan.runs] == [0, 50]


def test_a_row_without_any_value_is_a_control_although_a_cell_says_none() -> None:
    header = ["Run Name", "Model", "LoRA Rank", "Clip grad norm"]
    rows = table(header, [["a", MODEL, "8", "none"], ["b", MODEL, "16", "1"], ["base", MODEL, "-", "none"]])
    plan = planned(summary(table=rows, training={"Learning rate": "1e-5"}))
    assert [run.value("clip_grad_norm") for run in plan.runs] == [None, 1.0]


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("Model", [MODEL, "Llama-3.2-3B-Instruct"], [MODEL, "Llama-3.2-3B-Instruct"]),
        ("Batch Size", ["4", "8"], ["bs4", "bs8"]),
        ("Epochs", ["1", "2"], ["ep1", "ep2"]),
        ("Seed", ["1", "2"], ["seed1", "seed2"]),
        ("lora_alpha", ["8", "32"], ["lora_alpha8", "lora_alpha32"]),
        ("Dropout", ["0", "0.05"], ["lora_dropout0", "lora_dropout0.05"]),
        ("Weight Decay", ["0.01", "0.1"], ["weight_decay0.01", "weight_decay0.1"]),
        ("num_warmup_steps", ["0", "50"], ["num_warmup_steps0", "num_warmup_steps50"]),
        ("Packed", ["yes", "no"], ["packed-true", "packed-false"]),
        (
            "lora_attn_modules",
            ["q_proj, v_proj", "k_proj"],
            ["lora_attn_modules-q_proj+v_proj", "lora_attn_modules-k_proj"],
        ),
        ("W&B mode", ["online", "offline"], ["wandb_mode-online", "wandb_mode-offline"]),
        ("Time", ["1:00:00", "0:30:00"], ["time-1-00-00", "time-0-30-00"]),
        ("GPUs", ["1", "2"], ["gpus1", "gpus2"]),
        ("Dataset", ["/a/x.json", "/b/y.json"], ["x", "y"]),
        ("Dataset", ["/a/train5L/train.parquet", "/a/train9L/train.parquet"], ["train5L", "train9L"]),
        ("Dataset", ["a/train.json", "train.json"], ["a", "sweep"]),
        ("System Prompt", ["Be kind", '"Be brief"'], ["prompt1", "prompt2"]),
        ("Prompt", ["{input}", "-"], ["prompt1", "prompt2"]),
    ],
)
def test_every_column_that_varies_is_in_the_name(column: str, cells: list[str], expected: list[str]) -> None:
    models = {name: f"/models/{name}" for name in (MODEL, "Llama-3.2-3B-Instruct")}
    columns: dict[str, Any] = {column.replace(" ", "_"): cells}
    plan = planned(summary(table=runs(2, **columns), models=models))
    assert directories(plan) == expected


OF_SEVERAL = {"recipe", "target_modules", "lora_alpha_ratio", "warmup_ratio", "nodes", "effective_batch_size"}
"""Parameters that become other settings, or are compared with them."""


@pytest.mark.parametrize("name", sorted(p.name for p in PARAMETERS.values() if p.column and p.name not in OF_SEVERAL))
def test_every_parameter_that_may_be_a_column_is_planned_and_named(name: str) -> None:
    kinds = {"int": ["2", "3"], "float": ["0.1", "0.2"], "bool": ["yes", "no"],
             "pattern_free_path": ["a.json", "b.json"], "time": ["1:00:00", "2:00:00"],
             "memory": ["8G", "9G"], "text": ["a", "b"], "tags": ["a", "b"],
             "name": ["aa", "bb"], "gpu_type": ["aa", "bb"],
             "projections": ["q_proj", "k_proj"], "wandb_mode": ["online", "disabled"]}  # fmt: skip
    label = {"lora_rank": "LoRA Rank", "lr": "Learning Rate", "model": "Model"}.get(name, name)
    given = {label: kinds[PARAMETERS[name].kind]}
    rows = table(
        ["Run Name", "Model", *([] if label == "Model" else [label])],
        [[f"run{i}", *(given[label][i : i + 1] if label == "Model" else [MODEL, given[label][i]])] for i in (0, 1)],
    )
    models = dict.fromkeys((MODEL, "aa", "bb"), "/models/x")
    plan = planned(summary(table=rows, models=models), setup_script="/opt/setup_finetune.py")
    assert plan.varying == (name,)
    assert len(set(directories(plan))) == 2
    key = {"model": "torchtune_model_name", "dataset": "dataset_label"}.get(name, name)
    assert plan.runs[0].settings[key].value != plan.runs[1].settings[key].value
    assert plan.runs[0].settings[key].source.line == 6


def test_names_begin_with_model_rank_rate_and_batch_size_then_follow_the_table() -> None:
    rows = table(
        ["Run Name", "Seed", "Epochs", "Batch Size", "LR", "Rank", "Model"],
        [["a", "1", "1", "1", "1e-5", "8", MODEL], ["b", "2", "2", "2", "2e-5", "16", "Llama-3.2-3B-Instruct"]],
    )
    models = {name: f"/models/{name}" for name in (MODEL, "Llama-3.2-3B-Instruct")}
    plan = planned(summary(table=rows, models=models))
    assert plan.varying == ("model", "lora_rank", "lr", "batch_size", "seed", "epochs")
    assert directories(plan)[1] == "Llama-3.2-3B-Instruct_rank16_lr2e-5_bs2_seed2_ep2"
    assert plan.pattern == "{model}_rank{lora_rank}_lr{lr}_bs{batch_size}_seed{seed}_ep{epochs}"


# --- free text ---


def test_free_text_has_a_legend() -> None:
    plan = plan_of(3, System_Prompt=["Be kind", "Be brief", "Be kind"], LoRA_Rank=["8", "8", "16"])
    assert directories(plan) == ["rank8_prompt1", "rank8_prompt2", "rank16_prompt1"]
    assert plan.legend == {"prompt1": "Be kind", "prompt2": "Be brief"}


def test_two_text_parameters_have_separate_legends() -> None:
    plan = plan_of(2, System_Prompt=["Be kind", "Be brief"], Prompt=["{input}", "-"])
    assert directories(plan) == ["system_prompt1_prompt1", "system_prompt2_prompt2"]
    assert plan.legend == {
        "system_prompt1": "Be kind",
        "system_prompt2": "Be brief",
        "prompt1": "{input}",
        "prompt2": "(not given)",
    }


# --- one run, nothing varying, and the table's names ---


def test_a_single_run_has_the_name_of_its_row_if_that_is_safe() -> None:
    assert directories(planned(summary(table=runs(1)))) == ["run_1"]


@pytest.mark.parametrize(
    "name", ["my run", "../x", ".hidden", "-x", "a/b", "nul", "COM1.txt", "scaffold.log", "a.", "a..b", "é", "x" * 201]
)
def test_a_single_run_with_an_unsafe_name_is_named_by_its_values(name: str) -> None:
    plan = planned(summary(table=runs(1).replace("run_1", name)))
    assert directories(plan) == [f"{MODEL}_rank8_lr1e-5"]


def test_a_single_run_without_a_name_is_named_by_its_values() -> None:
    assert directories(planned(summary(table=runs(1).replace("run_1", "-")))) == [f"{MODEL}_rank8_lr1e-5"]


def test_names_of_the_table_are_used_on_request() -> None:
    plan = planned(summary(table=runs(2, LoRA_Rank=["8", "16"])), names="table")
    assert directories(plan) == ["run_1", "run_2"]
    assert plan.pattern == "{run name}"


@pytest.mark.parametrize("name", ["a b", "..", ".scaffold", "con", "a/b", "$(id)", ""])
def test_an_unsafe_name_in_the_table_is_refused(name: str) -> None:
    text = summary(table=runs(2, LoRA_Rank=["8", "16"]).replace("run_2", name))
    assert told(refusal(planned, text, names="table")) == [("unsafe-name", "run name", SUMMARY, 7)]


@pytest.mark.parametrize("name", ["run_1", "RUN_1"])
def test_names_that_collide_on_some_file_systems_are_refused_with_both_lines(name: str) -> None:
    text = summary(table=runs(2, LoRA_Rank=["8", "16"]).replace("run_2", name))
    (problem,) = refusal(planned, text, names="table")
    assert told([problem]) == [("name-collision", "run name", SUMMARY, 7)]
    assert absent(problem.message, 6, 7) == []


def test_two_data_sets_with_one_name_are_refused() -> None:
    text = summary(table=runs(2, Dataset=["/a/words.json", "/b/words.json"]))
    assert told(refusal(planned, text)) == [("name-collision", "run name", SUMMARY, 7)]


def test_a_folder_that_is_not_a_safe_name_is_refused() -> None:
    text = summary(table=runs(2, Dataset=["/a b/train.json", "/c/train.json"]))
    assert told(refusal(planned, text)) == [("unsafe-name", "run name", SUMMARY, 6)]


@pytest.mark.parametrize(("name", "safe"), [("rank8_lr1e-5", True), ("a+b", True), ("a" * 200, True), ("lpt9.x", False),
                                            ("claude.local.md", False), ("Scaffold.LOG", False), ("a\n", False),
                                            ("", False)])  # fmt: skip
def test_safe_names(name: str, *, safe: bool) -> None:
    assert is_safe(name) is safe


# --- runs of an earlier scaffold ---


def test_a_scaffolded_run_keeps_its_directory_when_the_table_grows() -> None:
    before = plan_of(2, LoRA_Rank=["8", "16"])
    grown = summary(table=runs(3, LoRA_Rank=["8", "16", "8"], Learning_Rate=["1e-5", "1e-5", "5e-5"], Seed=["14"] * 3))
    assert directories(planned(grown, previous=before)) == ["rank8", "rank16", "rank8_lr5e-5"]
    assert directories(planned(grown)) == ["rank8_lr1e-5", "rank16_lr1e-5", "rank8_lr5e-5"]


def test_a_scaffolded_run_keeps_its_directory_when_only_its_environment_changes() -> None:
    before = plan_of(2, LoRA_Rank=["8", "16"])
    grown = summary(table=runs(3, LoRA_Rank=["8", "16", "8"], Learning_Rate=["1e-5", "1e-5", "5e-5"]))
    local = "conda_env: other\nmy_wandb_project: words\noutput_dir_base: /elsewhere\ntime: 9:00:00\n"
    assert directories(planned(grown, local, before)) == ["rank8", "rank16", "rank8_lr5e-5"]


def test_a_run_whose_values_change_gets_a_new_name() -> None:
    before = planned(summary(table=runs(1)))
    changed = summary(table=runs(1, LoRA_Rank=["16"]).replace("run_1", "other"))
    assert directories(planned(changed, previous=before)) == ["other"]


def test_runs_that_differ_only_in_their_environment_keep_their_directories() -> None:
    text = summary(table=runs(2, GPUs=["1", "2"]))
    before = planned(text)
    assert directories(planned(text, previous=before)) == ["gpus1", "gpus2"]


def test_a_prompt_keeps_its_number_when_a_new_one_is_inserted_before_it() -> None:
    before = plan_of(2, System_Prompt=["Be kind", "Be brief"])
    grown = summary(table=runs(3, System_Prompt=["Be new", "Be kind", "Be brief"]))
    plan = planned(grown, previous=before)
    assert directories(plan) == ["prompt3", "prompt1", "prompt2"]
    assert plan.legend == {"prompt1": "Be kind", "prompt2": "Be brief", "prompt3": "Be new"}


def test_a_different_naming_applies_only_to_new_runs() -> None:
    before = plan_of(2, LoRA_Rank=["8", "16"])
    text = summary(table=runs(3, LoRA_Rank=["8", "16", "32"]))
    assert directories(planned(text, previous=before, names="table")) == ["rank8", "rank16", "run_3"]


def test_a_name_keeps_values_of_parameters_that_no_longer_vary() -> None:
    before = plan_of(2, LoRA_Rank=["8", "16"], Learning_Rate=["1e-5", "5e-5"])
    one = planned(summary(table=runs(1, LoRA_Rank=["8"], Learning_Rate=["1e-5"])), previous=before)
    assert directories(one) == ["rank8_lr1e-5"]
    other = summary(table=runs(1, LoRA_Rank=["8"], Learning_Rate=["2e-5"]))
    assert directories(planned(other, previous=one)) == ["run_1"]


def test_a_text_that_no_longer_varies_keeps_its_number() -> None:
    before = plan_of(2, System_Prompt=["Be kind", "Be brief"])
    one = planned(summary(table=runs(1, System_Prompt=["Be brief"]).replace("run_1", "run_2")), previous=before)
    assert directories(one) == ["prompt2"]
    text = summary(table=runs(2, System_Prompt=["Be brief", "Be new"]))
    assert directories(planned(text, previous=one)) == ["prompt2", "prompt3"]


def test_a_new_name_that_a_different_run_has_used_gets_a_number() -> None:
    before = planned(summary(table=runs(1, LoRA_Rank=["8"])), names="table")
    text = summary(table=runs(2, LoRA_Rank=["16", "8"]).replace("run_2", "other"))
    assert directories(planned(text, previous=before, names="table")) == ["run_1_2", "run_1"]


# --- runs of an earlier scaffold, with directories that have the Run Names of the table ---


def of_table(rows: dict[str, str], previous: Plan | None = None, *, epochs: str = "2") -> Plan:
    """Return the plan of some runs, each with a rank and a learning rate, whose directories have their Run Names."""
    ranks, rates = zip(*(values.split() for values in rows.values()), strict=True)
    text = runs(len(rows), Run_Name=[*rows], LoRA_Rank=ranks, Learning_Rate=rates)
    return planned(summary(table=text, training={"Epochs": epochs}), previous=previous, names="table")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r16_lr5e-5", "r32_lr5e-5"), ("rank16_x", "rank32_x"), ("big_fast", "huge_fast"),
        ("x_lr5e-5", "y_lr5e-5"), ("lr5e-5_a", "lr5e-5_b"), ("rank16", "lr5e-5"),
    ],
)  # fmt: skip
def test_a_different_run_name_with_different_values_is_a_new_run(old: str, new: str) -> None:
    before = of_table({"r8": "8 5e-5", old: "16 5e-5"})
    assert directories(before) == ["r8", old]
    plan = of_table({"r8": "8 5e-5", new: "32 5e-5"}, before)
    assert directories(plan) == ["r8", new]
    assert [run.parameters["lora_rank"] for run in plan.runs] == [8, 32]
    shared = of_table({"r8": "8 5e-5", new: "16 5e-5"}, before, epochs="5")
    assert directories(shared) == ["r8", new]


@pytest.mark.parametrize("name", ["r16_lr5e-5", "rank16_lr5e-5", "big"])
def test_a_run_name_keeps_its_directory_whatever_its_values(name: str) -> None:
    before = of_table({"r8": "8 5e-5", name: "16 5e-5"})
    for values in ("16 3e-5", "32 5e-5", "32 3e-5"):
        plan = of_table({"r8": "8 5e-5", name: values}, before)
        assert directories(plan) == ["r8", name]
        assert not any(run.by_author for run in plan.runs)
    alone = planned(summary(table=runs(1, Run_Name=[name], LoRA_Rank=["32"])))
    assert directories(alone) == [name]
    other = planned(summary(table=runs(1, Run_Name=[name], LoRA_Rank=["64"])), previous=alone)
    assert directories(other) == [name]


def test_a_renamed_row_keeps_its_directory_whose_name_its_author_chose() -> None:
    before = of_table({"rank16": "8 5e-5", "r8": "8 1e-5"})
    plan = of_table({"rank8": "8 5e-5", "r8": "8 1e-5"}, before)
    assert directories(plan) == ["rank16", "r8"]
    assert [run.by_author for run in plan.runs] == [True, False]
    again = of_table({"rank_8": "8 5e-5", "r8": "8 1e-5"}, plan)
    assert [run.by_author for run in again.runs] == [True, False]
    varying = planned(summary(table=runs(2, LoRA_Rank=["8", "16"])))
    renamed = planned(
        summary(table=runs(2, LoRA_Rank=["8", "16"], Run_Name=["a", "b"])), previous=varying, names="table"
    )
    assert directories(renamed) == ["rank8", "rank16"]
    assert not any(run.by_author for run in renamed.runs), "this tool chose these names"


def test_a_number_after_a_run_name_is_the_choice_of_its_author_too() -> None:
    before = of_table({"rank16": "8 5e-5"})
    plan = of_table({"other": "8 5e-5", "rank16": "32 1e-5"}, before)
    assert directories(plan) == ["rank16", "rank16_2"]
    assert [run.by_author for run in plan.runs] == [True, True]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # exchanged and shifted values of names without values
        ({"a": "8 1e-5", "b": "8 5e-5"}, {"a": "8 5e-5", "b": "8 1e-5"}, ["a", "b"]),
        ({"a": "8 1e-5", "b": "8 5e-5"}, {"b": "8 1e-5", "a": "8 5e-5"}, ["b", "a"]),
        ({"a": "8 1e-5", "b": "8 5e-5"}, {"a": "8 5e-5", "b": "8 1e-4"}, ["a", "b"]),
        ({"a": "8 1e-5", "b": "8 5e-5", "c": "8 1e-4"}, {"a": "8 5e-5", "b": "8 1e-4", "c": "8 1e-5"}, ["a", "b", "c"]),
        ({"rank8": "8 1e-5", "rank8_b": "8 5e-5"}, {"rank8": "8 5e-5", "rank8_b": "8 1e-5"}, ["rank8", "rank8_b"]),
        # names that contain the exchanged values, and a corrected name
        ({"lr1e-5": "8 1e-5", "lr5e-5": "8 5e-5"}, {"lr1e-5": "8 5e-5", "lr5e-5": "8 1e-5"}, ["lr5e-5", "lr1e-5"]),
        # a run that has a new Run Name, while its own is that of a row with the values of a different run
        ({"a": "8 1e-5", "b": "8 5e-5"}, {"c": "8 1e-5", "a": "8 5e-5"}, ["a", "b"]),
        # names that move by one row: each run takes its directory back from the next one
        (
            {"a": "8 1e-5", "b": "8 2e-5", "c": "8 3e-5", "d": "8 4e-5"},
            {"b": "8 1e-5", "c": "8 2e-5", "d": "8 3e-5", "e": "8 4e-5"},
            ["a", "b", "c", "d"],
        ),
        (
            {"a": "8 1e-5", "b": "8 2e-5", "c": "8 3e-5"},
            {"b": "8 1e-5", "c": "8 2e-5", "a": "8 3e-5"},
            ["b", "c", "a"],
        ),
    ],
)  # fmt: skip
def test_the_run_name_decides_before_equal_values_unless_it_contains_them(
    before: dict[str, str], now: dict[str, str], expected: list[str]
) -> None:
    plan = of_table(now, of_table(before))
    assert directories(plan) == expected
    assert [f"{run.value('lora_rank')} {run.value('lr')}" for run in plan.runs] == [
        f"{rank} {float(rate)}" for rank, rate in (values.split() for values in now.values())
    ]


def test_of_runs_that_are_trained_equally_the_one_with_equal_surroundings_is_the_same() -> None:
    before = planned(summary(table=runs(3, GPUs=["1", "2", "4"])))
    assert directories(before) == ["gpus1", "gpus2", "gpus4"]
    one = summary(table=runs(1), training={"GPUs": "2"})
    assert directories(planned(one, previous=before)) == ["gpus2"]
    one = summary(table=runs(1), training={"GPUs": "8"})
    assert directories(planned(one, previous=before)) == ["gpus1"], "the Run Name decides"


def test_a_planned_run_is_preferred_to_one_that_is_no_longer_in_the_table() -> None:
    former = of_table({"a": "8 5e-5"}).runs
    now = of_table({"a": "8 5e-5"}).runs[0].model_copy(update={"directory": "b"})
    previous = of_table({"a": "8 5e-5"}).model_copy(update={"former": former, "runs": (now,)})
    assert directories(of_table({"a": "8 5e-5"}, previous)) == ["b"]
