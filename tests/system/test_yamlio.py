import contextlib
import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.system.serialization import MAX_NUMBER, YamlError, read_yaml, yaml_scalar

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18)
LOOKALIKES = st.sampled_from(
    ["yes", "No", "ON", "off", "null", "~", "", "012", "0x1F", "1e-5", "1e5", "1:30:00", "1_000", ".5", "-", "=",
     "<<", "y", "N",
     "NaN", ".inf", "2026-01-01", "[a]", "{a}", "a: b", "a #b", "#", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`",
     "'a'", '"a"',
     "a\nb", "a\r\nb", " a ", "a\tb", "\u0085", "\u2028", "\ufeff", "\x00", "\x07", "é😀", "True", "---", "...",
     "?", "- a"]
)  # fmt: skip


def agree(read: object, value: Scalar) -> None:
    assert (type(read), read) == (type(value), value)
    if isinstance(value, float):
        assert math.copysign(1, value) == math.copysign(1, float(str(read)))


@settings(deadline=None)
@given(TEXT | LOOKALIKES | NUMBERS | st.booleans() | st.none())
@example(1e-5)
@example(1e22)
@example(5e-324)
def test_a_scalar_reads_back_with_value_and_type_in_every_loader(value: Scalar) -> None:
    text = f"before: 1\nkey: {yaml_scalar(value)}\nafter: 2\n"
    assert len(text.splitlines()) >= 3
    agree(yaml.safe_load(text)["key"], value)
    data = read_yaml(text).data
    assert list(data) == ["before", "key", "after"]
    agree(data["key"], value)
    if not (isinstance(value, str) and ("${" in value or value == "???")):
        agree(OmegaConf.create(text).key, value)


@settings(deadline=None)
@given(st.lists(TEXT | LOOKALIKES))
def test_a_list_of_texts_reads_back(values: list[str]) -> None:
    text = f"key: {yaml_scalar(values)}\n"
    assert read_yaml(text).data == yaml.safe_load(text) == {"key": values}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be a setting"):
        yaml_scalar(value)


@pytest.mark.parametrize(("value", "text"), [(1e-5, "1.0e-05"), (0.1, "0.1"), (8, "8"), (True, "true"), (None, "null"),
                                             ("Llama-3.2", "Llama-3.2"), ("/a/b", "/a/b"), ("a b", '"a b"'),
                                             ("on", '"on"')])  # fmt: skip
def test_plain_values_are_written_plainly(value: Scalar, text: str) -> None:
    assert yaml_scalar(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1.0e-05", 1e-5), ("1E5", 1e5), ("8", 8), ("0.5", 0.5), ("'8'", "8"),
     ("2026-01-01", "2026-01-01"),
     ("true", True), ("yes", True), ("null", None), ("", None), ("abc", "abc")],
)  # fmt: skip
def test_scalars_are_read_like_torchtune_reads_them(text: str, value: Scalar) -> None:
    agree(read_yaml(f"key: {text}").data["key"], value)


def test_every_key_and_item_has_its_line_and_source_text() -> None:
    document = read_yaml("a: 012\nb:\n  c: yes\n  d: 'yes'\ne:\n- 1:30\n- x\n")
    assert document.data["b"] == {"c": True, "d": "yes"}
    assert document.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 4, ("e",): 5, ("e", 0): 6, ("e", 1): 7}
    assert document.plain == {("a",): "012", ("b", "c"): "yes", ("e", 0): "1:30", ("e", 1): "x"}
    assert (document.line(("b", "x", "y")), document.line(("zzz",)), document.line(())) == (2, None, None)


def test_an_empty_document_is_none() -> None:
    assert read_yaml("# nothing\n").data is None


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\na: 2\n", "'a'", 2),
        ("a: &x 1\nb: *x\n", "anchors", 1),
        ("b: *x\n", "", 1),
        ("a: !!python/object:os.system 1\n", "tag", 1),
        ("a: !x 1\n", "tag", 1),
        ("a: 1\n---\nb: 2\n", "document", 2),
        ("1: a\n", "key", 1),
        ("a: 1\nyes: b\n", "key", 2),
        ("? [a]\n: b\n", "key", 1),
        ("<<: {a: 1}\n", "<<", 1), ("a: 1\nb: \0\n", "character", 2),
        ("a: [1\n", "", None),
        ("a: b: c\n", "", 1),
        ("a: =\n", "", 1),
        ("a: \x00\n", "", None),
        ("a: " + "9" * 5000, "", None),
        ("[" * 25 + "]" * 25, "20", 1),
        ("[" * 100_000, "20", 1),
        ("a: " + "x" * 1_000_001, "larger than 1 MB", None),
        ("\ud800", "", None),
    ],
)  # fmt: skip
def test_ambiguous_yaml_is_refused_with_its_line(text: str, message: str, line: int | None) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert message in caught.value.message
    assert caught.value.message
    if line is not None:
        assert caught.value.line == line


def test_aliases_that_pyyaml_writes_are_read_as_copies_with_the_lines_of_the_anchor() -> None:
    columns, files = {"input": "q", "output": "a"}, ["a.safetensors", "b.safetensors"]
    data = {"dataset": {"columns": columns, "files": files}, "again": columns, "x": [files, {"deep": columns}]}
    text = yaml.safe_dump(data, sort_keys=False)
    assert "*id00" in text
    document = read_yaml(text, aliases=True)
    assert document.data == data
    lines = {name: n for n, line in enumerate(text.splitlines(), 1) for name in ("again", "input") if name in line}
    assert (document.lines["again",], document.lines["again", "input"]) == (lines["again"], lines["input"])
    assert document.plain["x", 1, "deep", "output"] == "a"
    with pytest.raises(YamlError):
        read_yaml(text)


def test_a_scalar_and_a_node_with_aliases_can_be_repeated() -> None:
    assert read_yaml("a: &x 1e-5\nb: &y [*x, *x]\nc: *y\n", aliases=True).data["c"] == [1e-5, 1e-5]


_NESTED = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
_DEEP = "".join(f"a{n}: &a{n} {{k: *a{n - 1}}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"a0: &a0 x\n{_NESTED}", 6),  # a small text that would expand to 9^11 values
        (f"a0: &a0 x\n{_DEEP}", None),
        (f"a: &x {'x' * 60_000}\nb: *x\nc: *x\n", 3),
        ("a: &x [1, *x]\n", 1),
        ("a: &x {b: *x}\n", 1),
        ("a: 1\nb: *x\n", 2),
        ("a: &x 1\nb: &x 2\n", 2),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3),
        ("a: &x [1]\nb:\n  *x : 1\n", 1),
        ("a: &x !y 1\nb: *x\n", 1),
    ],
)
def test_aliases_that_expand_too_far_or_that_no_loader_reads_are_refused(text: str, line: int | None) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text, aliases=True)
    assert line is None or caught.value.line == line


@settings(deadline=None)
@given(TEXT | st.text(alphabet=list("ab:-?[]{}&*!|>'\"%@#, \n\t01e.~=<")))
def test_any_text_is_read_or_refused(text: str) -> None:
    for aliases in (False, True):
        with contextlib.suppress(YamlError):
            data: Any = read_yaml(text, aliases=aliases).data
            assert data is None or isinstance(data, str | bool | int | float | list | dict)


LONG = 200_000


@pytest.mark.parametrize(
    "number",
    [
        "1:" * LONG + "1",
        "1:" * LONG + "1.0",
        "-" + "9" * LONG,
        "0x" + "f" * LONG,
        "0" + "7" * LONG,
        "0b" + "1" * LONG,
        "1" + "_" * LONG,
        "1." + "9" * LONG,
        "1e" + "9" * LONG,
        "9" * (MAX_NUMBER + 1),
    ],
)
@pytest.mark.parametrize("form", ["a: 1\nb: {}\n", "a: 1\nb: [{}]\n", "a: 1\n{}: b\n"])
def test_a_long_number_is_refused_before_it_is_converted(
    number: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object) -> None:
        pytest.fail("it is converted")

    assert read_yaml(form.replace("{}", "c")).data  # short values are cached
    monkeypatch.setattr(yaml.constructor.SafeConstructor, "construct_yaml_int", convert)
    monkeypatch.setattr(yaml.constructor.SafeConstructor, "construct_yaml_float", convert)
    with pytest.raises(YamlError) as caught:
        read_yaml(form.replace("a: 1\n", "a: c\n").format(number))
    assert caught.value.line == 2 or ("key" in caught.value.message and len(number) > 1000)


@pytest.mark.parametrize("number", ["0x_", "0b_", "._", "-0b__"])
def test_an_invalid_value_in_the_form_of_a_number_is_refused_at_its_line(number: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(f"a: 1\nb: {number}\n")
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ["9" * MAX_NUMBER, "1:30:00", "0x1F", "x" * LONG, "1:" * LONG + "x"])
def test_short_numbers_and_long_texts_are_read(text: str) -> None:
    assert isinstance(read_yaml(f"a: {text}\n").data["a"], int if len(text) <= MAX_NUMBER else str)


def test_many_tag_directives_are_refused_without_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "parse", lambda *_, **__: pytest.fail("it is parsed"))
    text = "".join(f"%TAG !t{i}! x\n" for i in range(50_000))
    with pytest.raises(YamlError) as caught:
        read_yaml(f"{text}---\na: 1\n")
    assert caught.value.line == 2
