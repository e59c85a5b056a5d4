"""Lengths, labels and packs of samples; tests/contract/test_sample_lengths.py compares them with torchtune's."""

import base64
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.models import Packs, RowCount, SampleCounts
from scaffold_torchtune.preflight import samples
from scaffold_torchtune.preflight.samples import Sizes, Tally, Tokens, form_of, forms_by_data
from scaffold_torchtune.preflight.tokenizers import LAYOUTS, counter_of
from support.plans import Changes, run_of

PLAIN: Changes = {"system_prompt": "", "models_dir": "/nowhere"}
MODELS = ["Llama-3.2-1B", "Qwen2.5-0.5B", "Mistral-7B-v0.1", "gemma-2-2b", "Phi-3-mini-4k-instruct", "phi-4"]


def counted(rows: list[dict[str, Any]], changes: Changes, *, budget: int = 10**6) -> SampleCounts:
    form = form_of(run_of({**PLAIN, **changes}))
    assert form is not None
    tally = Tally(form, Tokens(budget), Sizes())
    for number, row in enumerate(rows, 1):
        tally.add(number, row)
        tally.sizes.clear()
    return tally.counts()


def pair(words: int = 1, answer: int = 1) -> dict[str, Any]:
    return {"input": "word " * words, "output": "WORD " * answer}


def llama(folder: Path) -> Changes:
    """Write a tokenizer of single bytes for Llama, and return the settings that use it."""
    (folder / "Llama-3.2-1B-Instruct" / "original").mkdir(parents=True)
    lines = (base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
    (folder / "Llama-3.2-1B-Instruct" / "original" / "tokenizer.model").write_bytes(b"".join(lines))
    return {"models_dir": str(folder)}


@pytest.mark.parametrize("model", MODELS)
def test_without_a_tokenizer_results_within_the_bounds_are_certain(model: str) -> None:
    rows = [pair(), pair(5), pair(40), pair(400), pair(4, 400)]
    found = counted(rows, {"torchtune_model_name": model, "model_checkpoint": model, "max_seq_len": 100})
    assert found.rows == 5
    assert (found.cut, found.empty) == (RowCount(count=2, first=4), RowCount(count=1, first=4))
    assert found.likely_cut.count == 2
    assert not found.exact  # 40 words are 200 bytes: truncated or not
    assert found.longest > 400


@pytest.mark.parametrize("model", MODELS)
def test_short_samples_need_no_tokenizer(model: str) -> None:
    found = counted([pair()] * 3, {"torchtune_model_name": model, "model_checkpoint": model})
    assert (found.exact, found.likely_cut.count, found.likely_empty.count) == (True, 0, 0)


def test_samples_of_an_unknown_model_are_only_checked_for_turns() -> None:
    found = counted([pair(5_000)], {"torchtune_model_name": "other", "packed": True})
    assert (found.rows, found.cut.count, found.packs) == (1, 0, None)
    chat = {"dataset_type": "chat_dataset", "torchtune_model_name": "other"}
    assert counted([{"messages": [{"role": "user", "content": "x"}]}], chat).faults


def test_an_existing_tokenizer_gives_exact_counts(tmp_path: Path) -> None:
    # begin, 2 + user + 2 + text + 1, 2 + assistant + 2 + text + 1, end: one token per byte
    length = 1 + (2 + 4 + 2 + 1) + (2 + 9 + 2 + 1) + 1
    at_hand = llama(tmp_path)
    for size, cut, empty in ((length + 43, 0, 0), (length + 42, 1, 0), (51, 1, 0), (50, 1, 1)):
        found = counted(
            [{"input": " ".join("abcdefghijklmnopqrst"), "output": "WORD"}], {**at_hand, "max_seq_len": size}
        )
        assert (found.exact, found.cut.count, found.empty.count) == (True, cut, empty), size
        assert (found.likely_cut, found.likely_empty) == (found.cut, found.empty)


def test_the_number_of_counted_characters_is_limited(tmp_path: Path) -> None:
    at_hand = llama(tmp_path)
    rows = [{"input": "a b " * 20, "output": "x"}] * 4
    assert counted(rows, {**at_hand, "max_seq_len": 100}, budget=400).exact
    assert not counted(rows, {**at_hand, "max_seq_len": 100}, budget=200).exact


def test_a_tokenizer_is_loaded_once_and_only_if_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand, loaded = llama(tmp_path), []

    def load(*args: Any) -> Any:
        loaded.append(args)
        return counter_of(*args)

    monkeypatch.setattr(samples, "counter_of", load)
    counted([pair()] * 3, at_hand)
    assert not loaded
    counted([pair(30)] * 3, {**at_hand, "max_seq_len": 150})
    assert len(loaded) == 1


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe", b"eA== 0\n", b"eA== x\n", b"eA==\n", b"eA== -1\n" * 3])
def test_a_broken_tokenizer_is_not_used(content: bytes, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    for tokenizer in LAYOUTS:
        files = [str(tmp_path / name) for name in ("a", "b")][: 2 if "qwen" in tokenizer or "phi4" in tokenizer else 1]
        found = counter_of(tokenizer, files)
        assert found is None or found.count("abc") == 3
        assert counter_of(tokenizer, [str(tmp_path), str(tmp_path / "none")]) is None
        assert counter_of(tokenizer, []) is None


def test_without_its_library_a_tokenizer_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand = llama(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert not counted([pair(30)], {**at_hand, "max_seq_len": 150}).exact


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_prompt_has_labels_if_it_is_trained_on() -> None:
    assert counted([pair(400)], {"max_seq_len": 50, "train_on_input": True}).empty.count == 0
    assert counted([pair(400)], {"max_seq_len": 50}).empty.count == 1


def test_a_long_system_prompt_leaves_no_labels_in_any_sample() -> None:
    found = counted([pair(), pair()], {"max_seq_len": 50, "system_prompt": "word " * 60})
    assert found.empty == RowCount(count=2, first=1)
    trained_on: Changes = {"max_seq_len": 50, "system_prompt": "word " * 60, "train_on_input": True}
    assert counted([pair(), pair()], trained_on).empty.count == 2


def test_text_around_the_input_is_counted() -> None:
    assert counted([pair()], {"max_seq_len": 50, "prompt": "word " * 60 + "{input}"}).empty.count == 1
    assert counted([pair()], {"max_seq_len": 50, "prompt": "{{}}{input}"}).empty.count == 0
    form = form_of(run_of({"prompt": "{{a}} {input}\n"}))
    assert form is not None
    assert form.around == ("{a} ", "\n")


def test_truncated_texts_keep_labels_and_empty_ones_have_none() -> None:
    changes: Changes = {"dataset_type": "text_completion_dataset", "max_seq_len": 50}
    found = counted([{"text": "word " * 80}, {"text": ""}, {"text": "word"}], changes)
    assert (found.cut, found.empty) == (RowCount(count=1, first=1), RowCount(count=1, first=2))
    assert found.blank == {"text": RowCount(count=1, first=2)}


def test_rows_after_the_training_samples_are_not_counted() -> None:
    found = counted([pair()] * 3 + [pair(400)], {"training_samples": 3, "max_seq_len": 50})
    assert (found.rows, found.cut.count) == (3, 0)


@pytest.mark.parametrize("cell", [None, 5, True, [], {}, ["x"]])
def test_values_that_are_not_texts_are_not_counted(cell: Any) -> None:
    assert counted([{"input": cell, "output": "x"}, {}], {}).rows == 0
    assert counted([{"messages": cell}, {}], {"dataset_type": "chat_dataset"}).rows == 0
    assert counted([{"text": cell}, {}], {"dataset_type": "text_completion_dataset"}).rows == 0


def test_empty_inputs_and_answers_are_counted_by_column() -> None:
    rows = [pair(), {"input": "", "output": "x"}, {"input": " \n", "output": ""}]
    found = counted(rows, {}).blank
    assert found == {"input": RowCount(count=2, first=2), "output": RowCount(count=1, first=3)}


# --- packs ------------------------------------------------------------------------------------------------------------


def test_packs_are_counted_like_torchtune_packs(tmp_path: Path) -> None:
    """Compare with numbers counted by hand; tests/contract/test_sample_packs.py compares with torchtune's own class."""
    at_hand = llama(tmp_path)
    rows = [{"input": "a" * size, "output": "b"} for size in (10, 10, 60, 10, 300, 10)]  # 26 more tokens each
    found = counted(rows, {**at_hand, "packed": True, "max_seq_len": 100})
    assert found.packs == Packs(least=5, likely=5, most=5, bare=1)  # 36 + 36, 86, 36, 100 (truncated), 36
    assert found.cut.count == 1


def test_without_a_tokenizer_packs_have_bounds() -> None:
    found = counted([{"input": "word", "output": "WORD"}] * 240, {"packed": True})
    packs = found.packs
    assert packs is not None
    assert packs.least <= packs.likely <= packs.most <= 8
    assert packs.least < packs.most


def test_runs_with_the_same_samples_share_a_form() -> None:
    runs = [run_of({"lr": lr}) for lr in (1e-5, 2e-5)] + [run_of({"max_seq_len": 512}), run_of({}, data="/b.json")]
    assert [len(forms) for forms in forms_by_data(runs).values()] == [2, 1]
    assert form_of(run_of({"dataset_type": "chat_completion"})) is None
