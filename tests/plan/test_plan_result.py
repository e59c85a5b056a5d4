"""What plan tells of where values stand."""

from scaffold_torchtune.results.step_results import plan_result
from support.documents import local_md, planned, runs, summary


def test_each_value_that_differs_by_run_has_its_place_and_those_that_do_not_have_theirs_once() -> None:
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


def test_runs_of_several_models_tell_where_each_is_named() -> None:
    models = {"Llama-3.2-1B": "/m/1", "Llama-3.2-3B": "/m/3"}
    found = plan_result(planned(summary(table=runs(2, Model=list(models)), models=models)))
    assert [{name: str(source) for name, source in run.sources.items()} for run in found.runs] == [
        {"model": "experiment_summary.md:6 (Model)"},
        {"model": "experiment_summary.md:7 (Model)"},
    ]
