"""Test settings that are limited to some runs, and settings of other plans."""

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.parse import marked_rows
from scaffold_torchtune.settings.parameters import normalize
from support.documents import parsed, planned, refusal, runs, summary, table, values_of
from support.sampling import spread

TWO_MODELS = {"Llama-3.2-1B-Instruct": "`/models/one`", "Llama-3.2-3B-Instruct": "`/models/three`"}
A_AND_B = runs(2, Run_Name=["A", "B"], Model=list(TWO_MODELS), LoRA_Rank=["8", "16"])
GROUPS = ["3B", "3B models", "Run B", "B", "B (only)", "Rank 16", "LoRA rank 16", "Long runs", "Llama-3.2-3B-Instruct"]


@pytest.mark.parametrize("group", spread(GROUPS, every=2))
@pytest.mark.parametrize(
    "form", ["### {}\n\n- **Weight decay:** 0.1\n- **Seed:** 3\n", "- {}:\n  - Weight decay: 0.1\n  - Seed: 3\n"]
)
def test_settings_of_some_runs_in_configuration_are_refused_once(group: str, form: str) -> None:
    text = summary(table=A_AND_B, models=TWO_MODELS, extra=form.format(group))
    (found,) = refusal(parsed, text)
    assert (found.code, found.field) == ("ambiguous", "configuration")
    assert "column" in found.fix
    assert "Configuration" not in found.fix


LIMITED = [
    "Weight decay (B): 0.1", "Weight decay (for B): 0.1", "Weight decay for 3B: 0.1", "3B weight decay: 0.1",
    "Weight decay [run B]: 0.1", "Weight decay (B only): 0.1", "3B: weight decay 0.1",
]  # fmt: skip


@pytest.mark.parametrize("line", spread(LIMITED, every=2))
def test_a_label_with_a_setting_of_some_runs_is_refused_with_a_column(line: str) -> None:
    (found,) = refusal(parsed, summary(table=A_AND_B, models=TWO_MODELS, extra=f"- {line}\n"))
    assert (found.code, found.actual is not None) == ("ambiguous", True)
    assert "column" in found.fix


def test_settings_above_a_part_of_the_table_are_refused_with_a_column() -> None:
    first, second = (runs(1, Run_Name=[name], Model=[model]) for name, model in zip("AB", TWO_MODELS, strict=True))
    parts = f"### 1B\n\n- **Weight decay:** 0.1\n\n{first}\n### 3B\n\n{second}"
    (found,) = refusal(parsed, summary(table=parts, models=TWO_MODELS))
    assert (found.code, found.field) == ("ambiguous", "weight_decay")
    assert "column" in found.fix
    assert "Configuration" not in found.fix


@pytest.mark.parametrize(
    "title", ["All runs", "Fine-tuning runs", "LoRA", "1B and 3B", "Runs A and B", "Optimizer", "A and B", "Every run"]
)
def test_settings_below_a_title_of_all_runs_are_read(title: str) -> None:
    text = summary(table=A_AND_B, models=TWO_MODELS, extra=f"### {title}\n\n- **Weight decay:** 0.1\n")
    assert [run.settings["weight_decay"].value for run in planned(text).runs] == [0.1, 0.1]


OF_ALL_RUNS = [
    "Settings for all runs", "For all runs", "Hyperparameters of all runs", "Parameters common to all runs",
    "All 2 runs", "Constant across all runs", "Held fixed (all runs)", "Fixed for both runs",
    "Training settings for LoRA runs", "In all runs", "For every run", "For all models",
    "Same as in the earlier runs", "Not varied across runs",
    "Same for all 1B and 3B runs",
    "Same for all two runs", "Total runs",
]  # fmt: skip
OF_SOME_RUNS = [
    "Settings for all 3B runs", "For the short runs", "Same for both 3B runs", "Settings of the long runs",
    "All 4 runs",
    "All other runs", "All runs except B", "Not for all runs", "Varied across runs", "Only some runs",
]  # fmt: skip
MIXED = runs(2, Run_Name=["A", "B"], LoRA_Rank=["8", "-"], Method=["LoRA", "full"])


@pytest.mark.parametrize(
    ("title", "is_read"), spread([*((t, True) for t in OF_ALL_RUNS), *((t, False) for t in OF_SOME_RUNS)], every=2)
)
@pytest.mark.parametrize("form", ["### {}\n\n- **Weight decay:** 0.1\n", "- {}:\n  - Weight decay: 0.1\n"])
def test_the_words_before_runs_decide_whether_a_title_limits_its_settings(title: str, is_read: bool, form: str) -> None:
    text = summary(table=A_AND_B, models=TWO_MODELS, extra=form.format(title))
    if is_read:
        assert [run.settings["weight_decay"].value for run in planned(text).runs] == [0.1, 0.1]
    else:
        assert [(p.code, p.field) for p in refusal(parsed, text)] == [("ambiguous", "configuration")]


@pytest.mark.parametrize("title", ["LoRA runs", "Settings for LoRA runs", "Full fine-tuning runs"])
def test_a_method_of_only_some_runs_limits_settings_other_than_those_of_lora(title: str) -> None:
    extra = f"### {title}\n\n- **Weight decay:** 0.1\n"
    assert [(p.code, p.field) for p in refusal(parsed, summary(table=MIXED, extra=extra))] == [
        ("ambiguous", "configuration")
    ]
    one = runs(2, Run_Name=["A", "B"], LoRA_Rank=["8", "16"], Method=["LoRA", "LoRA"])
    if "LoRA" in title:
        assert planned(summary(table=one, extra=extra)).runs[0].value("weight_decay") == 0.1
        alpha = f"### {title}\n\n- **LoRA alpha:** 32\n"
        assert planned(summary(table=MIXED, extra=alpha)).runs[0].value("lora_alpha") == 32


@pytest.mark.parametrize("title", ["LoRA runs", "Settings for the full runs"])
def test_a_method_that_is_the_name_of_a_run_limits_settings_to_it(title: str) -> None:
    table = runs(2, Run_Name=["lora", "full"], LoRA_Rank=["8", "16"])
    (found,) = refusal(parsed, summary(table=table, extra=f"### {title}\n\n- **Weight decay:** 0.1\n"))
    assert (found.code, found.field) == ("ambiguous", "configuration")


@pytest.mark.parametrize("label", ["Number of runs", "Total runs", "Runs"])
def test_a_number_of_runs_with_other_settings_is_not_of_some_runs(label: str) -> None:
    lines = {label: "2, 2 epochs each, weight decay 0.1"}
    found = parsed(summary(training=lines | {"Weight decay": "0.1"})).warnings
    assert [(w.code, w.field) for w in found] == [("unused-field", label)]
    assert ("ambiguous", "weight_decay") in {(p.code, p.field) for p in refusal(parsed, summary(training=lines))}


def test_titles_are_compared_with_names_that_are_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(text: str) -> str:
        made.append(text)
        return normalize(text)

    monkeypatch.setattr(marked_rows, "normalize", counted)
    parsed(summary(table=runs(100, LoRA_Rank=["8"] * 100), extra="- group\n  - text\n" * 100))
    assert len(made) < 100 * 25


def test_a_size_that_all_trained_runs_have_limits_nothing() -> None:
    text = summary(table=runs(2, controls=1, LoRA_Rank=["8", "16"]), extra="### {}\n\n- **Weight decay:** 0.1\n")
    for title in ("1B", "For 1B", "All 1B runs"):
        found = planned(text.replace("{}", title)).runs
        assert [run.settings["weight_decay"].value for run in found] == [0.1, 0.1]


OF_OTHERS = [
    "## Pilot experiment (done in May)\n\n### Settings\n\n- **Seed:** 3\n- **Weight decay:** 0.1\n",
    "## Preliminary runs\n\n### Configuration\n\n- **Seed:** 3\n",
    "### Not used\n\n- **Weight decay:** 0.1\n",
    "- Considered but rejected:\n  - Weight decay: 0.1\n  - Train on input: yes\n",
    "- Previous paper:\n  - Weight decay: 0.1\n  - Epochs: 5\n",
    "- Evaluation:\n  - Seed: 3\n  - Max sequence length: 512\n  - Batch size: 64\n",
    "- Evaluating:\n  - Seed: 3\n  - Batch size: 64\n",
]


@pytest.mark.parametrize("lines", spread(OF_OTHERS, every=2))
def test_settings_of_other_work_are_not_read(lines: str) -> None:
    names = ("seed", "weight_decay", "max_seq_len", "train_on_input", "epochs", "batch_size")
    assert values_of(summary(extra=lines), *names) == values_of(summary(), *names)


@pytest.mark.parametrize(
    ("lines", "severity"),
    [
        ("### Preliminary settings\n\n- Weight decay: 0.2\n- Seed: 77\n", Severity.WARNING),
        ("## Pilot Configuration\n\n- Weight decay: 0.2\n- Seed: 77\n", Severity.WARNING),
        ("- Pilot:\n\n  - Weight decay: 0.2\n  - Seed: 77\n", Severity.INFO),
        ("### Not used\n\n- Weight decay: 0.2\n- Seed: 77\n", Severity.INFO),
    ],
)
def test_settings_of_another_plan_are_reported_with_their_line(lines: str, severity: Severity) -> None:
    plan = planned(summary(extra=lines))
    found = [(w.code, w.field, w.line, w.severity) for w in plan.warnings]
    assert found == [("unused-field", "configuration", 28, severity)]
    assert [plan.runs[0].value(name) for name in ("weight_decay", "seed")] == [0.01, 14]


def test_settings_below_a_group_of_another_plan_are_not_read() -> None:
    lines = "- Pilot\n  - Group\n    - Weight decay: 0.2\n"
    assert values_of(summary(extra=lines), "weight_decay") == [0.01]


@pytest.mark.parametrize(
    "changes",
    [
        {"# sweep": "# Pilot study", "## Conf": "## Pilot Conf", "### Training": "### Pilot training"},
        {"## All Runs": "## Pilot runs", "## Configuration": "## Pilot Configuration"},
        {"# sweep": "# Preliminary sweep", "### Training": "### Preliminary settings"},
    ],
)
def test_a_word_of_the_title_or_of_the_runs_is_of_this_plan(changes: dict[str, str]) -> None:
    text = summary()
    for old, new in changes.items():
        text = text.replace(old, new)
    assert values_of(text, "epochs") == [2]
    (found,) = [w for w in planned(f"{text}\n## Rejected\n\n- Seed: 77\n").warnings if w.field == "configuration"]
    assert found.code == "unused-field"


def test_a_pilot_with_both_configurations_is_read_from_the_plain_one() -> None:
    text = summary(title="# Pilot study", extra="## Pilot Configuration\n\n- Seed: 77\n")
    assert planned(text).runs[0].value("seed") == 14


@pytest.mark.parametrize(
    "lines",
    [
        "### Earlier stopping\n\n- Seed: 3\n",
        "- Logging and metrics:\n  - Seed: 3\n",
        "- Reproducibility:\n  - Seed: 3\n",
        "### Chosen in the pilot\n\n- Seed: 3\n",
        "- Same as in our previous paper:\n  - Seed: 3\n",
    ],
)
def test_settings_below_a_label_of_the_training_are_read(lines: str) -> None:
    assert planned(summary(extra=lines)).runs[0].value("seed") == 3


def test_validation_below_a_label_about_evaluation_is_read() -> None:
    lines = "- Evaluation:\n  - Validation every n steps: 25\n  - Seed: 3\n"
    assert planned(summary(extra=lines)).runs[0].value("run_val_every_n_steps") == 25


def test_a_pilot_study_with_its_own_table_of_runs_is_read_completely() -> None:
    table, rest = summary().split("## Resources", 1)
    title, runs_of = table.split("## All Runs", 1)
    text = f"{title}## Pilot study\n\n### All Runs{runs_of}## Resources{rest}"
    assert planned(text).runs[0].value("epochs") == 2


def divided(first: str, second: str) -> str:
    return f"### {first}\n\n{runs(1)}\n### {second}\n\n{runs(1, Run_Name=['run_2'], LoRA_Rank=['16'])}"


@pytest.mark.parametrize(
    ("first", "second", "field", "stated"),
    [
        ("1B (batch size 8)", "More (batch size 2)", "batch_size", [8, 2]),
        ("Seed 1", "Seed 2", "seed", [1, 2]),
        ("Short", "Long - 5 epochs", "epochs", [5]),
    ],
)
def test_a_heading_of_rows_with_a_different_setting_is_refused(
    first: str, second: str, field: str, stated: list[int]
) -> None:
    problems = refusal(parsed, summary(table=divided(first, second)))
    assert [(p.code, p.field, p.actual) for p in problems] == [("ambiguous", field, one) for one in stated]


def test_a_heading_of_several_rows_is_reported_once() -> None:
    text = summary(table="### Long (5 epochs)\n\n" + runs(3, LoRA_Rank=["8", "16", "32"]))
    assert [(p.code, p.field) for p in refusal(parsed, text)] == [("ambiguous", "epochs")]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Batch 1", "Batch 2"), ("Ranks 8 and 16", "Rank 16"), ("Short (2 epochs)", "Batch size 4"), ("Seeds", "Epoch 1")],
)
def test_a_heading_of_rows_without_a_different_setting_is_accepted(first: str, second: str) -> None:
    assert len(parsed(summary(table=divided(first, second))).runs) == 2


OF_OTHER_ROWS = [
    ("Full fine-tuning", "recipe", "full"), ("2. Full fine-tuning runs", "recipe", "full"),
    ("Full-parameter FT (slow)", "recipe", "full"), ("Phase 2: without LoRA", "recipe", "full"),
    ("Full fine-tuning, for reference", "recipe", "full"), ("FFT sweep over learning rates", None, None),
    ("FFT sweep", "recipe", "full"), ("Llama-3.2-3B-Instruct", "model", "Llama-3.2-3B-Instruct"),
    ("Llama 3.2 3B Instruct: rank sweep", "model", "Llama-3.2-3B-Instruct"), ("3B models", "model", "3B"),
    ("LoRA sweep on Llama-3.2-3B-Instruct", "model", "Llama-3.2-3B-Instruct"),
    ("On `data/b.json`", "dataset", "data/b.json"), ("Runs with b.json", "dataset", "b.json"),
]  # fmt: skip
UNSUPPORTED_ROWS = ["QLoRA runs", "DoRA", "4-bit LoRA", "QLoRA on Llama-3.2-1B-Instruct"]
OF_THESE_ROWS = [
    "LoRA", "LoRA runs (1B)", "LoRA vs. full fine-tuning", "LoRA and full fine-tuning runs", "Comparison with QLoRA",
    "1B and 3B", "Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct", "On `words.json`", "Full data", "Full",
    "Runs for the QLoRA comparison", "Full fine-tuning is planned later", "No DoRA", "Rank sweep on Llama 3.2 1B",
    "Plots of b.json", "Not on data/b.json", "QLoRA (not used)",
]  # fmt: skip
PLACES = {
    "above the run section": ("## {}\n\n### Planned runs\n\n", ""), "the section itself": ("## {}\n\n", ""),
    "a section of it": ("## All Runs\n\n### {}\n\n", ""), "a deep section": ("## All Runs\n\n### {}\n\n#### A\n\n", ""),
    "a bold line": ("## All Runs\n\n**{}:**\n\n", ""), "a caption": ("## All Runs\n\nTable 2: {}.\n\n", ""),
    "a caption below": ("## All Runs\n\n", "\nTable 1. {}\n"),
}  # fmt: skip


def entitled(title: str, place: str, rows: str) -> str:
    above, below = PLACES[place]
    return summary(table=rows + below.format(title)).replace("## All Runs\n", above.format(title))


@pytest.mark.parametrize(("title", "field", "stated"), spread(OF_OTHER_ROWS, every=2))
def test_a_heading_with_another_method_model_or_file_than_its_rows_is_refused_once(
    title: str, field: str | None, stated: str | None
) -> None:
    text = entitled(title, "a section of it", runs(3, LoRA_Rank=["8", "16", "32"]))
    if field is None:
        assert len(parsed(text).runs) == 3
        return
    (found,) = refusal(parsed, text)
    line = text.split("\n").index(f"### {title}") + 1
    assert (found.code, found.field, found.actual, found.line) == ("ambiguous", field, stated, line)


@pytest.mark.parametrize("title", spread(UNSUPPORTED_ROWS, every=2))
def test_a_heading_with_an_unsupported_training_is_refused_once(title: str) -> None:
    (found,) = refusal(parsed, entitled(title, "a section of it", runs(2, LoRA_Rank=["8", "16"])))
    assert (found.code, found.field) == ("unsupported-setting", "recipe")


@pytest.mark.parametrize("place", [place for place in PLACES if place != "the section itself"])
def test_titles_of_rows_are_compared_in_every_place(place: str) -> None:
    (found,) = refusal(parsed, entitled("Full fine-tuning", place, runs(2, LoRA_Rank=["8", "16"])))
    assert (found.code, found.field, found.actual) == ("ambiguous", "recipe", "full")


def test_the_title_of_the_section_of_the_runs_is_compared() -> None:
    (found,) = refusal(parsed, entitled("Full fine-tuning runs", "the section itself", runs(1)))
    assert (found.code, found.field, found.line) == ("ambiguous", "recipe", 3)


@pytest.mark.parametrize("title", spread(OF_THESE_ROWS, every=2))
@pytest.mark.parametrize("place", ["a section of it", "a bold line", "a caption"])
def test_a_title_that_says_nothing_else_of_its_rows_has_no_finding(title: str, place: str) -> None:
    rows = runs(2, LoRA_Rank=["8", "16"])
    assert parsed(entitled(title, place, rows)).warnings == parsed(entitled("Runs", place, rows)).warnings


def test_only_rows_below_a_heading_are_compared_with_it() -> None:
    parts = "### LoRA\n\n{}\n### Full\n\n{}"
    first, second = runs(1), runs(1, Run_Name=["run_2"], Method=["full"], LoRA_Rank=["-"])
    assert len(parsed(summary(table=parts.format(first, second))).runs) == len([first, second])
    second = runs(1, Run_Name=["run_2"], LoRA_Rank=["16"])
    (found,) = refusal(parsed, summary(table=parts.format(first, second)))
    assert (found.code, found.field, found.actual) == ("ambiguous", "recipe", "full")


def test_a_heading_that_most_rows_follow_is_a_warning() -> None:
    rows = runs(2, LoRA_Rank=["8", "-"], Method=["LoRA", "full"])
    (found,) = [each for each in parsed(entitled("LoRA runs", "a section of it", rows)).warnings if each.line == 5]
    assert (found.code, found.field, found.actual) == ("levels-differ", "recipe", "lora")


GROUP_ROWS = [
    ("*On `data/b.json`, 2 epochs*", [("dataset", "data/b.json")]),
    ("**2 epochs, full fine-tuning, 4 GPUs**", [("gpus", 4), ("recipe", "full")]),
    ("5 epochs", [("epochs", 5)]), ("Full fine-tuning", [("recipe", "full")]), ("3B", [("model", "3B")]),
    ("Rank 16 (seed 3)", [("lora_rank", 16), ("seed", 3)]),
    ("*Rank sweep on 1B*", []), ("LoRA, 2 epochs", []), ("Long runs", []), ("Rank 8", []),
]  # fmt: skip


@pytest.mark.parametrize(("group", "stated"), spread(GROUP_ROWS, every=2))
def test_a_row_that_is_a_heading_is_compared_with_the_rows_below_it(
    group: str, stated: list[tuple[str, str | int]]
) -> None:
    first, second, *rows = runs(2, Run_Name=["A", "B"], Seed=["1", "2"]).splitlines()
    text = summary(table="\n".join([first, second, rows[0], f"| {group} | | | | | |", rows[1]]))
    if not stated:
        assert {each.severity for each in parsed(text).warnings if each.line} == {Severity.INFO}
        return
    problems = [each for each in refusal(parsed, text) if each.code != "unused-row"]
    assert sorted((each.field, each.actual) for each in problems) == stated
    assert {(each.code, each.line) for each in problems} == {("ambiguous", 7)}


@pytest.mark.parametrize(
    ("mark", "note", "field"),
    [
        ("¹", "¹ 3 epochs instead of 2", "epochs"), ("²", "² run_2 with warmup 50.", "num_warmup_steps"),
        (" †", "† batch size 8", "batch_size"), ("[^a]", "[^a]: 3 epochs", "epochs"),
        ("¹", "¹ Started again, 2 epochs instead of 3.", None), ("", "¹ 3 epochs", None), ("¹", "¹ See page 3.", None),
    ],
)  # fmt: skip
def test_a_footnote_with_a_different_setting_is_refused_for_its_runs(mark: str, note: str, field: str | None) -> None:
    rows = runs(2, Run_Name=["run_1", f"run_2{mark}"], LoRA_Rank=["8", "16"])
    text = summary(table=f"{rows}\n{note}\n")
    if field is None:
        assert len(parsed(text).runs) == 2
    else:
        (found,) = refusal(parsed, text)
        assert (found.code, found.field, "run_2" in found.message) == ("ambiguous", field, True)


@pytest.mark.parametrize(
    ("first", "second", "stated"),
    [
        ("8*", "16**", [("lora_dropout", "run_2")]),
        ("8", "16 *", [("lr", "run_2")]),
        ("8", "16**", [("lora_dropout", "run_2")]),
        ("8", "16 * 1", []),
        ("8¹", "16²", [("batch_size", "run_1"), ("epochs", "run_2")]),
    ],
)
def test_a_footnote_is_of_the_rows_with_its_whole_mark(first: str, second: str, stated: list[tuple[str, str]]) -> None:
    notes = "\\* LR 5e-5\n\n** dropout 0.3\n\n¹ Batch size 8\n\n² run_2: 3 epochs\n"
    text = summary(table=runs(2, Learning_Rate=["5e-5", "1e-5"], Notes=[first, second]) + f"\n{notes}")
    if stated:
        found = refusal(parsed, text)
        assert [(p.field, *(run for run in ("run_1", "run_2") if run in p.message)) for p in found] == stated
    else:
        assert len(parsed(text).runs) == 2


CHANGES = [
    ("changed Monday: lr 2e-4", "lr"), ("failed, rerun with lr 5e-5", "lr"), ("lr 2,0e-4", "lr"),
    ("= run_1 + dropout 0.1", "lora_dropout"), ("OOM -> bs 2", "batch_size"), ("3 ep", "epochs"),
    ("longer: 3 ep", "epochs"), ("packed", "packed"), ("train on inputs", "train_on_input"),
    ("alpha = rank", "lora_alpha"),
]  # fmt: skip


@pytest.mark.parametrize(("note", "field"), spread(CHANGES, every=2))
def test_a_note_that_states_a_change_is_refused(note: str, field: str) -> None:
    (found,) = refusal(parsed, summary(table=runs(2, LoRA_Rank=["8", "16"], Notes=["", note])))
    assert (found.code, found.field) == ("ambiguous", field)


@pytest.mark.parametrize(
    "note",
    [
        "paper: lr 2e-4", "best of run_1: rank 32", "OOM at bs 8", "failed at epoch 3", "longer: 2 ep", "rerun",
        "evaluate on test only", "no training data overlap", "control for rank", "baseline: lr 1e-4", "packed bed",
        "alpha = 2 x rank",
    ],
)  # fmt: skip
def test_a_note_about_other_runs_or_with_the_values_of_the_run_is_accepted(note: str) -> None:
    assert len(parsed(summary(table=runs(2, LoRA_Rank=["8", "16"], Notes=["", note]))).runs) == 2


@pytest.mark.parametrize("column", ["Notes", "Role", "Purpose", "Status"])
@pytest.mark.parametrize("note", spread(["eval only", "evaluation only", "just evaluate", "no training"], every=2))
def test_a_run_that_is_marked_as_not_trained_is_asked_about(column: str, note: str) -> None:
    rows = runs(2, LoRA_Rank=["8", "16"], Notes=["", note]).replace("Notes", column)
    (found,) = refusal(parsed, summary(table=rows))
    assert (found.code, found.field) == ("ambiguous", "plan_cancelled_runs")


def test_a_run_whose_name_says_that_it_is_not_trained_is_asked_about() -> None:
    (found,) = refusal(parsed, summary(table=runs(2, Run_Name=["a", "b (eval only)"], LoRA_Rank=["8", "16"])))
    assert (found.code, found.field) == ("ambiguous", "plan_cancelled_runs")


def test_a_control_that_is_only_evaluated_is_not_asked_about() -> None:
    rows = runs(2, controls=1, LoRA_Rank=["8", "16"], Notes=["", ""]).replace("| - | Control", "| eval only | Control")
    assert "eval only" in rows
    assert len(parsed(summary(table=rows)).runs) == 3


@pytest.mark.parametrize(
    "line",
    [
        "Seed, weight decay: 42, 0.1",
        "Seed / weight decay: 42 / 0.1",
        "Seed and weight decay: 42 and 0.1",
        "Seed or weight decay: 42",
    ],
)
def test_a_line_with_several_settings_is_refused_without_a_label_to_write(line: str) -> None:
    (found,) = refusal(parsed, summary(extra=f"- {line}\n"))
    assert (found.code, found.line is not None, "'weight decay'" in found.fix) == ("misspelt-field", True, False)


@pytest.mark.parametrize("label", ["LoRA r / α", "Rank/alpha", "Seed, epochs"])
def test_a_column_with_several_settings_is_refused_without_a_label_to_write(label: str) -> None:
    text = summary(table=runs(2).replace("LoRA Rank", label))
    (found,) = [p for p in refusal(parsed, text) if p.code == "misspelt-field"]
    assert found.field == label
    assert "use a column with a label from workflows/labels.md for each parameter" in found.fix


@pytest.mark.parametrize(
    "label", ["Learning rate, rank: see the table", "Samples / epoch: 100", "Ranks and notes: see below"]
)
def test_a_line_that_only_mentions_several_settings_is_accepted(label: str) -> None:
    assert len(parsed(summary(extra=f"- {label}\n")).runs) == 2


@pytest.mark.parametrize("unit", ["(1e-4)", "[10⁻⁴]"])
def test_the_fix_of_a_label_with_a_power_gives_the_same_values_as_the_document(unit: str) -> None:
    rows = [["a", "Llama-3.2-1B-Instruct", "8", "1"], ["b", "Llama-3.2-1B-Instruct", "8", "2"]]
    header, label = ["Run Name", "Model", "Rank"], f"Learning Rate × {unit[1:-1]}"
    problems = refusal(parsed, summary(table=table([*header, f"LR {unit}"], rows)))
    assert [(p.code, p.field, label in p.fix) for p in problems] == [("invalid-value", "lr", True)] * 2
    fixed = parsed(summary(table=table([*header, label], rows)))
    assert [run.parameters["lr"].value for run in fixed.runs] == [1e-4, 2e-4]
