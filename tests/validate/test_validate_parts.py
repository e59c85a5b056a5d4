"""The parts of the validate stage: comparing values, resolving, reading scripts, names."""

import itertools
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.validate import claims, report
from scaffold_torchtune.validate.directives import gpus_in, kilobytes
from scaffold_torchtune.validate.report import (
    as_scalar,
    below,
    compare,
    has_resolver,
    interpolated,
    join,
    normal_path,
    resolve,
)
from scaffold_torchtune.validate.run_files import parse_script
from support.examples import some_of


@pytest.mark.parametrize(
    ("expected", "actual", "code"),
    [
        (8, 8, None),
        (8, "8", "wrong-type"),
        (8, "8.0", "wrong-type"),
        (8, 8.0, "wrong-type"),
        (8, 9, "value-mismatch"),
        (8, None, "value-mismatch"),
        (1, True, "value-mismatch"),
        (1.0, 1, None),
        (1.0, 2, "value-mismatch"),
        (1.0, True, "value-mismatch"),
        (1e-5, 0.00001, None),
        (1e-5, "1e-5", "wrong-type"),
        (1e-5, "small", "value-mismatch"),
        (True, True, None),
        (True, "True", "wrong-type"),
        (True, 1, "value-mismatch"),
        ("8", 8, "wrong-type"),
        ("08", 8, "wrong-type"),
        ("on", True, "value-mismatch"),
        ("true", True, "wrong-type"),
        ("a", "A", "value-mismatch"),
        ("a", ["a"], "value-mismatch"),
        (None, None, None),
        (None, "None", "wrong-type"),
        (None, 0, "value-mismatch"),
    ],
)
def test_values_are_compared_by_value_and_type(expected: Scalar, actual: object, code: str | None) -> None:
    assert compare(expected, actual) == code


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (0.5, 0.5),
        (float("inf"), "inf"),
        ("a\nb", "a\\nb"),
        ("x" * 300, "x" * 200 + "... (100 more characters)"),
        (["a", 1], "[a, 1]"),
        ({"a": 1, "b": 2}, "{a, b}"),
        (b"", "bytes"),
    ],
)
def test_any_value_becomes_a_scalar(value: object, shown: Scalar) -> None:
    assert as_scalar(value) == shown


def test_a_huge_integer_is_described() -> None:
    assert as_scalar(16**5000) == "an integer of 20001 bits"
    assert compare(8, 16**5000) == "value-mismatch"
    assert compare(0.5, 16**5000) == "value-mismatch"


def test_paths_are_compared_lexically() -> None:
    assert normal_path("//a///b/") == "/a/b"
    assert normal_path("a/../b/.") == "a/../b/."
    assert join("/a/", "", "b") == "/a/b"
    assert join("", "b") == "b"
    assert below("/a/b/c", "/a/b/")
    assert below("/a/b", "/a/b")
    assert not below("/a/bc", "/a/b")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${oc.env:HOME}", True),
        ("${ oc.env : HOME}", True),
        ("${${a}:b}", True),
        ("x ${a} y: z", False),
        ("${a}: ${b}", False),
        ("${a", False),
        ("a:b", False),
        ("} ${a:b}", True),
    ],
)
def test_resolvers_are_detected(text: str, *, found: bool) -> None:
    assert has_resolver(text) is found


def test_interpolations_are_resolved_as_torchtunes_loader_does() -> None:
    data = {"a": 1, "b": "${a}", "c": {"d": ["x${a}", "${..e}"], "e": 2}, "f": "${c.d}", "g": "$a"}
    resolved, problems = resolve(data)
    assert resolved["b"] == 1
    assert resolved["c"]["d"][0] == "x1"
    assert resolved["g"] == "$a"
    assert interpolated(data) == {"a", "c"}
    assert set(problems) <= {("c", "d", 1), ("f",)}


_TEXTS = st.sampled_from(
    [
        "x",
        "${a}",
        "x${b.k}y",
        "${c}",
        "${d.k}",
        "${.k}",
        "${b.l[0]}",
        "\\\\${a}",
        "$a",
        "${a}-${c}",
        "${d}",
        "???",
        "",
        "a:1",
    ]
)
_LEAVES = st.one_of(st.integers(0, 3), st.booleans(), st.none(), st.sampled_from([0.5, 1e-05, 3.0]), _TEXTS)
_NODES = st.one_of(_LEAVES, st.fixed_dictionaries({"k": _LEAVES, "l": st.lists(_LEAVES, max_size=2)}))


@pytest.mark.examples
@settings(max_examples=some_of(400), deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys("abcd", _NODES)))
def test_resolved_values_are_those_of_omegaconf(data: dict[str, Any]) -> None:
    resolved, problems = resolve(data)
    try:
        whole: Any = OmegaConf.to_container(OmegaConf.create(data), resolve=True)
    except OmegaConfBaseException:
        assert problems
    else:
        assert (resolved, problems) == (whole, {})


@pytest.mark.parametrize(
    ("data", "resolved"),
    [
        ({"d": {"k": 1, "m": "${.k}"}}, {"d": {"k": 1, "m": 1}}),
        ({"d": {"k": 1, "m": {"n": "${..k}"}}}, {"d": {"k": 1, "m": {"n": 1}}}),
        ({"a": 1, "l": ["x", "${a}", "${l[0]}"]}, {"a": 1, "l": ["x", 1, "x"]}),
        ({"a": {"k": 1}, "b": {"c": {"d": "${a.k}"}, "e": 5}}, {"a": {"k": 1}, "b": {"c": {"d": 1}, "e": 5}}),
    ],
)
def test_an_interpolation_can_refer_to_values_anywhere(data: dict[str, Any], resolved: dict[str, Any]) -> None:
    assert resolve(data) == (resolved, {})


def test_a_reference_to_a_node_gives_the_whole_node() -> None:
    assert resolve({"a": {"b": 1}, "c": "${a}"})[0]["c"] == {"b": 1}


def test_a_referenced_node_becomes_resolved_plain_data() -> None:
    data = {"a": {"b": "${d}"}, "l": ["${d}"], "c": "${a}", "e": "${l}", "d": True}
    resolved, problems = resolve(data)
    assert (resolved["c"], resolved["e"], problems) == ({"b": True}, [True], {})
    assert (type(resolved["c"]), type(resolved["e"])) == (dict, list)


def test_an_interpolation_that_cannot_be_resolved_is_a_problem() -> None:
    data = {"a": "${b}", "b": "${a}", "c": "${no}", "d": "${", "e": ["${oc.env:HOME}"], "f": "${g}", "g": "???"}
    resolved, problems = resolve(data)
    assert set(problems) == {("a",), ("b",), ("c",), ("d",), ("e", 0), ("f",)}
    assert os.environ.get("HOME", "none") not in str(resolved)


def test_a_long_text_counts_for_each_reference_to_it() -> None:
    data = {"text": "x" * 6_000, "many": "${text}" * 100, "more": "${many}" * 100}
    resolved, problems = resolve(data)
    assert set(problems) == {("many",), ("more",)}
    assert len(str(resolved)) < 7_000
    assert resolve({**data, "more": "${many}"})[1] == {}


def test_a_node_counts_with_all_its_descendants() -> None:
    inner = {f"k{number}": "${text}" for number in range(30)}
    outer = {f"k{number}": "${inner}" for number in range(30)}
    _, problems = resolve({"text": "x" * 60_000, "inner": inner, "outer": outer})
    assert len(problems) == 60
    below = {name: dict.fromkeys(inner, f"${{root.{of}}}") for name, of in (("inner", "text"), ("outer", "inner"))}
    _, problems = resolve({"root": {"text": "x" * 60_000, **below}})
    assert len(problems) == 60
    assert resolve({"text": "x" * 600, "inner": inner, "outer": outer})[1] == {}


def test_plain_references_are_resolved_without_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(report, "_children", never)
    chain = {name: f"${{{following}}}" for name, following in itertools.pairwise("bcdefg")}
    data = {"n": 3, "g": "x", **chain, "d.k": 1, "in": {"k": "t", "l": ["${n}", "${in.k}-${n}", 7, "plain"]}}
    expected = {**dict.fromkeys("bcdefg", "x"), "n": 3, "d.k": 1, "in": {"k": "t", "l": [3, "t-3", 7, "plain"]}}
    assert resolve(data) == (expected, {})


def test_multiplying_interpolations_are_not_resolved() -> None:
    data: dict[str, object] = {f"a{n}": f"${{a{n + 1}}}${{a{n + 1}}}" for n in range(60)}
    data["a60"] = "x"
    data["list"] = ["${a60}", 1]
    _, problems = resolve(data)
    assert len(problems) == 61


SCRIPT = """\
#!/bin/bash
#SBATCH -A lab -pgpu --constraint "a b" --exclusive --requeue
#SBATCH --time 10 # it's a comment
#SBATCH --acc=x --gr gpu:1 -Z 1 --unknown
# SBATCH --no
 #SBATCH --no
#SBATCHx --no
##SBATCH --no=<NO>
#SBATCH

echo 'a b'"c" \\
  d\\ e # f
if true; then cat <<EOF > x.txt
conda activate no '
EOF
fi
x="1 \\" 2
3" && (y & z)
#SBATCH --late <LATE>
"""


def test_a_script_is_read_like_sbatch_and_bash_do() -> None:
    script = parse_script(SCRIPT)
    assert [line for line, _ in script.problems] == [5, 6]
    assert [(d.name, d.value, d.line) for d in script.directives if not d.late] == [
        ("account", "lab", 2),
        ("partition", "gpu", 2),
        ("constraint", "a b", 2),
        ("exclusive", "", 2),
        ("requeue", "", 2),
        ("time", "10", 3),
        ("account", "x", 4),
        ("gres", "gpu:1", 4),
        ("Z", "1", 4),
        ("unknown", "", 4),
    ]
    assert [(d.name, d.value, d.line) for d in script.directives if d.late] == [("late", "<LATE>", 19)]
    assert [(c.words, c.line, c.joined) for c in script.commands] == [
        (("echo", "a bc", "d e"), 11, ""),
        (("if", "true"), 13, ";"),
        (("then", "cat", ">", "x.txt"), 13, ""),
        (("fi",), 16, ""),
        (('x=1 " 2\n3',), 17, "&&"),
        (("y",), 18, "&"),
        (("z",), 18, ")"),
    ]
    assert script.placeholders == [(19, "<LATE>")]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [1]),
        ("#!bash", [1]),
        ("#!/bin/bash\necho 'a\n", [2]),
        ("#!/bin/bash\ncat <<EOF\nx\n", [2]),
        ("#!/bin/bash\r\n", [1]),
        ("#! /bin/bash -l\necho \\", []),
    ],
)
def test_unreadable_parts_of_a_script_are_reported(text: str, lines: list[int]) -> None:
    assert [line for line, _ in parse_script(text).problems] == lines


@pytest.mark.parametrize(
    ("text", "number"),
    [("gpu:2", 2), ("gpu:a100:2", 2), ("gpu", 1), ("2", 2), ("a100:2", 2), ("gpu:1,shard:3", 1), ("gpu:2(S:0)", 2),
     ("", 0), ("gpu:a100", 1), ("shard:3", 0), ("a100", 0), ("gpu:٢", 1), ("gpu:1,gpu:2", 3), ("none", 0)],
)  # fmt: skip
def test_gpus_are_counted(text: str, number: int) -> None:
    assert gpus_in(text) == number


def test_memory_is_compared_as_an_amount() -> None:
    assert kilobytes("16G") == kilobytes("16384M") == kilobytes("16384") == kilobytes("16gb")
    assert kilobytes("lots") == "lots"


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        ("rank8_lr1e-5", [("rank8", "lora_rank", 8.0), ("lr1e-5", "lr", 1e-5)]),
        ("Llama-3.2-1B_bs4_ep2_seed1", [("bs4", "batch_size", 4), ("ep2", "epochs", 2), ("seed1", "seed", 1)]),
        ("lora_dropout0.1_lora_alpha16", [("lora_dropout0.1", "lora_dropout", 0.1), ("lora_alpha16", "lora_alpha", 16)]),  # noqa: E501
        ("weight_decay0.01", [("weight_decay0.01", "weight_decay", 0.01)]),
        ("rank_lr_prompt1", []),
        ("", []),
    ],
)  # fmt: skip
def test_values_stated_in_a_name(directory: str, found: list[tuple[str, str, float]]) -> None:
    assert claims(directory) == found
