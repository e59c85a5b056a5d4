"""Any text as either document: it is read or refused, and quickly."""

import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.findings import Refused
from support.documents import local_md, planned, summary
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY, with_training
from support.examples import some_of
from support.measuring import untraced
from support.mutated import mutated


def read_or_refuse(text: str, local: str) -> None:
    """Parse and plan; any exception other than a refusal fails the test."""
    with contextlib.suppress(Refused):
        assert planned(text, local).runs


@pytest.mark.examples
@settings(max_examples=some_of(100), deadline=60_000)
@given(text=st.text(max_size=400), local=st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str, local: str) -> None:
    read_or_refuse(text, EXAMPLE_LOCAL)
    read_or_refuse(EXAMPLE_SUMMARY, local)


@pytest.mark.long
@pytest.mark.examples
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=some_of(300), deadline=60_000)
@given(text=mutated(EXAMPLE_SUMMARY), local=mutated(EXAMPLE_LOCAL))
def test_any_mutation_of_the_documents_is_read_or_refused(text: str, local: str) -> None:
    read_or_refuse(text, EXAMPLE_LOCAL)
    read_or_refuse(EXAMPLE_SUMMARY, local)


SLOW: dict[str, Callable[[int], str]] = {
    "quotes": lambda n: "> " * (4 * n), "lists": lambda n: "- " * (4 * n) + "x", "emphasis": lambda n: "*a **a " * n,
    "brackets": lambda n: "[" * (4 * n), "backticks": lambda n: "`" * (6 * n), "remarks": lambda n: "a ( " * (4 * n),
    "title": lambda n: "# " + "x" * (20 * n),
    "columns": lambda n: "| a " * n + "|\n" + "|---" * n + "|\n" + "| 1 |\n" * 20,
    "backslashes": lambda n: "\\" * (20 * n), "comments": lambda n: "<!--" * (4 * n),
    "entities": lambda n: "&" * (20 * n),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("size", [300, *(pytest.param(size, marks=pytest.mark.long) for size in (1000, 5000))])
@pytest.mark.parametrize("kind", SLOW)
def test_documents_designed_to_be_slow_are_answered_quickly(kind: str, size: int) -> None:
    text = SLOW[kind](size)
    started = time.process_time()  # processor time, because the machine may be busy
    with untraced():
        read_or_refuse(EXAMPLE_SUMMARY.replace("## All Runs\n", f"## All Runs\n{text}\n\n"), local_md())
        read_or_refuse(with_training(f"- **System prompt 2:** {text}"), local_md())
        read_or_refuse(summary(training={"Epochs": text.replace("\n", "")}), local_md(account=text.replace("\n", "")))
    assert time.process_time() - started < size * 0.006
