"""Test that no regular expression of the package needs much time for a long text.

Every one is found in the source and tried, with the methods that call it, on long texts of one repeated piece. A linear
pattern needs a few milliseconds of processor time for such a text, a quadratic one hundreds of times as much.
"""

import ast
import functools
import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import scaffold_torchtune
from support.sampling import sampled

pytestmark = pytest.mark.long

PACKAGE: Final = Path(scaffold_torchtune.__file__).parent
METHODS: Final = frozenset({"match", "fullmatch", "search", "sub", "finditer", "findall", "split"})
PROGRAMS: Final = {"external_checks/torchtune_program.py", "setup/options_program.py"}
"""They run in other Pythons, in processes with a deadline, on texts that they cut."""
BUILT: Final = {
    # pattern and its parts -> such a pattern as it is built at run time
    ("external_checks/sbatch.py", "pattern"): [],  # of _CAUSES, which is found itself
    ("job_causes.py", "sign.pattern"): [],  # of its tables, which are found themselves
    ("job_causes.py", "sign.frames"): [],
    ("job_causes.py", """'|'.join((f'(?:{sign.pattern})' for sign in signs))"""): [],
    ("setup/external.py", "pattern"): [],  # of _KNOWN
    ("validate/directives.py", "always[name]"): [],  # of _ALWAYS
    ("plan/naming.py", "f'{prefix}[0-9]+'"): ["prompt[0-9]+"],
    ("findings.py", "f'(?<!\\\\w){re.escape(run)}(?!\\\\w)'"): [r"(?<!\w)rank8(?!\w)"],
    ("plan/checks.py", "f'(?<![a-z0-9.]){re.escape(name)}(?![a-z0-9])'"): [r"(?<![a-z0-9.])8b(?![a-z0-9])"],
    ("parse/unread.py", "f'(?<![\\\\w.]){re.escape(value)}(?!\\\\w|[.-]\\\\w)'"): [r"(?<![\w.])8(?!\w|[.-]\w)"],
    ("extend.py", "_at(prefix, _styled(old, style))"): [r"(?<![A-Za-z0-9.])r8(?![A-Za-z0-9]|\.[0-9])"],
    ("extend.py", "_at(prefix, _styled(value, style))"): [r"(?<![A-Za-z0-9.])r8(?![A-Za-z0-9]|\.[0-9])"],
    ("extend.py", "f'{re.escape(_styled(values[0], style))}(?![A-Za-z0-9]|\\\\.[0-9])'"): [r"8(?![A-Za-z0-9]|\.[0-9])"],
    ("setup/external.py", "f'\\\\b{package}\\\\b'"): [r"\bkit\b"],
    ("validate/__init__.py", "f'(?:^|(?<=_))(?:{alternatives})(?=_|$)'"): ["(?:^|(?<=_))(?:words|a)(?=_|$)"],
}
BOUNDED: Final = {
    "setup/external.py:_KNOWN": 500,  # on a line that is cut at this many characters
}
PIECES: Final = [
    *" \t\n\u00a0aAé0()[]{}<>-_.,:;/'\"`=|*#$\\",
    "a ",
    "a,",
    "a, ",
    "a/",
    "0:",
    "0,",
    "( ",
    "()",
    " (",
    "${a.",
]
BEFORE: Final = ("", "`", " (", "#", "$")
AFTER: Final = ("\x01", ")", "\n")
LENGTH: Final = 10_000
SECONDS: Final = 0.2  # of processor time: a linear pattern needs at most a tenth of it, on a slow machine too


class Used(NamedTuple):
    where: str
    pattern: "re.Pattern[str]"
    method: str


def inside(value: object, depth: int = 0) -> Iterator["re.Pattern[str]"]:
    """Yield the patterns in a module's constant, however it is built."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 5:
        parts: Any = ()
        if isinstance(value, dict):
            parts = [*value, *value.values()]
        elif isinstance(value, tuple | list | frozenset):
            parts = value
        elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            parts = vars(value).values()
        for part in parts:
            yield from inside(part, depth + 1)


def texts_inside(value: object) -> Iterator[str]:
    """Yield the texts in a constant that inline calls use as patterns."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            yield from texts_inside(part)
    elif isinstance(value, tuple):
        yield from texts_inside(value[0] if value else ())


def is_call_of(node: ast.AST, owner: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in METHODS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == owner
    )


def of_module(path: Path) -> Iterator[Used]:
    name = path.relative_to(PACKAGE).as_posix()
    source = path.read_text()
    if name in PROGRAMS or not re.search(r"^import re$", source, re.MULTILINE):
        return
    nodes = list(ast.walk(ast.parse(source)))
    dotted = "scaffold_torchtune." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    constants = vars(importlib.import_module(dotted))
    for constant, value in constants.items():
        patterns = [*inside(value)]
        named = {node.func.attr for node in nodes if is_call_of(node, constant)} if patterns else set()  # type: ignore[attr-defined]
        mapped = {m for m in METHODS if patterns and re.search(rf"\b{re.escape(constant)}\.{m}\b", source)}
        for pattern in patterns:
            yield from (Used(f"{name}:{constant}", pattern, method) for method in named | mapped or {"fullmatch"})
        if (name, constant) in {("setup/external.py", "_KNOWN"), ("external_checks/sbatch.py", "_CAUSES")}:
            items = value if isinstance(value, dict) else [item[0] for item in value]
            yield from (Used(f"{name}:{constant}", re.compile(item), "search") for item in items)
    if name == "job_causes.py":
        tables = [constants[table] for table in ("RAISED", "PRINTED", "ENDED", "CONNECTED", "WATCHED")]
        for sign in (sign for table in tables for sign in table):
            yield Used(f"{name}:{sign.code}", re.compile(sign.pattern), "match")
            yield Used(f"{name}:{sign.code}", re.compile(sign.frames), "search")
    for node in nodes:
        if is_call_of(node, "re"):
            assert isinstance(node, ast.Call)
            assert isinstance(node.func, ast.Attribute)
            given = ast.unparse(node.args[0])
            try:
                found = [eval(given, dict(constants))]  # noqa: S307 - a pattern of our own
            except NameError:
                found = BUILT[name, given]
            yield from (Used(f"{name}:{given}", re.compile(one), node.func.attr) for one in found)


def on_text(one: Used) -> Used:
    """Return the same pattern for text if it is one for bytes."""
    of_bytes: Any = one.pattern
    if isinstance(of_bytes.pattern, str):
        return one
    return one._replace(pattern=re.compile(of_bytes.pattern.decode(), of_bytes.flags | re.ASCII))


@functools.cache
def used() -> tuple[Used, ...]:
    found = [one for path in sorted(PACKAGE.rglob("*.py")) for one in of_module(path)]
    return tuple({(one.where, one.pattern, one.method): one for one in map(on_text, found)}.values())


def seconds(one: Used, text: str) -> float:
    method = getattr(one.pattern, one.method)
    given = ("", text) if one.method == "sub" else (text,)
    began = time.thread_time()
    result = method(*given)
    if one.method == "finditer":
        for _ in result:
            pass
    return time.thread_time() - began


def words_of(pattern: str) -> list[str]:
    """Return the texts that a pattern itself may repeat: its words, and its words with a space."""
    words = sorted(set(re.findall(r"[A-Za-z]{3,}", pattern)))[:10]
    return [*words, *(f"{word} " for word in words[:4]), *(f" {word}" for word in words[:4])]


def slow(one: Used, befores: tuple[str, ...], afters: tuple[str, ...]) -> dict[str, float]:
    """Return the seconds for the texts that take too long, which are measured again: the machine may be busy."""
    length = min(LENGTH, BOUNDED.get(one.where, LENGTH))
    found: dict[str, float] = {}
    for piece in [*PIECES, *words_of(one.pattern.pattern)]:
        for before, after in itertools.product(befores, afters):
            text = before + piece * (length // len(piece)) + after
            if seconds(one, text) > SECONDS and (least := min(seconds(one, text) for _ in range(2))) > SECONDS:
                found[f"{before!r} {piece!r} {after!r}"] = least
    return found


def test_all_patterns_are_found() -> None:
    assert len(used()) > 80
    assert {"parse/values.py:_BACKTICKS", "system/markdown.py:_MARKS"} <= {one.where for one in used()}


@pytest.mark.parametrize(
    ("pattern", "piece"), [(r"(`{1,2})(.*?)\1x", "`"), (r"\s*[,;]\s*", " "), (r"[A-Z][a-z]*([A-Z]\w*)?$", "A")]
)
def test_a_superlinear_pattern_is_detected(pattern: str, piece: str) -> None:
    one = Used("", re.compile(pattern, re.DOTALL), "search")
    assert seconds(one, piece * (LENGTH // len(piece)) + "\x01") > SECONDS


def test_no_pattern_is_worse_than_linear() -> None:
    assert {one: found for one in used() if (found := slow(one, ("",), AFTER[:1]))} == {}


def test_no_pattern_is_worse_than_linear_after_other_prefixes() -> None:
    some = sampled([*used()], every=24)
    assert {one: found for one in some if (found := slow(one, (*BEFORE, *words_of(one.pattern.pattern)), AFTER))} == {}
