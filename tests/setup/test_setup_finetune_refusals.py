"""Refusals of the bundled setup_finetune: invalid values, and unknown or missing keys."""

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.setup.bundled import build
from support.setup_texts import MINIMAL, problems_of, text_of
from support.wording import absent


@pytest.mark.parametrize(
    "line",
    [
        "lora_rank: '8'",
        "lora_rank: 8.0",
        "lora_rank: 010",
        "lora_rank: 0x8",
        "lora_rank: 1_000",
        "lora_rank: +8",
        "lora_rank: -8",
        "lora_rank: 0",
        "lora_rank: true",
        "lora_rank:",
        "lora_rank: [8]",
        "lora_rank: 99999999999999999999",
        "lora_rank: 2000000000",
        "lr: '1e-5'",
        "lr: 0",
        "lr: 11",
        "lr: .nan",
        "lr: .inf",
        "lr: abc",
        "lr: 1:30",
        "lora_dropout: 1",
        "packed: yes",
        "packed: 1",
        "packed: 'on'",
        "packed: {a: 1}",
        "time: 12:30:00",
        "time: 30",
        "time: '0'",
        "time: 'soon'",
        "time: ''",
        "mem: 64",
        "mem: 64 GB",
        "account: 12",
        "account: on",
        "account: lab --exclusive",
        'account: "lab\\n#SBATCH --exclusive"',
        "account: -lab",
        "account: a..b",
        "partition: gpu;ls",
        "constraint: a100 h100",
        "constraint: $(ls)",
        "modules: /opt/module",
        "modules: ../module",
        "modules: a, ,b",
        "modules: a;b",
        "modules: [a, b]",
        "venv: /opt/$HOME/venv",
        "venv: ~/venv",
        "venv: -venv",
        'venv: "/opt/a\'b"',
        'venv: "/opt/a\\nb"',
        'venv: "/opt/\\u202eb"',
        "venv: '/opt/venv '",
        "model_checkpoint: /data/models/x",
        "input_key: a b",
        "custom_recipe: /abs/recipe.py",
        "custom_recipe: ../recipe.py",
        "custom_recipe: recipe; ls",
        "custom_recipe: --help",
        'system_prompt: "a\\0b"',
        "system_prompt: ${oc.env:HOME}",
        "system_prompt: ???",
        "system_prompt: 5",
        "system_prompt: null",
        "epochs_to_save: [1]",
        f"account: {'a' * 256}",
    ],
)
def test_an_invalid_value_is_refused_at_its_line(line: str) -> None:
    key = line.split(":", maxsplit=1)[0]
    with pytest.raises(Refused) as refusal:
        build(text_of() + line + "\n")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.field, problem.file) == ("invalid-value", key, "setup_finetune.yaml")
    assert problem.line == len(MINIMAL) + 1
    assert problem.expected
    assert problem.fix
    assert "\n" not in problem.sentence()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("my_wandb_run_name", "../up"),
        ("my_wandb_run_name", "a b"),
        ("my_wandb_run_name", "<MEM>"),
        ("models_dir", "/home/$USER/models"),
        ("models_dir", "/data/${output_dir}"),
        ("input_dir_base", "/data/sets[1]"),
        ("input_formatting", "/raw"),
        ("input_formatting", "a/../b"),
        ("input_formatting", None),
        ("dataset_label", "a/b"),
        ("dataset_ext", ".csv"),
        ("dataset_ext", "json"),
        ("torchtune_model_name", "Llama 3.2 1B"),
        ("output_dir_base", "`ls`"),
    ],
)
def test_an_invalid_required_key_is_refused(key: str, value: str | None) -> None:
    assert problems_of(text_of(**{key: value})) == [("invalid-value", key)]


def fix_of(text: str) -> str:
    with pytest.raises(Refused) as refusal:
        build(text)
    (problem,) = refusal.value.problems
    return problem.fix


def test_a_quoted_number_and_an_unquoted_time_have_a_fix() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of() + "lora_rank: '8'\ntime: 12:30:00\n")
    rank, time = refusal.value.problems
    assert rank.fix != fix_of(text_of() + "lora_rank: -8\n"), "the quotes are to go"
    assert (rank.field, rank.actual, time.field, time.actual) == ("lora_rank", "8", "time", "12:30:00")
    assert absent(time.fix, '`"12:30:00"`') == []


def test_user_in_a_path_must_be_written_out() -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of(models_dir="/home/$USER/models"))
    (problem,) = refusal.value.problems
    assert (problem.field, problem.actual) == ("models_dir", "/home/$USER/models")
    assert problem.fix != fix_of(text_of(models_dir="/home/$OTHER/models")), "the variable is known"


# --- keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [("learning_rate", "'lr'"), ("lora_ranl", "'lora_rank'"), ("dataset_lable", "'dataset_label'"), ("zzzzzzzz", "")],
)
def test_an_unknown_key_is_refused_with_a_similar_one(key: str, meant: str) -> None:
    with pytest.raises(Refused) as refusal:
        build(text_of() + f"{key}: 1\n")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.field, problem.line) == ("unknown-key", key, len(MINIMAL) + 1)
    assert meant in problem.message


@pytest.mark.parametrize("key", ["dataset", "model"])
def test_labels_of_documents_are_not_keys(key: str) -> None:
    assert problems_of(text_of() + f"{key}: [a]\n") == [("unknown-key", key)]


@pytest.mark.parametrize("key", [key for key in MINIMAL if key != "input_formatting"])
def test_a_missing_required_key_is_refused(key: str) -> None:
    assert problems_of(text_of(**{key: ...})) == [("missing-field", key)]


def test_all_problems_are_reported_at_once() -> None:
    text = text_of(epochs=..., lr="fast", torchtune_model_name="Llama-9", lr_scheduler="get_linear") + "sed: 1\n"
    assert {code for code, _ in problems_of(text)} == {
        "missing-field",
        "invalid-value",
        "unknown-model",
        "unsupported-setting",
        "unknown-key",
    }


@pytest.mark.parametrize(
    "text", ["- a\n", "", "just text\n", "a: [\n", "a: 1\na: 2\n", "a: &x 1\nb: *x\n", "a: !x 1\n"]
)
def test_text_that_is_not_a_mapping_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        build(text, file="some.yaml")
    (problem,) = refusal.value.problems
    assert (problem.code, problem.file) == ("unreadable-file", "some.yaml")
