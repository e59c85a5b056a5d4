"""Counting the samples of a data set, row by row, and the form in which a run makes them."""

from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.models import DataPart, Packs, RowCount, SampleCounts, SampleForm
from scaffold_torchtune.preflight import samples
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, Sizes, Tally, Tokens, counts_of, form_of
from scaffold_torchtune.preflight.tokenizers import Piece
from scaffold_torchtune.torchtune_facts import find_model
from support.byte_tokenizers import MODELS, write_tokenizers
from support.plans import Changes, run_of

# ruff: noqa: E501 - the tables of cases have one case a line

LLAMA = "torchtune.models.llama3.llama3_tokenizer"
AT = "/scratch/me/models/Llama-3.2-1B-Instruct"
PLAIN: Changes = {"system_prompt": ""}


def counted(form: SampleForm, *rows: dict[str, Any], tokens: Tokens | None = None) -> SampleCounts:
    tally = Tally(form, tokens or Tokens(), Sizes())
    for number, row in enumerate(rows, 1):
        tally.add(number, row)
        tally.sizes.clear()
    return tally.counts()


def form(kind: str = INSTRUCT, **more: Any) -> SampleForm:
    columns = {CHAT: ("messages",), INSTRUCT: ("input", "output"), TEXT: ("text",)}[kind]
    given: dict[str, Any] = {"tokenizer": LLAMA, "max_seq_len": 2048, **more}
    return SampleForm(dataset_type=kind, columns=columns, **given)


@pytest.fixture
def at_hand(tmp_path: Path) -> tuple[str, ...]:
    """Return the files of Llama's tokenizer."""
    entry = find_model(MODELS["llama3"])
    assert entry is not None
    return tuple(str(write_tokenizers(tmp_path) / entry.name / file) for _, file in entry.tokenizer_files)


# --- the form of samples ----------------------------------------------------------------------------------------------

USUAL: dict[str, Any] = {
    "tokenizer": LLAMA, "tokenizer_files": (f"{AT}/original/tokenizer.model",), "max_seq_len": 2048,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataset_type": None}, {"dataset_type": INSTRUCT, "columns": ("input", "output"), "system_prompt": "Capitalise the word."}),
        ({**PLAIN, "input_key": "question"}, {"dataset_type": INSTRUCT, "columns": ("question", "output")}),
        ({**PLAIN, "output_key": "answer"}, {"dataset_type": INSTRUCT, "columns": ("input", "answer")}),
        ({**PLAIN, "prompt": "Q{{1}}: {input}\n{{A}}"},
         {"dataset_type": INSTRUCT, "columns": ("input", "output"), "around": ("Q{1}: ", "\n{A}")}),
        ({**PLAIN, "train_on_input": True, "packed": True, "training_samples": 40, "max_seq_len": 512},
         {"dataset_type": INSTRUCT, "columns": ("input", "output"), "train_on_input": True, "packed": True, "rows": 40, "max_seq_len": 512}),
        ({"dataset_type": CHAT, "input_key": "x", "output_key": "y", "prompt": "Q: {input}"},
         {"dataset_type": CHAT, "columns": ("messages",), "system_prompt": "Capitalise the word.", "around": ("Q: ", "")}),
        # a text is trained on completely, without a prompt
        ({"dataset_type": TEXT, "prompt": "Q: {input}", "train_on_input": True}, {"dataset_type": TEXT, "columns": ("text",)}),
        ({"dataset_type": TEXT, "input_key": "story", "output_key": "y"}, {"dataset_type": TEXT, "columns": ("story",)}),
        ({**PLAIN, "torchtune_model_name": "Mine"},
         {"dataset_type": INSTRUCT, "columns": ("input", "output"), "tokenizer": "", "tokenizer_files": ()}),
        ({**PLAIN, "model_checkpoint": None, "models_dir": None},
         {"dataset_type": INSTRUCT, "columns": ("input", "output"), "tokenizer_files": ()}),
    ],
)  # fmt: skip
def test_the_form_of_the_samples_of_a_run(changes: Changes, expected: dict[str, Any]) -> None:
    assert form_of(run_of(changes)) == SampleForm(**USUAL | expected)


def test_counts_of_a_run_are_found_by_its_form() -> None:
    run, other = run_of(PLAIN), run_of({**PLAIN, "max_seq_len": 512})
    ours = SampleCounts(form=form(tokenizer_files=USUAL["tokenizer_files"]), rows=3)
    part = DataPart(rows=3, columns={}, samples=(SampleCounts(form=form(TEXT), rows=1), ours))
    assert counts_of(run, part) is ours
    assert counts_of(other, part) is None
    assert counts_of(run, None) is None
    assert counts_of(run_of({"dataset_type": "mine"}), part) is None


# --- measuring and its limits -----------------------------------------------------------------------------------------


def test_a_text_is_measured_once_per_row() -> None:
    sizes = Sizes()
    first = sizes.of("a b\n caf\u00e9 \ud800")
    assert first == (4, 12)
    assert sizes.of("a b\n caf\u00e9 \ud800") is first
    sizes.clear()
    assert sizes.of("a b\n caf\u00e9 \ud800") is not first


def test_the_number_of_characters_that_are_tokenized_is_limited(at_hand: tuple[str, ...]) -> None:
    known, unknown = form(tokenizer_files=at_hand), form()
    four = [Piece(masked=True, text="ab"), Piece(masked=False, tokens=3), Piece(masked=False, text="cd")]
    tokens = Tokens(budget=8)
    assert tokens.of(unknown, four) is None  # it uses nothing of the budget
    first = tokens.of(known, four)
    assert first is not None
    assert tokens.of(known, four) is first
    assert tokens.of(known, [Piece(masked=True, text="a")]) is None
    assert tokens.of(known, [Piece(masked=True, tokens=9)]) is first


def test_a_very_long_text_is_estimated(at_hand: tuple[str, ...]) -> None:
    tokens = Tokens(budget=10**9)
    assert tokens.of(form(tokenizer_files=at_hand), [Piece(masked=False, text="a" * 200_000)]) is not None
    assert tokens.of(form(tokenizer_files=at_hand), [Piece(masked=False, text="a" * 200_001)]) is None


@pytest.mark.parametrize("kind", [CHAT, INSTRUCT])
def test_samples_that_certainly_fit_are_not_tokenized(kind: str, at_hand: tuple[str, ...], monkeypatch: Any) -> None:
    """Tokenize packed samples, because their lengths matter."""
    asked: list[object] = []
    monkeypatch.setattr(samples, "counter_of", lambda *key: asked.append(key))
    row = {
        "input": "a",
        "output": "b",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    }
    assert counted(form(kind, tokenizer_files=at_hand), row).exact
    assert not asked
    assert not counted(form(kind, tokenizer_files=at_hand, packed=True), row).exact
    assert len(asked) == 1


# --- counts -----------------------------------------------------------------------------------------------------------

LONG = {"input": "a " * 60, "output": "b"}
SHORT = {"input": "a", "output": "b"}
ENDLESS = {"input": "a", "output": "b " * 60}


def test_rows_are_counted_with_the_first_of_each_kind() -> None:
    found = counted(form(max_seq_len=60), SHORT, ENDLESS, LONG, SHORT, LONG, {"input": 5, "output": "x"})
    assert found.rows == 5
    assert found.cut == found.likely_cut == RowCount(count=3, first=2)
    assert found.empty == found.likely_empty == RowCount(count=2, first=3)
    assert found.longest == 1 + 5 + 60 + 5 + 1 + 1
    assert (found.filling, found.packs, found.blank, found.faults) == (2, None, {}, {})
    assert (found.exact, found.form.max_seq_len) == (True, 60)


def test_unused_rows_are_not_counted() -> None:
    found = counted(form(max_seq_len=60, rows=2), SHORT, LONG, LONG, {"input": "", "output": ""})
    assert (found.rows, found.cut, found.blank) == (2, RowCount(count=1, first=2), {})


def test_a_sample_without_labels_that_is_shorter_than_a_pack_does_not_fill_it(at_hand: tuple[str, ...]) -> None:
    """Use 1 + 9 + 19 masked tokens, then 15 and 1: the last of 29 has no label, nor does a text of one token."""
    row = {"input": "a" * 19, "output": "b"}
    for size, filling, empty in ((45, 0, 0), (31, 0, 0), (30, 1, 1), (29, 1, 1)):
        found = counted(form(max_seq_len=size, packed=True, tokenizer_files=at_hand), row)
        assert (found.filling, found.empty.count) == (filling, empty), size
    text = counted(
        form(TEXT, max_seq_len=30, packed=True, tokenizer="torchtune.models.qwen2_5.qwen2_5_tokenizer"), {"text": ""}
    )
    assert (text.filling, text.empty.count) == (0, 1)
    text = counted(
        form(TEXT, max_seq_len=2, packed=True, tokenizer="torchtune.models.qwen2_5.qwen2_5_tokenizer"), {"text": ""}
    )
    assert (text.filling, text.empty.count) == (1, 1)


def test_texts_without_tokens_are_distinguished_from_short_ones() -> None:
    qwen = "torchtune.models.qwen2_5.qwen2_5_tokenizer"
    found = counted(form(TEXT, tokenizer=qwen), {"text": "a"}, {"text": ""}, {"text": " "})
    assert (found.empty, found.blank["text"]) == (RowCount(count=1, first=2), RowCount(count=2, first=2))
    found = counted(form(TEXT), {"text": "a"}, {"text": ""})
    assert found.empty == RowCount(count=1, first=2)


def test_chats_that_a_tokenizer_rejects_are_counted_by_fault() -> None:
    user, assistant = {"role": "user", "content": "a " * 90}, {"role": "assistant", "content": "b"}
    rows: list[Any] = [[user, user, assistant], [user, assistant], [user, user], [user, user, assistant], "x", [5]]
    found = counted(form(CHAT, max_seq_len=60), *({"messages": row} for row in rows), {})
    assert (found.rows, found.cut) == (1, RowCount(count=1, first=2))
    assert list(found.faults.values()) == [RowCount(count=3, first=1), RowCount(count=1, first=3)]


def test_a_system_prompt_of_the_run_replaces_that_of_the_chat() -> None:
    system = {"role": "system", "content": "a " * 90}
    row = {"messages": [system, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert counted(form(CHAT, max_seq_len=60), row).empty.count == 1
    assert counted(form(CHAT, max_seq_len=60, system_prompt="a"), row).cut.count == 0


def test_samples_of_an_unknown_model_are_not_measured() -> None:
    found = counted(form(tokenizer="", max_seq_len=10, packed=True), LONG, SHORT)
    assert (found.rows, found.cut.count, found.packs, found.exact) == (2, 0, None, True)


def test_bounds_of_packs_follow_from_bounds_of_lengths() -> None:
    """Use a sample of 40 words and as many letters: it has 1 + 5 + 41 + 5 + 1 + 1 = 53 to 109 tokens."""
    row = {"input": "a " * 40, "output": "b"}
    assert counted(form(max_seq_len=110, packed=True), *[row] * 4).packs == Packs(least=2, likely=2, most=4)
    assert counted(form(max_seq_len=53, packed=True), *[row] * 4).packs == Packs(least=4, likely=4, most=4)
    # a text continues in the next pack; its truncated part does not
    text = {"text": "a" * 40}
    assert counted(form(TEXT, max_seq_len=100, packed=True), *[text] * 10).packs == Packs(least=1, likely=2, most=5)
    assert counted(form(TEXT, max_seq_len=20, packed=True), *[text] * 10).packs == Packs(least=2, likely=6, most=10)
    # a text with as many bytes as words needs no tokenizer
    assert counted(form(TEXT, packed=True), {"text": "a"}).exact
    assert counted(form(packed=True)).packs == Packs(least=0, likely=0, most=0)
