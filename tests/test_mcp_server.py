"""The five tools with a client in the same process: both protocol eras, both outcomes, every way to misuse them."""

import json
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import jsonschema
import pytest
from mcp import Client
from mcp.types import CallToolResult, Tool

from experiments import RUNS, make_experiment
from scaffold_torchtune import __version__, cli, pipeline
from scaffold_torchtune.mcp_server import MAX_PROBLEMS, make_server

Era = Literal["auto", "legacy"]
Call = tuple[str, dict[str, Any]]
T = TypeVar("T")

ERAS: tuple[Era, ...] = ("auto", "legacy")
STEPS = {
    "parse": "parse_summary",
    "plan": "plan_runs",
    "render": "render_yaml",
    "setup": "run_setup",
    "validate": "validate",
}


def make_sweep(directory: Path) -> Path:
    """A sweep of two ranks and two rates with a control; what lay at `directory` is gone."""
    shutil.rmtree(directory, ignore_errors=True)
    return make_experiment(directory)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def sweep(root: Path) -> Path:
    return make_sweep(root / "cap_sweep")


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Every path below a directory, with the bytes of regular files."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in directory.rglob("*")
    }


def with_client(root: Path, use: Callable[[Client], Awaitable[T]], era: Era = "auto") -> T:
    async def main() -> T:
        async with Client(make_server([root]), mode=era) as client:
            return await use(client)

    return anyio.run(main)


def listed(root: Path, era: Era = "auto") -> list[Tool]:
    async def use(client: Client) -> list[Tool]:
        return (await client.list_tools()).tools

    return with_client(root, use, era)


def call(root: Path, *calls: Call, era: Era = "auto") -> list[CallToolResult]:
    """The results of some calls of one client. Each is held to the published schema, its text to its structure."""

    async def use(client: Client) -> list[CallToolResult]:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        results = []
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            schema = schemas.get(name) or schemas["validate"] or {}
            jsonschema.Draft202012Validator(schema).validate(result.structured_content)
            (content,) = result.content
            assert content.type == "text"
            assert json.loads(content.text) == result.structured_content
            assert bool(result.is_error) == ("error" in (result.structured_content or {}))
            results.append(result)
        return results

    return with_client(root, use, era)


def refusal(root: Path, name: str, arguments: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The message and the problems of a refused call, after which the same server still serves."""
    bad, after = call(root, (name, arguments), ("validate", {}))
    assert bad.is_error
    assert after.is_error
    error = (bad.structured_content or {})["error"]
    return error["message"], error["problems"]


# --- what the server says of itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_the_server_gives_its_name_version_and_short_instructions(root: Path, era: Era) -> None:
    async def use(client: Client) -> tuple[str, str | None, str, str]:
        assert client.server_info
        info = client.server_info
        return info.name, info.title, info.version, client.instructions or ""

    name, title, version, instructions = with_client(root, use, era)
    assert (name, title, version) == ("torchtune", "scaffold-torchtune", __version__)
    assert 0 < len(instructions.encode()) < 2048
    positions = [instructions.index(tool) for tool in STEPS.values()]
    assert positions == sorted(positions)


@pytest.mark.parametrize("era", ERAS)
def test_exactly_five_tools_each_fully_described(root: Path, era: Era) -> None:
    tools = {tool.name: tool for tool in listed(root, era)}
    assert list(tools) == list(STEPS.values())
    for tool in tools.values():
        assert tool.title
        assert tool.description
        assert len(tool.description.encode()) < 2048
        assert "\n  " not in tool.description, "the indentation of the code is not part of the text"
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["additionalProperties"] is False
        assert tool.input_schema["required"] == ["experiment"]
        assert all(argument["description"] for argument in tool.input_schema["properties"].values())
        assert tool.output_schema
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert tool.output_schema["type"] == "object"


def test_annotations_are_all_set_and_true(root: Path) -> None:
    hints = {}
    for tool in listed(root):
        given = tool.annotations
        assert given
        hints[tool.name] = (
            given.read_only_hint,
            given.destructive_hint,
            given.idempotent_hint,
            given.open_world_hint,
        )
    assert hints == {
        "parse_summary": (True, False, True, False),
        "plan_runs": (True, False, True, False),
        "render_yaml": (False, True, True, False),  # overwrite replaces what a person edited
        "run_setup": (False, True, True, True),  # an external script may do anything
        "validate": (False, False, True, False),  # appends its verdict to the log
    }


# --- the whole way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_five_tools_take_the_experiment_to_a_passed_validation(root: Path, sweep: Path, era: Era) -> None:
    calls = [(name, {"experiment": str(sweep)}) for name in STEPS.values()]
    before = snapshot(root)
    parsed, planned = call(root, *calls[:2], era=era)
    assert snapshot(root) == before, "parse_summary and plan_runs write nothing"
    rendered, made, validated = call(root, *calls[2:], era=era)
    results = [r.structured_content or {} for r in (parsed, planned, rendered, made, validated)]
    assert [len(result["runs"]) for result in results] == [5, 4, 4, 4, 4]
    assert [run["directory"] for run in results[1]["runs"]] == list(RUNS)
    assert (results[2]["created"], results[3]["succeeded"], results[3]["failed"]) == (4, 4, 0)
    assert (results[4]["passed"], results[4]["checked"], results[4]["planned"]) == (True, 4, 4)


def test_idempotent_as_annotated(root: Path, sweep: Path) -> None:
    calls = [(name, {"experiment": str(sweep / "experiment_summary.md")}) for name in STEPS.values()]
    call(root, *calls)
    before = snapshot(root)
    again = call(root, *calls)
    assert snapshot(root) == before
    assert (again[4].structured_content or {})["passed"] is True


def test_a_restarted_server_has_lost_nothing(root: Path, sweep: Path) -> None:
    results = [call(root, (name, {"experiment": str(sweep)}))[0] for name in STEPS.values()]
    assert (results[4].structured_content or {})["passed"] is True


@pytest.mark.parametrize("step", STEPS)
def test_the_json_of_the_command_line_is_the_structured_result(
    root: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [name for name in ("render", "setup") if list(STEPS).index(name) < list(STEPS).index(step)]
    sweep = make_sweep(root / "cap_sweep")
    *_, result = call(root, *((STEPS[name], {"experiment": str(sweep)}) for name in (*before, step)))
    make_sweep(sweep)
    statuses = []
    for name in (*before, step):
        capsys.readouterr()
        statuses.append(cli.main([name, str(sweep), "--json"]))
    assert json.loads(capsys.readouterr().out) == result.structured_content
    assert set(statuses) == {0}


def test_a_refusal_is_the_same_on_both_surfaces(root: Path, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = call(root, ("validate", {"experiment": str(sweep)}))
    assert cli.main(["validate", str(sweep), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == result.structured_content


# --- refusals -------------------------------------------------------------------------------------------------------


def test_missing_fields_are_a_structured_refusal_that_names_all(root: Path, sweep: Path) -> None:
    local, summary = sweep / "claude.local.md", sweep / "experiment_summary.md"
    local.write_text(local.read_text().replace("- **Default conda environment**: `cruijff`\n", ""))
    summary.write_text(summary.read_text().replace("- **Epochs:** 2\n", "- **Epochs:** many\n"))
    before = snapshot(root)
    message, problems = refusal(root, "parse_summary", {"experiment": str(sweep)})
    assert "2 problem" in message
    assert {problem["field"] for problem in problems} == {"conda_env", "epochs"}
    for problem in problems:
        assert problem["code"] in {"missing-field", "invalid-value"}
        assert problem["file"] in {"claude.local.md", "experiment_summary.md"}
        assert problem["fix"]
    (epochs,) = (problem for problem in problems if problem["field"] == "epochs")
    assert summary.read_text().splitlines()[epochs["line"] - 1] == "- **Epochs:** many"
    assert snapshot(root) == before


def through_link(root: Path, outside: Path) -> str:
    (root / "link").symlink_to(outside)
    return str(root / "link")


OUTSIDE: dict[str, Callable[[Path, Path], str]] = {
    "directory": lambda _root, outside: str(outside),
    "summary": lambda _root, outside: str(outside / "experiment_summary.md"),
    "dots": lambda root, outside: f"{root}/../{outside.name}",
    "link": through_link,
    "summary-through-link": lambda root, outside: through_link(root, outside) + "/experiment_summary.md",
    "other-experiment": lambda _root, outside: f"{outside}/.",
}


@pytest.mark.parametrize("how", OUTSIDE)
def test_outside_the_roots_is_refused_with_the_line_that_adds_one(tmp_path: Path, root: Path, how: str) -> None:
    outside = make_sweep(tmp_path / "outside")
    experiment = OUTSIDE[how](root, outside)
    before = snapshot(tmp_path)
    results = call(root, *((name, {"experiment": experiment}) for name in STEPS.values()))
    for result in results:
        (problem,) = (result.structured_content or {})["error"]["problems"]
        assert problem["code"] == "outside-roots"
        assert f"--root {tmp_path}" in problem["fix"]
        assert f"SCAFFOLD_TORCHTUNE_ROOT={tmp_path}" in problem["fix"]
    assert snapshot(tmp_path) == before


def test_a_summary_that_is_a_link_out_of_the_roots_is_not_followed(tmp_path: Path, root: Path, sweep: Path) -> None:
    outside = make_sweep(tmp_path / "outside")
    (sweep / "experiment_summary.md").unlink()
    (sweep / "experiment_summary.md").symlink_to(outside / "experiment_summary.md")
    _, (problem,) = refusal(root, "parse_summary", {"experiment": str(sweep)})
    assert (problem["code"], problem["file"]) == ("document-unreadable", "experiment_summary.md")


def test_special_files_in_place_of_the_experiment_are_refused_at_once(root: Path, sweep: Path) -> None:
    os.mkfifo(root / "fifo")
    (sweep / "experiment_summary.md").unlink()
    os.mkfifo(sweep / "experiment_summary.md")
    for experiment in (root / "fifo", sweep, sweep / "experiment_summary.md", Path("/dev/null"), Path("/dev/zero")):
        message, problems = refusal(root, "plan_runs", {"experiment": str(experiment)})
        assert message
        assert problems
        assert all(problem["fix"] for problem in problems)


# --- calls that are not what the schema says ------------------------------------------------------------------------


def test_an_unknown_tool_is_answered_with_the_near_one(root: Path) -> None:
    message, (problem,) = refusal(root, "renderyaml", {})
    assert message == "there is no tool 'renderyaml'"
    assert problem["fix"] == "Did you mean 'render_yaml'?"
    _, (problem,) = refusal(root, "\u202e" + "z" * 100_000, {})
    assert all(tool in problem["fix"] for tool in STEPS.values())
    assert len(json.dumps(problem)) < 2000


def test_an_unknown_argument_is_refused_by_name_and_nothing_runs(root: Path, sweep: Path) -> None:
    before = snapshot(root)
    arguments = {"experiment": str(sweep), "overwritte": True, "zzz\u202e": 1}
    message, problems = refusal(root, "render_yaml", arguments)
    assert "2 problem" in message
    by_field = {problem["field"]: problem for problem in problems}
    assert by_field["overwritte"]["code"] == "unknown-key"
    assert by_field["overwritte"]["fix"] == "Did you mean 'overwrite'?"
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


@pytest.mark.parametrize(("name", "arguments"), MISTYPED, ids=lambda v: v if isinstance(v, str) else str(v)[:40])
def test_a_mistyped_argument_is_named_with_what_it_means(root: Path, name: str, arguments: dict[str, Any]) -> None:
    _, (problem,) = refusal(root, name, arguments)
    assert problem["code"] == "invalid-value"
    assert problem["field"] == list(arguments)[-1]
    assert problem["fix"].startswith("correct it: ")
    assert len(json.dumps(problem)) < 2000


@pytest.mark.parametrize(("name", "arguments"), MISTYPED[:6], ids=str)
def test_what_is_refused_as_mistyped_is_against_the_published_schema_too(
    root: Path, name: str, arguments: dict[str, Any]
) -> None:
    (schema,) = (tool.input_schema for tool in listed(root) if tool.name == name)
    is_valid = jsonschema.Draft202012Validator(schema).is_valid(arguments)
    assert is_valid == ("\0" in str(arguments["experiment"])), "only the rule on NUL is not in the schema"


def test_many_bad_arguments_give_a_bounded_answer(root: Path) -> None:
    message, problems = refusal(root, "validate", {"experiment": "."} | {f"x{n}": n for n in range(1000)})
    assert message == "1000 problem(s) with the arguments of validate"
    assert len(problems) == MAX_PROBLEMS


def test_arguments_that_the_schema_allows_are_taken(root: Path, sweep: Path) -> None:
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


def test_the_operators_script_wins_over_the_callers_choice(
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


# --- trees that are not what they should be -------------------------------------------------------------------------


def plan_is_a_directory(sweep: Path) -> None:
    (sweep / ".scaffold/plan.json").unlink()
    (sweep / ".scaffold/plan.json").mkdir()


def plan_is_a_fifo(sweep: Path) -> None:
    (sweep / ".scaffold/plan.json").unlink()
    os.mkfifo(sweep / ".scaffold/plan.json")


def state_is_a_link(sweep: Path) -> None:
    (sweep / ".scaffold").rename(sweep / "elsewhere")
    (sweep / ".scaffold").symlink_to("elsewhere")


def state_is_a_file(sweep: Path) -> None:
    shutil.rmtree(sweep / ".scaffold")
    (sweep / ".scaffold").write_text("")


BROKEN: dict[str, Callable[[Path], object]] = {
    "plan is a directory": plan_is_a_directory,
    "plan is a FIFO": plan_is_a_fifo,
    "plan is not UTF-8": lambda sweep: (sweep / ".scaffold/plan.json").write_bytes(b"\xff\xfe{"),
    "plan is deeply nested": lambda sweep: (sweep / ".scaffold/plan.json").write_text("[" * 100_000),
    "plan is of another kind": lambda sweep: (sweep / ".scaffold/plan.json").write_text('{"runs": 1}'),
    "plan is huge": lambda sweep: (sweep / ".scaffold/plan.json").write_bytes(b" " * 11_000_000),
    "state is a link": state_is_a_link,
    "state is a file": state_is_a_file,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_state_is_a_structured_refusal_with_a_place(root: Path, sweep: Path, how: str) -> None:
    call(root, ("render_yaml", {"experiment": str(sweep)}))
    BROKEN[how](sweep)
    for name in ("plan_runs", "render_yaml", "run_setup", "validate"):
        message, problems = refusal(root, name, {"experiment": str(sweep)})
        assert "unexpectedly" not in message
        assert problems
        assert all(problem["file"] and problem["fix"] for problem in problems)


@pytest.mark.parametrize("document", ["experiment_summary.md", "claude.local.md"])
def test_a_document_of_unreadable_bytes_is_a_structured_refusal(root: Path, sweep: Path, document: str) -> None:
    (sweep / document).write_bytes(b"# title\n\xff\xfe\n")
    for name in ("parse_summary", "plan_runs", "render_yaml"):
        _, (problem,) = refusal(root, name, {"experiment": str(sweep)})
        assert (problem["code"], problem["file"], problem["line"]) == ("document-unreadable", document, 2)


def test_what_nobody_foresaw_is_still_a_structured_answer(
    root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_request: object) -> None:
        raise ZeroDivisionError("of its\nown making")

    monkeypatch.setattr(pipeline, "validate", fails)
    (result,) = call(root, ("validate", {"experiment": str(sweep)}))
    error = (result.structured_content or {})["error"]
    assert "validate failed unexpectedly (ZeroDivisionError: of its\\nown making)" in error["message"]
    assert error["problems"] == []
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
