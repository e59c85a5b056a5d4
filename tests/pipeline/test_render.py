from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import Plan, SourceKind
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.setup import Rendered, render_run
from scaffold_torchtune.system import templating
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.serialization import read_yaml
from support.documents import MODEL, local_md, planned, refusal, runs, summary
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from support.sampling import spread
from support.wording import absent

COPY = "{% for key in settings %}{{ key }}: {{ settings[key] | yaml }}\n{% endfor %}"
"""A template that writes the whole plan."""


def rendered(plan: Plan, folder: Path | None = None) -> Rendered:
    return render_run(plan, plan.runs[0], [folder, TEMPLATES] if folder else [TEMPLATES])


def with_template(folder: Path, text: str, name: str = "own.yaml.j2") -> Rendered:
    (folder / name).write_text(text, encoding="utf-8")
    return rendered(planned(template=str(folder / name)), folder)


def refused(folder: Path, text: str) -> tuple[Finding, ...]:
    return refusal(with_template, folder, text)


@pytest.mark.parametrize("dataset", ["/data/words.json", "/data/words.parquet"])
def test_the_bundled_templates_render_exactly_the_plan(dataset: str) -> None:
    local = local_md(account="lab", partition="gpu", constraint="a100", modules="x/1,y", time="1:00:00")
    extra = {
        "Prompt": "Q: {input}",
        "Memory": "64G",
        "Training samples": "9",
        "Max steps per epoch": "3",
        "epochs_to_save": "all",
    }
    plan = planned(summary(dataset=dataset, training=extra), local)
    result = rendered(plan)
    expected = {name: setting.value for name, setting in plan.runs[0].settings.items()}
    assert result.run == plan.runs[0]
    for data in (yaml.safe_load(result.text), read_yaml(result.text).data, OmegaConf.create(result.text)):
        assert {name: (type(v), v) for name, v in data.items()} == {name: (type(v), v) for name, v in expected.items()}


def test_the_example_is_rendered_as_a_person_would_write_it() -> None:
    text = rendered(planned(EXAMPLE_SUMMARY, EXAMPLE_LOCAL)).text
    for line in ("lr: 1.0e-05", "lora_rank: 8", f"torchtune_model_name: {MODEL}", "account: lab", 'time: "0:59:00"'):
        assert f"\n{line}\n" in text
    assert "partition" not in text
    assert not text.startswith("\n")
    assert "\n\n\n" not in text


def test_account_partition_and_constraint_lines_exist_only_if_set() -> None:
    lines = ("\naccount:", "\npartition:", "\nconstraint:")
    bare = rendered(planned()).text
    assert not any(line in bare for line in lines)
    full = rendered(planned(local=local_md(account="a", partition="b", constraint="c"))).text
    assert all(line in full for line in lines)


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.text(alphabet=st.characters(exclude_categories=["Cs"]))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.booleans()
)
def test_any_planned_value_is_rendered_with_its_type(value: Scalar) -> None:
    plan = planned()
    setting = plan.runs[0].settings["system_prompt"].model_copy(update={"value": value})
    run = plan.runs[0].model_copy(update={"settings": plan.runs[0].settings | {"system_prompt": setting}})
    text = render_run(plan, run, [TEMPLATES]).text
    read = yaml.safe_load(text)["system_prompt"]
    assert (type(read), read) == (type(value), value)


# --- custom templates ---


@pytest.mark.long
def test_a_custom_template_may_extend_the_bundled_one(tmp_path: Path) -> None:
    text = '{% extends "setup_finetune_template.yaml.j2" %}{% block checkpoints %}\nsave_last_epoch_only: true\n'
    text += "{% endblock %}"
    problems = refused(tmp_path, text)
    assert [(p.code, p.field) for p in problems] == [("render-mismatch", "save_adapter_weights_only")]
    kept = with_template(tmp_path, text.replace("\nsave_last", "\n{{ super() }}save_last"))
    setting = kept.run.settings["save_last_epoch_only"]
    assert (setting.value, setting.source.kind) == (True, SourceKind.TEMPLATE)
    assert setting.source.file == str(tmp_path / "own.yaml.j2")
    assert kept.run.directory == "rank8"


def test_a_run_with_a_key_of_the_template_keeps_its_directory_when_the_table_grows(tmp_path: Path) -> None:
    result = with_template(tmp_path, COPY + "save_last_epoch_only: true\n")
    plan = planned(template=str(tmp_path / "own.yaml.j2"))
    before = plan.model_copy(update={"runs": (result.run, *plan.runs[1:])})
    grown = summary(table=runs(3, LoRA_Rank=["8", "16", "8"], Learning_Rate=["1e-5", "1e-5", "5e-5"]))
    again = planned(grown, previous=before, template=plan.template)
    assert [run.directory for run in again.runs] == ["rank8", "rank16", "rank8_lr5e-5"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "field", "actual"),
    spread(
        [
            ('{% if key != "lr" %}KEY{% endif %}', "lr", None),
            ('{% if key == "lr" %}lr: "{{ settings.lr }}"\n{% else %}KEY{% endif %}', "lr", "1e-05"),
            ('{% if key == "lora_rank" %}lora_rank: 9\n{% else %}KEY{% endif %}', "lora_rank", 9),
            ('{% if key == "lora_rank" %}lora_rank: 8.0\n{% else %}KEY{% endif %}', "lora_rank", 8.0),
            ('{% if key == "epochs" %}epochs: "2"\n{% else %}KEY{% endif %}', "epochs", "2"),
            ('{% if key == "packed" %}packed: 0\n{% else %}KEY{% endif %}', "packed", 0),
            ('{% if key == "lr" %}lr: [1.0e-5]\n{% else %}KEY{% endif %}', "lr", "list"),
        ],
        every=2,
    ),
)
def test_a_template_that_drops_alters_or_quotes_a_value_is_refused(
    tmp_path: Path, change: str, field: str, actual: Scalar
) -> None:
    body = change.replace("KEY", "{{ key }}: {{ settings[key] | yaml }}\n")
    (problem,) = refused(tmp_path, "{% for key in settings %}" + body + "{% endfor %}")
    assert (problem.code, problem.field, problem.actual) == ("render-mismatch", field, actual)
    assert problem.file == "rank8/setup_finetune.yaml"
    assert (problem.line is None) is (actual is None)
    assert f"settings.{field} | yaml" in problem.fix


def test_every_difference_is_reported_at_once(tmp_path: Path) -> None:
    problems = refused(tmp_path, "lora_rank: 9\nlora_ranl: 8\n")
    planned_keys = set(planned().runs[0].settings)
    assert {p.field for p in problems} == planned_keys | {"lora_ranl"}


@pytest.mark.parametrize(
    ("key", "meant"), spread([("lora_ranl", "lora_rank"), ("model", "models_dir"), ("dataset", "dataset_")], every=2)
)
def test_a_key_that_setup_finetune_rejects_is_refused(tmp_path: Path, key: str, meant: str) -> None:
    (problem,) = refused(tmp_path, COPY + f"{key}: 8\n")
    assert (problem.code, problem.field) == ("unknown-key", key)
    assert meant in problem.message


@pytest.mark.parametrize("value", ["[1, 2]", "{a: 1}", "null"])
def test_a_known_key_of_the_template_needs_a_single_value(tmp_path: Path, value: str) -> None:
    (problem,) = refused(tmp_path, COPY + f"venv: {value}\n")
    assert (problem.code, problem.field) == ("render-mismatch", "venv")


@pytest.mark.parametrize("text", spread(["a: [", "a: 1\na: 2\n", COPY + "---\nb: 1\n", COPY + "venv: &x y\n"], every=2))
def test_text_that_is_not_plain_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, text)
    assert problem.code == "render-mismatch"
    assert (problem.field, problem.file) == (None, "rank8/setup_finetune.yaml")
    assert absent(problem.message, "cannot be read") == []


def test_a_template_that_renders_no_mapping_is_refused(tmp_path: Path) -> None:
    assert {p.code for p in refused(tmp_path, "- a\n- b\n")} == {"render-mismatch"}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    spread(
        [
            ("a: {{ settings.nothing | yaml }}", "no attribute 'nothing'", None),
            ("a: {{ nothing }}", "'nothing' is undefined", None),
            ("a: 1\n{% if %}", "Expected an expression", 2),
            ("a: {{ settings | frob }}", "No filter named 'frob'", 1),
            ("a: {{ settings | yaml }}", "dict", None),
            ("a: {{ 1 / 0 }}", "division by zero", None),
            ("{% include 'absent.j2' %}", "absent.j2", None),
            ("{% extends 'own.yaml.j2' %}", "template", None),
            ("a: {{ ''.__class__.__mro__ }}", "", None),
            ("a: {{ settings.update({'lr': 1}) }}", "", None),
        ],
        every=3,
    ),
)
def test_a_template_that_cannot_be_rendered_is_refused(
    tmp_path: Path, text: str, message: str, line: int | None
) -> None:
    (problem,) = refused(tmp_path, text)
    assert (problem.code, problem.field, problem.line) == ("template-error", "template", line)
    assert problem.file == str(tmp_path / "own.yaml.j2")
    assert message in problem.message


def test_text_of_a_document_is_never_a_template() -> None:
    text = rendered(planned(summary(training={"System prompt": "{{ 7 * 7 }} {% raw %} {# x #}"}))).text
    assert yaml.safe_load(text)["system_prompt"] == "{{ 7 * 7 }} {% raw %} {# x #}"


def test_a_missing_or_binary_template_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(templating.TemplateProblem, match=r"^it was not found$"):
        templating.render("x", {}, [tmp_path])
    (tmp_path / "w").write_text("{% include 'x' %}", encoding="utf-8")
    with pytest.raises(templating.TemplateProblem, match="includes 'x', which was not found"):
        templating.render("w", {}, [tmp_path])
    (tmp_path / "y").write_bytes(b"\xff\xfe")
    with pytest.raises(templating.TemplateProblem, match="utf-8"):
        templating.render("y", {}, [tmp_path])


def test_the_shell_filter_quotes(tmp_path: Path) -> None:
    (tmp_path / "z").write_text("run {{ a | sh }}\n", encoding="utf-8")
    assert templating.render("z", {"a": "x; $(id) 'y'"}, [tmp_path]) == "run 'x; $(id) '\"'\"'y'\"'\"''\n"


def template_with(folder: Path, lines: str) -> Path:
    """Write a template that extends the bundled one with some lines."""
    template = folder / "own.yaml.j2"
    base = '{% extends "setup_finetune_template.yaml.j2" %}{% block checkpoints %}{{ super() }}'
    template.write_text(f"{base}{lines}\n{{% endblock %}}")
    return template


@pytest.mark.parametrize(
    ("lines", "listed", "together"),
    [
        ("clip_grad_norm: {{ 1.0 if settings.lora_rank == 8 else 2.0 }}", [1.0, 1.0, 2.0, 2.0], True),
        ("{% if settings.lora_rank == 8 %}clip_grad_norm: 1.0{% endif %}", [1.0, 1.0, None, None], True),
        ("clip_grad_norm: {{ 2.0 if run == 'rank16_lr5e-5' else 1.0 }}", [1.0, 1.0, 1.0, 2.0], False),
        ("clip_grad_norm: 1.0", [None] * 4, False),
    ],
)
def test_a_value_that_a_template_gives_differently_to_runs_is_in_the_plan(
    experiment: Path, lines: str, listed: list[float | None], *, together: bool
) -> None:
    planned = steps.plan(Request(experiment, template=template_with(experiment.parent, lines)))
    assert [run.derived.get("clip_grad_norm") for run in planned.runs] == listed
    fields = [each.field for each in planned.warnings if each.code == "confound" and "clip_grad_norm" in each.message]
    assert fields == ["lora_rank"] * together
