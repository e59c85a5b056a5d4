"""The sources of values in the result of `plan`."""

from scaffold_torchtune.models import Options
from scaffold_torchtune.plan import make_plan, plan_result
from scaffold_torchtune.plan.run_settings import PlanContext
from support.documents import local_md, parsed, planned, runs, summary
from support.plans import Changes, plan_of


def test_values_that_differ_by_run_have_sources_there_and_shared_ones_are_listed_once() -> None:
    rows = runs(2, LoRA_Rank=["8", "16"], Epochs=["3", "-"], Dataset=["-", "/other/words.json"])
    found = plan_result(planned(summary(table=rows), local_md()))
    assert [run.line for run in found.runs] == [6, 7]
    assert [{name: str(source) for name, source in run.sources.items()} for run in found.runs] == [
        {
            "lora_rank": "experiment_summary.md:6 (LoRA Rank)",
            "epochs": "experiment_summary.md:6 (Epochs)",
            "dataset": "experiment_summary.md:17 (Resources > Dataset > Path)",
            "lora_alpha": "derived (2 x lora_rank)",
        },
        {
            "lora_rank": "experiment_summary.md:7 (LoRA Rank)",
            "epochs": "experiment_summary.md:23 (Configuration > Training)",
            "dataset": "experiment_summary.md:7 (Dataset)",
            "lora_alpha": "derived (2 x lora_rank)",
        },
    ]
    common = {name: str(setting.source) for name, setting in found.common.items()}
    assert common["lr"] == "experiment_summary.md:6 (Learning Rate)"
    assert not common.keys() & {name for run in found.runs for name in run.sources}


def test_values_from_a_ratio_that_differ_by_run_are_listed_for_each_run() -> None:
    table = runs(2, LoRA_Rank=["8", "16"], Batch_Size=["4", "20"])
    training = {"Warmup ratio": "10%", "LoRA alpha": "rank", "Batch size": None}
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True, train_rows=lambda *_: 100)
    found = plan_result(make_plan(parsed(summary(table=table, training=training)), Options(), context))
    assert [run.derived for run in found.runs] == [
        {"lora_alpha": 8, "num_warmup_steps": 5},
        {"lora_alpha": 16, "num_warmup_steps": 1},
    ]
    assert {run.sources["num_warmup_steps"].line for run in found.runs} == {24}
    of_column = plan_result(planned(summary(table=runs(2, LoRA_alpha=["8", "16"]))))
    assert [run.derived for run in of_column.runs] == [{}, {}]


def test_each_run_has_the_source_of_its_model() -> None:
    models = {"Llama-3.2-1B": "/m/1", "Llama-3.2-3B": "/m/3"}
    found = plan_result(planned(summary(table=runs(2, Model=list(models)), models=models)))
    assert [{name: str(source) for name, source in run.sources.items()} for run in found.runs] == [
        {"model": "experiment_summary.md:6 (Model)"},
        {"model": "experiment_summary.md:7 (Model)"},
    ]


def test_a_long_list_of_levels_keeps_the_rarest() -> None:
    made: list[Changes] = [{"lr": n * 1e-5, "seed": seed} for n in range(1, 16) for seed in (1, 2)]
    made += [{"lr": 7e-3, "seed": 1}]
    levels = plan_result(plan_of(*made, varying=["lr", "seed"])).levels
    assert levels["lr"].startswith("1e-5 in 2 runs, 2e-5 in 2 runs, ")
    assert levels["lr"].endswith("7e-3 in 1 run and 4 more")
    assert levels["seed"] == "1 in 16 runs, 2 in 15 runs"
    assert plan_result(plan_of(*made[::2], varying=["lr"])).levels == {"lr": "16 levels, each in one run"}
    models: list[Changes] = [{"torchtune_model_name": name} for name in ("b", "a", "b")]
    assert plan_result(plan_of(*models, varying=["model"])).levels == {"model": "b in 2 runs, a in 1 run"}
    assert plan_result(plan_of(*made[:-1], varying=["seed"])).levels == {"seed": "1, 2; 15 runs each"}
