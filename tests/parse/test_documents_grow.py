"""Long documents of one repeated piece of text, in every place, are parsed in bounded time.

`benchmarks/growth.py` measures whether the time is linear; it needs a quiet machine.
"""

import contextlib
import gc
import time

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.system import markdown
from support.documents import DIRECTORY, LOCAL, SUMMARY, runs, summary
from support.repeated_pieces import PIECES, PLACES, in_summary
from support.sampling import sampled

pytestmark = pytest.mark.long

LENGTH = 40_000
SECONDS = 20  # of processor time: a linear reader needs about one, a quadratic one minutes


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


@pytest.mark.parametrize("place", PLACES)
def test_a_document_of_one_piece_is_parsed_in_bounded_time(place: str) -> None:
    documents = {piece: PLACES[place](piece * (LENGTH // len(piece))) for piece in sampled(PIECES, every=8)}
    assert {piece: took for piece, each in documents.items() if (took := seconds(each)) > SECONDS} == {}


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
