"""Values of an experiment_summary.md: numbers, times, names, booleans, memory, paths and free text."""

import pytest

from scaffold_torchtune.finding_codes import Severity
from support.documents import SUMMARY, parsed, refusal, runs, summary, told
from support.wording import absent


@pytest.mark.parametrize(
    "text", ["~8", "8²", "8-16", "1_000", "007", "1,5", "nan", "inf", "-3", "+8", "8.5", "1e3", "0", "9" * 5000,
    "0x8", "", "8 16", "8,16"]
)  # fmt: skip
def test_an_invalid_rank_is_refused_with_its_place(text: str) -> None:
    rows = runs(2, LoRA_Rank=["8", text or '""'])
    (problem,) = refusal(parsed, summary(table=rows))
    assert told([problem]) == [("invalid-value", "lora_rank", SUMMARY, 7)]
    assert absent(problem.message, "run_2") == []
    assert len(str(problem.actual)) < 300


@pytest.mark.parametrize(
    "text",
    ["~1e-5", "1_0e-5", "01e-5", "1,5e-5", "nan", "inf", "-1e-5", "1e999", "1e-999", "0", "0.0", "11", "5 x 105",
     "5 x 10-5", "1e", "e-5", "1 e-5", "0." + "1" * 5000, "1e-5 2e-5"],
)  # fmt: skip
def test_an_invalid_learning_rate_is_refused(text: str) -> None:
    rows = runs(1, Learning_Rate=[text])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "lr", SUMMARY, 6)]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("5E-5", 5e-5), ("1e-05", 1e-5), ("0.00001", 1e-5), (".5", 0.5), ("1 × 10^-5", 1e-5),
     ("5 x 10⁻⁵", 5e-5), ("2*10**-4", 2e-4), ("3e-4 (default)", 3e-4), ("`1e-4`", 1e-4), ("**1e-4**", 1e-4),
     ("1", 1.0)],
)  # fmt: skip
def test_notations_of_a_learning_rate(text: str, value: float) -> None:
    found = parsed(summary(table=runs(1, Learning_Rate=[text]))).runs[0].parameters["lr"].value
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize("text", ["59", "0", "0:00:00", "12:99x", "1:2:3:4", "infinite", "-1:00", "~1h", "1-2 h"])
def test_a_time_limit_that_slurm_reads_differently_is_refused(text: str) -> None:
    rows = runs(1, Time=[text])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "time", SUMMARY, 6)]


def test_a_bare_number_of_minutes_is_refused_with_the_right_format() -> None:
    (problem,) = refusal(parsed, summary(table=runs(1, Time=["59"])))
    assert "0:59:00" in problem.fix


@pytest.mark.parametrize("model", ["../Llama", "a/b", "$(id)", "-rf", "a..b", "mod el", "x" * 300])
def test_an_invalid_model_name_is_refused_once(model: str) -> None:
    rows = runs(1, Model=[model])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "model", SUMMARY, 6)]


@pytest.mark.parametrize("title", ["# ../x", "# $(id)", "# -x", "# a;b", "# ", "# a\u202eb"])
def test_an_invalid_experiment_name_is_refused(title: str) -> None:
    field = "experiment name" if title == "# " else "experiment_name"
    assert [p.field for p in refusal(parsed, summary(title=title))] == [field]


@pytest.mark.parametrize(
    ("title", "name"),
    [("# Cross-Length Generalization in Capitalization", "cross-length_generalization_in_capitalization"),
     ("# Experiment: Rank & rate (4L → 8L)", "rank_rate_4l_8l"), ("# Étude du rang, 1.5B", "etude_du_rang_1.5b"),
     ("# *It's* a test", "its_a_test"), ("# LoRA α sweep", "lora_alpha_sweep"), ("Two\nlines\n===", "two_lines"),
     ("# Evaluation of LoRA runs", "evaluation_of_lora_runs"),
     ("# All capitalization runs", "all_capitalization_runs")],
)  # fmt: skip
def test_a_title_of_several_words_becomes_a_slug_and_is_reported_once(title: str, name: str) -> None:
    found = parsed(summary(title=title))
    assert found.name == name
    assert [(w.code, w.actual, w.line) for w in found.warnings if w.field == "experiment_name"] == [
        ("name-from-title", name, 1)
    ]


@pytest.mark.parametrize("title", ["# Experiment Plan", "# All training runs", "# 大文字 化", "# a\u202e b", "# ; ;"])
def test_a_generic_title_is_a_question(title: str) -> None:
    assert [p.field for p in refusal(parsed, summary(title=title))] == ["experiment_name"]


@pytest.mark.parametrize("title", ["# sweep (second try)", "# `cap_4L`", "# sweep"])
def test_a_title_that_is_a_name_is_unchanged(title: str) -> None:
    assert "name-from-title" not in [warning.code for warning in parsed(summary(title=title)).warnings]


# --- values: booleans, memory, paths, free text ---


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("True", True), ("no", False), ("false", False)])
def test_yes_and_no_are_booleans(text: str, *, value: bool) -> None:
    assert parsed(summary(training={"Packed": text})).config["packed"].value is value


@pytest.mark.parametrize("text", ["8, 16", "`8`, `16`", "8 or 16", "8 / 16", "8 (small), 16 (large)", "8; 16"])
def test_several_ranks_in_one_cell_are_refused_with_the_choices(text: str) -> None:
    (problem,) = refusal(parsed, summary(table=runs(2, LoRA_Rank=["8", text])))
    assert told([problem]) == [("ambiguous", "lora_rank", SUMMARY, 7)]
    assert str(problem.expected).startswith("8")
    assert " or 16" in str(problem.expected)
    assert absent(problem.fix, problem.expected) == []
    assert problem.choices == tuple(str(problem.expected).split(" or "))


def test_several_values_in_configuration_are_refused_unless_every_row_gives_its_own() -> None:
    training = {"Batch size": "16 (1B models), 8 (3B models)"}
    (problem,) = refusal(parsed, summary(training=training))
    assert told([problem]) == [("ambiguous", "batch_size", SUMMARY, 24)]
    assert problem.expected == "16 (1B models) or 8 (3B models)"
    assert absent(problem.fix, problem.expected, "column") == []
    rows = runs(2, LoRA_Rank=["8", "16"], Batch_Size=["16", "8"])
    experiment = parsed(summary(table=rows, training=training))
    assert told(experiment.warnings) == [("unused-field", "batch_size", SUMMARY, 24)]


@pytest.mark.parametrize(
    ("label", "text", "value", "remark"),
    [
        ("LoRA alpha", "128 (2 × rank, default)", 128, "(2 × rank, default)"),
        ("LoRA alpha", "`128` as usual", 128, "as usual"),
        ("GPUs", "1 × 80GB GPU (constraint: gpu80)", 1, "80GB (constraint: gpu80)"),
        ("System prompt", '"" (blank)', "", "(blank)"),
        ("System prompt", "`Say it` (as in the paper)", "Say it", "(as in the paper)"),
        ("Seed", "1 (paper)", 1, "(paper)"),
    ],
)
def test_a_remark_after_a_value_is_a_warning(label: str, text: str, value: object, remark: str) -> None:
    experiment = parsed(summary(training={label: text}))
    (warning,) = experiment.warnings
    assert (warning.code, warning.line, warning.actual) == ("ignored-remark", 25, remark)
    assert warning.field is not None
    assert experiment.config[warning.field].value == value


def test_a_remark_in_many_rows_is_reported_once() -> None:
    rows = runs(3, LoRA_Rank=["4", "8", "16"], Learning_Rate=["1e-5 (default)"] * 3)
    assert told(parsed(summary(table=rows)).warnings) == [("ignored-remark", "lr", SUMMARY, 6)]


@pytest.mark.parametrize("gpus", ["2 GPUs", "2", "2 x GPU", "2 × GPUs"])
def test_the_name_of_a_unit_is_not_a_remark(gpus: str) -> None:
    experiment = parsed(summary(training={"GPUs": gpus}))
    assert (experiment.config["gpus"].value, experiment.warnings) == (2, ())


@pytest.mark.parametrize("text", ["/data/a.json, /data/b.json", "`/a.json`, `/b.json`", "/a.json or /b.json"])
def test_two_data_sets_in_one_line_are_refused_with_the_choices(text: str) -> None:
    (problem,) = refusal(parsed, summary(dataset=text))
    assert told([problem]) == [("ambiguous", "dataset", SUMMARY, 17)]
    assert str(problem.expected).replace("/data", "") == "/a.json or /b.json"


@pytest.mark.parametrize(
    ("label", "text"),
    [("Packed", "maybe"), ("Memory", "lots"), ("Memory", "0G"), ("Dataset type", "a b"), ("Time", "x"), ("Seed", "-1")],
)
def test_an_invalid_value_in_configuration_is_refused_with_its_line(label: str, text: str) -> None:
    (problem,) = refusal(parsed, summary(training={label: text}))
    assert (problem.code, problem.line, problem.actual) == ("invalid-value", 25, text)


def test_memory_is_accepted_in_the_format_of_slurm() -> None:
    assert parsed(summary(training={"Memory": "32G"})).config["mem"].value == "32G"


@pytest.mark.parametrize(
    "path",
    ["/data/'a'.json", '/data/a".json', "/data/$USER/a.json", "/data/../a.json", "~/a.json", "-a.json",
     "/data/a;b.json", "/data/*.json", "/data/a?.json", "/data/a|b.json", "/data/a\\b.json",
     "/data/a\u200b.json", "/data/a\u202eb.json",
     "/" + "a" * 5000],
)  # fmt: skip
def test_an_unsafe_path_is_refused_with_its_line(path: str) -> None:
    problems = refusal(parsed, summary(dataset=path.replace("\\", "\\\\")))
    assert told(problems) == [("invalid-value", "dataset", SUMMARY, 17)]


@pytest.mark.parametrize(
    ("written", "value"),
    [("/data/my words.json", "/data/my words.json"), ("data/a.json", "data/a.json"),
     ("`/data/a.json` (24KB)", "/data/a.json"),
     ("/data/_raw_/a.json", "/data/_raw_/a.json"), ("/data/__x__.json", "/data/__x__.json"),
     ("/data/wörter.json", "/data/wörter.json")],
)  # fmt: skip
def test_a_path_is_read_unchanged(written: str, value: str) -> None:
    dataset = parsed(summary(dataset=written)).dataset
    assert dataset is not None
    assert dataset.path.value == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"Capitalize the word"', "Capitalize the word"),
        ("'say \"yes\" or \"no\"'", 'say "yes" or "no"'),
        ("“curly”", "curly"),
        ('Answer "yes" or "no"', 'Answer "yes" or "no"'),
        ('"" (blank)', ""),
        ('""', ""),
        ("plain words (kept)", "plain words (kept)"),
        ("`exactly this`", "exactly this"),
        ("`exactly this` (default)", "exactly this"),
        ("`exactly this` ✓", "exactly this"),
        ('"a *b* and __c__ or `d`"', "a *b* and __c__ or `d`"),
        ("Answer with *one* word", "Answer with *one* word"),
        ("**Bold as a whole**", "Bold as a whole"),
        ('"see [this](/x)"', "see [this](/x)"),
        ("(no system prompt)", ""),
        ('"same as above"', "same as above"),
        ("snake_case_words", "snake_case_words"),
        ("8", "8"),
        ("yes", "yes"),
        ("Größe: 1 €", "Größe: 1 €"),
        ("a &lt; b", "a < b"),
        ("<tag> {x}", "<tag> {x}"),
        ('"none"', "none"),
        ("(a remark is text too)", "(a remark is text too)"),
    ],
)  # fmt: skip
def test_a_system_prompt_is_read_completely(written: str, value: str) -> None:
    assert parsed(summary(training={"System prompt": written})).config["system_prompt"].value == value


@pytest.mark.parametrize(
    "written", ["none", "(none)", "(None)", "-", "N/A", "(leave empty)", "<your prompt>", "(blank)"]
)
def test_a_system_prompt_that_is_left_open_is_not_set(written: str) -> None:
    assert "system_prompt" not in parsed(summary(training={"System prompt": written})).config


@pytest.mark.parametrize(
    "lines",
    [
        "- **Optimizer settings:**\n  - **Weight decay:** 0.5",
        "**Weight decay:** 0.5",
        "Weight decay: 0.5",
    ],
)
def test_a_setting_in_configuration_is_read_in_any_layout(lines: str) -> None:
    text = summary().replace("### Training\n", f"### Training\n{lines}\n\n")
    assert parsed(text).config["weight_decay"].value == 0.5


@pytest.mark.parametrize(
    "header", ["| Setting | Value |", "| Parameter | Value | Notes |", "| Hyperparameter | Setting |"]
)
def test_a_table_of_settings_in_configuration_is_read(header: str) -> None:
    rows = f"{header}\n{'|--' * header.count(' |')}|\n| Seed | 99 |{' x |' * (header.count(' |') - 2)}\n\n"
    experiment = parsed(summary().replace("### Training\n", f"### Training\n{rows}"))
    assert (experiment.config["seed"].value, experiment.warnings) == (99, ())


def test_a_different_table_in_configuration_is_refused() -> None:
    text = summary().replace("### Training\n", "### Training\n| Model | Seed |\n|--|--|\n| a | 99 |\n\n")
    (problem,) = refusal(parsed, text)
    assert (problem.code, problem.line) == ("misspelt-field", 22)
    assert absent(problem.message, "'Model' and 'Seed'") == []


@pytest.mark.parametrize(
    "text", ["${oc.env:SECRET}", '"a" or "b"', "'a' or 'b'", "\\???", "x" * 20_001, "a\u0085b", "a\x07b", "a\x7fb"]
)
def test_a_system_prompt_that_later_steps_could_change_is_refused(text: str) -> None:
    assert told(refusal(parsed, summary(training={"System prompt": text}))) == [
        ("invalid-value", "system_prompt", SUMMARY, 25)
    ]
    cell = "???" if text == "\\???" else text
    rows = runs(1, System_Prompt=[cell])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "system_prompt", SUMMARY, 6)]


def test_a_hostile_value_is_shown_escaped() -> None:
    (problem,) = refusal(parsed, summary(training={"Epochs": "2\u202e\u200b"}))
    assert problem.actual == "2\\u202e\\u200b"
    assert problem.message.isascii()


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("- ~~**Method:** full fine-tuning~~", "recipe", None), ("- ~~Seed: 1~~", "seed", None),
        ("- ~~Seed: 1~~\n- Seed: 42", "seed", 42), ("- **Seed:** ~~1~~ 42", "seed", 42),
        ("- **Seed:** 42 ~~1~~", "seed", 42), ("- <del>Seed: 1</del>", "seed", None),
        ("- [ ] ~~Seed: 1~~", "seed", None), ("~~Seed: 1\nSeed: 2~~\nSeed: 42", "seed", 42),
        ("- ~~**System prompt:** Be rude~~", "system_prompt", None),
        ('- **System prompt:** ~~"Be rude"~~ "Be kind"', "system_prompt", "Be kind"),
        ("- **Method:** ~~full fine-tuning~~ LoRA", "recipe", "lora"),
        ("| Parameter | Value |\n|---|---|\n| ~~Method~~ | ~~full fine-tuning~~ |", "recipe", None),
        ("| Parameter | Value |\n|---|---|\n| Seed | ~~1~~ 42 |", "seed", 42),
        ("- ~~**Use DoRA:** yes~~", "recipe", None), ("- ~~Seed:~~ 42", "seed", None),
    ],
)  # fmt: skip
def test_a_struck_out_setting_is_not_read(line: str, name: str, value: object) -> None:
    experiment = parsed(summary(extra=line))
    setting = experiment.config.get(name)
    assert (setting and setting.value) == value
    (found,) = experiment.warnings
    assert (found.code, found.field, found.severity) == ("unused-field", "struck", Severity.INFO)


def test_a_struck_out_path_is_not_the_data_set() -> None:
    text = summary().replace("- **Path**:", "- ~~**Path**: `/data/old.json`~~\n- **Path**:")
    dataset = parsed(text).dataset
    assert dataset is not None
    assert dataset.path.value == "/data/words.json"
    problems = refusal(parsed, summary(dataset="~~`/data/old.json`~~"))
    assert [p.code for p in problems] == ["missing-field", "unused-field"]


@pytest.mark.parametrize("line", ["- [x] ~~Ask Tom~~", "We ~~tried~~ liked it.", '- **System prompt:** "~~a~~"'])
def test_other_struck_out_text_is_not_reported(line: str) -> None:
    assert parsed(summary(extra=line)).warnings == ()


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("- Seed：42", "seed", 42),
        ("- **Weight decay：**0.1", "weight_decay", 0.1),
        ("- Prompt: 答：{input}", "prompt", "答：{input}"),
    ],
)
def test_a_full_width_colon_ends_a_label(line: str, name: str, value: object) -> None:
    assert parsed(summary(extra=line)).config[name].value == value


def test_a_full_width_colon_is_also_noticed_in_other_sections() -> None:
    (found,) = refusal(parsed, summary(extra="## Overview\n\n- **Learning rate：** 3e-4\n"))
    assert (found.code, found.field) == ("ambiguous", "lr")


@pytest.mark.parametrize("line", ["- Seed → 42", "- Seed -> 42", "- **Seed** 42", "Seed → 42"])
def test_a_setting_without_a_colon_is_refused(line: str) -> None:
    (found,) = refusal(parsed, summary(extra=line))
    assert (found.code, found.field) == ("misspelt-field", "Seed")


@pytest.mark.parametrize("line", ["- Epochs → as in the paper", "- Words → numbers", "- Rank →"])
def test_other_arrows_are_prose(line: str) -> None:
    assert parsed(summary(extra=line)).warnings == ()
