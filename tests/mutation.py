"""The mutation campaign: break each check, one place at a time, and find the mutants that no test detects.

`make mutation` runs all of it, `--sample N` a random sample of N mutants with a fixed seed, `--only PART...` the
mutants of files with a part in their name. For each mutant, the tests that execute the broken line run in a child
process until one fails; if none fails, the mutant has survived. A mutant that does not end counts as killed, and is
named.

Most mutants are tried in children of a process that has collected all tests: there the broken function gets the
mutant's code, or a module its changed tables. Mutants that cannot be tried in this way, or survive, are imported again,
because imported modules may have cached results of the original code: in a child of a worker that has imported
everything that the tests need except the broken package.
"""

import argparse
import gc
import importlib
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import coverage
import pytest

from support.equivalent_mutants import EQUIVALENT
from support.sabotage import Mutant, mutants

# ruff: noqa: T201 - it prints the survivors and the figures


TESTS: Final = Path(__file__).parent
PACKAGE: Final = TESTS.parent / "server" / "scaffold_torchtune"

CAMPAIGN: Final = {
    "validate": "validate/test_*.py",
    "preflight": "preflight/test_*.py",
    "external_checks": "external_checks/test_*.py",
}
"""The packages with checks to break, and the test modules that must detect the mutants."""

UNTRIED: Final = frozenset({"external_checks/torchtune_program.py"})
"""The programs that run in another Python, where no mutant can replace them; tests/contract runs them."""

SLOW: Final = ("_anything.py", "_hostile.py", "_hostile_data.py")
"""The endings of test modules that try hundreds of examples: they show that nothing raises, not that a check works."""


_LIKELY: Final = 15  # the number of tests that are tried first
_FAR: Final = 10**6  # the rank of tests with functions that have killed no mutant
_TEST_SECONDS: Final = 120  # of wall-clock time: on a busy machine a test needs many times its usual time
_CHILD_SECONDS: Final = 120  # of processor time
_CHILD_BYTES: Final = 4 * 1024**3  # a mutant may add to a list without end
_OURS: Final = "scaffold_torchtune"
_RAISED: Final = 70  # the status of a child if an exception was raised, for example because a module cannot be imported
_HUNG: Final = "?"  # no name of a test begins with it
_NOT_SHARED: Final = ("__", "conftest", "test_", "hypothesis")
"""The prefixes of modules that workers do not import: Hypothesis's plugin, if present, imports the whole package."""


class Seen(NamedTuple):
    """The results of a watched run of a package's tests."""

    passing: dict[str, dict[int, list[str]]]
    """The tests that execute a line, by file and line."""
    seconds: dict[str, float]
    """The duration of each test."""
    modules: list[str]
    """All imported modules."""


class Figures(NamedTuple):
    """The results for the mutants of one module, or of several."""

    name: str
    tried: int
    survived: int
    same: int

    def __str__(self) -> str:
        killed = self.tried - self.survived - self.same
        return (
            f"{self.name}: {self.tried} mutants, {killed} killed, {self.survived} survived, {self.same} do the same as"
            " the code"
        )


class _Barred:
    """A finder that prevents the import of a package and of the modules that import it."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Refuse the package and its modules."""
        if f"{name}.".startswith(f"{self.package}."):
            raise ModuleNotFoundError(name=name)


class _Broken(SourceFileLoader):
    """A finder and loader of one module, with the code of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.code = mutant.code

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return the spec of the module, None for any other module."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Return the mutant's code."""
        assert fullname == self.name
        return self.code


class _Watch:
    """A pytest plugin that records the lines of a package that each test executes, and the duration of each test."""

    def __init__(self, folder: Path) -> None:
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"{folder}/*"])
        self.coverage.start()
        self.seconds: dict[str, float] = {}

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for module in [each for name, each in sys.modules.items() if name.startswith(_OURS)]:
            for value in [*vars(module).values()]:
                getattr(value, "cache_clear", int)()  # otherwise only the first test would execute cached functions
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def seen(self) -> Seen:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {path: data.contexts_by_lineno(path) for path in data.measured_files()}
        passing = {path: {line: [c for c in tests if c] for line, tests in of.items()} for path, of in lines.items()}
        return Seen(passing, self.seconds, list(sys.modules))


class _Killer:
    """A pytest plugin that runs some tests in their order, and writes the name of one that fails.

    `_HUNG` precedes the name of a test that is ended because of its time limit.
    """

    def __init__(self, tests: Sequence[str], pipe: int) -> None:
        self.ranks = {test: rank for rank, test in enumerate(tests)}
        self.pipe = pipe

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [item for item in items if item.nodeid in self.ranks]
        items[:] = sorted(wanted, key=lambda item: self.ranks[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            hung = _HUNG if report.duration >= _TEST_SECONDS else ""
            os.write(self.pipe, f"{hung}{report.nodeid}".encode())


class _Patcher:
    """A pytest plugin that tries mutants instead of running tests, each in a child that has collected all tests.

    `found` is the test that kills each mutant, by the position of the mutant, for mutants that can be tried in this
    way and do not survive.
    """

    def __init__(self, seen: Seen, tried: Sequence[Mutant]) -> None:
        self.seen = seen
        self.tried = tried
        self.found: dict[int, str] = {}
        self.pipe = -1

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        killers: list[str] = []
        gc.collect()
        gc.freeze()
        for number, mutant in enumerate(self.tried):
            if (patch := patch_of(mutant)) is not None:
                name = self._killer(
                    patch, [items[test] for part in _ordered(mutant, self.seen, killers) for test in part]
                )
                if name is not None:
                    self.found[number] = name
                    killers = _first(name, killers)
        return True

    def _killer(self, patch: Callable[[], bool], items: Sequence[pytest.Item]) -> str | None:
        read, self.pipe = os.pipe()

        def broken(folder: Path) -> int:
            if not patch():
                return 0
            items[0].config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined] # noqa: SLF001
            for item, following in itertools.zip_longest(items, items[1:]):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            return 0

        return _name(_in_child(broken), self.pipe, read)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            hung = _HUNG if report.duration >= _TEST_SECONDS else ""
            os.write(self.pipe, f"{hung}{report.nodeid}".encode())
            os._exit(1)


def patch_of(mutant: Mutant) -> Callable[[], bool] | None:
    """Return a function that breaks an imported module, in a function or a table, and returns whether it could.

    None if the mutant cannot be tried in this way.
    """
    module, code = sys.modules[mutant.module], mutant.code
    found: Any = module
    for name in mutant.within.split(".") if mutant.within else ():
        found = _unwrapped(vars(found).get(name))
        codes = [each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name]
        if isinstance(found, FunctionType):
            line = found.__code__.co_firstlineno
            code = next((each for each in codes if each.co_firstlineno == line), found.__code__)
            is_other = code != found.__code__ and code.co_freevars == found.__code__.co_freevars
            return partial(_patch_function, found, code) if is_other else None
        if not isinstance(found, type) or len(codes) != 1:
            return None
        code = codes[0]
    return None if mutant.within else partial(_patch_tables, module, code)


def _patch_function(function: FunctionType, code: CodeType) -> bool:
    function.__code__ = code
    return True


def _patch_tables(module: ModuleType, code: CodeType) -> bool:
    """Replace a module's plain values with the mutant's, also in other modules that have imported them."""
    patched = False
    made: dict[str, Any] = {"__name__": module.__name__, "__file__": code.co_filename}
    exec(code, made)  # noqa: S102 - a mutant
    for name, value in made.items():
        known = vars(module).get(name)
        if name.startswith("__") or not _is_plain(value) or value == known:
            continue
        for other in [each for each in sys.modules.values() if getattr(each, "__name__", "").startswith(_OURS)]:
            if vars(other).get(name) is known:
                setattr(other, name, value)
                patched = True
    return patched


def _is_plain(value: Any) -> bool:
    """Return whether no part of a value is a function, a class or an instance of a class of this project."""
    if isinstance(value, dict):
        return all(map(_is_plain, itertools.chain(value, value.values())))
    if type(value) in {list, tuple, set, frozenset}:
        return all(map(_is_plain, value))
    return value is None or type(value) in {str, int, float, bool, range, re.Pattern}


def _unwrapped(found: Any) -> Any:
    """Return the function in a property, a method of a class, or a cached function."""
    for name in ("fget", "func", "__func__", "__wrapped__"):
        found = getattr(found, name, None) or found
    return found


def every_mutant(package: str) -> Iterator[Mutant]:
    """Return every mutant of a package."""
    for path in sorted((PACKAGE / package).glob("*.py")):
        if f"{package}/{path.name}" in UNTRIED:
            continue
        name = "" if path.stem == "__init__" else f".{path.stem}"
        yield from mutants(f"scaffold_torchtune.{package}{name}", path)


def tests_of(package: str) -> list[str]:
    """Return the test modules of a package."""
    return [str(path) for path in sorted(TESTS.glob(CAMPAIGN[package])) if not path.name.endswith(SLOW)]


def watch(package: str) -> Seen:
    """Run the tests of a package, which must all pass, and record the lines that they execute."""
    with tempfile.NamedTemporaryFile("w+") as file:

        def watched(folder: Path) -> int:
            watch = _Watch(PACKAGE / package)
            failed = _pytest(tests_of(package), folder, watch)
            json.dump(watch.seen(), file)
            file.flush()
            return failed

        assert _in_child(watched) == 0, f"the tests of {package} fail without any mutant"
        file.seek(0)
        passing, seconds, modules = json.load(file)
    lines = {path: {int(line): tests for line, tests in lines.items()} for path, lines in passing.items()}
    return Seen(lines, seconds, modules)


def import_all_but(package: str, modules: Iterable[str]) -> None:
    """Import everything that no mutant of a package can change, so that children need not import it again."""
    sys.meta_path.insert(0, barred := _Barred(f"scaffold_torchtune.{package}"))
    for name in modules:
        if not name.startswith(_NOT_SHARED):
            with suppress(ImportError):
                importlib.import_module(name)
    sys.meta_path.remove(barred)
    gc.collect()
    gc.freeze()  # permanent objects are not searched again in each child


def killer(mutant: Mutant | None, tests: Sequence[str]) -> str | None:
    """Return the test that fails if a mutant replaces its module; "" if none could run, None if all pass.

    It is `_HUNG` if the child had to be ended.
    """
    assert mutant is None or mutant.module not in sys.modules
    read, write = os.pipe()

    def broken(folder: Path) -> int:
        if mutant is not None:
            sys.meta_path.insert(0, _Broken(mutant))
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        status = _pytest([str(TESTS.parent / file) for file in files], folder, _Killer(tests, write))
        return 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status

    return _name(_in_child(broken), write, read)


def _name(status: int, write: int, read: int) -> str | None:
    """Return the name that a child with this result wrote into a pipe."""
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return None if status == 0 else pipe.read().decode() or (_HUNG if status < 0 else "")


def _in_child(work: Callable[[Path], int], *, limited: bool = True) -> int:
    """Return the status of work in a silent child of this process with its own directory; -N for a signal."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = os.fork()
        if child == 0:
            if limited:
                resource.setrlimit(resource.RLIMIT_CPU, (_CHILD_SECONDS, _CHILD_SECONDS))
                resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            status = _RAISED
            with suppress(BaseException):  # the child must never continue as its parent does
                status = work(Path(folder))
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _pytest(tests: Sequence[str], folder: Path, *plugins: object) -> int:
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--tb=no", "-o", f"timeout={_TEST_SECONDS}"]
    places = [f"--rootdir={TESTS.parent}", f"--basetemp={folder / 'tests'}"]
    return pytest.main([*options, *places, *tests], plugins=list(plugins))


def survivors(seen: Seen, tried: Sequence[Mutant]) -> list[Mutant]:
    """Return the mutants that no test detects."""
    found: list[Mutant] = []
    known = patched(seen, tried)
    killers = list(dict.fromkeys(reversed(known.values())))
    for number, mutant in enumerate(tried):
        name = known.get(number)
        if name is None:
            parts = (part for part in _ordered(mutant, seen, killers) if part)
            name = next((each for each in (killer(mutant, part) for part in parts) if each is not None), None)
        if name is None:
            found.append(mutant)
            print(f"survived: {mutant.file}:{mutant.lines[0]}: {mutant.change}", flush=True)
            continue
        if name.startswith(_HUNG):
            print(f"does not end: {mutant.file}:{mutant.lines[0]}: {mutant.change} {name}", flush=True)
        killers = _first(name, killers)
    if tried:
        failing = killer(None, [test for test in killers if test] or [*seen.seconds][:_LIKELY])
        assert failing is None, f"{failing or 'each test'} fails without any mutant"
    return found


def patched(seen: Seen, tried: Sequence[Mutant]) -> dict[int, str]:
    """Return the tests that kill mutants that are tried by replacing code, by the position of the mutant."""
    with tempfile.NamedTemporaryFile("w+") as file:

        def trying(folder: Path) -> int:
            patcher = _Patcher(seen, tried)
            status = _pytest(sorted({test.partition("::")[0] for test in seen.seconds}), folder, patcher)
            json.dump(patcher.found, file)
            file.flush()
            return status

        assert _in_child(trying, limited=False) == 0, "no mutant can be tried"
        file.seek(0)
        return {int(number): name for number, name in json.load(file).items()}


def _ordered(mutant: Mutant, seen: Seen, killers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the tests that execute the broken line, first some that killed other mutants and so probably fail."""
    lines = seen.passing[str(mutant.path)]
    tests = {test for line in mutant.lines for test in lines.get(line, ())} or seen.seconds.keys()
    likely = [test for test in killers if test in tests][:_LIKELY]
    near = {_function(test): rank for rank, test in reversed([*enumerate(killers)])}
    rest = sorted(tests - set(likely), key=lambda test: (near.get(_function(test), _FAR), seen.seconds[test]))
    return likely, rest


def _first(name: str, killers: Sequence[str]) -> list[str]:
    """Return the tests that have killed mutants, the most recent first: they probably kill the next one."""
    name = name.removeprefix(_HUNG)
    return [name, *(test for test in killers if test != name)]


def _function(test: str) -> str:
    """Return the function of a test, which may have parameters."""
    return test.partition("[")[0]


def campaign(package: str, sample: int | None, only: Sequence[str], processes: int) -> list[Figures]:
    """Return the figures of each module of a package with tried mutants."""
    known = [mutant for mutant in every_mutant(package) if any(part in mutant.file for part in only)]
    if not known:
        return []
    chosen = known if sample is None else random.Random(1).sample(known, min(sample, len(known)))  # noqa: S311
    tried = [mutant for mutant in chosen if not is_equivalent(mutant)]
    seen = watch(package)
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, forked, import_all_but, (package, seen.modules)) as workers:
        shares = [tried[number::processes] for number in range(processes)]
        found = [mutant for share in workers.map(partial(survivors, seen), shares) for mutant in share]
    every, left, survived = (Counter(mutant.file for mutant in some) for some in (chosen, tried, found))
    return [Figures(file, every[file], survived[file], every[file] - left[file]) for file in sorted(every)]


def is_equivalent(mutant: Mutant) -> bool:
    """Return whether a mutant is known to be equivalent to the code."""
    return (mutant.file, mutant.within, mutant.change) in EQUIVALENT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; return 0 if every mutant was killed or is equivalent to the code."""
    parser = argparse.ArgumentParser(description="Break each check, one place at a time: do the tests see it?")
    parser.add_argument("--sample", type=int, help="how many mutants of a package, drawn with a fixed seed; else all")
    parser.add_argument("--only", nargs="+", default=[""], help="only mutants of files with one of these in their name")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many mutants are tried at once")
    asked = parser.parse_args(arguments)
    os.environ["HYPOTHESIS_PROFILE"] = "all"
    failed = False
    with tempfile.TemporaryDirectory() as compiled:
        sys.pycache_prefix, sys.dont_write_bytecode = compiled, False
        for package in CAMPAIGN:
            began = time.monotonic()
            found = campaign(package, asked.sample, asked.only, asked.processes)
            for each in found:
                print(f"  {each}")
            _, *sums = zip(*found, strict=True) if found else ((), (0,), (0,), (0,))
            whole = Figures(package, *map(sum, sums))
            print(f"{whole}; {time.monotonic() - began:.0f} s", flush=True)
            failed = failed or whole.survived > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
