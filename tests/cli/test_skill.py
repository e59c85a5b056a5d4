"""`skill`: the folder for an agent is written completely, and replaced only if it is generated and unedited."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from skills_ref.validator import validate

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import RECORD, install_skill
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.system.files import sha256
from support.command_line import answer, command
from support.mcp_calls import snapshot
from support.permissions import held_to_modes

ROOT = Path(__file__).parents[2]
FILES = ["SKILL.md", *sorted(f"workflows/{path.name}" for path in (ROOT / "workflows").glob("*.md"))]


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    """Return the skill as an earlier call wrote it."""
    return Path(install_skill(tmp_path / "skills").directory)


def codes(directory: Path) -> list[tuple[str, str | None]]:
    """Return the code and the file of every problem of a refused call."""
    with pytest.raises(Refused) as refused:
        install_skill(directory)
    return [(problem.code, problem.file) for problem in refused.value.problems]


def test_the_folder_is_a_valid_skill_with_working_links(skill: Path) -> None:
    assert validate(skill) == []
    assert [name for name in sorted(snapshot(skill)) if (skill / name).is_file()] == [RECORD, *FILES]
    for name in FILES:
        assert (skill / name).read_bytes() == (ROOT / name).read_bytes()
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", (skill / name).read_text()) if ":" not in link]
        assert not [link for link in links if not (skill / name).parent.joinpath(link).resolve().is_file()]


@pytest.mark.long
def test_the_default_directory_is_that_of_claude_code(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CLAUDE_CONFIG_DIR"}
    done = command("skill", env=environment | {"HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    wrote, following = done.stdout.splitlines()
    assert wrote.endswith(f" {tmp_path}/.claude/skills/scaffold-torchtune: {', '.join(FILES)}")
    assert following.endswith(": claude mcp add --scope user torchtune -- scaffold-torchtune serve")
    assert (tmp_path / ".claude/skills/scaffold-torchtune/SKILL.md").is_file()
    done = command("skill", "--json", env=environment | {"CLAUDE_CONFIG_DIR": str(tmp_path / "config")})
    assert json.loads(done.stdout)["directory"] == str(tmp_path / "config/skills/scaffold-torchtune")


def test_the_skill_folder_itself_can_be_specified(tmp_path: Path) -> None:
    assert install_skill(tmp_path / "scaffold-torchtune").directory == str(tmp_path / "scaffold-torchtune")


def test_a_second_call_changes_nothing(skill: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_ctime_ns for path in (skill, *skill.rglob("*"))}
    assert main(["skill", str(skill.parent), "--json"]) == 0
    told = answer(capsys)
    assert str(skill) in told.pop("summary")
    assert told == {"directory": str(skill), "files": FILES, "unchanged": True, "replaced": False}
    assert main(["skill", str(skill.parent)]) == 0
    assert f" {skill}: SKILL.md, " in capsys.readouterr().out
    assert {path: path.stat().st_ctime_ns for path in (skill, *skill.rglob("*"))} == before


def test_an_unedited_skill_of_a_different_version_is_replaced_completely(
    skill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = snapshot(skill)
    old = {"SKILL.md": b"as it was\n", "workflows/gone.md": b"no more\n"}
    for file in FILES[1:]:
        (skill / file).unlink()
    for name, data in old.items():
        (skill / name).write_bytes(data)
    record = {"version": "0.0.1", "files": {name: sha256(data) for name, data in old.items()}}
    (skill / RECORD).write_text(json.dumps(record))
    assert main(["skill", str(skill.parent)]) == 0
    assert f" {skill}: " in capsys.readouterr().out
    assert snapshot(skill) == now
    assert list(skill.parent.iterdir()) == [skill], "nothing is left beside it"


def test_a_removed_file_is_restored(skill: Path) -> None:
    (skill / "workflows/torchtune.md").unlink()
    result = install_skill(skill.parent)
    assert (result.replaced, result.unchanged) == (True, False)
    assert (skill / "workflows/torchtune.md").is_file()


def edit(skill: Path) -> str:
    (skill / "SKILL.md").write_text("mine\n")
    return "SKILL.md"


def add(skill: Path) -> str:
    (skill / "notes.md").write_text("mine\n")
    return "notes.md"


def link(skill: Path) -> str:
    """Replace a file by a link to the same bytes."""
    (skill / "SKILL.md").rename(skill.parent / "elsewhere.md")
    (skill / "SKILL.md").symlink_to(skill.parent / "elsewhere.md")
    return "SKILL.md"


@pytest.mark.parametrize("change", [edit, add, link])
def test_an_edited_skill_is_reported_and_kept(skill: Path, change: Callable[[Path], str]) -> None:
    name = change(skill)
    before = snapshot(skill.parent)
    assert codes(skill.parent) == [("edited-output", str(skill / name))]
    assert snapshot(skill.parent) == before


@pytest.mark.parametrize("record", [None, "not json", "[]", '{"files": 5}'])
def test_a_folder_without_a_valid_record_is_kept(skill: Path, record: str | None) -> None:
    (skill / RECORD).unlink() if record is None else (skill / RECORD).write_text(record)
    before = snapshot(skill)
    assert ("edited-output", str(skill / "SKILL.md")) in codes(skill.parent)
    assert snapshot(skill) == before


def test_a_path_that_is_not_a_folder_is_kept(tmp_path: Path, skill: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/scaffold-torchtune").symlink_to(skill)
    assert codes(tmp_path / "links") == [("edited-output", str(tmp_path / "links/scaffold-torchtune"))]
    (tmp_path / "files").mkdir()
    (tmp_path / "files/scaffold-torchtune").write_text("mine\n")
    assert codes(tmp_path / "files") == [("edited-output", str(tmp_path / "files/scaffold-torchtune"))]


def test_an_unwritable_directory_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    with held_to_modes():
        assert main(["skill", str(tmp_path / "skills")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert f" {tmp_path}/skills/scaffold-torchtune: Permission denied" in error
    assert "write-failed" in error


def test_a_user_without_a_home_must_specify_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(Refused, match="no home directory"):
        install_skill()
