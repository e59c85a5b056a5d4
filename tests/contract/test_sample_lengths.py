"""Lengths and labels counted by preflight equal those of torchtune's tokenizers, for random conversations and texts."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.models import SampleForm
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, Sizes, Tally, Tokens
from scaffold_torchtune.torchtune_facts import find_model
from support import needs
from support.random_model import write_tokenizer

# ruff: noqa: S311, SLF001 - random with fixed seeds; torchtune's data set of texts has no public entry point

pytestmark = needs.TORCHTUNE

MODELS = {
    "Llama-3.2-1B-Instruct": "llama3",
    "Qwen2.5-0.5B-Instruct": "qwen2_5",
    "Mistral-7B-Instruct-v0.1": "mistral",
    "gemma-2-2b-it": "gemma",
    "Phi-3-mini-4k-instruct": "phi3",
    "phi-4": "phi4",
}
WORDS = ["hello", "World", " ", "  ", "\n", "123", "4567", "don't", "é", "日本", "😀", "--", "x\u0301", "\u0958"]
WORDS += ["<|im_end|>", "<tool_call>", "\t", "a" * 30, "\r\n"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tokenizer files of every family, each with a few merges or pieces."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for model in MODELS:
        (folder / model / "original").mkdir(parents=True)
    ranks = [bytes([byte]) for byte in range(256)] + [b"he", b"hel", b"llo", b"hello", b" W", b"  ", b"12", b"\n\n"]
    lines = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(ranks)]
    (folder / "Llama-3.2-1B-Instruct" / "original" / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
    for model in ("Qwen2.5-0.5B-Instruct", "phi-4"):
        write_tokenizer(folder / model)
        with (folder / model / "merges.txt").open("a") as merges:
            merges.write("h e\nl l\nhe ll\nhell o\nĠ W\na a\naa aa\n")
        vocabulary = json.loads((folder / model / "vocab.json").read_text())
        for token in ("he", "ll", "hell", "hello", "ĠW", "aa", "aaaa"):
            vocabulary[token] = len(vocabulary)
        (folder / model / "vocab.json").write_text(json.dumps(vocabulary))
    for model, kind, dummy in (
        ("Mistral-7B-Instruct-v0.1", "bpe", True), ("gemma-2-2b-it", "bpe", False),
        ("Phi-3-mini-4k-instruct", "unigram", True),
    ):  # fmt: skip
        (folder / model / "tokenizer.model").write_bytes(_learnt(folder, kind, dummy=dummy))
    return folder


def _learnt(folder: Path, kind: str, *, dummy: bool) -> bytes:
    import sentencepiece

    texts, prefix = drawn_texts(random.Random(5), 400), folder / kind
    (folder / "texts").write_text("\n".join(text.replace("\n", " ").replace("\r", " ") for text in texts))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"), model_prefix=str(prefix), vocab_size=330, model_type=kind, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=dummy, minloglevel=2,
        character_coverage=0.98,
    )  # fmt: skip
    return prefix.with_suffix(".model").read_bytes()


def drawn_texts(drawn: random.Random, count: int) -> list[str]:
    return ["".join(drawn.choices(WORDS, k=drawn.randrange(0, 9))) for _ in range(count)]


def drawn_chat(drawn: random.Random, roles: list[str]) -> list[dict[str, Any]]:
    chat = []
    for role in roles:
        texts = drawn_texts(drawn, drawn.choice((1, 1, 2)))
        content: Any = texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
        chat.append({"role": role, "content": content})
    return chat


TURNS = [
    ["user", "assistant"],
    ["system", "user", "assistant"],
    ["user", "assistant", "user", "assistant"],
    ["user", "assistant", "user"],
    ["user", "assistant", "ipython", "user", "assistant"],
    ["user", "assistant", "ipython", "ipython", "user"],
    ["user", "ipython", "tool", "user", "assistant"],
]


def form_of(model: str, folder: Path, kind: str, **more: Any) -> SampleForm:
    entry = find_model(model)
    assert entry is not None
    files = tuple(str(folder / model / name) for _, name in entry.tokenizer_files)
    columns = {CHAT: ("messages",), INSTRUCT: ("input", "output"), TEXT: ("text",)}[kind]
    return SampleForm(dataset_type=kind, columns=columns, tokenizer=entry.tokenizer, tokenizer_files=files, **more)


class Recorded(Tally):
    """Tally that records the length and the first label of each sample, without using the bounds first."""

    seen: tuple[int, int] = (0, 0)

    def _room(self) -> int:
        return -1

    def _measure(self, number: int, messages: Any, how: Any) -> None:
        pieces = self._pieces(messages, how)
        counter = self.tokens.of(self.form, pieces)
        assert counter is not None
        (length, label), (bounds, place) = self._spans(pieces, counter), self._bounded(messages, how)
        assert bounds.least <= length.least <= bounds.most
        assert place.least <= label.least <= place.most
        self.seen = length.least, label.least
        super()._measure(number, messages, how)


def theirs_of(model: str, folder: Path, form: SampleForm) -> Any:
    """Return torchtune's function for the sample of a row: data sets without reading a file."""
    from torchtune.config._utils import _get_component_from_path
    from torchtune.data import InputOutputToMessages, OpenAIToMessages
    from torchtune.datasets._sft import SFTTransform
    from torchtune.datasets._text_completion import TextCompletionDataset

    entry = find_model(model)
    assert entry is not None
    arguments = {name: str(folder / model / file) for name, file in entry.tokenizer_files}
    around = {"prompt_template": {"user": list(form.around)}} if any(form.around) else {}
    tokenizer = _get_component_from_path(entry.tokenizer)(**arguments, max_seq_len=form.max_seq_len, **around)
    if form.dataset_type == TEXT:
        texts: Any = TextCompletionDataset.__new__(TextCompletionDataset)
        texts._tokenizer, texts._column, texts.add_eos = tokenizer, "text", True
        return texts._prepare_sample
    made = OpenAIToMessages if form.dataset_type == CHAT else InputOutputToMessages
    convert: Any = made(train_on_input=form.train_on_input, new_system_prompt=form.system_prompt or None)
    return SFTTransform(message_transform=convert, model_transform=tokenizer)


def labels_left(sample: dict[str, Any]) -> int:
    """Count the labels that the loss uses: they are shifted by one, so the first of a sample is never used."""
    return sum(int(label) != -100 for label in sample["labels"][1:])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", [CHAT, INSTRUCT, TEXT])
def test_lengths_and_labels_are_those_of_torchtunes_tokenizer(model: str, kind: str, models: Path) -> None:
    drawn = random.Random(f"{model} {kind}")
    system = kind != TEXT and MODELS[model] not in {"mistral", "gemma"}
    empty = cut = 0
    tokens = Tokens(budget=10**9)
    for number in range(40):
        more: dict[str, Any] = {"train_on_input": kind != TEXT and number % 5 == 4}
        if system and number % 3 == 0:
            more["system_prompt"] = "Say it."
        if kind != TEXT and model != "Mistral-7B-Instruct-v0.1" and number % 4 == 0:
            more["around"] = ("Q: ", "\n")
        row = _row(kind, drawn, TURNS)
        whole = Recorded(form_of(model, models, kind, max_seq_len=10_000, **more), tokens, Sizes())
        whole.add(1, json.loads(json.dumps(row)))
        if whole.rows == 0:
            continue  # a conversation that the model rejects; a different test covers it
        length, label = whole.seen
        theirs = theirs_of(model, models, whole.form)(json.loads(json.dumps(row)))
        assert len(theirs["tokens"]) == length, row
        near = {length + by for by in (-9, -3, -1, 0, 1, 2)} | {label + by for by in (-1, 0, 1, 2)}
        for size in sorted({max(each, 2) for each in near}):
            short = whole.form.model_copy(update={"max_seq_len": size})
            sample = theirs_of(model, models, short)(json.loads(json.dumps(row)))
            tally = Tally(short, tokens, Sizes())
            tally.add(1, json.loads(json.dumps(row)))
            found = tally.counts()
            assert (found.empty.count == 1) == (labels_left(sample) == 0), (row, size, length, label)
            assert found.empty == found.likely_empty
            limit = size - 1 if kind == TEXT else size
            assert found.cut.count == (length > limit)
            assert len(sample["tokens"]) == min(length, limit)
            empty, cut = empty + found.empty.count, cut + found.cut.count
    assert min(empty, cut) > 15


def _row(kind: str, drawn: random.Random, turns: list[list[str]]) -> dict[str, Any]:
    if kind == CHAT:
        return {"messages": drawn_chat(drawn, drawn.choice(turns))}
    texts = drawn_texts(drawn, 2)
    return {"text": texts[0]} if kind == TEXT else {"input": texts[0], "output": texts[1]}
