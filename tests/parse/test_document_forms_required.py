"""What each form of a summary, and claude.local.md, must say; and what is used where they say nothing."""

import pytest

from support.corpus_cases import plan_of
from support.document_forms import FORMS, LOC, LOCAL, MARKDOWN, MD, YAML, YML, Form, problems_of


def without(text: str, *starts: str) -> str:
    """The text without the lines that begin with one of `starts`, each of which must occur."""
    for start in starts:
        assert any(line.strip().startswith(start) for line in text.splitlines()), start
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(line.strip().startswith(start) for start in starts))


REQUIRED: list[tuple[str, Form, tuple[str, ...]]] = [
    ("experiment name", "markdown", ("# sweep",)),
    ("experiment name", "yaml", ("name: sweep",)),
    ("fine-tuned runs", "yaml", ("- name: first", "- name: second", "- name: base", "type", "model:", "parameters")),
    ("path of model Llama-3.2-1B-Instruct", "markdown", ("- **Llama",)),
    ("path of model Llama-3.2-1B-Instruct", "yaml", ("- name: Llama", "path: /models")),
    ("dataset", "markdown", ("- **Path**",)),
    ("dataset", "yaml", ("path: /data",)),
    ("epochs", "markdown", ("- **Epochs",)),
    ("epochs", "yaml", ("epochs",)),
    ("batch_size", "yaml", ("batch_size",)),
]


@pytest.mark.parametrize(("field", "form", "lines"), REQUIRED)
def test_a_summary_that_lacks_a_required_field_is_refused_with_its_name_alone(
    field: str, form: Form, lines: tuple[str, ...]
) -> None:
    found = problems_of(form, summary=without(FORMS[form][1], *lines))
    assert [(p.code, p.field) for p in found] == [("missing-field", field)]
    assert found[0].fix


def test_a_markdown_summary_of_controls_alone_is_refused() -> None:
    found = problems_of("markdown", summary=without(MARKDOWN, "| first", "| second"))
    assert [(p.code, p.field) for p in found] == [("missing-field", "fine-tuned runs"), ("missing-field", "batch_size")]


def test_a_markdown_summary_without_batch_size_is_refused_unless_configuration_gives_it() -> None:
    lacking = MARKDOWN.replace(" Batch Size |", "", 1).replace("|---|", "|", 1).replace(" | 4 |", " |")
    lacking = lacking.replace("| - | - | - |", "| - | - |")
    found = problems_of("markdown", summary=lacking)
    assert [(p.code, p.field) for p in found] == [("missing-field", "batch_size")]
    plan = plan_of((MD, lacking.replace("- **Seed", "- **Batch size:** 4\n- **Seed")), (LOC, LOCAL))
    assert [run.settings["batch_size"].value for run in plan.runs] == [4, 4]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_without_a_model_is_refused(form: Form) -> None:
    text = FORMS[form][1]
    old = "| first | Llama-3.2-1B-Instruct |" if form == "markdown" else "    model: Llama-3.2-1B-Instruct\n    para"
    assert old in text
    new = "| first |  |" if form == "markdown" else "    para"
    found = problems_of(form, summary=text.replace(old, new, 1))
    assert [(p.code, p.field) for p in found] == [("missing-field", "model")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("field", "line"), [("conda_env", "- **Conda environment"), ("my_wandb_project", "- **Default project")]
)
def test_a_claude_local_md_that_lacks_a_required_field_is_refused(form: Form, field: str, line: str) -> None:
    found = problems_of(form, without(LOCAL, line))
    assert [(p.code, p.field, p.file) for p in found] == [("missing-field", field, LOC)]


def test_the_project_may_come_from_the_output_of_the_yaml_form() -> None:
    text = YAML + "output:\n  wandb_project: theirs\n"
    plan = plan_of((YML, text), (LOC, without(LOCAL, "- **Default project")))
    assert plan.runs[0].settings["my_wandb_project"].value == "theirs"
    assert "overridden" not in [w.code for w in plan.warnings]


@pytest.mark.parametrize(("project", "told"), [("words", False), ("theirs", True)])
def test_the_projects_of_both_documents_are_told_where_they_differ(project: str, told: bool) -> None:
    plan = plan_of((YML, YAML + f"output:\n  wandb_project: {project}\n"), (LOC, LOCAL))
    assert plan.runs[0].settings["my_wandb_project"].value == project
    assert ("overridden" in [w.code for w in plan.warnings]) is told


def test_a_project_that_is_no_name_is_refused() -> None:
    found = problems_of("yaml", summary=YAML + "output:\n  wandb_project: a b\n")
    assert [(p.code, p.field, p.line) for p in found] == [("invalid-value", "my_wandb_project", 30)]


def test_without_an_output_directory_the_markdown_form_is_refused_and_the_yaml_form_uses_artifacts() -> None:
    local = without(LOCAL, "- **Output base")
    assert [(p.code, p.field) for p in problems_of("markdown", local)] == [("missing-field", "output_dir_base")]
    run = plan_of((YML, YAML), (LOC, local)).runs[0]
    assert "output_dir_base" not in run.settings
    assert "artifacts/" in run.settings["project_dir"].source.note


@pytest.mark.parametrize("form", FORMS)
def test_without_rank_and_rate_the_defaults_are_used_with_a_warning(form: Form) -> None:
    text = FORMS[form][1]
    for old, new in (
        ("lora_rank: 8, lr: 1e-5", "seed: 1"), ("lora_rank: 16, lr: 5e-5", "seed: 2"),
        ("LoRA Rank | Learning Rate", "Seed | Status"), ("| 8 | 1e-5", "| 1 | -"), ("| 16 | 5e-5", "| 2 | -"),
    ):  # fmt: skip
        text = text.replace(old, new)
    plan = plan_of((FORMS[form][0], text), (LOC, LOCAL))
    assert {w.field for w in plan.warnings if w.code == "default-used"} == {"lora_rank", "lr"}
    for run in plan.runs:
        assert (run.settings["lora_rank"].value, run.settings["lr"].value) == (64, 1e-4)
        assert run.settings["lora_rank"].source.kind == run.settings["lr"].source.kind == "default"


@pytest.mark.parametrize("form", FORMS)
def test_what_nobody_asked_for_is_a_default_that_shows_as_one_and_what_is_open_is_left_out(form: Form) -> None:
    text = FORMS[form][1]
    text = without(text, "- **Seed", "- **System") if form == "markdown" else without(text, "seed", "system_prompt")
    for run in plan_of((FORMS[form][0], text), (LOC, without(LOCAL, "- **Account"))).runs:
        for name, value in {"gpus": 1, "time": "00:15:00", "system_prompt": "", "seed": 14}.items():
            assert (run.settings[name].value, run.settings[name].source.kind) == (value, "default")
        assert not {"account", "partition", "constraint", "modules"} & run.settings.keys()


@pytest.mark.parametrize("form", FORMS)
def test_a_directory_that_is_named_must_be_the_one_that_holds_the_summary(form: Form) -> None:
    text = FORMS[form][1]

    def at(path: str) -> str:
        if form == "markdown":
            return f"{text}\n## Quick Reference\n\n- Experiment: `{path}`\n"
        return text.replace("  name: sweep\n", f"  name: sweep\n  dir: {path}\n")

    assert plan_of((FORMS[form][0], at("/experiments/sweep/")), (LOC, LOCAL)).runs
    found = problems_of(form, summary=at("/experiments/other"))
    assert [(p.code, p.field) for p in found] == [("wrong-experiment-dir", "experiment directory")]
