"""Parsing time grows linearly with the size of a document, for repeated pieces of text in every place."""

import contextlib
import gc
import itertools
import time
from collections.abc import Callable

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.system import markdown
from support.documents import DIRECTORY, LOCAL, SUMMARY, local_md, runs, summary
from support.sampling import sampled, spread

pytestmark = pytest.mark.long

SHORT = 4_000
TIMES = 5  # linear: 5 times as long, quadratic: 25 times
WORSE = 14
ATTEMPTS = 4
PIECES = [
    "`", "``a", "` ", "*", "_", "**a ", "__a ", "[a](", "![", "<", "<a ", "<!--", "&#1;", "\\|", "| ", "- ", "> ",
    "a: ", "(", "( ", " (a", "()", "'", '"a', "“", " ", "\u00a0", "a ", ", ", "a, ", " or ", "/", "~", "=", "0", "1:",
    "✅ ", "e\u0301", "same as ", "lora ", "LoRA, ", "every 1 ", "cosine ", "- a\n", "# a\n", "a\n\n", "lr: 1\n",
    "## System prompt\na\n", "**lr:** 1\n", "| a | b |\n", "```\n", "> a\n", "  - a\n", "<br>", "x-", " => ",
]  # fmt: skip


def in_summary(text: str) -> tuple[str, str]:
    return text, local_md()


PLACES: dict[str, Callable[[str], tuple[str, str]]] = {
    "prompt": lambda text: in_summary(summary() + f"\n- **System prompt:** {text}\n"),
    "section": lambda text: in_summary(summary() + f"\n## System prompt\n\n{text}\n"),
    "label": lambda text: in_summary(summary() + f"\n- **{text}:** 1\n"),
    "title": lambda text: in_summary(summary() + f"\n## {text}\n\ntext\n"),
    "value": lambda text: in_summary(summary() + f"\n- **Method:** {text})\n- **GPUs:** {text})\n- **lr:** {text})\n"),
    "local": lambda text: (summary(), local_md() + f"\n- **Account:** {text}\n\n{text}\n"),
}


def seconds(documents: tuple[str, str]) -> float:
    markdown.read.cache_clear()
    gc.collect()
    gc.disable()  # its cost grows with the objects that other tests left
    try:
        began = time.thread_time()
        with contextlib.suppress(Refused):
            parse_experiment((SUMMARY, documents[0]), (LOCAL, documents[1]), lambda path: path == DIRECTORY)
        return time.thread_time() - began
    finally:
        gc.enable()


def grows(place: str, piece: str) -> float:
    """Return the factor by which the time grows if a piece is repeated `TIMES` as often, without the constant part."""
    number = SHORT // len(piece)
    short, long = (PLACES[place](piece * count) for count in (number, TIMES * number))
    nothing = min(seconds(PLACES[place]("a")) for _ in range(2))
    if (most := seconds(long)) < 0.05:
        return 0.0
    least = seconds(short)
    for _ in range(ATTEMPTS):  # other load on the machine slows down either measurement
        most, least = min(most, seconds(long)), min(least, seconds(short))
        if (ratio := (most - nothing) / max(least - nothing, 0.002)) < WORSE:
            break
    return ratio


@pytest.mark.parametrize(
    ("piece", "place"),
    spread(
        itertools.product(
            ["`", "``a", "( ", " or ", "[a](", "## System prompt\na\n", "\u00a0"], ["prompt", "value", "local"]
        ),
        every=8,
    ),
)
def test_parsing_time_grows_linearly_with_size(place: str, piece: str) -> None:
    assert grows(place, piece) < WORSE


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_parsing_time_grows_linearly_with_any_piece(place: str) -> None:
    found = {piece: grows(place, piece) for piece in sampled(PIECES, every=16)}
    assert {piece: ratio for piece, ratio in found.items() if ratio > WORSE} == {}


def test_a_prompt_of_only_backticks_is_read_quickly() -> None:
    (document, local) = PLACES["prompt"]("`" * 16_000)
    began = time.thread_time()
    assert parse_experiment((SUMMARY, document), (LOCAL, local), lambda path: path == DIRECTORY).runs
    assert time.thread_time() - began < 20  # cubic: more than a minute


def of_many(count: int) -> dict[str, str]:
    """Return summaries with many rows next to many other lines."""
    ranks = ["8"] * count
    few = count // 2
    footnotes = "".join(f"¹ note {i}\n\n" for i in range(few))
    return {
        "groups": summary(table=runs(count, LoRA_Rank=ranks), extra="- group\n" * count),
        "footnotes": summary(table=runs(few, LoRA_Rank=ranks[:few], Notes=["¹"] * few) + f"\n{footnotes}"),
        "pilot": summary(extra="- Pilot\n" + "  - Seed: 3\n" * 8 * count),
    }


@pytest.mark.parametrize("name", ["groups", "footnotes", "pilot"])
def test_rows_and_lines_are_compared_in_linear_time(name: str) -> None:
    assert seconds(in_summary(of_many(1_500)[name])) < 20  # quadratic: more than a minute
