"""Prose and code stay together."""

import re
from pathlib import Path

import pytest
from skills_ref.parser import parse_frontmatter
from skills_ref.validator import validate_metadata

from mcp_calls import listed
from scaffold_torchtune.errors import CODES
from scaffold_torchtune.shared.resources import shipped

ROOT = Path(__file__).parent.parent
PROSE = sorted([ROOT / "README.md", ROOT / "SKILL.md", ROOT / "CONTRIBUTING.md", *(ROOT / "workflows").glob("*.md")])
SOURCES = sorted((ROOT / "server").rglob("*.py"))


def test_every_finding_code_has_one_row_in_troubleshooting_and_no_other_has() -> None:
    text = (ROOT / "workflows/troubleshooting.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_finding_code_is_produced_somewhere(code: str) -> None:
    used = [p.name for p in SOURCES if p.name != "errors.py" and f'"{code}"' in p.read_text()]
    assert used


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_links_and_paths_in_prose_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if ":" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    folders = "activation|pipeline|parse|plan|render|setup|setup_finetune|validate|journal|shared|torchtune_facts"
    modules = re.findall(rf"`((?:(?:{folders})/[\w.]+|cli|show|demo|mcp_server|errors)\.(?:py|yaml|json))`", text)
    missing += [m for m in modules if not (ROOT / "server/scaffold_torchtune" / m).exists()]
    templates = re.findall(r"`((?:templates|scripts|workflows|examples)/[\w./]+)`", text)
    missing += [t for t in templates if not (ROOT / t).exists()]
    assert not missing


def test_the_skill_is_valid_and_short_enough() -> None:
    metadata, body = parse_frontmatter((ROOT / "SKILL.md").read_text())
    assert validate_metadata(metadata) == []
    assert metadata["name"] == "scaffold-torchtune"
    assert len(body.splitlines()) < 150


def test_the_skill_names_the_eight_steps_and_exactly_the_five_tools() -> None:
    text = (ROOT / "SKILL.md").read_text()
    steps = re.findall(r"^\| (\d)\. ", text, re.MULTILINE)
    assert steps == list("12345678")
    tools = {tool.name for tool in listed(ROOT)}
    assert set(re.findall(r"mcp__torchtune__(\w+)", text)) == tools
    assert tools == {"parse_summary", "plan_runs", "render_yaml", "run_setup", "validate"}


@pytest.mark.parametrize("folder", ["templates", "workflows", "examples"])
def test_what_ships_is_found_in_this_install(folder: str) -> None:
    assert any(shipped(folder).iterdir())
