"""Check that the tests of the checks detect broken checks: a sample; `make mutation` tries every mutant."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import mutation
from support.equivalent_mutants import EQUIVALENT
from support.sabotage import mutants
from support.sampling import EVERY

CODE = """\
TABLE = {"a": 1, "b": 2}
def check(report, value, ok: bool = True) -> str | None:
    if not value and ok:
        message = "a" if value else "b"
        report.add("x", message, severity=Severity.ERROR)
    while value > 2:
        value -= 1
    return [item for item in {"q"} | TABLE.keys() if item in ("a", "b")]
"""


def test_every_deciding_place_has_its_mutants(tmp_path: Path) -> None:
    path = tmp_path / "checks.py"
    path.write_text(CODE)
    found = list(mutants("checks", path))
    changes = [f"{mutant.lines[0]}: {mutant.change}" for mutant in found]
    assert changes == [
        "1: without 'a'",
        "1: without 'b'",
        "2: True -> False",
        "3: not value and ok -> True",
        "3: not value and ok -> False",
        "3: not value and ok -> ok",
        "3: not value and ok -> not value",
        "3: not value -> value",
        "5: report.add('x', message, severity=Severity.ERROR) -> pass",
        "5: Severity.ERROR -> Severity.INFO",
        "6: value > 2 -> False",
        "6: value > 2 -> value >= 2",
        "7: value -= 1 -> pass",
        "8: {'q'} | TABLE.keys() -> {'q'}",
        "8: {'q'} | TABLE.keys() -> TABLE.keys()",
        "8: item in ('a', 'b') -> True",
        "8: item in ('a', 'b') -> False",
        "8: item in ('a', 'b') -> item not in ('a', 'b')",
        "8: without 'a'",
        "8: without 'b'",
    ]
    space: dict[str, object] = {}
    exec(found[0].code, space)  # noqa: S102 - the code above
    assert space["TABLE"] == {"b": 2}


MODULE = """\
TABLE = {"a": 1, "b": 2}
KNOWN = frozenset(TABLE)
class Kinds:
    wide: bool = True
    @property
    def size(self):
        return len(TABLE) + 1
    @functools.cache
    def holds(self, name):
        return name in KNOWN and (lambda: self.wide is not None)()
"""


def test_a_mutant_replaces_imported_functions_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, name = tmp_path / "checks.py", "scaffold_torchtune_checks"
    path.write_text(f"import functools\n{MODULE}")
    found: dict[str, object] = {}
    for mutant in mutants(name, path):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(path.read_text(), str(path), "exec"), vars(module))  # noqa: S102 - the code above
        patch = mutation.patch_of(mutant)
        is_broken = patch is not None and patch()
        kinds = module.Kinds()
        found[mutant.change] = is_broken and (len(module.TABLE), kinds.size, kinds.holds("a"), kinds.holds("c"))
    assert found == {
        "without 'a'": (1, 2, False, False),
        "without 'b'": (1, 2, True, False),
        "True -> False": False,  # in a class, outside its functions
        "len(TABLE) + 1 -> len(TABLE)": (2, 2, True, False),
        "len(TABLE) + 1 -> 1": (2, 1, True, False),
        "name in KNOWN and (lambda: self.wide is not None)() -> (lambda: self.wide is not None)()": (2, 3, True, True),
        "name in KNOWN and (lambda: self.wide is not None)() -> name in KNOWN": (2, 3, True, False),
        "name in KNOWN -> name not in KNOWN": (2, 3, False, True),
        "self.wide is not None -> self.wide is None": (2, 3, False, False),
    }


@pytest.mark.parametrize("package", mutation.CAMPAIGN)
def test_every_equivalent_mutant_is_a_mutant(package: str) -> None:
    there = {(mutant.file, mutant.within, mutant.change) for mutant in mutation.every_mutant(package)}
    assert {key for key in EQUIVALENT if key[0].startswith(f"{package}/")} <= there


@pytest.mark.long
@pytest.mark.timeout(3600)  # a minute on an idle machine
def test_no_mutant_of_a_sample_survives() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    sample = ["--sample", "2" if EVERY else "1"]
    command = [sys.executable, str(Path(mutation.__file__)), *sample, "--only", "validate/", "preflight/"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert " 0 survived" in done.stdout
