"""The required fields of each form of a summary and of claude.local.md, and the defaults of the optional ones."""

import pytest

from support.corpus_cases import plan_of
from support.document_forms import FORMS, LOC, LOCAL, MARKDOWN, MD, YAML, YML, Form, problems_of


def without(text: str, *starts: str) -> str:
    """Return the text without the lines that begin with one of `starts`, each of which must occur."""
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
def test_a_missing_required_field_of_a_summary_is_the_only_problem(
    field: str, form: Form, lines: tuple[str, ...]
) -> None:
    found = problems_of(form, summary=without(FORMS[form][1], *lines))
    assert [(p.code, p.field) for p in found] == [("missing-field", field)]
    assert found[0].fix


def test_a_markdown_summary_with_only_controls_is_refused() -> None:
    found = problems_of("markdown", summary=without(MARKDOWN, "| first", "| second"))
    assert [(p.code, p.field) for p in found] == [("missing-field", "fine-tuned runs"), ("missing-field", "batch_size")]


def test_a_markdown_summary_needs_batch_size_in_the_table_or_in_configuration() -> None:
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
def test_a_missing_required_field_of_claude_local_md_is_refused(form: Form, field: str, line: str) -> None:
    found = problems_of(form, without(LOCAL, line))
    assert [(p.code, p.field, p.file) for p in found] == [("missing-field", field, LOC)]


def test_the_output_section_of_the_yaml_form_may_give_the_project() -> None:
    text = YAML + "output:\n  wandb_project: theirs\n"
    plan = plan_of((YML, text), (LOC, without(LOCAL, "- **Default project")))
    assert plan.runs[0].settings["my_wandb_project"].value == "theirs"
    assert "overridden" not in [w.code for w in plan.warnings]


@pytest.mark.parametrize(("project", "told"), [("words", False), ("theirs", True)])
def test_different_projects_in_the_two_documents_are_reported(project: str, told: bool) -> None:
    plan = plan_of((YML, YAML + f"output:\n  wandb_project: {project}\n"), (LOC, LOCAL))
    assert plan.runs[0].settings["my_wandb_project"].value == project
    assert ("overridden" in [w.code for w in plan.warnings]) is told


def test_an_invalid_project_name_is_refused() -> None:
    found = problems_of("yaml", summary=YAML + "output:\n  wandb_project: a b\n")
    assert [(p.code, p.field, p.line) for p in found] == [("invalid-value", "my_wandb_project", 30)]


def test_without_an_output_directory_the_markdown_form_is_refused_and_the_yaml_form_uses_artifacts() -> None:
    local = without(LOCAL, "- **Output base")
    assert [(p.code, p.field) for p in problems_of("markdown", local)] == [("missing-field", "output_dir_base")]
    run = plan_of((YML, YAML), (LOC, local)).runs[0]
    assert "output_dir_base" not in run.settings
    assert "artifacts/" in run.settings["project_dir"].source.note


@pytest.mark.parametrize("form", FORMS)
def test_a_default_rank_and_learning_rate_are_reported_as_warnings(form: Form) -> None:
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
def test_an_omitted_setting_has_its_default_with_that_source_or_is_not_planned(form: Form) -> None:
    text = FORMS[form][1]
    text = without(text, "- **Seed", "- **System") if form == "markdown" else without(text, "seed", "system_prompt")
    for run in plan_of((FORMS[form][0], text), (LOC, without(LOCAL, "- **Account"))).runs:
        for name, value in {"gpus": 1, "time": "00:15:00", "system_prompt": "", "seed": 14}.items():
            assert (run.settings[name].value, run.settings[name].source.kind) == (value, "default")
        assert not {"account", "partition", "constraint", "modules"} & run.settings.keys()


@pytest.mark.parametrize("form", FORMS)
def test_a_stated_experiment_directory_must_be_that_of_the_summary(form: Form) -> None:
    text = FORMS[form][1]

    def at(path: str) -> str:
        if form == "markdown":
            return f"{text}\n## Quick Reference\n\n- Experiment: `{path}`\n"
        return text.replace("  name: sweep\n", f"  name: sweep\n  dir: {path}\n")

    assert plan_of((FORMS[form][0], at("/experiments/sweep/")), (LOC, LOCAL)).runs
    found = problems_of(form, summary=at("/experiments/other"))
    assert [(p.code, p.field) for p in found] == [("wrong-experiment-dir", "experiment directory")]
