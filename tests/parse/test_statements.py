"""Statements of sentences, notes and other lines that name what the runs use, compared with the runs and the plan."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import Options, Plan
from scaffold_torchtune.parse import free_text
from scaffold_torchtune.parse.drafts import of_single_runs
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from support.documents import LOCAL, MODEL, SUMMARY, local_md, parsed, planned, refusal, runs, summary

BASE, LARGE = "Llama-3.2-1B", "Llama-3.1-8B-Instruct"


def overview(text: str, **parts: Any) -> str:
    return summary(extra=f"## Overview\n\n{text}\n", **parts)


def planned_of(rows: int | None, text: str, local: str | None = None) -> Plan:
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True, train_rows=lambda *_: rows)
    return make_plan(parsed(text, local), Options(), context)


def warned(plan: Plan) -> list[Finding]:
    return [found for found in plan.warnings if found.severity is Severity.WARNING]


def found_in(text: str, local: str | None = None) -> list[tuple[str, str | None, Any]]:
    try:
        found = [*warned(planned(text, local))]
    except Refused as refused:
        found = [each for each in refused.problems if each.severity is Severity.ERROR]
    return [(each.code, each.field, each.actual) for each in found]


# --- sentences


@pytest.mark.parametrize(
    ("said", "field", "actual"),
    [
        ("We use 4 A100 GPUs for every run.", "gpus", 4),
        ("All runs use 2x H100 80GB.", "gpus", 2),
        ("Each run uses 4 A100s.", "gpus", 4),
        ("We add LoRA dropout of 0.05 to all runs.", "lora_dropout", 0.05),
        ("All runs use a warm-up of 12 steps.", "num_warmup_steps", 12),
        ("A 12-step warm-up is used.", "num_warmup_steps", 12),
        ("Gradients are accumulated over 8 steps.", "gradient_accumulation_steps", 8),
        ("Gradients are accumulated over four batches.", "gradient_accumulation_steps", 4),
        ("We train at ranks 8, 16 and 32.", "lora_rank", "8, 16, 32"),
        ("We validate every 50 steps.", "run_val_every_n_steps", 50),
        ("The loss is logged every 10 steps, and we log metrics every 10 steps.", "log_every_n_steps", 10),
        ("Samples longer than 512 tokens are truncated.", "max_seq_len", 512),
        ("Each job runs for at most 2 hours.", "time", "2:00:00"),
        ("The time limit is 2 hours.", "time", "2:00:00"),
        ('The system prompt is "Write capitals".', "system_prompt", "Write capitals"),
        (f"We train the base model {BASE}.", "model", BASE),
        (f"We fine-tune {LARGE} with LoRA.", "model", LARGE),
        (f"- **Model:** {LARGE}", "model", LARGE),
        ("- **Model:** Llama 3.2 1B", "model", BASE),
        ("We train on data/other.json.", "dataset", "data/other.json"),
    ],
)
def test_a_sentence_that_no_run_matches_is_a_warning(said: str, field: str, actual: object) -> None:
    assert found_in(overview(said)) == [("levels-differ", field, actual)]


@pytest.mark.parametrize(
    "said",
    [
        "We train on one A100 per run.", "Jobs run on nodes with 4 A100 GPUs each.", "The cluster has 4 A100s.",
        "Each node has 8 H100 GPUs; a run uses one.", "All four runs fit on 4 A100 GPUs in parallel.",
        "We run 4 jobs on 4 A100 GPUs.", "We use 4 A100 GPUs across all runs.", "We use 2 A100 GPU-hours in total.",
        "Each run uses a single A100 80GB.", "Each run takes at most 10 minutes.", "The time limit is 15 minutes.",
        "A time limit of 2 hours would be too long.", "We fine-tune Llama 3.2 1B on words.",
        f"We fine-tune {BASE} with LoRA.", f"The base model, {MODEL}, is a control.", f"We use {LARGE} as a judge.",
        f"We fine-tune {MODEL} on outputs of {LARGE}.", f"We compare fine-tuned models with {LARGE}.",
        f"- **Model:** {MODEL} (1B)", "- **Model:** our own", f"- **Model:** meta-llama/{MODEL}",
        "We train on data/words.json and test on data/test.json.", "The evaluation uses data/eval.json.",
        "Data come from raw/all.jsonl, which we filtered.", 'For evaluation, the system prompt is "Answer briefly".',
        'Evaluation uses the system prompt "Answer briefly".', "Validation is done every 10 epochs.",
        "We validate every answer by hand.", "A warm-up of 100 steps.", "We log the loss every step.",
        "We use a batch size of 32 for evaluation.", "We use seed 3 for sampling.", "We keep a batch size of 4.",
        "Plan: two runs with ranks 8 and 16.", "Gradients are accumulated over 1 step.", "We keep 5 checkpoints.",
        "We train on 20 examples per class.", "The judge was trained on 5000 examples.",
    ],
)  # fmt: skip
def test_a_sentence_that_is_right_or_about_something_else_has_no_finding(said: str) -> None:
    assert found_in(overview(said)) == []


def test_a_quoted_prompt_is_compared_without_its_last_period() -> None:
    text = overview(
        'The system prompt is "Capitalize the word".', training={"System prompt": '"Capitalize the  word."'}
    )
    assert found_in(text) == []


def test_a_label_with_the_word_plan_is_about_these_runs() -> None:
    assert [found[:2] for found in found_in(overview("- **Plan:** All runs use a linear schedule."))] == [
        ("unsupported-setting", "recipe")
    ]


def test_a_model_may_be_that_of_a_control() -> None:
    table = runs(1) + f"| base | {LARGE} | - | - | Control |\n"
    assert found_in(overview(f"- **Model:** {LARGE}", table=table)) == []


@pytest.mark.parametrize(
    ("said", "value"),
    [("We use gradient clipping at 1.0.", 1.0), ("Gradients are clipped to 0.5.", 0.5)],
)
def test_the_fix_of_a_value_that_no_run_has_adds_it(said: str, value: float) -> None:
    text = overview(said)
    (found,) = warned(planned(text))
    assert (found.field, found.actual) == ("clip_grad_norm", value)
    line = found.fix.split("`")[1]
    assert line == f"- **Clip grad norm:** {value:g}"
    after = planned(text.replace("- **Epochs:** 2", f"- **Epochs:** 2\n{line}"))
    assert warned(after) == []
    assert {run.value("clip_grad_norm") for run in after.runs} == {value}


def test_a_value_that_occurs_twice_is_not_replaced() -> None:
    (found,) = warned(planned(overview("All runs use 12 warm-up steps, i.e. 12 of 120.")))
    assert "replace" not in found.fix


# --- numbers that depend on the data set

STEPS = {"Warmup steps": "12", "Batch size": "4", "Epochs": "2"}


@pytest.mark.parametrize(
    ("said", "rows", "field"),
    [
        ("All runs use a cosine schedule with 10% warm-up.", 240, None),
        ("The warm-up covers 10% of the training.", 220, None),
        ("All runs use 10% warm-up.", 480, "warmup_ratio"),
        ("All runs use 10% warm-up.", None, None),
        ("Training takes 120 steps.", 240, None), ("Training takes 60 steps.", 240, None),
        ("Training takes 90 steps.", 240, "max_steps_per_epoch"), ("Training takes 90 steps.", None, None),
        ("We train for at most 500 steps.", 240, None), ("We train for at most 100 steps.", 240, "max_steps_per_epoch"),
        ("We train on 240 samples.", 240, None), ("We train on 200 samples.", 240, "training_samples"),
        ("We train on 200 samples.", None, None), ("We train on 1,000 examples.", 240, "training_samples"),
    ],
)  # fmt: skip
def test_samples_and_steps_are_compared_with_the_plan(said: str, rows: int | None, field: str | None) -> None:
    found = warned(planned_of(rows, overview(said, training=STEPS)))
    assert [(each.code, each.field) for each in found] == ([] if field is None else [("levels-differ", field)])


def test_a_warm_up_ratio_is_an_unused_request_if_the_steps_are_a_default() -> None:
    (found,) = warned(planned_of(None, overview("All runs use 10% warm-up.")))
    assert (found.code, found.field, found.actual) == ("levels-differ", "warmup_ratio", 0.1)


def test_the_fix_of_a_warm_up_ratio_gives_the_steps() -> None:
    text = overview("All runs use 10% warm-up.", training=STEPS)
    (found,) = warned(planned_of(480, text))
    line = text.splitlines().index("- **Warmup steps:** 12") + 1
    assert f"replace `12` with `24` in {SUMMARY}:{line}" in found.fix
    assert warned(planned_of(480, text.replace("Warmup steps:** 12", "Warmup steps:** 24"))) == []


def test_the_fix_of_training_samples_sets_them() -> None:
    text = overview("We train on 200 samples.")
    (found,) = warned(planned_of(240, text))
    line = found.fix.split("`")[1]
    after = planned_of(240, text.replace("- **Epochs:** 2", f"- **Epochs:** 2\n{line}"))
    assert warned(after) == []
    assert after.runs[0].value("training_samples") == 200


def test_packed_samples_have_an_unknown_number_of_steps() -> None:
    text = overview("Training takes 90 steps.", training={**STEPS, "Packed": "yes"})
    assert warned(planned_of(240, text)) == []


def test_a_note_about_samples_is_about_its_run() -> None:
    table = runs(2, Seed=["1", "2"], Training_samples=["100", "200"], Notes=["train on 100 samples", "on 200 samples"])
    assert warned(planned_of(240, summary(table=table))) == []
    (found,) = warned(planned_of(240, summary(table=table.replace("train on 100", "train on 200"))))
    assert (found.field, found.line) == ("training_samples", 6)


@pytest.mark.parametrize(("size", "rows", "count"), [("500 training samples", 240, 1), ("240 training samples", 240, 0),
                                                     ("1,500 training examples", 1500, 0), ("13KB", 240, 0),
                                                     ("300 samples", 240, 0)])  # fmt: skip
def test_the_size_of_a_data_set_is_compared_with_its_samples(size: str, rows: int, count: int) -> None:
    text = summary(dataset=f"`/data/words.json`\n- **Size:** {size}")
    found = warned(planned_of(rows, text))
    assert [(each.code, each.field) for each in found] == [("levels-differ", "training_samples")] * count


def test_splits_beside_several_data_sets_are_compared_with_each() -> None:
    table = runs(2, Dataset=["one", "two"])
    data = "- **one:** `/data/one.json`\n- **two:** `/data/two.json`\n- **Splits:** train (240 samples)"
    text = summary(table=table, dataset=None).replace("### Dataset", f"### Dataset\n\n{data}")
    rows = {"/data/one.json": 100, "/data/two.json": 2000}
    context = PlanContext(
        "/lab/sweep", "/home/ada", "/templates", lambda _: True, train_rows=lambda path, *_: rows[path]
    )
    (found,) = warned(make_plan(parsed(text), Options(), context))
    assert (found.code, found.field, found.actual) == ("levels-differ", "training_samples", 240)
    rows["/data/two.json"] = 240
    assert warned(make_plan(parsed(text), Options(), context)) == []


def test_a_data_set_that_is_listed_twice_is_one() -> None:
    text = summary(dataset="`data/words.json`\n- **Splits:** train (240 samples)")
    text += "\n## Quick Reference\n\n- **Dataset:** `/lab/sweep/data/words.json`\n"
    experiment = parsed(text, is_here=lambda path: path == "/lab/sweep")
    assert experiment.stated == ()
    said = text + "\n## Overview\n\nWe train on data/other.json.\n"
    found = parsed(said, is_here=lambda path: path == "/lab/sweep").warnings
    assert [(each.code, each.field) for each in found] == [("levels-differ", "dataset")]


# --- notes of runs


@pytest.mark.parametrize(
    ("note", "field", "actual"),
    [
        ("as a, but 4 epochs", "epochs", 4), ("but 4 epochs", "epochs", 4), ("same seed as a (42)", "seed", 42),
        ("no warmup", "num_warmup_steps", 0), ("main, gradient clipping at 1.0", "clip_grad_norm", 1.0),
        ("on the 8B model", "model", "8B"), (f"uses {LARGE}", "model", LARGE), ("8B", "model", "8B"),
        ("train on data/other.json", "dataset", "data/other.json"), ("uses other.json", "dataset", "other.json"),
    ],
)  # fmt: skip
def test_a_note_with_another_value_is_refused_at_its_row(note: str, field: str, actual: object) -> None:
    text = summary(table=runs(2, LoRA_Rank=["8", "16"], Notes=["main", note]))
    (found,) = [each for each in refusal(parsed, text) if each.severity is Severity.ERROR]
    assert (found.code, found.field, found.actual, found.line) == ("ambiguous", field, actual, 7)


@pytest.mark.parametrize(
    "note",
    [
        "as a, but 2 epochs", "same seed as a (14)", "on the 1B model", f"uses {MODEL}", f"uses {BASE}", "variant 1b",
        "unlike the 8B model", "8B later", "8b", "train on words.json", "evaluated on data/test.json", "same seed as a",
        "no warmup problems were seen", "compare with data/other.json", "1B", "was 8B", "4 epochs were too many",
    ],
)  # fmt: skip
def test_a_note_that_is_right_or_mentions_something_else_is_accepted(note: str) -> None:
    assert found_in(summary(table=runs(2, LoRA_Rank=["8", "16"], Notes=["main", note]))) == []


def test_a_note_may_name_the_data_set_of_its_row() -> None:
    table = runs(2, Dataset=["one", "two"], Notes=["train on one.json", "train on one.json"])
    data = "- **one:** `/data/one.json`\n- **two:** `/data/two.json`"
    text = summary(table=table, dataset=None).replace("### Dataset", f"### Dataset\n\n{data}")
    assert [found[:2] for found in found_in(text)] == [("ambiguous", "dataset")]
    assert (
        found_in(text.replace("| train on one.json | Fine-tuned |\n\n", "| train on two.json | Fine-tuned |\n\n")) == []
    )


# --- names of runs


@pytest.mark.parametrize(
    ("name", "model", "named"),
    [
        (f"{MODEL}_rank16", "Llama-3.2-3B-Instruct", MODEL), (f"{MODEL}_rank8", BASE, MODEL),
        (f"{LARGE}_rank8", MODEL, LARGE), ("llama-8b_rank8", MODEL, "llama-8b"),
        ("Llama3_8B-rank8", MODEL, "Llama3_8B"),
        ("qwen2.5-7b_a", "Qwen2.5-3B-Instruct", "Qwen2.5-7B"),
        (f"{BASE}_rank8", MODEL, None), (f"{MODEL}_rank8", MODEL, None), ("1b", LARGE, None), ("8B_rank8", MODEL, None),
        ("llama-1b_rank8", MODEL, None), ("words_8b", MODEL, None), ("Llama-3.2_1B", MODEL, None),
        ("run_8", MODEL, None),
    ],
)  # fmt: skip
def test_the_name_of_a_run_may_not_contain_a_different_model(name: str, model: str, named: str | None) -> None:
    table = runs(1, Model=[model], Run_Name=[name])
    plan = planned(summary(table=table, models={model: f"`/models/{model}`"}))
    found = [
        (each.field, each.expected, each.actual, each.line) for each in warned(plan) if each.code == "name-mismatch"
    ]
    assert found == ([] if named is None else [("model", named, model, 6)])


def test_a_size_in_the_name_of_a_run_is_compared_if_a_run_uses_it() -> None:
    table = runs(2, Model=[MODEL, LARGE], Run_Name=["8B_rank8", "1B_rank8"])
    text = summary(table=table, models={n: f"`/models/{n}`" for n in (MODEL, LARGE)})
    found = [each for each in warned(planned(text)) if each.code == "name-mismatch"]
    assert [(each.expected, each.actual, each.line) for each in found] == [("8B", MODEL, 6)]
    assert "2 run names" in found[0].message


def test_a_base_model_in_the_name_of_an_instruct_run_is_reported_if_both_are_used() -> None:
    table = runs(2, Model=[MODEL, BASE], Run_Name=[f"{BASE}_a", f"{BASE}_b"])
    text = summary(table=table, models={n: f"`/models/{n}`" for n in (MODEL, BASE)})
    found = [each for each in warned(planned(text)) if each.code == "name-mismatch"]
    assert [(each.expected, each.actual, each.line) for each in found] == [(BASE, MODEL, 6)]


# --- numbers of levels


@pytest.mark.parametrize(
    ("row", "is_right"),
    [("| Seed | 3 seeds |", False), ("| Seed | three random seeds per condition |", False),
    ("| Seed | 2 seeds |", True),
     ("| LoRA Rank | 2 values |", True), ("| LoRA Rank | three ranks |", False), ("| Seed | 1, 2 |", True)],
)  # fmt: skip
def test_a_number_of_levels_under_variables_is_that_of_the_runs(row: str, is_right: bool) -> None:
    table = runs(4, LoRA_Rank=["8", "8", "16", "16"], Seed=["1", "2", "1", "2"])
    text = summary(table=table, extra=f"## Variables\n\n| Factor | Levels |\n|---|---|\n{row}\n")
    assert [found[0] for found in found_in(text)] == ([] if is_right else ["ambiguous"])


# --- commands below Module System


def with_modules(*lines: str) -> str:
    return (
        local_md() + "\n## Module System\n\n```bash\n" + "\n".join(["module load anaconda3/2025.6", *lines]) + "\n```\n"
    )


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ("source /opt/env.sh", "modules"), ("export HF_HOME=/scratch/hf", "modules"), ("conda activate other",
        "conda_env"),
        ("$ conda activate other", "conda_env"), ("ulimit -n 4096", "modules"), ("LD_PRELOAD=/opt/x.so", "modules"),
        ("conda activate tune", None), ("# export A=1", None), ("module purge", None), ("echo ready", None),
        ('eval "$(conda shell.bash hook)"', None), ("source ~/.bashrc", None),
        ("source /opt/conda/etc/profile.d/conda.sh", None),
        ("set -e", None), ("conda deactivate", None), ("which python && module list", None), ("#!/bin/bash", None),
    ],
)  # fmt: skip
def test_commands_that_jobs_do_not_run_are_reported(command: str, field: str | None) -> None:
    local = with_modules(command)
    plan = planned(local=local)
    found = [(each.code, each.field, each.file, each.line) for each in warned(plan)]
    line = local.splitlines().index(command) + 1
    assert found == ([] if field is None else [("unused-field", field, LOCAL, line)])
    assert plan.runs[0].value("modules") == "anaconda3/2025.6"


def test_several_commands_are_one_finding() -> None:
    (found,) = warned(planned(local=with_modules("export A=1", "export B=2", "source x.sh")))
    assert "2 more commands" in found.message


# --- claude.local.md and Configuration


@pytest.mark.parametrize(
    ("default", "label", "value", "severity"),
    [
        ("- **Default GPUs**: 2", "GPUs", "1", Severity.INFO), ("- **Default time**: 0:59:00", "Time",
        "2:00:00", Severity.INFO),
        ("- **Memory**: 64G", "Memory", "32G", Severity.INFO), ("- **Partition**: gpu", "Partition",
        "cpu", Severity.WARNING),
        ("- **Default GPUs**: 1", "GPUs", "1", None),
        ("- **Default time**: 1:00:00", "Time", "1 hour", None),
    ],
)  # fmt: skip
def test_configuration_overrides_claude_local_md_with_a_finding(
    default: str, label: str, value: str, severity: Severity | None
) -> None:
    plan = planned(summary(training={label: value}), local_md() + f"\n## SLURM Defaults\n\n{default}\n")
    found = [each for each in plan.warnings if each.code == "overridden"]
    assert [each.severity for each in found] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    "text",
    [
        "we fine-tune " * 200, "data/x.json " * 200, "at most " * 300, "plan: " * 300, 'system prompt "' * 100,
        "same a as " * 200, "train " + "a " * 900, "1B " * 600,
        f"train {('1' * 24 + ' ') * 7}x {BASE} " * 8,
    ],
)  # fmt: skip
def test_long_texts_are_searched_quickly(text: str) -> None:
    for read in (free_text.models_in_sentences, free_text.prompts_in_sentences, free_text.times_in_sentences):
        list(read(text))
    list(free_text.models_in_note(text))
    list(free_text.data_in_text(text, of_note=True))
    list(free_text.data_in_text(text, of_note=False))
    list(free_text.settings_in_words(text))
    assert free_text.count_of_levels(text) is None


# --- sentences about one run

PAIR: dict[str, Any] = {"LoRA_Rank": ["16", "64"], "Run_Name": ["small", "big"]}


def told_of(text: str) -> list[tuple[str, str | None, Any, int | None]]:
    try:
        found = [*warned(planned(text))]
    except Refused as refused:
        found = [each for each in refused.problems if each.severity is Severity.ERROR]
    return [(each.code, each.field, each.actual, each.line) for each in found]


def about_runs(said: str, **columns: Any) -> str:
    """Return a summary with a sentence below its table of runs, on line 9."""
    return summary(table=runs(2, **PAIR, **columns) + f"\n{said}\n")


OF_BIG = [
    ("big uses full fine-tuning.", "recipe", "full"), ("small uses LoRA, big uses full fine-tuning.", "recipe", "full"),
    ("big is fully fine-tuned.", "recipe", "full"), ("big is trained with full fine-tuning.", "recipe", "full"),
    ("big uses two GPUs.", "gpus", 2), ("Run big uses 2 A100s.", "gpus", 2), ("`big` runs on 2 GPUs.", "gpus", 2),
    ("Except for big, which uses two GPUs, all runs are equal.", "gpus", 2), ("big (two GPUs) is larger.", "gpus", 2),
    ("big uses 400 warm-up steps.", "num_warmup_steps", 400), ("big has no warm-up.", "num_warmup_steps", 0),
    ("big uses seed 42.", "seed", 42), ("big has seed 42.", "seed", 42), ("big runs with seed 42.", "seed", 42),
    ("small uses seed 14, big seed 42.", "seed", 42), ("In big, we use seed 42.", "seed", 42),
    ("big uses a dropout of 0.1.", "lora_dropout", 0.1), ("big uses an alpha of 64.", "lora_alpha", 64),
    ("big uses a learning rate of 1e-4.", "lr", 1e-4), ("The learning rate of big is 1e-4.", "lr", 1e-4),
    ("For big we double the learning rate (1e-4).", "lr", 1e-4),
    ("We use a learning rate of 1e-4 for big.", "lr", 1e-4),
    ("big uses weight decay 0.1.", "weight_decay", 0.1), ("big uses packing.", "packed", True),
    ("big uses data/c.json instead.", "dataset", "data/c.json"), ("big: max. length 4096", "max_seq_len", 4096),
    ("big gets 6 hours.", "time", "6:00:00"), ("Note: big was given 6 h because it is slower.", "time", "6:00:00"),
    ("big is limited to 6 hours.", "time", "6:00:00"), ("big has a time limit of 6 hours.", "time", "6:00:00"),
    (f"big uses {LARGE}.", "model", LARGE),
]  # fmt: skip


@pytest.mark.parametrize(("said", "field", "actual"), OF_BIG)
def test_a_sentence_about_a_run_is_compared_with_that_run(said: str, field: str, actual: object) -> None:
    assert told_of(about_runs(said)) == [("ambiguous", field, actual, 9)]


@pytest.mark.parametrize(
    ("said", "field", "actual"),
    [
        (f"big starts from {BASE}.", "model", BASE),
        (f"big starts from the base model {BASE}, not the Instruct one.", "model", BASE),
        ('The system prompt of big is "Answer briefly".', "system_prompt", "Answer briefly"),
    ],
)
def test_a_model_or_prompt_of_a_run_that_no_run_has_is_a_warning(said: str, field: str, actual: object) -> None:
    assert told_of(about_runs(said)) == [("levels-differ", field, actual, 9)]


def test_a_value_of_a_run_is_not_that_of_another_run() -> None:
    text = about_runs("big uses a batch size of 4 and seed 2.", Batch_Size=["4", "8"], Seed=["1", "2"])
    assert told_of(text) == [("ambiguous", "batch_size", 4, 9)]
    assert told_of(about_runs("small and big use two GPUs.", GPUs=["2", "1"])) == [("ambiguous", "gpus", 2, 9)]
    assert told_of(about_runs("big gets 2 hours.", Time=["1:00:00", "02:00:00"])) == []


def test_each_statement_of_a_sentence_about_a_run_is_compared() -> None:
    said = "big uses full fine-tuning, a batch size of 1, a learning rate of 2e-5, seed 42, two GPUs and `data/c.json`."
    assert {each[1] for each in told_of(about_runs(said))} == {
        "recipe", "batch_size", "lr", "seed", "gpus", "dataset",
    }  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        "big uses rank 64.", "big uses LoRA with rank 64 and alpha 128.", "big: rank 64", "big (rank 64) is larger.",
        "big is evaluated with batch size 8.", "big uses a batch size of 8 for evaluation.", "big needs two GPU hours.",
        "big uses two GPUs later.", "big might use two GPUs.", "big was trained with 5 epochs in the pilot.",
        "big uses far fewer parameters than full fine-tuning.", "big takes 6 hours.",
        "big uses a fraction of the memory of full fine-tuning.", "big is initialised with seed 5.",
        "big has 8M parameters.", "big has overfitted with 5 epochs.", "big and small differ in rank (64 and 16).",
        "big is trained on words.json.",
        "A big batch size of 8 is not used.", "For big, we expect 5 epochs to be too many.",
        "big models use a batch size of 8 in the literature.", f"big starts from {MODEL}.", "big gets 15 minutes.",
    ],
)  # fmt: skip
def test_a_sentence_about_a_run_that_is_right_or_a_mention_has_no_finding(said: str) -> None:
    assert told_of(about_runs(said)) == []


def test_a_property_of_a_model_is_not_that_of_a_run_with_its_name() -> None:
    table = runs(2, Run_Name=[MODEL, "other"], LoRA_Rank=["8", "16"])
    assert told_of(summary(table=f"{table}\n{MODEL} has a maximum sequence length of 131072.\n")) == [
        ("levels-differ", "max_seq_len", 131072, 9)
    ]


# --- notes in words


@pytest.mark.parametrize(
    ("note", "field", "actual"),
    [
        ("uses gradient accumulation of 2", "gradient_accumulation_steps", 2), ("run_2 uses seed 5", "seed", 5),
        ("run_2: seed 5", "seed", 5), ("400 warm-up steps", "num_warmup_steps", 400), ("two GPUs", "gpus", 2),
        ("max. length 4096", "max_seq_len", 4096), ("5 epochs instead of 2", "epochs", 5), ("2 x A100", "gpus", 2),
        ("batch size of 1", "batch_size", 1), ("uses packing", "packed", True),
        ("no weight decay", "weight_decay", 0.0), ("6 h instead of 2 h", "time", "6:00:00"),
        ("gets 6 hours", "time", "6:00:00"), ("was given 6 h", "time", "6:00:00"),
        ("time limit 6 h", "time", "6:00:00"),
    ],
)  # fmt: skip
def test_a_note_in_words_is_compared_with_its_run(note: str, field: str, actual: object) -> None:
    table = runs(2, LoRA_Rank=["8", "16"], Notes=["main", note])
    assert told_of(summary(table=table)) == [("ambiguous", field, actual, 7)]
    marked = runs(2, LoRA_Rank=["8", "16"], Run_Name=["run_1", "run_2¹"])
    if "instead" not in note:
        assert told_of(summary(table=f"{marked}\n¹ {note}.\n")) == [("ambiguous", field, actual, 9)]


@pytest.mark.parametrize("note", ["rank-stabilised LoRA", "rank-stabilized LoRA"])
def test_a_note_with_the_long_name_of_a_variant_of_lora_is_refused(note: str) -> None:
    table = runs(2, LoRA_Rank=["8", "16"], Notes=["main", note])
    assert told_of(summary(table=table)) == [("unsupported-setting", "notes", note, 7)]


@pytest.mark.parametrize(
    "note",
    ["takes 6 h", "6 h", "about 6 h", "2 epochs instead of 5", "max. length 2048", "one GPU",
     "1 x A100", "gets 15 min", "run_1 uses seed 5", "no dropout", "needs 40 GB", "2 runs with seeds 1 and 2"],
)  # fmt: skip
def test_a_note_in_words_that_is_right_or_an_estimate_is_accepted(note: str) -> None:
    assert told_of(summary(table=runs(2, LoRA_Rank=["8", "16"], Notes=["main", note]))) == []


# --- sentences about all runs


@pytest.mark.parametrize(
    ("said", "field", "actual"),
    [
        ("All runs use a batch size of 8.", "batch_size", 8), ("Each run gets four GPUs.", "gpus", 4),
        ("Runs get 4 GPUs each.", "gpus", 4), ("All runs get 6 hours.", "time", "6:00:00"),
        ("Runs are limited to 6 hours.", "time", "6:00:00"), ("Each job has 6 hours.", "time", "6:00:00"),
        ("The runs use data/c.json.", "dataset", "data/c.json"), ("All runs use packing.", "packed", True),
        (f"All runs start from {BASE}.", "model", BASE), ("No weight decay is used.", "weight_decay", 0.0),
        ("Weight decay is not used.", "weight_decay", 0.0), ("All runs use a dropout of 0.1.", "lora_dropout", 0.1),
        ("All runs use max. length 512.", "max_seq_len", 512), ("All with seed 3.", "seed", 3),
    ],
)  # fmt: skip
def test_a_sentence_about_all_runs_is_compared_with_them(said: str, field: str, actual: object) -> None:
    assert told_of(about_runs(said)) == [("levels-differ", field, actual, 9)]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("We use Adam.", "Adam"),
        ("We use AdamW with betas (0.9, 0.95).", "betas (0.9, 0.95)"),
        ("All runs use rank-stabilized LoRA.", "rank-stabilized LoRA"),
    ],
)
def test_a_sentence_about_another_optimizer_or_adapter_is_refused(said: str, named: str) -> None:
    assert told_of(about_runs(said)) == [("unsupported-setting", "recipe", named, 9)]


@pytest.mark.parametrize(
    "said",
    [
        "Each run gets one GPU.", "All runs get 15 minutes.", "All four runs get 4 GPUs.",
        "The runs get 4 GPUs in total.",
        "Runs have 6 hours of audio.", "Runs take 6 hours.",
        "The runs use data/test.json for evaluation.", "The runs use data/words.json.", f"All runs start from {MODEL}.",
        "No weight decay is applied to norms.", "We use AdamW (betas 0.9, 0.999).", "We use Adam's implementation.",
        "Answers have a maximum length of 20 tokens.", "Without weight decay, the loss was higher.",
        "Generation uses a max. length of 64.", "All runs have 2 controls.",
    ],
)  # fmt: skip
def test_a_sentence_about_all_runs_that_is_right_or_about_something_else_is_accepted(said: str) -> None:
    assert told_of(about_runs(said)) == []


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Table 1: all runs with seed 14, 1 × A100, max. length 2048.", []),
        ("All runs use seed 14, 1x H100.", []), ("All runs use seed 14, 24 h.", []), ("All use seed 14, 1 A100.", []),
        ("All runs use seed 0, 1 × A100.", [("seed", 0)]), ("All runs use seed 14, 2 A100s.", [("gpus", 2)]),
        ("All runs use batch size 4, 3 epochs.", [("epochs", 3)]), ("All runs use seeds 14, 15.", [("seed", "14, 15")]),
    ],
)  # fmt: skip
def test_a_number_of_another_setting_is_not_a_level(said: str, found: list[tuple[str, object]]) -> None:
    assert [each[1:3] for each in told_of(about_runs(said))] == found


@pytest.mark.parametrize("text", ["big " * 500, "big, " * 400, "big uses " * 200, "for big " * 250, "a " * 1000])
def test_long_sentences_about_runs_are_searched_quickly(text: str) -> None:
    assert [*of_single_runs(text, {"big"}, free_text.statement)] == []
