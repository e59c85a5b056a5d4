"""Files that cannot be derived from the table of parameters agree with it: templates, documentation, the YAML form."""

import re
import runpy
from pathlib import Path

import pytest

from scaffold_torchtune.new import COLUMNS, ONLY_LOCAL, OPTIONS, TRAINING
from scaffold_torchtune.parse import local_lines
from scaffold_torchtune.parse.yaml_form import ComputeForm, RunForm, TrainingDataForm
from scaffold_torchtune.results.reply import STEPS
from scaffold_torchtune.settings.kinds import PROJECTIONS, UNBOUNDED
from scaffold_torchtune.settings.parameters import DIRECTORIES, KEYS, OF_LOCAL, PARAMETERS, by_label, normalize

ROOT = Path(__file__).parents[2]
LABELS = ROOT / "workflows/labels.md"


def rows_of(heading: str) -> list[list[str]]:
    """Return the cells of each row of the table in a section of the guide."""
    section = LABELS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def labels_in(cell: str) -> list[str]:
    """Return the labels in a cell, without the sections in parentheses."""
    return [label for label in re.split(r"[,;] +", re.sub(r" \([^()]*\)", "", cell)) if label]


def test_the_template_writes_every_key_in_the_order_of_the_table() -> None:
    text = (ROOT / "templates/setup_finetune_template.yaml.j2").read_text()
    groups = re.findall(r"keys\(\[(.*?)\]\)", text, re.DOTALL)
    assert [name for group in groups for name in re.findall(r'"(\w+)"', group)] == list(KEYS)


def test_the_tables_of_the_guide_are_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts/write_labels.py"))
    assert script["PAGE"] == LABELS
    assert script["page"](LABELS.read_text()) == LABELS.read_text()


def test_every_summary_label_in_the_guide_belongs_to_its_setting() -> None:
    rows = rows_of("Columns of the table of runs, and lines of Configuration") + rows_of("Lines of Configuration only")
    assert len(rows) > 60
    for name, labels, *_ in rows:
        setting = PARAMETERS[name.strip("`")]
        assert setting.column or setting.common or setting.name == "plan_cancelled_runs"
        assert all(by_label(label) is setting for label in [setting.name, *labels_in(labels)]), name
        assert len(labels_in(labels)) == len(setting.aliases) + len(setting.words)


def test_every_claude_local_md_label_in_the_guide_belongs_to_its_setting() -> None:
    rows = rows_of("Lines of claude.local.md")
    assert {name.strip("`") for name, *_ in rows} == OF_LOCAL.keys() | DIRECTORIES.keys()
    topics = [frozenset({topic}) for topic in ("top", "slurm", "wandb", "conda")]
    for name, anywhere, of_jobs, some in rows:
        labels = [(label, topics) for label in labels_in(anywhere)] + [
            (label, topics[:2]) for label in labels_in(of_jobs)
        ]
        for label, where in labels:
            assert {local_lines.setting(label, topic) for topic in where} == {name.strip("`")}, label
        for label in labels_in(some):
            assert name.strip("`") in {local_lines.setting(label, topic) for topic in topics}, label


def test_settings_in_the_guides_are_parameters() -> None:
    text = "".join((ROOT / f"workflows/{name}.md").read_text() for name in ("documents", "recipes"))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    known = PARAMETERS.keys() | DIRECTORIES.keys()
    tools = {step.tool for step in STEPS}
    assert named - known - tools - {*PROJECTIONS} == {
        "dataset_path", "validation_during_training", "full_finetune_single_device", "full_finetune_distributed",
    }  # fmt: skip
    assert named >= {"lora_attn_modules", "num_warmup_steps", "resume_from_checkpoint", "gpu_type"}


@pytest.mark.parametrize("form", [ComputeForm, TrainingDataForm, RunForm])
def test_every_field_of_the_yaml_form_is_a_column(form: type[ComputeForm | TrainingDataForm | RunForm]) -> None:
    other = {"path", "format", "size_kb", "splits", "name", "type", "parameters", "compute", "dataset_path"}
    for name in form.model_fields.keys() - other - {"dataset_label"}:
        assert PARAMETERS[name].column, name


def test_new_writes_each_option_that_belongs_to_claude_local_md() -> None:
    written = set(re.findall(r"\{\{ (\w+) \}\}", (ROOT / "templates/new_local.md.j2").read_text()))
    assert written == {"models_dir", "module", *ONLY_LOCAL} - {"modules"}
    assert set(OPTIONS) == {"experiment_name", "model", "dataset", "models_dir", *COLUMNS, *TRAINING, *ONLY_LOCAL}
    assert all(by_label(label) is PARAMETERS[name] for name, label in (COLUMNS | TRAINING).items())


def test_each_label_belongs_to_one_parameter() -> None:
    labels = [(normalize(label), p.name) for p in PARAMETERS.values() for label in (p.name, *p.aliases, *p.words)]
    assert len({label for label, _ in labels}) == len(labels)
    assert all(label == normalize(label) for p in PARAMETERS.values() for label in (*p.aliases, *p.words))


def test_only_numbers_have_bounds() -> None:
    assert {n for n, p in PARAMETERS.items() if p.bounds != UNBOUNDED} == {
        n for n, p in PARAMETERS.items() if p.kind in {"int", "float"}
    }


def test_defaults_are_values_of_their_kind() -> None:
    for parameter in PARAMETERS.values():
        if isinstance(parameter.default, str):
            assert parameter.read(parameter.default) == parameter.default
        elif isinstance(parameter.default, bool):
            assert parameter.kind == "bool"
        elif parameter.default is not None:
            assert parameter.bounds.hold(parameter.default)


@pytest.mark.parametrize("name", ["clip_grad_norm", "enable_activation_checkpointing"])
def test_a_parameter_is_in_three_files_and_the_templates(name: str) -> None:
    """Look for the table, the effect on finetune.yaml, and the place that `validate` checks."""
    sources = (ROOT / "server").rglob("*.py")
    found = {path.name for path in sources if re.search(rf"\b{name}\b", path.read_text())}
    # read it in finetune.yaml, and suggest it by its label if GPU memory was too small
    advises = {"reporting.py", "job_causes.py", "kinds.py"}
    assert len(found - advises) == 3, found
