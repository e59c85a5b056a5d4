"""What cannot be derived from the table of parameters says the same as it: templates, documentation, the YAML form."""

import re
from pathlib import Path

import pytest

from scaffold_torchtune.new import COLUMNS, ONLY_LOCAL, OPTIONS, TRAINING
from scaffold_torchtune.parse import local_lines
from scaffold_torchtune.parse.yaml_form import ComputeForm, RunForm, TrainingDataForm
from scaffold_torchtune.settings.kinds import UNBOUNDED
from scaffold_torchtune.settings.parameters import DIRECTORIES, KEYS, OF_LOCAL, PARAMETERS, by_label, normalize

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "workflows/torchtune.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table after a text."""
    lines = TEXT[TEXT.index(heading) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = [line for line in lines[start + 1 :] if line][: lines[start + 1 :].index("")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_template_writes_every_key_in_the_order_of_the_table() -> None:
    text = (ROOT / "templates/setup_finetune_template.yaml.j2").read_text()
    groups = re.findall(r"keys\(\[(.*?)\]\)", text, re.DOTALL)
    assert [name for group in groups for name in re.findall(r'"(\w+)"', group)] == list(KEYS)


def test_the_table_of_claude_local_md_has_every_setting_under_labels_that_count() -> None:
    rows = rows_of("Then `claude.local.md`")
    named = [name for what, _, _ in rows for name in re.findall(r"`(\w+)`", what)]
    assert set(named) == OF_LOCAL.keys() | DIRECTORIES.keys()
    for what, labels, _ in rows:
        names = re.findall(r"`(\w+)`", what)
        for label in re.split(r", |; ", re.sub(r"\([^()]*\)|`[^`]*`", "", labels)):
            topics = ["slurm", "wandb"] if "below" in label else ["defaults"]
            plain = re.sub(r" (?:below|anywhere).*|:.*", "", label).strip()
            if plain and plain != "..." and "lines of the" not in label:
                found = {local_lines.setting(plain, frozenset({topic})) for topic in [*topics, "slurm", "wandb"]}
                assert found & set(names), label


def test_columns_and_settings_that_the_documentation_names_are_parameters() -> None:
    section = TEXT[: TEXT.index("## 2.")]
    names = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", section))
    labels = re.search(r"\(LoRA Rank, (.*?); Learning Rate, (.*?); \.\.\.\)", section, re.DOTALL)
    assert labels is not None
    assert {by_label(label) for label in re.split(r",\s+", labels[1])} == {PARAMETERS["lora_rank"]}
    assert {by_label(label) for label in re.split(r",\s+", labels[2])} == {PARAMETERS["lr"]}
    known = PARAMETERS.keys() | DIRECTORIES.keys()
    assert {name for name in names if name in known} >= {"lora_alpha", "weight_decay", "max_seq_len", "gpu_type"}


@pytest.mark.parametrize("form", [ComputeForm, TrainingDataForm, RunForm])
def test_what_the_yaml_form_names_is_a_column(form: type[ComputeForm | TrainingDataForm | RunForm]) -> None:
    other = {"path", "format", "size_kb", "splits", "name", "type", "parameters", "compute", "dataset_path"}
    for name in form.model_fields.keys() - other - {"dataset_label"}:
        assert PARAMETERS[name].column, name


def test_new_writes_each_option_that_claude_local_md_holds() -> None:
    written = set(re.findall(r"\{\{ (\w+) \}\}", (ROOT / "templates/new_local.md.j2").read_text()))
    assert written == {"models_dir", "module", *ONLY_LOCAL} - {"modules"}
    assert set(OPTIONS) == {"experiment_name", "model", "dataset", "models_dir", *COLUMNS, *TRAINING, *ONLY_LOCAL}
    assert all(by_label(label) is PARAMETERS[name] for name, label in (COLUMNS | TRAINING).items())


def test_labels_mean_one_parameter() -> None:
    labels = [(normalize(label), p.name) for p in PARAMETERS.values() for label in (p.name, *p.aliases, *p.words)]
    assert len({label for label, _ in labels}) == len(labels)
    assert all(label == normalize(label) for p in PARAMETERS.values() for label in (*p.aliases, *p.words))


def test_numbers_have_bounds_and_nothing_else_has() -> None:
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
def test_a_parameter_stands_in_three_files_and_the_templates(name: str) -> None:
    """In the table, where it goes to finetune.yaml, and where `validate` looks for it."""
    sources = (ROOT / "server").rglob("*.py")
    found = [path.name for path in sources if re.search(rf"\b{name}\b", path.read_text())]
    assert len(found) == 3, found
