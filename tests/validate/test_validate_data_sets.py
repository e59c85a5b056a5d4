"""The validate stage for every type of data set: a correct node, then each of its values changed, and each removed."""

import re
from typing import NamedTuple

import pytest

from scaffold_torchtune.findings import Finding, Scalar, errors_in
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.validate import validate_run
from support.good_files import GOOD_CONFIG, files_of, planned, replaced

JSON, PARQUET = "/scratch/me/data/words.json", "/scratch/me/data/words.parquet"
OWN = "cruijff_kit.tools.torchtune.datasets"
NODE = re.compile(r"dataset:\n(  .*\n)+")
BASE = replaced(GOOD_CONFIG, "dataset_label: words\ninput_dir: /scratch/me/data/\n", "")


class Case(NamedTuple):
    """A planned data set, its `dataset` node, and the lines of the node that may be omitted."""

    plan: dict[str, Scalar]
    node: str
    optional: set[str]
    path: str = JSON
    more: str = ""


CASES = {
    "instruct, parquet, columns, samples": Case(
        {"dataset_ext": ".parquet", "input_key": "question", "output_key": "answer", "training_samples": 5},
        f"""\
  _component_: torchtune.datasets.instruct_dataset
  source: parquet
  data_files: {PARQUET}
  column_map:
    input: question
    output: answer
  split: train[:5]
  packed: false
  train_on_input: false
  new_system_prompt: Capitalise the word.
""",
        set(),
        PARQUET,
    ),
    "instruct, json, usual columns": Case(
        {"input_key": "input", "output_key": "output", "system_prompt": ""},
        f"""\
  _component_: torchtune.datasets.instruct_dataset
  source: json
  data_files: {JSON}
  field: train
  column_map:
    input: input
    output: output
  split: train
  packed: false
  train_on_input: false
""",
        {"split: train", "input: input", "output: output"},
    ),
    "chat": Case(
        {"dataset_type": "chat_dataset", "input_key": "messages"},
        f"""\
  _component_: torchtune.datasets.chat_dataset
  source: json
  data_files: {JSON}
  field: train
  conversation_column: messages
  conversation_style: openai
  split: train
  packed: false
  train_on_input: false
  new_system_prompt: Capitalise the word.
""",
        {"split: train"},
    ),
    "text completion": Case(
        {"dataset_type": "text_completion_dataset", "input_key": "text", "system_prompt": "", "train_on_input": True},
        f"""\
  _component_: torchtune.datasets.text_completion_dataset
  source: json
  data_files: {JSON}
  field: train
  column: text
  split: train
  packed: false
""",
        {"split: train"},
    ),
    "cruijff_kit's chat completion": Case(
        {"dataset_type": "chat_completion", "prompt": "Say {input}", "input_key": "q", "output_key": "a"}
        | {"training_samples": 5, "run_val_every_n_steps": 10},
        f"""\
  _component_: {OWN}.chat_completion.chat_completion_dataset
  source: json
  data_files: {JSON}
  split: train
  model_path: /scratch/me/models/Llama-3.2-1B-Instruct
  prompt: Say {{input}}
  system_prompt: Capitalise the word.
  input_key: q
  output_key: a
  max_samples: 5
  train_on_input: false
  packed: false
""",
        {"split: train"},
        more=f"""\
run_val_every_n_steps: 10
dataset_val:
  _component_: {OWN}.chat_completion.chat_completion_dataset
  source: json
  data_files: {JSON}
  split: validation
  model_path: /scratch/me/models/Llama-3.2-1B-Instruct
""",
    ),
    "cruijff_kit's text completion": Case(
        {"dataset_type": "text_completion", "input_key": "q", "output_key": "output", "system_prompt": ""},
        f"""\
  _component_: {OWN}.text_completion.text_completion_dataset
  source: json
  data_files: {JSON}
  split: train
  model_path: /scratch/me/models/Llama-3.2-1B-Instruct
  input_key: q
  output_key: output
  train_on_input: false
  packed: false
""",
        {"split: train", "output_key: output"},
    ),
    "validation of json": Case(
        {"run_val_every_n_steps": 10},
        f"""\
  _component_: torchtune.datasets.instruct_dataset
  source: json
  data_files: {JSON}
  field: train
  packed: false
  train_on_input: false
  new_system_prompt: Capitalise the word.
""",
        set(),
        more="""\
run_val_every_n_steps: 10
dataset_val:
  _component_: torchtune.datasets.instruct_dataset
  source: json
  data_files: /scratch/me/data/words.json
  field: validation
""",
    ),
    "validation of parquet": Case(
        {"dataset_ext": ".parquet", "run_val_every_n_steps": 10, "training_samples": 5},
        f"""\
  _component_: torchtune.datasets.instruct_dataset
  source: parquet
  data_files: {PARQUET}
  split: train[:5]
  packed: false
  train_on_input: false
  new_system_prompt: Capitalise the word.
""",
        set(),
        PARQUET,
        more="""\
run_val_every_n_steps: 10
dataset_val:
  _component_: torchtune.datasets.instruct_dataset
  source: parquet
  data_files: /scratch/me/data/validation.parquet
""",
    ),
}
FREE = {"conversation_style", "data_files: /scratch/me/data/validation.parquet"}
"""Values that no setting plans."""


def of(case: Case) -> tuple[PlannedRun, str]:
    run = planned({"run_val_every_n_steps": 0, **case.plan}, data=case.path)
    return run, NODE.sub(lambda _: f"dataset:\n{case.node}", BASE) + case.more


def errors_of(run: PlannedRun, config: str) -> list[Finding]:
    return errors_in(validate_run(run, files_of(run, config), bundled=True))


def values() -> list[tuple[str, str]]:
    """Return every line with a planned value, of every case: the case and the line."""
    lines = [(name, line) for name, case in CASES.items() for line in (case.node + case.more).splitlines(keepends=True)]
    found = [(name, line, line.partition(":")[0].strip()) for name, line in lines if not line.rstrip().endswith(":")]
    return [(name, line) for name, line, key in found if not {key, line.strip()} & FREE]


@pytest.mark.parametrize("name", CASES)
def test_correct_nodes_have_no_error(name: str) -> None:
    run, config = of(CASES[name])
    findings = validate_run(run, files_of(run, config), bundled=True)
    assert [(f.code, f.field) for f in findings if f.code != "unread-setting"] == []


def changed(line: str) -> str:
    before, _, value = line.rstrip("\n").partition(": ")
    other = {"true": "false", "false": "true", "10": "11", "5": "6"}.get(value, f"{value}x")
    return f"{before}: {other}\n"


@pytest.mark.parametrize(("name", "line"), values())
def test_each_changed_value_is_reported_at_its_line(name: str, line: str) -> None:
    run, config = of(CASES[name])
    at = config.rindex(line)
    errors = errors_of(run, config[:at] + changed(line) + config[at + len(line) :])
    assert [(f.code, f.line) for f in errors] == [("value-mismatch", config[:at].count("\n") + 1)]


@pytest.mark.parametrize(("name", "line"), values())
def test_each_removed_value_is_reported_unless_it_is_the_default_of_torchtune(name: str, line: str) -> None:
    run, config = of(CASES[name])
    at = config.rindex(line)
    errors = errors_of(run, config[:at] + config[at + len(line) :])
    assert [f.code for f in errors] == ([] if line.strip() in CASES[name].optional else ["missing-value"])


@pytest.mark.parametrize(
    ("name", "addition", "code", "field"),
    [
        ("instruct, parquet, columns, samples", "field: train", "unplanned-value", "dataset_ext"),
        ("instruct, parquet, columns, samples", "data_dir: /scratch/me/data", "unplanned-value", "dataset.data_dir"),
        ("instruct, parquet, columns, samples", "batch: 5", "unplanned-value", "dataset.batch"),
        ("instruct, json, usual columns", "filter_fn: mine", "unplanned-value", "dataset.filter_fn"),
        ("instruct, json, usual columns", "feild: train", "unplanned-value", "dataset.feild"),
        ("instruct, json, usual columns", "new_system_prompt: Hello", "unplanned-value", "system_prompt"),
        ("text completion", "new_system_prompt: Hello", "unplanned-value", "system_prompt"),
        ("text completion", "system_prompt: Hello", "unplanned-value", "system_prompt"),
        ("text completion", "train_on_input: true", "unplanned-value", "train_on_input"),
        ("cruijff_kit's text completion", "system_prompt: Hello", "unplanned-value", "system_prompt"),
        ("cruijff_kit's text completion", "new_system_prompt: Hello", "unplanned-value", "system_prompt"),
        ("cruijff_kit's text completion", "field: train", "unplanned-value", "dataset_ext"),
    ],
)
def test_each_unplanned_value_is_reported_once(name: str, addition: str, code: str, field: str) -> None:
    run, config = of(CASES[name])
    errors = errors_of(run, replaced(config, "dataset:\n", f"dataset:\n  {addition}\n"))
    assert [(f.code, f.field) for f in errors] == [(code, field)]
    assert errors[0].line == config.partition("dataset:\n")[0].count("\n") + 2
