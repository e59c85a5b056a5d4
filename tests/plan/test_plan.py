from collections.abc import Sequence
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import Excluded, Interface, Options, Plan, SourceKind
from scaffold_torchtune.plan import make_plan, with_id
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.torchtune_facts import known_models
from support.documents import (
    DIRECTORY,
    LOCAL,
    MODEL,
    SUMMARY,
    local_md,
    parsed,
    planned,
    refusal,
    runs,
    summary,
    table,
    told,
)
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from support.wording import absent


def values(plan: Plan, run: int = 0) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in plan.runs[run].settings.items()}


def warned(plan: Plan) -> list[tuple[str, str | None, str | None, int | None]]:
    return told(plan.warnings)


# --- the example ---


def test_the_example_is_planned_completely() -> None:
    plan = planned(EXAMPLE_SUMMARY, EXAMPLE_LOCAL)
    assert [run.directory for run in plan.runs] == ["rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5"]
    assert (plan.varying, plan.pattern) == (("lora_rank", "lr"), "rank{lora_rank}_lr{lr}")
    assert plan.template == "setup_finetune_json.yaml.j2"
    assert plan.excluded == (Excluded(name=f"{MODEL}_base", reason="a control: the base model is not fine-tuned"),)
    assert plan.warnings == ()
    run = plan.runs[3]
    assert (run.name, run.line, run.model) == (f"{MODEL}_rank16_lr5e-5", 25, MODEL)
    assert run.data_path == "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
    assert run.parameters == {"model": MODEL, "lora_rank": 16, "lr": 5e-5, "batch_size": 4, "epochs": 2}
    assert values(plan, 3) == {
        "experiment_name": "cap_4L_lora_lr_sweep",
        "my_wandb_project": "capitalization",
        "my_wandb_run_name": "rank16_lr5e-5",
        "wandb_mode": "offline",
        "output_dir_base": "/scratch/gpfs/LAB/ada/ck-outputs",
        "input_dir_base": "/scratch/gpfs/LAB/ada/data/capitalization/",
        "input_formatting": "",
        "dataset_label": "words_4L_80P_300",
        "dataset_ext": ".json",
        "dataset_type": "instruct_dataset",
        "system_prompt": "Capitalize the given word",
        "train_on_input": False,
        "packed": False,
        "max_seq_len": 2048,
        "torchtune_model_name": MODEL,
        "model_checkpoint": MODEL,
        "models_dir": "/scratch/gpfs/LAB/pretrained-llms",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_attn_modules": "q_proj,v_proj,output_proj",
        "apply_lora_to_mlp": True,
        "apply_lora_to_output": False,
        "lora_dropout": 0.0,
        "lr": 5e-5,
        "lr_scheduler": "get_cosine_schedule_with_warmup",
        "num_warmup_steps": 100,
        "weight_decay": 0.01,
        "batch_size": 4,
        "epochs": 2,
        "gradient_accumulation_steps": 1,
        "seed": 14,
        "log_every_n_steps": 1,
        "run_val_every_n_steps": 0,
        "save_adapter_weights_only": False,
        "conda_env": "cruijff",
        "modules": "anaconda3/2025.6",
        "time": "0:59:00",
        "gpus": 1,
        "account": "lab",
        "constraint": "gpu80",
    }


def test_every_value_has_its_source() -> None:
    settings = planned(EXAMPLE_SUMMARY, EXAMPLE_LOCAL).runs[0].settings
    places = {name: (s.source.kind, s.source.file, s.source.line) for name, s in settings.items()}
    assert places["lr"] == (SourceKind.ROW, SUMMARY, 22)
    assert places["epochs"] == (SourceKind.CONFIGURATION, SUMMARY, 46)
    assert places["account"] == (SourceKind.LOCAL, LOCAL, 17)
    assert places["dataset_label"] == (SourceKind.RESOURCES, SUMMARY, 36)
    assert places["lora_alpha"] == places["my_wandb_run_name"] == (SourceKind.DERIVED, None, None)
    assert places["seed"] == (SourceKind.DEFAULT, None, None)


def test_an_external_script_keeps_its_own_defaults() -> None:
    context = PlanContext(DIRECTORY, "/home/ada", "/templates", lambda _: True, interface=Interface())
    options = Options(setup_script="/opt/setup_finetune.py")
    found = values(make_plan(parsed(EXAMPLE_SUMMARY, EXAMPLE_LOCAL), options, context))
    assert {"lora_alpha", "seed", "dataset_type", "weight_decay"}.isdisjoint(found)
    assert (found["lora_rank"], found["lr"], found["time"], found["gpus"]) == (8, 1e-5, "0:59:00", 1)


# --- the plan's identity ---


def test_the_id_depends_on_everything_except_warnings() -> None:
    plan = planned()
    assert planned().id == plan.id
    assert with_id(plan.model_copy(update={"warnings": (_some_warning(),)})).id == plan.id
    assert planned(setup_script="/opt/x.py").id != plan.id
    assert planned(local=local_md(time="1:00:00")).id != plan.id
    context = PlanContext(DIRECTORY, "/home/ada", "/templates", lambda _: True, inputs={"a": "b"})
    assert make_plan(parsed(), Options(), context).id != plan.id


def _some_warning() -> Finding:
    text = summary(table=runs(1).replace("| 8 |", "| - |"))
    return planned(text).warnings[0]


# --- precedence ---


def test_a_row_overrides_configuration_with_a_warning() -> None:
    rows = runs(2, LoRA_Rank=["8", "16"], Batch_Size=["4", "16"], Epochs=["2", "-"])
    plan = planned(summary(table=rows))
    assert [(v["batch_size"], v["epochs"]) for v in (values(plan, 0), values(plan, 1))] == [(4, 2), (16, 2)]
    assert warned(plan) == [("overridden", "batch_size", SUMMARY, 7)]
    warning = plan.warnings[0]
    assert (warning.expected, warning.actual) == (4, 16)
    assert absent(warning.message, "'run_2'", 24) == []


def test_a_control_overrides_nothing() -> None:
    rows = table(
        ["Run Name", "Model", "LoRA Rank", "LR", "Batch Size", "Type"],
        [["a", MODEL, "8", "1e-5", "4", "Fine-tuned"], ["b", MODEL, "-", "-", "1", "Control"]],
    )
    assert planned(summary(table=rows)).warnings == ()


def test_configuration_overrides_claude_local_md() -> None:
    text = summary(training={"Time": "2:00:00", "GPUs": "2"})
    found = values(planned(text, local_md(time="1:00:00", gpus="4")))
    assert (found["time"], found["gpus"]) == ("2:00:00", 2)
    assert values(planned(local=local_md(time="1:00:00", gpus="4")))["gpus"] == 4


def test_rank_and_rate_default_to_those_of_setup_finetune_with_a_warning() -> None:
    rows = table(["Run Name", "Model", "Seed"], [["a", MODEL, "1"], ["b", MODEL, "2"]])
    plan = planned(summary(table=rows))
    found = values(plan)
    assert (found["lora_rank"], found["lr"], found["lora_alpha"]) == (64, 1e-4, 128)
    assert warned(plan) == [("default-used", "lora_rank", SUMMARY, 6), ("default-used", "lr", SUMMARY, 6)]
    assert [w.actual for w in plan.warnings] == [64, 1e-4]


def test_a_rank_in_configuration_needs_no_warning() -> None:
    rows = table(["Run Name", "Model", "Seed"], [["a", MODEL, "1"]])
    plan = planned(summary(table=rows, training={"LoRA rank": "32", "Learning rate": "1e-5"}))
    assert plan.warnings == ()
    assert values(plan)["lora_alpha"] == 64


def test_alpha_is_twice_the_rank_unless_it_is_given() -> None:
    assert values(planned(summary(training={"LoRA alpha": "5"})))["lora_alpha"] == 5


def test_account_partition_and_constraint_are_planned_only_if_they_are_set() -> None:
    names = {"account", "partition", "constraint", "modules", "prompt", "mem"}
    assert names.isdisjoint(values(planned()))
    found = values(planned(local=local_md(account="lab", partition="gpu", constraint="a100&big", modules="x/1")))
    assert (found["account"], found["partition"], found["constraint"], found["modules"]) == (
        "lab",
        "gpu",
        "a100&big",
        "x/1",
    )


def test_relative_paths_start_at_the_directory_of_their_document() -> None:
    text = summary(dataset="data//./words.json", models={MODEL: "`models/base`"})
    found = values(planned(text, local_md(output_dir_base="outputs/")))
    assert (found["input_dir_base"], found["dataset_label"]) == (f"{DIRECTORY}/data/", "words")
    assert (found["models_dir"], found["model_checkpoint"]) == (f"{DIRECTORY}/models", "base")
    assert found["output_dir_base"] == "/home/ada/outputs"
    found = values(planned(summary(models={}), local_md(models_dir="llms")))
    assert (found["models_dir"], found["model_checkpoint"]) == ("/home/ada/llms", MODEL)
    found = values(planned(summary(output="`results`"), local_md(output_dir_base=None)))
    assert found["output_dir_base"] == f"{DIRECTORY}/results"


def test_a_data_set_in_the_root_directory() -> None:
    assert values(planned(summary(dataset="/words.json")))["input_dir_base"] == "/"


def test_the_data_set_of_a_row_overrides_the_shared_one() -> None:
    plan = planned(summary(table=runs(2, Dataset=["/a/one.json", "-"])))
    assert [run.data_path for run in plan.runs] == ["/a/one.json", "/data/words.json"]
    assert [run.directory for run in plan.runs] == ["one", "words"]
    assert plan.runs[0].parameters["dataset"] == "/a/one.json"


def test_evaluated_rows_are_excluded_with_a_reason() -> None:
    rows = table(["Run", "Model", "LR", "Type"], [["a", MODEL, "1e-5", "Fine-tuned"], ["b", MODEL, "-", "eval-only"]])
    assert planned(summary(table=rows)).excluded == (
        Excluded(name="b", reason="evaluation only: nothing is fine-tuned"),
    )


# --- refusals ---


def test_identical_rows_are_refused_with_both_lines() -> None:
    (problem,) = refusal(planned, summary(table=runs(3, LoRA_Rank=["8", "16", "8"])))
    assert told([problem]) == [("identical-runs", "runs", SUMMARY, 8)]
    assert absent(problem.message, 6, 8) == []


@pytest.mark.parametrize("names", ["varying", "table"])
def test_rows_that_differ_only_in_notation_are_identical(names: str) -> None:
    text = summary(table=runs(2, Learning_Rate=["1e-5", "0.00001"], Batch_Size=["4", "-"]))
    assert told(refusal(planned, text, names=names)) == [("identical-runs", "runs", SUMMARY, 7)]


def test_an_unknown_model_is_refused_with_a_suggestion() -> None:
    rows = runs(2, Model=["Llama-3.2-1B-Instrukt"] * 2, LoRA_Rank=["8", "16"])
    text = summary(table=rows, models={"Llama-3.2-1B-Instrukt": "/models/x"})
    (problem,) = refusal(planned, text)
    assert told([problem]) == [("unknown-model", "model", SUMMARY, 6)]
    assert f"'{MODEL}'" in problem.message
    assert str(problem.expected) == ", ".join(known_models())
    assert planned(text, setup_script="/opt/setup_finetune.py").runs[0].model == "Llama-3.2-1B-Instrukt"


@pytest.mark.parametrize(("path", "extension"), [("/d/a.csv", ".csv"), ("/d/a", ""), ("/d/a.JSON", ".JSON"),
("/d/.json", ""),
                                                ("/d/a.json.gz", ".gz"), ("/d.json/a", "")])  # fmt: skip
def test_an_unsupported_data_format_is_refused_with_the_supported_ones(path: str, extension: str) -> None:
    (problem,) = refusal(planned, summary(dataset=path))
    assert told([problem]) == [("unsupported-format", "dataset", SUMMARY, 17)]
    assert (problem.expected, problem.actual) == (".json or .parquet", extension)
    assert absent(f"{problem.message}; {problem.fix}", ".json", ".parquet") == []
    name = path.rpartition("/")[2]
    assert (f"replace `{name}` with `{name}.json` in" in problem.fix) is (extension == "" and path != "/d/.json")


@pytest.mark.parametrize("extension", [".json", ".parquet"])
def test_the_template_depends_on_the_data_format(extension: str) -> None:
    plan = planned(summary(dataset=f"/data/words{extension}"))
    assert plan.template == f"setup_finetune_{extension[1:]}.yaml.j2"
    assert values(plan)["dataset_ext"] == extension


def test_an_experiment_with_both_formats_lists_both_templates() -> None:
    plan = planned(summary(table=runs(2, Dataset=["/a/x.json", "/a/y.parquet"])))
    assert plan.template == "setup_finetune_json.yaml.j2, setup_finetune_parquet.yaml.j2"


@pytest.mark.parametrize("name", ["my words.json", "-x.json", "a..b.json", "wörter.json", "a$b.json".replace("$", "(")])
def test_an_unsafe_data_set_name_is_refused(name: str) -> None:
    assert told(refusal(planned, summary(dataset=f"/data/{name}"))) == [("invalid-value", "dataset", SUMMARY, 17)]


@pytest.mark.parametrize(
    ("template", "expected"),
    [(None, "/templates/setup_finetune_json.yaml.j2"), ("/mine/own.yaml.j2", "/mine/own.yaml.j2")],
)
def test_a_missing_template_is_reported_with_its_path_and_the_example_to_copy(
    template: str | None, expected: str
) -> None:
    context = PlanContext(DIRECTORY, "/home/ada", "/templates", lambda _: False)
    (problem,) = refusal(make_plan, parsed(), Options(template=template), context)
    assert (problem.code, problem.expected, problem.file) == ("missing-template", expected, expected)
    assert expected in problem.message
    assert absent(problem.fix, "/templates/setup_finetune_template.yaml.j2") == []


def test_the_template_of_the_operator_is_used_for_every_format() -> None:
    plan = planned(summary(table=runs(2, Dataset=["/a/x.json", "/a/y.parquet"])), template="/mine/own.yaml.j2")
    assert plan.template == "/mine/own.yaml.j2"


@pytest.mark.parametrize(
    ("recipe", "gpus", "code"),
    [
        ("lora_finetune_single_device", "1", None),
        ("lora_finetune_distributed", "2", None),
        ("lora_finetune_distributed", "1", "wrong-recipe"),
        ("lora_finetune_single_device", "2", "wrong-recipe"),
        ("qat_distributed", "2", "unsupported-setting"),
    ],
)
def test_a_recipe_must_be_supported_and_fit_the_gpus(recipe: str, gpus: str, code: str | None) -> None:
    text = summary(training={"Recipe": recipe, "GPUs": gpus})
    if code is None:
        assert planned(text).runs
    else:
        assert told(refusal(planned, text)) == [(code, "recipe", SUMMARY, 25)]


def test_all_problems_of_a_plan_are_reported_at_once() -> None:
    rows = runs(2, Model=["Llama-9", "Llama-9"])
    text = summary(table=rows, models={"Llama-9": "/m"}, dataset="/d/a.csv", training={"Recipe": "generate"})
    assert [(p.code, p.line) for p in refusal(planned, text)] == [
        ("unknown-model", 6),
        ("identical-runs", 7),
        ("unsupported-format", 17),
        ("unsupported-setting", 25),
    ]


RATES, RANKS = ["1e-5", "3e-5", "1e-4"], ["8", "16"]
CELLS = [(rank, rate) for rank in RANKS for rate in RATES]


def grid_of(cells: Sequence[tuple[str, str]], **columns: Any) -> str:
    ranks, rates = zip(*cells, strict=True)
    return summary(table=runs(len(cells), LoRA_Rank=ranks, Learning_Rate=rates, **columns))


@pytest.mark.parametrize("slip", range(1, len(CELLS)))
def test_a_slip_that_makes_two_rows_identical_is_reported_with_the_missing_combination(slip: int) -> None:
    """Give a row the rate of the row before it, or that of the other rank."""
    other = CELLS[slip - 1] if CELLS[slip - 1][0] == CELLS[slip][0] else CELLS[slip - 3]
    cells = [*CELLS[:slip], other, *CELLS[slip + 1 :]]
    (problem,) = refusal(planned, grid_of(cells))
    rank, rate = CELLS[slip]
    assert (problem.code, problem.expected) == ("identical-runs", f"lora_rank {rank}, lr {rate}")
    assert absent(problem.message, "2 x 3", f"lora_rank {rank}, lr {rate}") == []
    assert f"lora_rank {rank}, lr {rate}" in problem.fix


def test_a_dependent_column_is_not_a_dimension_of_the_grid() -> None:
    cells = [*CELLS[:-1], CELLS[-2]]
    (problem,) = refusal(planned, grid_of(cells, LoRA_alpha=[str(2 * int(rank)) for rank, _ in cells]))
    assert problem.expected == "lora_rank 16, lr 1e-4"


def test_each_of_two_slips_is_reported_with_the_nearest_missing_combination() -> None:
    cells = list(CELLS)
    cells[1], cells[5] = cells[0], cells[4]
    found = refusal(planned, grid_of(cells))
    for problem, lacking in zip(found, ["lora_rank 8, lr 3e-5", "lora_rank 16, lr 1e-4"], strict=True):
        assert absent(problem.message, lacking) == []


@pytest.mark.parametrize("cells", [[*CELLS, CELLS[0]], [CELLS[0]] * 4 + CELLS[4:], [CELLS[0], CELLS[0]]])
def test_identical_rows_outside_a_grid_have_no_missing_combination(cells: list[tuple[str, str]]) -> None:
    problems = refusal(planned, grid_of(cells))
    assert {problem.code for problem in problems} == {"identical-runs"}
    assert {problem.expected for problem in problems} == {None}
