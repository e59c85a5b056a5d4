"""Parsing a plain YAML template together with the documents: typed values, and required settings that it gives."""

from typing import Any

import pytest

from scaffold_torchtune.models import SourceKind
from support.documents import local_md, refusal, summary, told
from support.templates import JSON, NAME, PARQUET, SILENT, line_of, parsed_with
from support.wording import absent


@pytest.mark.parametrize("template", [JSON, PARQUET])
def test_each_value_is_typed_and_has_its_line(template: str) -> None:
    found = parsed_with(template).template
    assert {
        name: found[name].value for name in ("batch_size", "lr", "stash_adapter_weights", "run_val_every_n_steps")
    } == {
        "batch_size": 1,
        "lr": 3e-5,
        "stash_adapter_weights": True,
        "run_val_every_n_steps": 0,
    }
    assert found["dataset_ext"].value in {".json", ".parquet"}
    source = found["conda_env"].source
    assert (source.kind, source.file, source.line) == (SourceKind.TEMPLATE, NAME, line_of(template, "conda_env"))
    assert str(source) == f"{NAME}:{line_of(template, 'conda_env')} (template)"


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("lr: '1e-5'", "lr", 1e-5),
        ("time: 12:30:00", "time", "12:30:00"),
        ("packed: no", "packed", False),
        ('prompt: "Say it: {input}\\n"', "prompt", "Say it: {input}\n"),
        ("prompt: '{{ settings.lr }} {input}'", "prompt", "{{ settings.lr }} {input}"),
        ("system_prompt: ''", "system_prompt", ""),
        ("epochs_to_save: none", "epochs_to_save", "none"),
        ("modules: gcc/12,anaconda3/2025.6", "modules", "gcc/12,anaconda3/2025.6"),
        ("mem: 40G", "mem", "40G"),
    ],
)
def test_values_are_read_as_written(written: str, name: str, value: object) -> None:
    assert parsed_with(written).template[name].value == value


@pytest.mark.parametrize(
    "written", ["account: ''", "account:", "account: <account>", "account: YOUR_ACCOUNT", "", "# x"]
)
def test_a_value_that_is_left_open_is_not_set(written: str) -> None:
    assert not parsed_with(written).template


def test_documents_need_not_give_the_settings_of_the_template() -> None:
    text = summary(models={}, training={"Epochs": None, "Batch size": None})
    local = local_md(**SILENT)
    lacking = {"conda_env", "my_wandb_project", "output_dir_base", "epochs", "batch_size"}
    assert {p.field for p in refusal(parsed_with, "seed: 1", text, local)} == {
        *lacking,
        "path of model Llama-3.2-1B-Instruct",
    }
    template = JSON + "output_dir_base: /scratch/out\nmodels_dir: /models\n"
    experiment = parsed_with(template, text, local)
    assert [str(model.path.value) for model in experiment.models] == ["/models/Llama-3.2-1B-Instruct"]
    assert {p.field for p in refusal(parsed_with, JSON, text, local)} == {
        "output_dir_base",
        "path of model Llama-3.2-1B-Instruct",
    }


def test_a_virtual_environment_in_the_template_replaces_conda() -> None:
    assert "venv" in parsed_with("venv: envs/tune\n", local=local_md(conda_env=None)).template


@pytest.mark.parametrize(
    ("line", "field", "values"),
    [
        ("weight_decay: fast", "weight_decay", ["'fast'", "1e-5", 0, 10]),
        ("seed: 1.5", "seed", ["'1.5'", 0, 1_000_000_000]),
        ("packed: perhaps", "packed", ["'perhaps'", "yes", "no"]),
        ("dataset_type: 012", "dataset_type", ["012", 10, '"012"']),
        ("seed: [1, 2]", "seed", ["1, 2", "1 or 2"]),
        ("account: '$(id)'", "account", ["'$(id)'", "'.'", "'_'", "'-'"]),
        ("models_dir: /a/$USER", "models_dir", ["'/a/$USER'", "'$'"]),
        ("prompt: '${x} {input}'", "prompt", ["'${x} {input}'", "'${'", "'???'"]),
        ("output_dir_base: {a: b}", "output_dir_base", ["mapping"]),
    ],
)
def test_an_invalid_value_is_refused_at_its_line(line: str, field: str, values: list[Any]) -> None:
    others = {"output_dir_base": "/o", "models_dir": "/m"}
    rest = "".join(f"{name}: {value}\n" for name, value in others.items() if name != field)
    silent = summary(models={}), local_md(output_dir_base=None)
    (problem,) = refusal(parsed_with, f"# a template\n{line}\n{rest}", *silent)
    assert told([problem]) == [(problem.code, field, NAME, 2)]
    assert problem.code in {"invalid-value", "ambiguous"}
    assert (problem.code == "ambiguous") is ("[1, 2]" in line)
    assert absent(f"{problem.message} {problem.fix}", field, *values) == []


@pytest.mark.parametrize(
    "line", ["epochs: many", "batch_size: [1, 2]", "lora_rank: x", "conda_env: '$(id)'", "models_dir: ~/m"]
)
def test_a_value_that_the_documents_override_may_be_invalid(line: str) -> None:
    assert parsed_with(line).template


def test_values_that_identify_a_different_experiment_may_be_anything() -> None:
    template = "my_wandb_run_name: '$(id)'\ninput_dir_base: __SCRATCH__/$USER/\nproject_dir: ~/x\ndataset_label: 12\n"
    assert parsed_with(template).template.keys() == {
        "my_wandb_run_name",
        "input_dir_base",
        "project_dir",
        "dataset_label",
    }


@pytest.mark.parametrize(
    ("template", "line", "hint"),
    [
        ("lr: 1e-5\nseed: !!int 7\n", 2, "tag"),
        ("lr: &a 1e-5\n", 1, "anchor"),
        ("lr: 1e-5\nlr: 1e-4\n", 2, "'lr'"),
        ("lr: 1e-5\n---\nlr: 1e-4\n", 2, "document"),
        ("- lr\n", 1, "mapping"),
        ("lr: {{ settings.lr | yaml }}\n", 1, ".j2"),
        ("{% extends 'setup_finetune_template.yaml.j2' %}\n", 1, ".j2"),
    ],
)
def test_a_template_that_is_not_plain_yaml_is_refused_and_nothing_is_reported_as_missing(
    template: str, line: int, hint: str
) -> None:
    silent = summary(models={}, training={"Epochs": None}), local_md(**SILENT)
    (problem,) = refusal(parsed_with, template, *silent)
    assert told([problem]) == [("template-error", "template", NAME, line)]
    assert hint in problem.message + problem.fix


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("extra: [1]", ["number", "true", "false"]),
        ("extra: .inf", ["number", "true", "false"]),
        ("extra: '${oc.env:HOME}'", ["'${'", "'???'"]),
    ],
)
def test_a_key_of_the_script_must_have_a_single_plain_value(line: str, allowed: list[str]) -> None:
    (problem,) = refusal(parsed_with, line)
    assert told([problem]) == [("invalid-value", "extra", NAME, 1)]
    assert absent(str(problem.expected), *allowed) == []
    assert str(problem.expected) in problem.fix


def test_unknown_keys_keep_their_yaml_values() -> None:
    others = parsed_with("extra: 1e-3\nflag: true\nword: x\nnothing:\n").template_others
    assert {name: setting.value for name, setting in others.items()} == {"extra": 1e-3, "flag": True, "word": "x"}
