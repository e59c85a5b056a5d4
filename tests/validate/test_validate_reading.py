"""Reading the files that are checked: SLURM scripts like sbatch and bash, interpolations like OmegaConf."""

from typing import Any

import pytest

from scaffold_torchtune.validate import validate_run
from scaffold_torchtune.validate.report import resolve
from scaffold_torchtune.validate.run_files import parse_script
from support.good_files import CONFIG, GOOD_CONFIG, GOOD_SLURM, SETUP, files_of, planned, replaced
from support.script_findings import found
from support.wording import absent

BASH = "#!/bin/bash\n"


@pytest.mark.parametrize(
    ("line", "found", "problems"),
    [
        ("--time= 10", [("time", "")], ["'10'"]),
        ("-t10 5", [("time", "10")], ["'5'"]),
        ("--time --mem=4G", [("time", ""), ("mem", "4G")], []),
        ("- --time=1", [("time", "1")], ["'-'"]),
        ('"" --time=1', [("time", "1")], ["''"]),
        ("--comment=a'b c'd", [("comment", "ab cd")], []),
        ("--comment=a#b # c", [("comment", "a#b")], []),
        ("--comment='a", [], ["quote"]),
    ],
)
def test_directives_on_one_line(line: str, found: list[tuple[str, str]], problems: list[str]) -> None:
    script = parse_script(f"{BASH}#SBATCH {line}\n")
    assert [(d.name, d.value) for d in script.directives] == found
    assert len(script.problems) == len(problems)
    assert [absent(text, "#SBATCH", value) for (_, text), value in zip(script.problems, problems, strict=True)] == [
        [] for _ in problems
    ]


def test_empty_lines_and_comments_are_not_commands() -> None:
    script = parse_script(f"{BASH}\n  \n  # a comment\n#SBATCH --time=1\n")
    assert [d.late for d in script.directives] == [False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo a", [("echo", "a")]),
        ("echo a#b # c", [("echo", "a#b")]),
        ("echo '' b", [("echo", "", "b")]),
        ('echo "a\\nb"', [("echo", "a\\nb")]),
        ("echo 'a\\\"b'", [("echo", 'a\\"b')]),
        ('echo "a\\\\b"', [("echo", "a\\b")]),
        ('echo "\\$x"', [("echo", "$x")]),
        ("echo a\n# the end", [("echo", "a")]),
        ("cat <<EOF EOF\ncd /x\nEOF\necho b", [("cat", "EOF"), ("echo", "b")]),
        ("cat <<EOF > x\ncd /x\nEOF\necho b", [("cat", ">", "x"), ("echo", "b")]),
        ("cat <<-'A' | tee x <<\"B\"\na'\n\tA\ncd\nB\necho b", [("cat",), ("tee", "x"), ("echo", "b")]),
        ("cat <<\\EOF\ncd $x\nEOF", [("cat",)]),
        ("cat <<<EOF\necho b", [("cat", "<<<EOF"), ("echo", "b")]),
        ("cat <<< 'EOF' > x\necho b", [("cat", "<<<", "EOF", ">", "x"), ("echo", "b")]),
        ('a $(b "c)" (d) | e) f$(g)h', [("a", '$(b "c)" (d) | e)', "f$(g)h")]),
        ('a `b c` "`d\ne`" "$(f "g h")"', [("a", "`b c`", "`d\ne`", '$(f "g h")')]),
        ("a `b\nc $(d)", [("a", "`b"), ("c", "$"), ("d",)]),
        ("a $(b\nc `d", [("a", "$"), ("b",), ("c", "`d")]),
    ],
)
def test_words_of_commands(text: str, words: list[tuple[str, ...]]) -> None:
    assert [command.words for command in parse_script(BASH + text).commands] == words


@pytest.mark.parametrize("word", ["$a", "${a}", '"$a"', "x$a", '"${a[@]}"', '"$@"', "$(a)", "`a`", '"`a`"', "$((1))"])
def test_words_that_the_shell_expands(word: str) -> None:
    (command,) = parse_script(f"{BASH}echo {word}\n").commands
    assert command.expands(command.words[1])


@pytest.mark.parametrize("word", ["'$a'", "\\$a", '"\\$a"', "'`a`'", "\\`", "a$", '"$ "', "$'a'", "a"])
def test_words_that_the_shell_does_not_expand(word: str) -> None:
    (command,) = parse_script(f"{BASH}echo {word}\n").commands
    assert not command.expands(command.words[1])


def test_commands_in_parentheses_are_nested() -> None:
    commands = parse_script(f"{BASH}a || (b; c)\nf() {{\nx=(d e)\n}}\n(g) && h\n").commands
    assert [c.words[0] for c in commands if c.nested] == ["b", "c", "d", "g"]


@pytest.mark.parametrize(
    ("data", "resolved"),
    [
        ({"a": "$\\{b}", "b": 1}, {"a": "$\\{b}", "b": 1}),
        ({"a": "\\${b}", "b": 1, "c": "x"}, {"a": "${b}", "b": 1, "c": "x"}),
        ({"a": "${b}", "b": {"c": [1, {"d": 2}]}}, {"a": {"c": [1, {"d": 2}]}, "b": {"c": [1, {"d": 2}]}}),
        ({"a": "${b}", "b": [1, 2]}, {"a": [1, 2], "b": [1, 2]}),
        ({"a": {"b": ["${c}", "x"]}, "c": 3}, {"a": {"b": [3, "x"]}, "c": 3}),
        ({1: "${a}", "a": 2}, {1: 2, "a": 2}),
    ],
)
def test_resolved_interpolations(data: dict[Any, Any], resolved: dict[Any, Any]) -> None:
    assert resolve(data) == (resolved, {})


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        ({"a": {"b": ["x", "${no}"]}}, ("a", "b", 1), "(Interpolation key 'no' not found)"),
        ({"a": {"b": ["x", "${c:d}"]}}, ("a", "b", 1), "resolver"),
        ({"a": {"b": ["x", "${"]}}, ("a", "b", 1), "OmegaConf"),
    ],
)
def test_an_unresolvable_interpolation_is_reported_at_its_place(
    data: dict[str, Any], path: tuple[Any, ...], reason: str
) -> None:
    _, problems = resolve(data)
    assert list(problems) == [path]
    assert absent(problems[path], reason) == []


def test_text_that_would_grow_without_limit_is_not_resolved() -> None:
    data: dict[str, Any] = {"a0": "x" * 100}
    for n in range(1, 9):
        data[f"a{n}"] = {"l": ["x", f"${{a{n - 1}}}" * 10]}
    resolved, problems = resolve(data)
    assert set(problems) == {(f"a{n}", "l", 1) for n in range(1, 9)}
    assert resolved["a0"] == data["a0"]


@pytest.mark.parametrize("name", [SETUP, CONFIG])
@pytest.mark.parametrize("text", ["[" * 5000, "- a\n", "a: [\n"])
def test_invalid_yaml_is_reported_as_unreadable(name: str, text: str) -> None:
    run = planned()
    found = validate_run(run, {**files_of(run), name: text}, bundled=True)
    assert "unreadable-file" in {f.code for f in found if (f.file or "").endswith(name)}


def test_a_null_argument_is_ignored() -> None:
    run = planned()
    text = GOOD_CONFIG.replace("fused: true", "fused: null")
    assert "optimizer.fused" not in {f.field for f in validate_run(run, files_of(run, text), bundled=True)}


def test_an_argument_without_a_torchtune_default_is_reported_without_one() -> None:
    run = planned()
    text = GOOD_CONFIG.replace("mode: offline", "mode: offline\n  group: mine")
    (found,) = validate_run(run, files_of(run, text), bundled=True)
    assert (found.code, found.expected, found.actual) == ("unplanned-value", None, "mine")
    assert absent(found.message, "metric_logger.group", "'mine'") == []
    assert "torchtune" not in found.message


@pytest.mark.parametrize(
    "more",
    [
        "clip_grad_norm: null\n",
        "log_peak_memory_stats: false\n",
        "profiler: {enabled: ''}\n",
        "fsdp_cpu_offload: null\n",
    ],
)
def test_empty_and_switched_off_values_are_ignored(more: str) -> None:
    text = GOOD_CONFIG.replace("log_peak_memory_stats: true\n", "") + more
    run = planned()
    assert "unplanned-value" not in {
        f.code for f in validate_run(run, files_of(run, text), bundled=False) if f.severity != "info"
    }


@pytest.mark.parametrize(
    ("first", "problems"),
    [
        ("#!/bin/bash", 0),
        ("#!/bin/bash -l", 0),
        ("#! /bin/sh", 0),
        ("#!/usr/bin/env bash", 0),
        ("#!/usr/bin/env -S bash -l", 0),
        ("#!/usr/bin/zsh", 0),
        ("#!/usr/bin/env python3", 1),
        ("#!/bin/tcsh", 1),
        ("#!/bin/bashful", 1),
        ("#!/bin/bash/python", 1),
        ("#!bash", 1),
        ("\ufeff#!/bin/bash", 1),
    ],
)
def test_the_first_line_must_name_a_compatible_shell(first: str, problems: int) -> None:
    script = parse_script(replaced(GOOD_SLURM, "#!/bin/bash", first))
    assert [line for line, _ in script.problems] == [1] * problems
    assert not any(directive.late for directive in script.directives)


def test_redirections_are_part_of_a_command() -> None:
    (command,) = parse_script("#!/bin/bash\nread a 2>&1 <&3 &>b &\n").commands
    assert (command.words, command.joined) == (("read", "a", "2>&1", "<&3", "&>b"), "&")


@pytest.mark.parametrize(
    ("text", "words", "joined"),
    [
        ("a>b", ("a", ">b"), ""),
        ("a b2>c", ("a", "b2", ">c"), ""),
        ("a 2>>b", ("a", "2>>b"), ""),
        ("a&>>b", ("a", "&>>b"), ""),
        ("a >|b 2>&1>c", ("a", ">|b", "2>&1", ">c"), ""),
        ("a>b&", ("a", ">b"), "&"),
        ("a <b|c", ("a", "<b"), "|"),
        ("a <>b", ("a", "<>b"), ""),
    ],
)
def test_an_operator_ends_the_word_before_it(text: str, words: tuple[str, ...], joined: str) -> None:
    command = parse_script(f"#!/bin/bash\n{text}").commands[0]
    assert (command.words, command.joined) == (words, joined)
    assert [word for word in words if command.redirected(word)] == [w for w in words if {*w} & {*"<>"}]


def test_a_quoted_operator_is_no_redirection() -> None:
    _, first, _ = parse_script("#!/bin/bash\na > b\na '>' \"b>\" '>'| c").commands
    assert (first.words, first.joined, first.redirections) == (("a", ">", "b>", ">"), "|", frozenset())
    slurm = replaced(GOOD_SLURM, "--config finetune.yaml", "--config finetune.yaml '>' epochs=1")
    assert [each[:2] for each in found({}, slurm, bundled=False)] == [("unplanned-value", "error")]


def test_a_character_that_sbatch_rejects_is_reported_at_its_line() -> None:
    for character in ("\r", "\0"):
        script = parse_script(replaced(GOOD_SLURM, "--mem=8G", f"--mem=8G{character}"))
        assert [line for line, _ in script.problems] == [6]
