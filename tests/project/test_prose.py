"""Check that prose and code agree."""

import argparse
import re
import runpy
from pathlib import Path

import pytest
from skills_ref.parser import parse_frontmatter
from skills_ref.validator import validate_metadata

from scaffold_torchtune.cli import parser
from scaffold_torchtune.finding_codes import CODES
from scaffold_torchtune.findings import close_matches
from scaffold_torchtune.results.reply import STEPS, Step
from scaffold_torchtune.system.layout import shipped
from support.mcp_calls import listed

ROOT = Path(__file__).parents[2]
PROSE = sorted([ROOT / "README.md", ROOT / "SKILL.md", ROOT / "CONTRIBUTING.md", *(ROOT / "workflows").glob("*.md")])
SOURCES = sorted((ROOT / "server").rglob("*.py"))


OF_SBATCH = {"--array", "--test-only"}  # `report` has its own --output


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in vars(parser.parser())["_actions"]:
        found |= action.choices if isinstance(action.choices, dict) else {}
    return found


def test_troubleshooting_is_generated_from_the_registry() -> None:
    script = runpy.run_path(str(ROOT / "scripts/write_troubleshooting.py"))
    assert script["PAGE"].read_bytes().decode() == script["page"](script["PAGE"].read_text())


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.command)
def test_a_command_accepts_all_arguments_of_its_tool(step: Step) -> None:
    options = {action.dest for action in vars(commands()[step.command])["_actions"]}
    assert {*step.arguments} - options <= {"explain"} & commands().keys()  # a separate command


def test_every_finding_code_has_one_row_in_troubleshooting_and_no_other_has() -> None:
    text = (ROOT / "workflows/troubleshooting.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_finding_code_is_produced_somewhere(code: str) -> None:
    used = [p.name for p in SOURCES if p.name != "finding_codes.py" and f'"{code}"' in p.read_text()]
    assert used


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_links_and_paths_in_prose_exist(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if ":" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    modules = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:yaml|json|sh)|(?:[a-z_]+/)*[a-z_]+\.py)`", text)
    package = ROOT / "server/scaffold_torchtune"
    missing += [m for m in modules if not (package / m).exists() and not (ROOT / m).exists()]
    templates = re.findall(r"`((?:templates|scripts|workflows|examples)/[\w./]+)`", text)
    missing += [t for t in templates if not (ROOT / t).exists()]
    assert not missing


def test_the_skill_is_valid_and_has_a_good_length() -> None:
    text = (ROOT / "SKILL.md").read_text()
    metadata, _ = parse_frontmatter(text)
    assert validate_metadata(metadata) == []
    assert metadata["name"] == "scaffold-torchtune"
    assert 120 <= len(text.splitlines()) <= 150


def test_the_skill_has_eight_steps_each_with_its_tool() -> None:
    text = (ROOT / "SKILL.md").read_text()
    steps = re.findall(r"^- \[ \] (\d)\. ([\w. ]+): .*?`(\w+)`", text, re.MULTILINE)
    assert [number for number, *_ in steps] == list("12345678")
    full = (ROOT / "workflows/torchtune.md").read_text()
    titles = re.findall(r"^## (\d)\. (.+)$", full, re.MULTILINE)
    assert [(number, name.lower()) for number, name in titles] == [(n, name.lower()) for n, name, _ in steps]
    tools = [tool.name for tool in listed(ROOT)]
    assert list(dict.fromkeys(tool for *_, tool in steps if tool in tools)) == tools


def test_the_skill_allows_the_harmless_tools_under_both_names() -> None:
    metadata, _ = parse_frontmatter((ROOT / "SKILL.md").read_text())
    harmless = [tool.name for tool in listed(ROOT) if not (tool.annotations and tool.annotations.destructive_hint)]
    assert harmless == ["parse_summary", "plan_runs", "validate"]
    servers = ("mcp__torchtune", "mcp__plugin_scaffold-torchtune_torchtune")
    named = [f"{server}__{tool}" for server in servers for tool in harmless]
    assert str(metadata["allowed-tools"]).split() == named
    assert all(len(name) <= 64 for name in named)


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_codes_and_commands_in_prose_exist(path: Path) -> None:
    text = path.read_text()
    worded = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text))
    alike = {word for word in worded if word not in CODES and close_matches(word, CODES, cutoff=0.9)}
    assert not alike
    assert set(re.findall(r"`scaffold-torchtune ([a-z]+)", text)) <= commands().keys()


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_arguments_and_keys_in_prose_exist(path: Path) -> None:
    arguments = {name for tool in listed(ROOT) for name in tool.input_schema["properties"]}
    named = set(re.findall(r"`(\w+): (?:true|N|\"[^`\"]+\")`", path.read_text()))
    assert named <= arguments | {"passed"}
    if path.name == "SKILL.md":
        told = set(re.findall(r"`(\w+)`", path.read_text()))
        assert {"experiment", "answers", "start", "only", "template", "names"} <= told & arguments


def test_options_in_prose_exist() -> None:
    known = {option for parser in commands().values() for option in vars(parser)["_option_string_actions"]}
    text = "".join(path.read_text() for path in PROSE if path.name not in {"README.md", "CONTRIBUTING.md"})
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - known == OF_SBATCH


@pytest.mark.parametrize("folder", ["templates", "workflows", "examples"])
def test_shipped_folders_are_found_in_this_install(folder: str) -> None:
    assert any(shipped(folder).iterdir())


def readme_tables() -> list[list[list[str]]]:
    """Return the cells of each table in README's section on commands, without its header."""
    section = (ROOT / "README.md").read_text().partition("\n## Commands\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[re.split(r" (?<!\\)\| ", row.strip("| ")) for row in table.splitlines()[2:]] for table in found]


def test_readme_lists_every_command() -> None:
    listed_there = [name for cell, *_ in readme_tables()[0] for name in re.findall(r"`([a-z]+)[ `]", cell)]
    assert sorted(listed_there) == sorted(commands())


def test_readme_names_the_steps_that_accept_each_option() -> None:
    steps = [step.command for step in STEPS] + ["scaffold"]
    accepted = {name: {*vars(commands()[name])["_option_string_actions"]} for name in steps}
    rows = readme_tables()[1]
    named = [option for options, _ in rows for option in re.findall(r"--[a-z-]+", options)]
    assert sorted([*named, "--help", "--dry-run"]) == sorted(set().union(*accepted.values()) - {"-h", "-q"})
    for options, cell in rows:
        names = {*re.findall(r"`(\w+)`", cell)}
        assert "scaffold" in names, cell
        by = {*steps} - (names - {"scaffold"}) if "every step" in cell else names
        for option in re.findall(r"--[a-z-]+", options):
            assert {name for name in steps if option in accepted[name]} == by, option
