"""The five tools, called with arguments that match the schema and arguments that do not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.mcp_calls import STEPS, Call, call, listed, refusal, snapshot
from support.sampling import spread
from support.stand_in_python import stand_in
from support.wording import absent


def test_an_unknown_tool_is_answered_with_a_similar_name(root: Path) -> None:
    message, (problem,) = refusal(root, "renderyaml", {})
    assert absent(message, "'renderyaml'") == []
    assert absent(problem["message"], "'render_yaml'") == []
    _, (problem,) = refusal(root, "\u202e" + "z" * 100_000, {})
    assert all(tool in problem["fix"] for tool in STEPS.values())
    assert len(json.dumps(problem)) < 2000


def test_an_unknown_argument_is_refused_with_its_name_and_nothing_runs(root: Path, sweep: Path) -> None:
    before = snapshot(root)
    arguments = {"experiment": str(sweep), "overwritte": True, "zzz\u202e": 1}
    message, problems = refusal(root, "render_yaml", arguments)
    assert absent(message, 2) == []
    by_field = {problem["field"]: problem for problem in problems}
    assert by_field["overwritte"]["code"] == "unknown-key"
    assert absent(by_field["overwritte"]["message"], "'overwrite'") == []
    assert "experiment, local, names" in by_field["zzz\\u202e"]["fix"]
    assert snapshot(root) == before


def test_a_missing_argument_is_named(root: Path) -> None:
    _, (problem,) = refusal(root, "validate", {})
    assert (problem["code"], problem["field"]) == ("missing-field", "experiment")
    assert "experiment_summary.md" in problem["fix"]


MISTYPED: list[Call] = [
    ("parse_summary", {"experiment": 5}),
    ("parse_summary", {"experiment": None}),
    ("parse_summary", {"experiment": ["a"]}),
    ("parse_summary", {"experiment": {"path": "a"}}),
    ("parse_summary", {"experiment": ""}),
    ("parse_summary", {"experiment": "a\0b"}),
    ("parse_summary", {"experiment": "x" * 2_000_000}),
    ("parse_summary", {"experiment": "/x" * 2_000_000}),
    ("parse_summary", {"experiment": ".", "local": ""}),
    ("parse_summary", {"experiment": ".", "local": "a\0b"}),
    ("plan_runs", {"experiment": ".", "names": "both"}),
    ("plan_runs", {"experiment": ".", "template": "a\0b"}),
    ("plan_runs", {"experiment": ".", "setup_script": "setup_finetune.py"}),
    ("render_yaml", {"experiment": ".", "overwrite": "yes"}),
    ("render_yaml", {"experiment": ".", "overwrite": 1}),
    ("run_setup", {"experiment": ".", "jobs": 0}),
    ("run_setup", {"experiment": ".", "jobs": True}),
    ("run_setup", {"experiment": ".", "jobs": 10**400}),
    ("run_setup", {"experiment": ".", "timeout": float("nan")}),
    ("run_setup", {"experiment": ".", "timeout": "1"}),
]


@pytest.mark.parametrize(
    ("name", "arguments"), spread(MISTYPED, every=4), ids=lambda v: v if isinstance(v, str) else str(v)[:40]
)
def test_a_mistyped_argument_is_named_with_its_meaning(root: Path, name: str, arguments: dict[str, Any]) -> None:
    _, (problem,) = refusal(root, name, arguments)
    assert problem["code"] == "invalid-value"
    assert problem["field"] == list(arguments)[-1]
    (schema,) = (tool.input_schema for tool in listed(root) if tool.name == name)
    assert schema["properties"][problem["field"]]["description"][:60] in problem["fix"]
    assert len(json.dumps(problem)) < 2000


@pytest.mark.parametrize(("name", "arguments"), MISTYPED[:6], ids=str)
def test_mistyped_arguments_also_violate_the_published_schema(root: Path, name: str, arguments: dict[str, Any]) -> None:
    (schema,) = (tool.input_schema for tool in listed(root) if tool.name == name)
    is_valid = jsonschema.Draft202012Validator(schema).is_valid(arguments)
    assert is_valid == ("\0" in str(arguments["experiment"])), "only the rule on NUL is not in the schema"


def test_many_bad_arguments_give_a_bounded_reply(root: Path) -> None:
    arguments = {"experiment": "."} | {f"x{n}": n for n in range(1000)}
    (result,) = call(root, ("validate", arguments))
    data = result.structured_content or {}
    assert absent(data["error"]["message"], 1000, "validate") == []
    assert data["counts"] == {"problems": 1000}
    assert data["error"]["left_out"] == {"problems": 1000 - len(data["error"]["problems"])}
    assert len(json.dumps(data)) < 11_000


def test_arguments_allowed_by_the_schema_are_accepted(root: Path, sweep: Path) -> None:
    common = {"experiment": str(sweep), "local": None}
    setup = {"overwrite": True, "jobs": 2, "timeout": 10}
    names, nothing = {"names": "table"}, {"names": None, "template": None, "setup_script": None}
    calls: Sequence[Call] = [
        ("plan_runs", common | nothing),
        ("plan_runs", common | names | {"setup_script": "bundled"}),
        ("render_yaml", common | names | {"overwrite": False}),
        ("run_setup", common | setup),
        ("validate", {"experiment": str(sweep), "local": str(sweep / "claude.local.md")}),
    ]
    results = call(root, *calls)
    assert [bool(result.is_error) for result in results] == [False] * 5
    assert (results[1].structured_content or {})["runs"][0]["directory"] == "Llama-3.2-1B-Instruct_rank8_lr1e-5"
    assert (results[4].structured_content or {})["passed"] is True


@pytest.mark.long
def test_the_caller_enables_torchtune_checks_and_the_operator_sets_the_python(
    root: Path, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "stand-in", monkeypatch, "hello()\nagree()")
    steps = [(name, {"experiment": str(sweep)}) for name in STEPS.values()]
    asked = [("validate", {"experiment": str(sweep), "with_torchtune": wish}) for wish in (None, True, False)]
    *_, unsaid, true, false = call(root, *steps, *asked)
    found = [str(result.structured_content).count("torchtune-agrees") for result in (unsaid, true, false)]
    assert found == [1, 1, 0]


def test_the_script_of_the_operator_overrides_that_of_the_caller(
    root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = root / "setup_finetune.py"
    script.write_text("")
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", str(script))
    results = call(
        root,
        ("plan_runs", {"experiment": str(sweep)}),
        ("plan_runs", {"experiment": str(sweep), "setup_script": "bundled"}),
    )
    assert [(result.structured_content or {})["setup"] for result in results] == [str(script)] * 2
