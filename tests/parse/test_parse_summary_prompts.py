"""Prompts of an experiment_summary.md as people write them, and other text that is easily misread."""

import pytest

from support.documents import SUMMARY, parsed, refusal, runs, summary, told
from support.wording import absent


@pytest.mark.parametrize(
    "written",
    ["`input` is the word", "`a` or `b`", '"Say it" - as in all runs', '"" – none used', '"Say it', "same as above",
     "ditto",
     "see table", "TODO", "Capitalize the...", "...", "as above", '"Say it.\\n"', "Say it\\n"],
)  # fmt: skip
def test_a_placeholder_or_several_texts_are_refused_as_a_prompt(written: str) -> None:
    (problem,) = refusal(parsed, summary(training={"System prompt": written.replace("\\n", "\\\\n")}))
    assert told([problem]) == [("invalid-value", "system_prompt", SUMMARY, 25)]


@pytest.mark.parametrize("cell", ["None", "(none)", "no system prompt", "(blank)", '""'])
def test_a_row_may_have_no_system_prompt(cell: str) -> None:
    rows = runs(2, System_Prompt=["Say it", cell])
    experiment = parsed(summary(table=rows, training={"System prompt": "Other"}))
    assert [run.parameters["system_prompt"].value for run in experiment.runs] == ["Say it", ""]


@pytest.mark.parametrize("cell", ["same as above", "〃", '"', "(see below)", "Capitalize the…"])
def test_a_cell_that_refers_to_a_different_prompt_is_refused(cell: str) -> None:
    rows = runs(2, System_Prompt=["Say it", cell])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "system_prompt", SUMMARY, 7)]


@pytest.mark.parametrize(
    "below",
    [
        "\n  ```\n  Say *it*.\n  Now.\n  ```",
        "\n  > Say *it*.\n  > Now.",
        "\n  - Say *it*.\n    Now.",
        "\n\n  Say *it*.\n  Now.",
        "\n```\nSay *it*.\nNow.\n```",
        "\n\n```text\nSay *it*.\nNow.\n```",
        "\n\n> Say *it*.\n> Now.",
    ],
)
def test_a_prompt_below_its_label_is_read(below: str) -> None:
    experiment = parsed(summary(training={"System prompt": below}))
    assert experiment.config["system_prompt"].value == "Say *it*.\nNow."


@pytest.mark.parametrize(
    "path", ["[words](/data/words.json)", "/data/{user}/words.json", "/a/words.json or /b/words.json"]
)
def test_a_path_may_not_be_a_link_a_pattern_or_a_choice(path: str) -> None:
    assert [p.field for p in refusal(parsed, summary(dataset=path))] == ["dataset"]


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("cosine with linear warm-up", "num_warmup_steps", None),
        ("linear warmup, cosine decay", "num_warmup_steps", None),
        ("linear warm-up over 20 steps, then cosine decay", "num_warmup_steps", 20),
        ("Cosine annealing to zero after a warm-up of 20 steps", "num_warmup_steps", 20),
        ("20-step linear warm-up followed by cosine decay", "num_warmup_steps", 20),
        ("cosine, no warm-up", "num_warmup_steps", 0), ("cosine without warm-up", "num_warmup_steps", 0),
        ("cosine with 5% warm-up", "warmup_ratio", 0.05), ("cosine, 5 % warm-up", "warmup_ratio", 0.05),
        ("warm-up for the first 3% of steps, then cosine", "warmup_ratio", 0.03),
        ("cosine with warmup ratio 0.03", "warmup_ratio", 0.03),
    ],
)  # fmt: skip
def test_a_true_description_of_the_schedule_is_read(text: str, setting: str, value: float | None) -> None:
    config = parsed(summary(training={"LR schedule": text})).config
    assert config["lr_scheduler"].value == "get_cosine_schedule_with_warmup"
    assert (config[setting].value if setting in config else None) == value
    table = runs(2, LR_scheduler=[text, "cosine"])
    own = parsed(summary(table=table)).runs[0].parameters
    assert (own[setting].value if setting in own else None) == value


@pytest.mark.parametrize(
    "text",
    ["cosine with hard restarts", "linear with 5% warm-up", "cosine decay to 10%, 5% warm-up", "cosine and linear",
     "cosine with min lr 1e-6", "cosine with a long warm-up"],
)  # fmt: skip
def test_a_description_of_a_different_schedule_is_refused(text: str) -> None:
    (found,) = refusal(parsed, summary(training={"LR schedule": text}))
    assert found.field == "lr_scheduler"


@pytest.mark.parametrize(
    "text",
    ["model default", "the default one of the model", "Default", "the default system prompt", "tokenizer default",
     "the model's default prompt", "default prompt of the tokenizer", "standard", "from the model card",
     "(model default)"],
)  # fmt: skip
def test_a_reference_to_the_default_of_the_model_is_not_a_prompt(text: str) -> None:
    (found,) = refusal(parsed, summary(training={"System prompt": text}))
    assert (found.code, found.field, found.actual) == ("invalid-value", "system_prompt", text)
    for exact in (f'"{text}"', f"`{text}`", f"You are {text}."):
        assert parsed(summary(training={"System prompt": exact})).config["system_prompt"].value == exact.strip('"`')


@pytest.mark.parametrize("text", ["cosine", "Cosine", "cosine with warmup", "cosine schedule with warm-up"])
def test_common_names_of_the_scheduler_are_accepted(text: str) -> None:
    value = parsed(summary(training={"LR scheduler": text})).config["lr_scheduler"].value
    assert value == "get_cosine_schedule_with_warmup"


@pytest.mark.parametrize(
    ("below", "value"),
    [
        ("You are terse. Answer: *one* word.", "You are terse. Answer: *one* word."),
        ("**Be terse.**\nAnswer: one word.", "**Be terse.**\nAnswer: one word."),
        ('"All in quotes: yes."', "All in quotes: yes."),
        ("> Word: it", "Word: it"),
        ("```\nSeed: none\nEpochs: 3\n```", "Seed: none\nEpochs: 3"),
    ],
)
@pytest.mark.parametrize("heading", ["### System prompt", "## System Prompt"])
def test_a_prompt_in_a_separate_section_is_read(heading: str, below: str, value: str) -> None:
    experiment = parsed(summary(extra=f"{heading}\n\n{below}\n"))
    assert experiment.config["system_prompt"].value == value
    assert experiment.warnings == ()


@pytest.mark.parametrize(
    "below", ["You are an editor.\n\n- Answer briefly.", "Used by all:\n\n```\nBe terse.\n```", "- one\n- two"]
)
def test_a_section_with_more_than_one_prompt_is_refused(below: str) -> None:
    (problem,) = refusal(parsed, summary(extra=f"### System prompt\n\n{below}\n"))
    assert (problem.code, problem.field) == ("ambiguous", "system prompt")


@pytest.mark.parametrize(
    "line",
    [
        "Batch size: limited by memory",
        "Seed: not varied",
        "Epochs: 2 per run",
        "Prompt: see the paper",
        "Batch size: 4.",
        "Seed: \u2003",
    ],
)
def test_prose_and_values_that_match_the_plan_have_no_warning(line: str) -> None:
    assert parsed(summary(extra=f"## Notes\n\n- {line}\n")).warnings == ()


def test_a_status_table_is_not_the_table_of_runs() -> None:
    told_about = "## Status of runs\n\n| Run Name | Model | Note |\n|--|--|--|\n| a | b | c |\n"
    assert len(parsed(summary(extra=told_about)).runs) == 2


@pytest.mark.parametrize(("text", "value"), [("off", False), ("disabled", False), ("on", True), ("Yes", True)])
def test_other_words_for_yes_and_no(text: str, value: bool) -> None:
    assert parsed(summary(training={"Packing": text})).config["packed"].value is value


def test_a_row_may_refer_to_the_data_set_by_its_name() -> None:
    rows = runs(2, LoRA_Rank=["8", "16"], Dataset=["words", "/data/other.json"])
    experiment = parsed(summary(table=rows, dataset="`/data/words.json`"))
    assert [run.parameters["dataset"].value for run in experiment.runs] == ["/data/words.json", "/data/other.json"]
    assert experiment.runs[0].parameters["dataset"].source.line == 6


@pytest.mark.parametrize(
    "label", ["Steps of the warm-up phase", "The learning rate of all runs", "Seed for the data loader"]
)
def test_a_long_label_about_training_is_not_mistaken_for_prose(label: str) -> None:
    (warning,) = parsed(summary(training={label: "10"})).warnings
    assert (warning.code, warning.line) == ("unused-field", 25)


def test_prose_with_a_colon_in_configuration_has_no_warning() -> None:
    assert parsed(summary(training={"We follow the published setup": "see the paper"})).warnings == ()


def test_an_invalid_value_in_configuration_is_reported_with_its_setting() -> None:
    (problem,) = refusal(parsed, summary(training={"Batch size": "16 (1B models), 8 (3B models)"}))
    assert problem.field == "batch_size"
    assert absent(problem.message, "Configuration > Training", "batch_size", "'16 (1B models)") == []


@pytest.mark.parametrize(
    "line", ["- **Hugging Face:** `lab/words`", "- **Made by:** scripts/make.py", "- **From:** https://x.org/a.json"]
)
def test_other_details_of_a_data_set_are_not_its_path(line: str) -> None:
    found = parsed(summary(dataset=f"`/data/words.json`\n{line}")).dataset
    assert found is not None
    assert found.path.value == "/data/words.json"


def test_a_block_after_a_list_belongs_only_to_a_last_label_without_a_value() -> None:
    block = "\n\n```\nSay it\n```\n"
    text = summary(extra="- **System prompt** (all runs):" + block)
    assert parsed(text).config["system_prompt"].value == "Say it"
    for lines in ({"System prompt": "Other", "Note": "x" + block}, {"System prompt": "Other" + block}):
        assert parsed(summary(training=lines)).config["system_prompt"].value == "Other"


@pytest.mark.parametrize(
    "written",
    [
        "TBD (ask Tom)",
        "to be decided",
        "not used",
        "keiner",
        "aucun",
        "无",
        "unchanged",
        "the default one",
    ],
)
def test_words_instead_of_a_prompt_are_refused_unless_they_are_quoted(written: str) -> None:
    (problem,) = refusal(parsed, summary(training={"System prompt": written}))
    assert (problem.code, problem.field) == ("invalid-value", "system_prompt")
    quoted = parsed(summary(training={"System prompt": f'"{written}"'}))
    assert quoted.config["system_prompt"].value == written


@pytest.mark.parametrize("written", ["Todo lists", "Say TBD", "Not used to you"])
def test_a_prompt_that_begins_with_such_a_word_is_read(written: str) -> None:
    assert parsed(summary(training={"System prompt": written})).config["system_prompt"].value == written


@pytest.mark.parametrize(("written", "value"), [("« Sois gentil »", "Sois gentil"), ("「親切に」", "親切に")])
def test_quotes_of_other_languages_are_not_part_of_a_prompt(written: str, value: str) -> None:
    assert parsed(summary(training={"System prompt": written})).config["system_prompt"].value == value
