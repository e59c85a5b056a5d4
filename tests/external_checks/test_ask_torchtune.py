"""validate checks with torchtune in another Python. A stand-in answers here; tests/contract has the real one."""

import json
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.external_checks import ask_torchtune
from support.experiments import RUNS, change, log
from support.sampling import spread
from support.scaffolding import answers, only, validated
from support.stand_in_python import stand_in
from support.wording import absent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stand-in"


def test_if_torchtune_agrees_one_note_lists_the_built_components(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = stand_in(folder, monkeypatch, "hello()\nprint('of no interest')\nagree()")
    result = validated(done)
    assert result.passed
    found = only(result)
    assert (found.code, found.severity, found.fix) == ("torchtune-agrees", "info", "")
    whose, _, models = found.message.partition(": ")
    assert absent(whose, "torchtune 0.6.1", "torch 2.13.0", f"'{python}'", 4, 2) == []
    small, large = models.split(" and ")
    assert absent(small, "lora_llama3_2_1b", "rank 8", "1,000,000,000", "5,308,416") == []
    assert absent(large, "lora_llama3_2_1b", "rank 16", "1,000,000,000", "10,616,832") == []


def test_shared_components_are_sent_once_to_the_bundled_program(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree()")
    validated(done)
    ((arguments, cwd),) = (json.loads(line) for line in (folder / "calls").read_text().splitlines())
    assert arguments == [str(ask_torchtune.PROGRAM)]
    assert not Path(cwd).exists()  # a separate empty directory
    parts = [one["part"] for one in json.loads((folder / "asked").read_text())["nodes"]]
    counts = {part: parts.count(part) for part in parts}
    assert counts == {
        "model": 2,
        "optimizer": 2,
        "checkpointer": 4,
        "metric_logger": 4,
        "profiler": 4,
        **dict.fromkeys(("tokenizer", "dataset", "loss", "lr_scheduler"), 1),
    }


def test_nothing_is_left_to_resolve_in_a_request(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree()")
    monkeypatch.setenv("MINE", "a secret of mine")
    for run in RUNS:
        change(done / run / "finetune.yaml", "loss:\n", "loss:\n  more: ${oc.env:MINE}\n")
    result = validated(done)
    assert not result.passed  # validate itself reports a call of a resolver
    text = (folder / "asked").read_text()
    assert "${" not in text
    assert "a secret" not in text
    assert "loss" not in [one["part"] for one in json.loads(text)["nodes"]]


def test_a_refusal_of_torchtune_names_the_line(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = "dict(refused='Invalid weight_decay value: \\x1b', path=['optimizer', 'weight_decay'])"
    stand_in(folder, monkeypatch, f"hello()\nagree(optimizer={refused})")
    result = validated(done)
    assert not result.passed
    assert answers(result) == []
    for run in result.runs:
        (found,) = run.findings
        assert (found.code, found.severity, found.field) == ("torchtune-refused", "error", "optimizer.weight_decay")
        assert absent(found.message, "torchtune 0.6.1") == []
        assert found.message.endswith(": Invalid weight_decay value: \\x1b")
        assert (found.file, found.actual) == (f"{run.directory}/finetune.yaml", "0.01")
        lines = (done / run.directory / "finetune.yaml").read_text().splitlines()
        assert found.line is not None
        assert lines[found.line - 1] == "  weight_decay: 0.01"
        assert found.fix
    before = log(done)
    assert found.message in before
    validated(done)
    assert log(done) == before


def test_a_node_that_is_refused_as_a_whole_has_its_own_line(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree(loss=dict(refused='no', path=['loss', 'gone', 'too']))")
    found = validated(done).runs[0].findings[0]
    lines = (done / RUNS[0] / "finetune.yaml").read_text().splitlines()
    assert found.line is not None
    assert (lines[found.line - 1], found.actual) == ("loss:", None)


@pytest.mark.parametrize(
    ("model", "field", "expected", "actual"),
    spread(
        [
            ("attention=dict(q_proj=16)", "model.lora_attn_modules", "q_proj, v_proj, output_proj", "q_proj"),
            ("attention=dict()", "model.lora_attn_modules", "q_proj, v_proj, output_proj", "none"),
            (
                "attention=dict(q_proj=16, v_proj=16, output_proj=15)",
                "model.lora_attn_modules",
                "q_proj, v_proj, output_proj",
                "output_proj, q_proj, v_proj",
            ),
            (
                "attention=dict(q_proj=16, v_proj=16, output_proj=16, k_proj=16)",
                "model.lora_attn_modules",
                "q_proj, v_proj, output_proj",
                "k_proj, output_proj, q_proj, v_proj",
            ),
            ("lora=7", "model.lora_rank", 5308416, 7),
        ],
        every=2,
    ),
)
def test_lora_that_differs_from_the_config_is_an_error(
    model: str, field: str, expected: Any, actual: Any, done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, f"hello()\nagree(model=dict({model}))")
    result = validated(done)
    assert not result.passed
    (found,) = result.runs[0].findings
    assert (found.code, found.field, found.expected, found.actual) == ("lora-differs", field, expected, actual)
    assert found.line is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("apply_lora_to_mlp: true", "apply_lora_to_mlp: some"),
        ("  lora_rank: 8\n", "  lora_rank: eight\n"),
        ("  lora_rank: 8\n", "  lora_rank: 8\n  use_dora: true\n"),
        ("lora_llama3_2_1b", "lora_llama3_2"),
    ],
)
def test_lora_outside_the_known_facts_is_not_counted(
    old: str, new: str, done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(done / RUNS[0] / "finetune.yaml", old, new)
    stand_in(folder, monkeypatch, "hello()\nagree(model=dict(lora=7))")
    found = {run.directory: {f.code for f in run.findings} for run in validated(done).runs}
    assert "lora-differs" not in found[RUNS[0]]
    assert "lora-differs" in found[RUNS[1]]


def test_a_model_without_layers_is_not_searched_for_lora(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree(model=dict(layers=0, attention={}))")
    assert validated(done).passed


def test_lora_modules_that_are_not_a_list_count_as_none(
    done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (done / RUNS[0] / "finetune.yaml").read_text().partition("lora_attn_modules: ")[2].partition("\n")[0]
    change(done / RUNS[0] / "finetune.yaml", f"lora_attn_modules: {old}", "lora_attn_modules: q_proj")
    stand_in(folder, monkeypatch, "hello()\nagree()")
    assert "lora-differs" in {found.code for found in validated(done).runs[0].findings}


def test_third_party_components_are_one_note(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "hello()\nagree(dataset=dict(unasked='not ours'), metric_logger=dict(unasked='no'))")
    result = validated(done)
    assert result.passed
    unasked, agrees = answers(result)
    assert (unasked.code, unasked.severity, agrees.code) == ("torchtune-unasked", "info", "torchtune-agrees")
    dataset, logger = unasked.message.partition("components ")[2].split(" and ")
    assert absent(dataset, "dataset", "'torchtune.datasets.instruct_dataset'", "not ours") == []
    assert absent(logger, "metric_logger", "'torchtune.", ": no)") == []


def test_a_different_version_is_named(done: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(folder, monkeypatch, "hello('0.7.0+cu')\nagree()")
    found = only(validated(done))
    assert absent(found.message, "torchtune 0.7.0+cu", "0.6.1") == []
    assert absent(found.fix, "torchtune 0.6.1") == []
    stand_in(folder, monkeypatch, "hello('0.6.1+cpu')\nagree()")
    assert only(validated(done)).fix == ""
