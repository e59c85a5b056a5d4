"""Resources and prompts for MCP clients: doctor, log, plan, status, files and guides."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import TextContent, TextResourceContents

from scaffold_torchtune import request
from scaffold_torchtune.pipeline import state
from support.command_line import readiness
from support.experiments import FILES, RUNS, everything
from support.mcp_calls import ERAS, STEPS, Era, listed, with_client
from support.sampling import spread
from support.scaffolding import scaffold
from support.wording import absent

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.md"))


def text_of(root: Path, uri: str, era: Era = "auto", mime: str = "text/plain") -> str:
    async def use(client: Client) -> str:
        (content,) = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.mime_type == mime
        return content.text

    return with_client(root, use, era)


def read(root: Path, uri: str, era: Era = "auto") -> Any:
    return json.loads(text_of(root, uri, era, "application/json"))


@pytest.fixture
def scaffolded(sweep: Path) -> Path:
    assert scaffold(sweep).ok
    return sweep


@pytest.mark.parametrize("era", ERAS)
def test_a_client_lists_the_resources_and_templates(root: Path, era: Era) -> None:
    async def use(client: Client) -> tuple[list[str], list[str]]:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        return [str(one.uri) for one in resources], [one.uri_template for one in templates]

    resources, templates = with_client(root, use, era)
    assert set(resources) == {"torchtune://doctor", *(f"torchtune://guide/{path.stem}" for path in WORKFLOWS)}
    kinds = ("doctor{+experiment}", "log{+experiment}", "plan{+experiment}", "status{+experiment}", "run{+file}")
    assert set(templates) == {f"torchtune://{kind}" for kind in kinds}
    assert len(listed(root, era)) == 5, "it is no tool"


@pytest.mark.parametrize("era", ERAS)
def test_doctor_of_an_experiment(root: Path, sweep: Path, era: Era) -> None:
    before = everything(sweep)
    found = readiness(read(root, f"torchtune://doctor{sweep}", era))
    assert found.ready
    assert [check.state for check in found.checks if check.name == "documents"] == ["ok"]
    assert everything(sweep) == before


def test_doctor_of_the_project(root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(sweep))
    found = readiness(read(root, "torchtune://doctor"))
    local = [check.found for check in found.checks if check.name == "claude.local.md"]
    assert (found.ready, local) == (True, [str(sweep / "claude.local.md")])
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(root.parent)
    assert readiness(read(root, "torchtune://doctor")).ready is False


@pytest.mark.parametrize("path", ["/etc", "{sweep}/../../..", "/nowhere", "sweep"])
def test_paths_outside_the_roots_are_refused(root: Path, sweep: Path, path: str) -> None:
    error = read(root, f"torchtune://doctor{path.format(sweep=sweep)}")["error"]
    assert [problem["code"] for problem in error["problems"]] == ["outside-roots"]


def test_an_invalid_path_is_not_opened(root: Path, sweep: Path) -> None:
    async def use(client: Client) -> str:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(f"torchtune://doctor{sweep}%00")
        return str(caught.value)

    assert "torchtune://doctor" in with_client(root, use)


@pytest.mark.parametrize("era", ERAS)
def test_a_scaffold_has_its_log_plan_and_files_as_resources(root: Path, scaffolded: Path, era: Era) -> None:
    assert text_of(root, f"torchtune://log{scaffolded}", era) == (scaffolded / "scaffold.log").read_text()
    plan = read(root, f"torchtune://plan{scaffolded}", era)
    assert [run["directory"] for run in plan["runs"]] == list(RUNS)
    assert absent(plan["summary"], 4) == []
    for name in FILES:
        path = scaffolded / RUNS[1] / name
        assert text_of(root, f"torchtune://run{path}", era) == path.read_text()


@pytest.mark.parametrize("era", ERAS)
def test_the_guides_are_those_that_the_skill_links(root: Path, era: Era) -> None:
    linked = re.findall(r"\]\((workflows/\w+\.md)\)", (ROOT / "SKILL.md").read_text())
    assert sorted(linked) == [path.relative_to(ROOT).as_posix() for path in WORKFLOWS]
    for path in WORKFLOWS:
        assert text_of(root, f"torchtune://guide/{path.stem}", era, "text/markdown") == path.read_text()


@pytest.mark.parametrize(
    ("path", "code"),
    spread(
        [
            ("log/etc", "outside-roots"),
            ("plan/etc", "outside-roots"),
            ("run/etc/ssl/openssl.cnf", "outside-roots"),
            ("run{sweep}/../../../../etc/passwd/finetune.yaml", "outside-roots"),
            ("run{sweep}/claude.local.md", "missing-file"),
            ("run{sweep}/data/words.json", "missing-file"),
            ("run{sweep}/.scaffold/plan.json", "missing-file"),
            ("run{sweep}/rank8_lr1e-5/notes.txt", "missing-file"),
            ("run{sweep}/data/finetune.yaml", "missing-file"),
            ("log{sweep}/data", "missing-file"),
            ("plan{sweep}/data", "not-rendered"),
        ],
        every=2,
    ),
)
def test_nothing_else_is_read(root: Path, scaffolded: Path, path: str, code: str) -> None:
    (scaffolded / RUNS[0] / "notes.txt").write_text("secret")
    (scaffolded / "data" / "finetune.yaml").write_text("secret")
    mime = "application/json" if path.startswith("plan") else "text/plain"
    text = text_of(root, f"torchtune://{path.format(sweep=scaffolded)}", mime=mime)
    assert "secret" not in text
    error = json.loads(text)["error"]
    assert [problem["code"] for problem in error["problems"]] == [code]


def test_a_link_instead_of_a_file_is_not_followed(root: Path, scaffolded: Path) -> None:
    path = scaffolded / RUNS[0] / "finetune.yaml"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert "unsafe-path" in text_of(root, f"torchtune://run{path}")
    path.unlink()
    assert "missing-file" in text_of(root, f"torchtune://run{path}")


def test_a_long_text_is_cut_and_marked(root: Path, scaffolded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LONGEST", 900)
    text = text_of(root, f"torchtune://log{scaffolded}")
    first, _, rest = text.partition("\n\n")
    whole = (scaffolded / "scaffold.log").read_text()
    assert whole.endswith(rest)
    assert rest.startswith("[")
    assert absent(first, len(whole.encode()) - len(rest.encode())) == []
    path = scaffolded / RUNS[0] / "finetune.yaml"
    whole = path.read_text()
    text, cut, more = text_of(root, f"torchtune://run{path}").partition("\n... (")
    assert (text, bool(cut), absent(more, len(whole) - 900)) == (whole[:900], True, [])
    assert state.frozen_plan(request.Request(scaffolded)).runs


@pytest.mark.parametrize("era", ERAS)
def test_the_prompt_names_the_tools_in_order_and_the_experiment(
    root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch, era: Era
) -> None:
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", "/lab/project")

    async def use(client: Client) -> list[str]:
        (prompt,) = (await client.list_prompts()).prompts
        assert (prompt.name, [argument.required for argument in prompt.arguments or ()]) == (
            "scaffold_torchtune",
            [False],
        )
        texts = []
        for arguments in ({"experiment": str(sweep)}, {"experiment": "a\u202eb\n- lie"}, None):
            (message,) = (await client.get_prompt("scaffold_torchtune", arguments)).messages
            assert isinstance(message.content, TextContent)
            texts.append(message.content.text)
        return texts

    given, evil, default = with_client(root, use, era)
    positions = [given.index(tool) for tool in STEPS.values()]
    assert positions == sorted(positions)
    assert given.splitlines()[0].partition(".")[0].endswith(f" {str(sweep).partition('.')[0]}")
    assert absent(default.splitlines()[0], "/lab/project") == []
    assert "a\\u202eb\\n- lie" in evil
