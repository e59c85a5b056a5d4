"""Base models that torchtune could not load: single faults in a directory that is otherwise correct."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import CheckpointState, DiskState
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.disk import inspect_checkpoint
from scaffold_torchtune.torchtune_facts.facts import load
from support.checkpoints import make_checkpoint, write_safetensors
from support.plans import LINES, SUMMARY, plan_of
from support.wording import absent

LLAMA, QWEN = "Llama-3.2-1B-Instruct", "Qwen2.5-3B-Instruct"
PARTS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def judged(directory: Path, model: str = LLAMA, listed: list[str] | None = None) -> list[Finding]:
    """Return the findings about the model in a directory; `listed` are the files that finetune.yaml names."""
    changes = {"models_dir": str(directory.parent), "model_checkpoint": directory.name, "torchtune_model_name": model}
    seen = DiskState(checkpoints={str(directory): inspect_checkpoint(str(directory))})
    findings = check_plan(plan_of(changes), seen, {str(directory): listed} if listed else {})
    return [each for each in findings if each.code in {"not-seen", "checkpoint-mismatch"}]


def fault(directory: Path, model: str = LLAMA, listed: list[str] | None = None) -> str:
    """Return the message of the only finding, without its start; it must be an error at the line of the model."""
    (finding,) = judged(directory, model, listed)
    assert (finding.code, finding.severity) == ("checkpoint-mismatch", Severity.ERROR)
    assert (finding.file, finding.line) == (SUMMARY, LINES["model_checkpoint"])
    assert finding.fix
    return finding.message.split(f"{str(directory)!r}: ")[1]


@pytest.mark.parametrize("model", load().models)
def test_no_published_model_has_a_finding(tmp_path: Path, model: str) -> None:
    assert not judged(make_checkpoint(tmp_path / "model", model), model, ["model.safetensors"])
    assert not judged(make_checkpoint(tmp_path / "parts", model, files=2), model, PARTS)


def test_without_names_from_finetune_yaml_all_files_are_checked(tmp_path: Path) -> None:
    assert not judged(make_checkpoint(tmp_path / "model", QWEN, files=2), QWEN)


def test_a_model_that_is_not_found_is_a_warning(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "Llama-3.2-1B-Instruct", LLAMA)
    (finding,) = judged(tmp_path / "Llama-3.2-1B-Instrct")
    assert (finding.code, finding.severity, finding.actual) == ("not-seen", Severity.WARNING, "Llama-3.2-1B-Instruct")
    (finding,) = judged(tmp_path / "elsewhere" / "model")
    assert (finding.code, finding.actual) == ("not-seen", None)


def test_a_file_instead_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    assert absent(fault(tmp_path / "model"), "directory") == []


def test_a_model_that_was_not_inspected_has_no_finding() -> None:
    assert not [
        f for f in check_plan(plan_of({"models_dir": None}), DiskState(), {}) if f.code == "checkpoint-mismatch"
    ]
    assert not [
        f for f in check_plan(plan_of({}), DiskState(checkpoints={"/else": CheckpointState()}), {}) if f.line == 1
    ]


def remove(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_text(text)


CONFIG = {"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (remove("config.json"), ["config.json"]),
        (write("config.json", "{"), ["config.json", "JSON"]),
        (write("config.json", json.dumps(CONFIG | {"hidden_size": "x"})), ["config.json", "hidden_size"]),
        (write("config.json", '{"hidden_size": 2048}'), ["config.json", "num_attention_heads and num_key_value_heads"]),
        (
            write("config.json", json.dumps(CONFIG | {"hidden_size": 3072})),
            ["config.json", "hidden_size", 3072, LLAMA, 2048],
        ),
        (remove("model.safetensors"), ["model.safetensors"]),
        (
            lambda directory: os.truncate(directory / "model.safetensors", 100_000),
            ["model.safetensors", "bytes"],
        ),
        (write("model.safetensors", "version https://git-lfs"), ["model.safetensors", "Git LFS"]),
        (remove("original/tokenizer.model"), ["original/tokenizer.model"]),
        (write("original/tokenizer.model", ""), ["original/tokenizer.model", "empty"]),
    ],
)
def test_each_fault_in_a_directory_is_reported(
    tmp_path: Path, change: Callable[[Path], object], told: list[object]
) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA)
    change(directory)
    assert absent(fault(directory), *told) == []


def test_a_different_model_is_recognized_by_its_shapes(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", "Llama-3.2-3B-Instruct")
    messages = [finding.message for finding in judged(directory)]
    assert [m for m in messages if absent(m, "hidden_size", 3072) == []]
    assert [m for m in messages if absent(m, "128256 x 3072", LLAMA, "128256 x 2048") == []]
    assert [m for m in messages if absent(m, 108) == []]


def test_missing_tensors_are_counted(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA)
    write_safetensors(directory / "model.safetensors", {"model.embed_tokens.weight": (128256, 2048)})
    missing, _, names = fault(directory).partition(": ")
    assert absent(missing, 145, 146, LLAMA) == []
    assert names.startswith("model.layers.0.")


def test_an_additional_tensor_is_an_error_unless_torchtune_ignores_it(tmp_path: Path) -> None:
    """Use tied embeddings: torchtune skips lm_head.weight of Qwen2.5-3B, and fails on that of Llama 3.2."""
    spare = {"lm_head.weight": (128256, 2048)}
    directory = make_checkpoint(tmp_path / "llama", LLAMA, changes=spare)
    spared, _, names = fault(directory).partition(": ")
    assert (absent(spared, LLAMA), names) == ([], "lm_head.weight")
    other = {"lm_head.weight": (151936, 2048)}
    assert not judged(make_checkpoint(tmp_path / "qwen", QWEN, changes=other), QWEN)


def test_a_wrong_shape_is_reported_with_the_expected_one(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA, changes={"model.norm.weight": (2047,)})
    assert absent(fault(directory), "model.norm.weight", 2047, LLAMA, 2048) == []


def test_files_that_finetune_yaml_names_must_exist(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", QWEN, files=2)
    assert absent(fault(directory, QWEN, ["model.safetensors"]), "model.safetensors") == []
    many = [f"model-{n:05}-of-00009.safetensors" for n in range(1, 10)]
    assert absent(fault(directory, QWEN, many), *many, 6) == many[3:]


def test_at_most_three_missing_files_are_listed(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", QWEN, files=2)
    three = [f"model-{n:05}-of-00003.safetensors" for n in range(1, 4)]
    assert absent(fault(directory, QWEN, three), *three, 0) == ["0"]


def test_a_missing_file_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", QWEN, files=2)
    (finding,) = judged(directory, QWEN, ["one.safetensors", PARTS[0]])
    assert (finding.expected, finding.actual) == (f"one.safetensors, {PARTS[0]}", ", ".join(PARTS))
    for part in PARTS:
        (directory / part).unlink()
    (directory / "model.safetensors.index.json").unlink()
    (finding,) = judged(directory, QWEN)
    assert (finding.expected, finding.actual) == ("model.safetensors", "no .safetensors file")


def test_files_in_the_torch_format_only_have_to_exist(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert not judged(directory, LLAMA, ["pytorch_model.bin"])
    assert absent(fault(directory, LLAMA, ["other.bin"]), "other.bin") == []


def test_only_files_that_finetune_yaml_names_are_checked(tmp_path: Path) -> None:
    """Ignore original/ and files in a second format; report a part of the model that is not named."""
    directory = make_checkpoint(tmp_path / "model", LLAMA)
    write_safetensors(directory / "consolidated.safetensors", {"other": (1,)})
    assert not judged(directory, LLAMA, ["model.safetensors"])
    parts = make_checkpoint(tmp_path / "parts", QWEN, files=2)
    assert absent(fault(parts, QWEN, PARTS[:1]), QWEN) == []
    (finding,) = judged(parts, QWEN, PARTS[:1])
    assert str(finding.expected).startswith("model.")


def test_the_index_must_match_the_files(tmp_path: Path) -> None:
    index = tmp_path / "model" / "model.safetensors.index.json"
    directory = make_checkpoint(index.parent, QWEN, files=2)
    told = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": told | {"x": "model-00003-of-00003.safetensors"}}))
    assert absent(fault(directory, QWEN, PARTS), "model-00003-of-00003.safetensors") == []
    index.write_text(json.dumps({"weight_map": told | {"x": PARTS[0]}}))
    assert absent(fault(directory, QWEN, PARTS), PARTS[0], "x") == []
    index.write_text(json.dumps({"weight_map": told | {"x": "config.json"}}))
    assert not judged(directory, QWEN, PARTS)


def test_an_unreadable_file_is_not_compared_with_the_index(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", QWEN, files=2)
    (directory / PARTS[1]).write_text("x")
    assert absent(fault(directory, QWEN, PARTS), PARTS[1], "safetensors file") == []


@pytest.mark.parametrize(("name", "what"), [("config.json", "JSON"), ("original/tokenizer.model", "empty")])
def test_missing_and_damaged_files_are_different_faults(tmp_path: Path, name: str, what: str) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA)
    write(name, "")(directory)
    assert absent(fault(directory), name, what) == []
    remove(name)(directory)
    assert absent(fault(directory), name, what) == [what]


def test_an_unknown_model_only_needs_what_every_model_needs(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", LLAMA, changes={"extra": (1,)})
    (directory / "original" / "tokenizer.model").unlink()
    assert not judged(directory, "My-Model")
    (directory / "config.json").unlink()
    assert absent(fault(directory, "My-Model"), "config.json") == []
