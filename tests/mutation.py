"""The campaign of sabotage: breaks each check, one place at a time, and asks whether its tests see it.

`make mutation` runs all of it, `--sample N` as many mutants, drawn with a fixed seed. Each mutant is loaded in a child
of this process, which runs the tests that come by the broken line up to the first that fails; where none fails, the
mutant has survived.
"""

import argparse
import importlib
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Final

import coverage
import pytest

from support.equivalent_mutants import EQUIVALENT
from support.sabotage import Mutant, mutants

# ruff: noqa: T201 - it prints what survived, and the figures


TESTS: Final = Path(__file__).parent
PACKAGE: Final = TESTS.parent / "server" / "scaffold_torchtune"

CAMPAIGN: Final = {
    "validate": "validate/test_*.py",
    "preflight": "preflight/test_*.py",
    "external_checks": "external_checks/test_*.py",
}
"""The packages whose checks are broken, and the modules of tests that must see it."""

UNTRIED: Final = frozenset({"external_checks/torchtune_program.py"})
"""What runs in a Python of its own, where no mutant can take its place: tests/contract runs it."""

SLOW: Final = "_anything.py"
"""How modules of tests end that try examples by the hundred: they show that nothing raises, not that a check finds."""


_LIKELY: Final = 15  # tests that are tried first
_TEST_SECONDS: Final = 120  # of a clock: on a busy machine a test takes many times its own
_CHILD_SECONDS: Final = 120  # of a processor
_CHILD_BYTES: Final = 4 * 1024**3  # a mutant may never stop adding to a list
# What the code under test and its tests import, so that no child must do it again.
_IMPORTED_ONCE: Final = (
    "hypothesis",
    "omegaconf",
    "scaffold_torchtune.results.step_results",
    "scaffold_torchtune.system.yamlio",
    "scaffold_torchtune.torchtune_facts.facts",
)

Passing = dict[str, dict[int, list[str]]]
"""The tests that come by a line, by file and line."""


class _Broken(SourceFileLoader):
    """Finds and loads one module: from the code of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.code = mutant.code

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The module's place, None for any other module."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """The mutant's code."""
        assert fullname == self.name
        return self.code


class _Watch:
    """A pytest plugin that notes which lines of a package each test comes by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"{folder}/*"])
        self.coverage.start()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.coverage.switch_context(item.nodeid)

    def passing(self) -> Passing:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {path: data.contexts_by_lineno(path) for path in data.measured_files()}
        return {path: {line: [c for c in tests if c] for line, tests in of.items()} for path, of in lines.items()}


class _Killer:
    """A pytest plugin that writes the name of a test that fails."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self.pipe, report.nodeid.encode())


def every_mutant(package: str) -> Iterator[Mutant]:
    """Every mutant of a package."""
    for path in sorted((PACKAGE / package).glob("*.py")):
        if f"{package}/{path.name}" in UNTRIED:
            continue
        name = "" if path.stem == "__init__" else f".{path.stem}"
        yield from mutants(f"scaffold_torchtune.{package}{name}", path)


def tests_of(package: str) -> list[str]:
    """The modules of tests of a package."""
    return [str(path) for path in sorted(TESTS.glob(CAMPAIGN[package])) if not path.name.endswith(SLOW)]


def tests_by_line(package: str) -> Passing:
    """Which tests come by which line of a package; they must all pass."""
    with tempfile.NamedTemporaryFile("w+") as file:

        def watched() -> int:
            watch = _Watch(PACKAGE / package)
            failed = _pytest(tests_of(package), watch)
            json.dump(watch.passing(), file)
            file.flush()
            return failed

        assert _in_child(watched), f"the tests of {package} fail without any mutant"
        file.seek(0)
        read = json.load(file)
    return {path: {int(line): tests for line, tests in lines.items()} for path, lines in read.items()}


def killer(mutant: Mutant, tests: Sequence[str]) -> str | None:
    """The test that fails with a mutant in the place of its module: empty where none could run, None where all pass."""
    read, write = os.pipe()

    def broken() -> int:
        sys.meta_path.insert(0, _Broken(mutant))
        return _pytest(tests, _Killer(write))

    survived = _in_child(broken)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return None if survived else pipe.read().decode()


def _in_child(work: Callable[[], int]) -> bool:
    """Whether work ends with 0 in a child of this process, in silence and within limits."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (_CHILD_SECONDS, _CHILD_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(work())
    return os.waitpid(child, 0)[1] == 0


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "-o", f"timeout={_TEST_SECONDS}"]
    return pytest.main([*options, f"--rootdir={TESTS.parent}", *tests], plugins=list(plugins))


def campaign(package: str, sample: int | None, only: str) -> tuple[int, int, list[Mutant]]:
    """How many mutants were tried, how many of them do the same as the code, and those that survived."""
    known = [mutant for mutant in every_mutant(package) if only in mutant.file]
    if not known:
        return 0, 0, []
    passing = tests_by_line(package)
    every = {test for lines in passing.values() for tests in lines.values() for test in tests}
    chosen = known if sample is None else random.Random(1).sample(known, min(sample, len(known)))  # noqa: S311
    same, survivors = 0, []
    killers: list[str] = []  # the last first: what killed one mutant may well kill the next
    for mutant in chosen:
        if (mutant.file, mutant.change) in EQUIVALENT:
            same += 1
            continue
        lines = passing[str(mutant.path)]
        tests = {test for line in mutant.lines for test in lines.get(line, ())} or every
        likely = [test for test in killers if test in tests][:_LIKELY]
        rest = sorted(tests.difference(likely))
        found = next((k for k in (killer(mutant, part) for part in (likely, rest) if part) if k is not None), None)
        if found is None:
            survivors.append(mutant)
            print(f"survived: {mutant.file}:{mutant.lines[0]}: {mutant.change}", flush=True)
        else:
            killers = [found, *(test for test in killers if test != found)]
    return len(chosen), same, survivors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 0 where every mutant was killed or does the same as the code."""
    parser = argparse.ArgumentParser(description="Break each check, one place at a time: do the tests see it?")
    parser.add_argument("--sample", type=int, help="how many mutants of a package, drawn with a fixed seed; else all")
    parser.add_argument("--only", default="", help="only mutants of files that have this in their name")
    asked = parser.parse_args(arguments)
    os.environ["HYPOTHESIS_PROFILE"] = "all"
    for name in _IMPORTED_ONCE:
        importlib.import_module(name)
    failed = False
    for package in CAMPAIGN:
        began = time.monotonic()
        tried, same, survivors = campaign(package, asked.sample, asked.only)
        killed = tried - same - len(survivors)
        figures = f"{tried} mutants, {killed} killed, {len(survivors)} survived, {same} do the same as the code"
        print(f"{package}: {figures}; {time.monotonic() - began:.0f} s", flush=True)
        failed = failed or bool(survivors)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
