"""Reading the directory of a base model, and the free space on disk."""

import json
import os
from pathlib import Path

import pytest

from scaffold_torchtune.models import CheckpointState
from scaffold_torchtune.preflight import disk
from scaffold_torchtune.preflight.disk import free_bytes, inspect_checkpoint, unwritable
from support.checkpoints import facts_of, make_checkpoint, write_safetensors
from support.permissions import held_to_modes
from support.wording import absent

MODEL = "Llama-3.2-1B-Instruct"


def test_a_models_directory_is_read_without_its_weights(tmp_path: Path) -> None:
    found = inspect_checkpoint(str(make_checkpoint(tmp_path / "model", "Qwen2.5-3B-Instruct", files=2)))
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert list(found.tensors) == names
    shapes = {name: shape for each in found.tensors.values() for name, shape in each.shapes.items()}
    assert shapes == dict(facts_of("Qwen2.5-3B-Instruct").tensors())
    assert found.index is not None
    assert set(found.index.values()) == set(names)
    assert found.config == {
        "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": 1,
    }  # fmt: skip
    assert {"vocab.json", "merges.txt", "config.json"} <= found.files.keys()


def test_files_one_level_deeper_are_listed(tmp_path: Path) -> None:
    found = inspect_checkpoint(str(make_checkpoint(tmp_path / "model", MODEL)))
    assert found.files["original/tokenizer.model"] == len("tokens")
    assert found.index is None
    (tmp_path / "model" / "original" / "below").mkdir()
    (tmp_path / "model" / "original" / "consolidated.safetensors").write_text("")
    again = inspect_checkpoint(str(tmp_path / "model"))
    assert "original/below" not in again.files
    assert "original/consolidated.safetensors" in again.files
    assert list(again.tensors) == ["model.safetensors"]
    (tmp_path / "model" / "original").chmod(0o111)
    with held_to_modes():
        assert "original/tokenizer.model" not in inspect_checkpoint(str(tmp_path / "model")).files
    (tmp_path / "model" / "original").chmod(0o755)


def test_a_path_that_is_not_a_directory_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "Llama-3.2-1B").mkdir()
    (tmp_path / "file").write_text("x")
    assert inspect_checkpoint(str(tmp_path / "Llama-3.2-1B-")) == CheckpointState(absent=True, near=("Llama-3.2-1B",))
    assert inspect_checkpoint(str(tmp_path / "none" / "model")) == CheckpointState(absent=True)
    (tmp_path / "models--org--Phi-4").mkdir()
    assert inspect_checkpoint(str(tmp_path / "Phi-4")).near == ("models--org--Phi-4",)
    found = inspect_checkpoint(str(tmp_path / "file"))
    assert (found, absent(found.problem, "directory")) == (CheckpointState(problem=found.problem), [])
    assert inspect_checkpoint("a\0b").problem.endswith(": embedded null byte")
    assert inspect_checkpoint(f"/{'a' * 300}").problem.endswith(": File name too long")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "complete safetensors file"),
        (b"\xff" * 8, "complete safetensors file"),
        (b"\x40" + bytes(7) + b"{}", "complete safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x02" + bytes(7) + b"[]", "a safetensors file"),
        (b"\x02" + bytes(7) + b"xx", "a safetensors file"),
        (b"\x08" + bytes(7) + b'{"a": 1}', "a safetensors file"),
    ],
)
def test_an_invalid_safetensors_file_is_reported(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    found = inspect_checkpoint(str(tmp_path)).tensors["model.safetensors"]
    assert problem in found.problem


def test_a_truncated_file_is_reported_with_the_missing_bytes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"a": (2, 3), "b": (4,)})
    os.truncate(file, file.stat().st_size - 5)
    found = inspect_checkpoint(str(tmp_path)).tensors["model.safetensors"]
    assert absent(found.problem, "5 bytes") == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": []}'])
def test_an_unreadable_index_or_config_is_none_or_empty(tmp_path: Path, text: str) -> None:
    for name in ("config.json", "model.safetensors.index.json"):
        (tmp_path / name).write_text(text)
    found = inspect_checkpoint(str(tmp_path))
    assert not found.index
    assert (found.config is None) == (text != '{"weight_map": []}')


def test_the_index_gives_the_file_of_a_tensor(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    assert inspect_checkpoint(str(tmp_path)).index == {"a": "x.safetensors"}


def test_free_space_is_that_of_the_nearest_existing_directory(tmp_path: Path) -> None:
    there = free_bytes(str(tmp_path / "not" / "yet"))
    assert there is not None
    assert there > 0
    assert free_bytes("/no-such-file-system/at/all") is None
    assert free_bytes(f"/{tmp_path.parts[1]}") is not None


def test_the_number_of_listed_files_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_MAX_FILES", 3)
    for number in range(9):
        (tmp_path / str(number)).write_text("")
    os.mkfifo(tmp_path / "00")
    assert list(inspect_checkpoint(str(tmp_path)).files) == ["0", "1"]


def test_a_directory_that_this_user_cannot_create_is_found_by_its_nearest_parent(tmp_path: Path) -> None:
    closed, opened = tmp_path / "closed", tmp_path / "open"
    closed.mkdir()
    opened.mkdir()
    (tmp_path / "file").touch()
    closed.chmod(0o555)
    with held_to_modes():
        assert unwritable(str(closed)) == str(closed)
        assert unwritable(str(closed / "not" / "yet")) == str(closed)
        assert unwritable(str(opened / "not" / "yet")) is None
        assert unwritable(str(tmp_path / "file" / "below")) is None
    closed.chmod(0o755)
    assert unwritable("/no-such-file-system/at/all") is None
    assert unwritable(f"/{'a' * 300}/b") is None
