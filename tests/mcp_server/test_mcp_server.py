"""The five tools with a client in the same process, in both protocol eras, from parsing to validation."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from mcp import Client

from scaffold_torchtune import __version__, cli
from support.experiments import RUNS, make_experiment
from support.mcp_calls import ERAS, STEPS, Era, call, listed, snapshot, with_client


@pytest.mark.parametrize("era", ERAS)
def test_the_server_has_a_name_a_version_and_short_instructions(root: Path, era: Era) -> None:
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
def test_there_are_exactly_five_fully_described_tools(root: Path, era: Era) -> None:
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


def test_annotations_are_complete_and_true(root: Path) -> None:
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
        "render_yaml": (False, True, True, False),  # overwrite replaces files that a person edited
        "run_setup": (False, True, True, True),  # an external script may do anything
        "validate": (False, False, True, False),  # appends its verdict to the log
    }


# --- from parsing to validation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_five_tools_lead_to_a_passed_validation(root: Path, sweep: Path, era: Era) -> None:
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


@pytest.mark.long
def test_tools_are_idempotent_as_annotated(root: Path, sweep: Path) -> None:
    calls = [(name, {"experiment": str(sweep / "experiment_summary.md")}) for name in STEPS.values()]
    call(root, *calls)
    before = snapshot(root)
    again = call(root, *calls)
    assert snapshot(root) == before
    assert (again[4].structured_content or {})["passed"] is True


@pytest.mark.long
def test_a_restarted_server_continues(root: Path, sweep: Path) -> None:
    results = [call(root, (name, {"experiment": str(sweep)}))[0] for name in STEPS.values()]
    assert (results[4].structured_content or {})["passed"] is True


@pytest.mark.parametrize("step", STEPS)
def test_the_json_of_the_command_line_is_the_structured_result(
    root: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [name for name in ("render", "setup") if list(STEPS).index(name) < list(STEPS).index(step)]
    sweep = make_experiment(root / "cap_sweep")
    *_, result = call(root, *((STEPS[name], {"experiment": str(sweep)}) for name in (*before, step)))
    shutil.rmtree(sweep)
    make_experiment(sweep)
    statuses = []
    for name in (*before, step):
        capsys.readouterr()
        statuses.append(cli.main([name, str(sweep), "--json"]))
    data, printed = result.structured_content or {}, json.loads(capsys.readouterr().out)
    heads, printed_heads = ([head.partition("] ")[2] for head in one.pop("logged")] for one in (data, printed))
    assert printed == data
    assert printed_heads == heads
    assert bool(heads) == (step not in {"parse", "plan"})
    assert set(statuses) == {0}


def test_a_refusal_is_the_same_for_tools_and_commands(
    root: Path, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = call(root, ("validate", {"experiment": str(sweep)}))
    assert cli.main(["validate", str(sweep), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == result.structured_content
