"""The cases of parametrized tests that `make test` tries, and those that it leaves to `make test-long`."""

import tomllib
from pathlib import Path

import pytest

from support.sampling import MOST_CASES, OWN_MARKS

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

MODULE = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_of_many(number): pass

@pytest.mark.parametrize("number", range(3))
def test_of_few(number): pass

@pytest.mark.slurm
@pytest.mark.parametrize("number", range(20))
def test_with_a_mark(number): pass

def test_alone(): pass
"""
CONFIGURATION = """
[pytest]
testpaths = tests
addopts = -p no:cacheprovider -m "not long and not slurm"
markers =
    long
    slurm
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a suite of tests with the hooks of this one."""
    monkeypatch.delenv("COVERAGE", raising=False)
    hooks = (ROOT / "tests" / "conftest.py").read_text()
    pytester.makeini(CONFIGURATION)
    tests = pytester.mkdir("tests")
    (tests / "conftest.py").write_text(hooks)
    (tests / "test_module.py").write_text(MODULE)
    return pytester


def collected(suite: pytest.Pytester, *arguments: str) -> list[str]:
    (call,) = suite.inline_run("--collect-only", *arguments).getcalls("pytest_collection_finish")
    return [item.name for item in call.session.items]


def test_few_cases_of_each_test_are_tried_and_the_others_are_long(suite: pytest.Pytester) -> None:
    short, long = collected(suite), collected(suite, "-m", "long")
    numbers = [int(name[len("test_of_many[") : -1]) for name in short if name.startswith("test_of_many")]
    assert numbers == [0, 3, 6, 10, 13, 16]
    assert len(numbers) == MOST_CASES
    assert [name for name in short if "many" not in name] == [*(f"test_of_few[{n}]" for n in range(3)), "test_alone"]
    assert len(long) == 20 - MOST_CASES
    assert not {*short} & {*long}


def test_more_cases_are_tried_if_coverage_is_measured(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVERAGE", "1")
    assert sum("many" in name for name in collected(suite)) == 2 * MOST_CASES
    assert len(collected(suite, "-m", "long")) == 20 - 2 * MOST_CASES


def test_all_cases_are_tried_if_tests_are_named(suite: pytest.Pytester) -> None:
    assert len(collected(suite, "tests/test_module.py")) == 24
    assert len(collected(suite, "-k", "many")) == 20
    assert len(collected(suite, "-m", "slurm")) == 20


def test_the_marks_are_those_of_the_configuration() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert {line.partition(":")[0] for line in options["markers"]} == OWN_MARKS
