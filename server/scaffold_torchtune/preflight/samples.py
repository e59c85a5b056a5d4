"""Lengths of the training samples of a data set, and their remaining labels.

If the model's own tokenizer is available, it counts the samples whose exact length matters. Otherwise lengths have
bounds: a text has at most as many tokens as bytes, because these tokenizers fall back to bytes, and at least as many
tokens as words, because no token extends over white space between words.
"""

import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scaffold_torchtune.models import DataPart, Packs, PlannedRun, RowCount, SampleCounts, SampleForm
from scaffold_torchtune.preflight.tokenizers import (
    LAYOUTS,
    Layout,
    Message,
    Piece,
    TokenCounter,
    counter_of,
    messages_of,
    turn_faults,
    with_system_prompt,
)
from scaffold_torchtune.torchtune_facts import find_model

INSTRUCT, CHAT, TEXT = "instruct_dataset", "chat_dataset", "text_completion_dataset"
_BYTES_OF_A_TOKEN = 4  # of English text with these tokenizers, roughly
_LONGEST = 200_000  # characters of a text that are tokenized; longer texts are estimated
_BUDGET = 4_000_000  # characters that are tokenized for one data set: about a second
_WIDEST = 12  # bytes of a character, also if NFC makes it three characters
_LABELLED = 2  # tokens of a text with one label: the first token has none


class Span(NamedTuple):
    """A number of tokens: minimum, likely, and maximum."""

    least: int
    likely: int
    most: int

    def plus(self, other: "Span") -> "Span":
        """Return the sum."""
        return Span(self.least + other.least, self.likely + other.likely, self.most + other.most)


def form_of(run: PlannedRun) -> SampleForm | None:
    """Return how a run makes samples; None if its dataset type is not one of torchtune."""
    kind = run.text("dataset_type") or INSTRUCT
    if kind not in {INSTRUCT, CHAT, TEXT}:
        return None
    usual = {INSTRUCT: ("input", "output"), CHAT: ("messages",), TEXT: ("text",)}[kind]
    keys = () if kind == CHAT else ("input_key", "output_key")
    columns = tuple(run.text(key) or name for key, name in zip(keys, usual, strict=False)) or usual
    entry, directory = find_model(run.text("torchtune_model_name")), run.checkpoint_dir
    files = entry.tokenizer_files if entry and directory else ()
    before, _, after = run.text("prompt").partition("{input}")
    return SampleForm(
        dataset_type=kind,
        columns=columns,
        tokenizer=entry.tokenizer if entry else "",
        tokenizer_files=tuple(f"{directory}/{name}" for _, name in files),
        max_seq_len=run.integer("max_seq_len", 2048),
        system_prompt="" if kind == TEXT else run.text("system_prompt"),
        around=("", "") if kind == TEXT else (_unescaped(before), _unescaped(after)),
        train_on_input=kind != TEXT and run.value("train_on_input") is True,
        packed=run.value("packed") is True,
        rows=run.integer("training_samples", 0) or None,
    )


def _unescaped(prompt: str) -> str:
    return prompt.replace("{{", "{").replace("}}", "}")


def forms_by_data(runs: Iterable[PlannedRun]) -> dict[str, list[SampleForm]]:
    """Return the distinct forms of runs by the path of their data set."""
    found: dict[str, dict[SampleForm, None]] = {}
    for run in runs:
        if (form := form_of(run)) is not None:
            found.setdefault(run.data_path, {})[form] = None
    return {path: list(forms) for path, forms in found.items()}


def counts_of(run: PlannedRun, part: DataPart | None) -> SampleCounts | None:
    """Return the sample counts of a run, if its data was inspected."""
    if part is None:
        return None
    form = form_of(run)
    return next((counts for counts in part.samples if counts.form == form), None)


class Tokens:
    """The tokenizers of models, each loaded on first use, and the number of characters they may still count."""

    def __init__(self, budget: int = _BUDGET) -> None:
        self._counters: dict[tuple[str, tuple[str, ...]], TokenCounter | None] = {}
        self._left = budget

    def of(self, form: SampleForm, pieces: Collection[Piece]) -> TokenCounter | None:
        """Return the counter for the pieces of a sample; None without a counter, or above the limit."""
        size = sum(len(piece.text) for piece in pieces)
        if size > min(self._left, _LONGEST):
            return None
        key = (form.tokenizer, form.tokenizer_files)
        if key not in self._counters:
            self._counters[key] = counter_of(*key)
        if self._counters[key] is not None:
            self._left -= size
        return self._counters[key]


class Sizes:
    """Numbers of words and bytes of the texts of one row, measured once for all forms."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, text: str) -> tuple[int, int]:
        """Return the number of words of a text, separated by white space, and of its bytes in UTF-8."""
        found = self._known.get(text)
        if found is None:
            data = text.encode(errors="replace")
            found = self._known[text] = (len(data.split()), len(data))
        return found

    def clear(self) -> None:
        """Forget the row."""
        self._known.clear()


@dataclass
class _Tallied:
    """A growing count of rows."""

    count: int = 0
    first: int = 0

    def add(self, row: int) -> None:
        self.count += 1
        self.first = self.first or row

    def frozen(self) -> RowCount:
        return RowCount(count=self.count, first=self.first)


@dataclass
class Packing:
    """torchtune's packing (datasets/_packed.py): samples in order, each whole, or texts split across packs.

    No other way to divide the samples into packs in order needs fewer packs. So shorter samples never need more packs,
    and bounds of the lengths give bounds of the packs.
    """

    size: int
    splits: bool
    packs: int = 0
    held: int = 0
    bare: int = 0
    labelled: bool = False

    def add(self, length: int, *, labelled: bool = True) -> None:
        """Pack a sample with so many tokens; `labelled`: whether it has a label."""
        if self.splits:
            has_room, self.held = self.held < self.size, self.held + length
            while self.held > self.size:  # as in torchtune: a full pack is closed when more tokens follow
                self._full(self.held - self.size, labelled=labelled and has_room)
                has_room = True
        elif self.held + length > self.size:
            self._full(length)
        else:
            self.held += length
        self.labelled |= labelled

    def _full(self, held: int, *, labelled: bool = False) -> None:
        """Close a pack and begin the next; `labelled`: whether the divided sample has a label in this pack."""
        self.bare += not (self.labelled or labelled)
        self.packs, self.held, self.labelled = self.packs + 1, held, False

    def all_bare(self) -> int:
        """Return the number of packs without a label, including the last one."""
        return self.bare + (1 if self.held and not self.labelled else 0)

    def all(self) -> int:
        """Return the number of packs, including the last one."""
        return self.packs + (1 if self.held else 0)


class _Frame(NamedTuple):
    """A sample without the texts of its messages: its length, and its length before the first label.

    `masked`: the number of messages before the first label.
    """

    length: Span
    before: Span
    masked: int


@dataclass
class Tally:
    """Counts the samples of one form, row by row."""

    form: SampleForm
    tokens: Tokens
    sizes: Sizes
    rows: int = 0
    exact: bool = True
    filling: int = 0
    blank: dict[str, _Tallied] = field(default_factory=dict)
    faults: dict[str, _Tallied] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._layout = LAYOUTS.get(self.form.tokenizer)
        self._cut, self._likely_cut, self._empty, self._likely_empty = (_Tallied() for _ in range(4))
        self._is_text, size = self.form.dataset_type == TEXT, self.form.max_seq_len
        self._longest = 0
        self._packings = [Packing(size, self._is_text) for _ in range(3 if self.form.packed and self._layout else 0)]
        self._limit = size - 1 if self._is_text else size
        last_masked = self._layout is not None and self._layout.last_masked and not self._is_text
        self._labels_end = self._limit - 1 if last_masked else self._limit
        self._frames: dict[tuple[str, ...], _Frame] = {}
        self._last = self.form.rows
        self._spare = self._room() if self._layout and not self._packings else None

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Count a row; rows with a value of the wrong type are reported elsewhere and not counted here."""
        if self._last is not None and number > self._last:
            return
        messages = self._chat(number, row) if self.form.dataset_type == CHAT else self._pair(number, row)
        if messages is not None:
            self.rows += 1
            if self._layout:
                self._measure(number, messages, self._layout)

    def _chat(self, number: int, row: Mapping[str, Any]) -> list[Message] | None:
        messages = messages_of(row.get(self.form.columns[0]))
        if messages is None:
            return None
        messages = with_system_prompt(messages, self.form.system_prompt)
        found = sorted(set(turn_faults(messages, self.form.tokenizer, train_on_input=self.form.train_on_input)))
        for fault in found:
            self.faults.setdefault(fault, _Tallied()).add(number)
        return None if found else messages

    def _room(self) -> int:
        """Return how many ASCII characters of input and output certainly fit, with labels left."""
        how = LAYOUTS[self.form.tokenizer]
        frame = self._frame([message.role for message in self._messages([""] * len(self.form.columns))], how)
        prompt = len(self.form.system_prompt) * _WIDEST
        return min(self._limit - frame.length.most, self._labels_end - 1 - frame.before.most) - prompt - 4 * how.more

    def _pair(self, number: int, row: Mapping[str, Any]) -> list[Message] | None:
        cells = [row.get(column) for column in self.form.columns]
        size = 0
        for column, cell in zip(self.form.columns, cells, strict=True):
            if not isinstance(cell, str):
                return None
            if not cell or cell.isspace():
                self.blank.setdefault(column, _Tallied()).add(number)
            size += len(cell) if cell.isascii() else _WIDEST * len(cell)
        if self._spare is not None and 0 < size <= self._spare:
            self.rows += 1
            return None
        return self._messages([str(cell) for cell in cells])

    def _messages(self, texts: Sequence[str]) -> list[Message]:
        """Return the messages of an input and an output, or of the only text."""
        pair = [Message(role, (text,)) for role, text in zip(("user", "assistant"), texts, strict=False)]
        return with_system_prompt(pair, self.form.system_prompt)

    def _measure(self, number: int, messages: Sequence[Message], how: Layout) -> None:
        """Count a sample by the bounds of its length, and by the tokenizer if these bounds are not sufficient."""
        length, label = self._bounded(messages, how)
        open_length = length.least <= self._limit < length.most or (self._packings and length.least < length.most)
        if open_length or label.least < self._labels_end <= label.most:
            pieces = self._pieces(messages, how)
            counter = self.tokens.of(self.form, pieces)
            if counter is None:
                self.exact = False
            else:
                length, label = self._spans(pieces, counter)
        for packing, each in zip(self._packings, length, strict=False):
            packing.add(min(each, self._limit), labelled=label.likely < self._labels_end)
        self._count(number, length, label)

    def _count(self, number: int, length: Span, label: Span) -> None:
        if length.least > self._limit:
            self._cut.add(number)
        if length.likely > self._limit:
            self._likely_cut.add(number)
            self._longest = max(self._longest, length.likely)
        if label.least >= self._labels_end:
            self._empty.add(number)
            self.filling += length.least >= self._limit
        if label.likely >= self._labels_end:
            self._likely_empty.add(number)

    def _bounded(self, messages: Sequence[Message], how: Layout) -> tuple[Span, Span]:
        """Return bounds of the length and of the position of the first label."""
        if self._is_text and not messages[0].texts[0]:
            return self._placed(*_sums(self._pieces(messages, how), lambda piece: _fixed(piece, how)))
        roles = tuple(message.role for message in messages)
        frame = self._frames.get(roles)
        if frame is None:
            frame = self._frames[roles] = self._frame(roles, how)
        words, likely, most = frame.length
        before_words, before_likely, before_most = frame.before
        for number, message in enumerate(messages):
            for text in message.texts:
                if how.normalized:
                    text = unicodedata.normalize("NFC", text)  # noqa: PLW2901 - which is what has the tokens
                least, size = self.sizes.of(text)
                estimate, size = max(least, -(-size // _BYTES_OF_A_TOKEN)), size and size + how.more
                words, likely, most = words + least, likely + estimate, most + size
                if number < frame.masked:
                    before_words, before_likely = before_words + least, before_likely + estimate
                    before_most += size
        return self._placed(Span(words, likely, most), Span(before_words, before_likely, before_most))

    def _frame(self, roles: Sequence[str], how: Layout) -> _Frame:
        messages = [Message(role, ()) for role in roles]
        pieces = [Piece(masked=False, tokens=how.ends)] if self._is_text else self._pieces(messages, how)
        length, before = _sums(pieces, lambda piece: _fixed(piece, how))
        masked = next((number for number, role in enumerate(roles) if not self._masked(role)), len(roles))
        return _Frame(length, before, masked)

    def _placed(self, length: Span, before: Span) -> tuple[Span, Span]:
        """Return the length, and the position of the first label after so many masked tokens.

        The very first token has no label, as nothing precedes it: a text of one token has no label.
        """
        if not self._is_text:
            return length, Span(*(max(tokens, 1) for tokens in before))
        short = (length.most, length.likely, length.least)
        return length, Span(*(1 if tokens >= _LABELLED else self._limit for tokens in short))

    def _masked(self, role: str) -> bool:
        """Return whether a message has no labels (OpenAIToMessages and InputOutputToMessages of data/_messages.py)."""
        if role == "assistant":
            return False
        return not self.form.train_on_input or (role == "system" and bool(self.form.system_prompt))

    def _pieces(self, messages: Sequence[Message], how: Layout) -> list[Piece]:
        if self._is_text:
            text = messages[0].texts[0]
            ends = 0 if not text and not how.around_nothing else how.ends  # TikTokenBaseTokenizer.encode
            return [Piece(masked=False, tokens=ends), Piece(masked=False, text=text)]
        before, after = self.form.around if how.templates_input else ("", "")
        masked = []
        for role, texts in messages:
            if role == "user":
                texts = (before, *texts, *([after] if after else ()))  # noqa: PLW2901
            masked.append((Message(role, texts), self._masked(role)))
        return list(how.pieces(masked))

    def _spans(self, pieces: Sequence[Piece], counter: TokenCounter) -> tuple[Span, Span]:
        """Return the length and the position of the first label as the tokenizer counts them."""

        def counted(piece: Piece) -> Span:
            count = counter.count(piece.text, trim=piece.trim) if piece.text else piece.tokens
            return Span(count, count, count)

        return self._placed(*_sums(pieces, counted))

    def counts(self) -> SampleCounts:
        """Return the counts."""
        packs, bare = [packing.all() for packing in self._packings], [each.all_bare() for each in self._packings]
        return SampleCounts(
            form=self.form,
            rows=self.rows,
            exact=self.exact,
            cut=self._cut.frozen(),
            likely_cut=self._likely_cut.frozen(),
            empty=self._empty.frozen(),
            likely_empty=self._likely_empty.frozen(),
            filling=self.filling,
            longest=self._longest,
            packs=Packs(least=packs[0], likely=packs[1], most=packs[2], bare=bare[1]) if packs else None,
            blank={column: each.frozen() for column, each in self.blank.items()},
            faults={fault: each.frozen() for fault, each in self.faults.items()},
        )


def _sums(pieces: Iterable[Piece], span_of: Callable[[Piece], Span]) -> tuple[Span, Span]:
    """Return the length of a sample, and the length of the masked part before its first unmasked token."""
    total, before, is_open = Span(0, 0, 0), Span(0, 0, 0), False
    for piece in pieces:
        span = span_of(piece)
        is_open = is_open or not piece.masked
        if not is_open:
            before = before.plus(span)
        total = total.plus(span)
    return total, before


def _fixed(piece: Piece, how: Layout) -> Span:
    """Return bounds of the length of a piece that is not a message's text."""
    if not piece.text:
        return Span(piece.tokens, piece.tokens, piece.tokens)
    data = piece.text.encode(errors="replace")
    most = len(data) + how.more
    if piece.fixed:
        return Span(1, 1, most)
    words = len(data.split())
    return Span(words, max(words, math.ceil(len(data) / _BYTES_OF_A_TOKEN)), most)
