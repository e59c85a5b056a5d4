"""Refusals of the five tools: a missing or damaged experiment, one outside the roots, and damaged state."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import make_experiment
from support.mcp_calls import STEPS, call, refusal, snapshot
from support.sampling import spread
from support.wording import absent


def test_missing_fields_are_a_structured_refusal_that_names_all(root: Path, sweep: Path) -> None:
    local, summary = sweep / "claude.local.md", sweep / "experiment_summary.md"
    local.write_text(local.read_text().replace("- **Default conda environment**: `cruijff`\n", ""))
    summary.write_text(summary.read_text().replace("- **Epochs:** 2\n", "- **Epochs:** many\n"))
    before = snapshot(root)
    message, problems = refusal(root, "parse_summary", {"experiment": str(sweep)})
    assert absent(message, 2) == []
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
def test_an_experiment_outside_the_roots_is_refused_with_the_option_that_adds_one(
    tmp_path: Path, root: Path, how: str
) -> None:
    outside = make_experiment(tmp_path / "outside")
    experiment = OUTSIDE[how](root, outside)
    before = snapshot(tmp_path)
    results = call(root, *((name, {"experiment": experiment}) for name in STEPS.values()))
    for result in results:
        (problem,) = (result.structured_content or {})["error"]["problems"]
        assert problem["code"] == "outside-roots"
        assert f"--root {tmp_path}" in problem["fix"]
        assert f"SCAFFOLD_TORCHTUNE_ROOT={tmp_path}" in problem["fix"]
    assert snapshot(tmp_path) == before


def test_a_summary_linked_to_a_file_outside_the_roots_is_not_followed(tmp_path: Path, root: Path, sweep: Path) -> None:
    outside = make_experiment(tmp_path / "outside")
    (sweep / "experiment_summary.md").unlink()
    (sweep / "experiment_summary.md").symlink_to(outside / "experiment_summary.md")
    _, (problem,) = refusal(root, "parse_summary", {"experiment": str(sweep)})
    assert (problem["code"], problem["file"]) == ("document-unreadable", "experiment_summary.md")


def test_special_files_instead_of_the_experiment_are_refused_immediately(root: Path, sweep: Path) -> None:
    os.mkfifo(root / "fifo")
    (sweep / "experiment_summary.md").unlink()
    os.mkfifo(sweep / "experiment_summary.md")
    for experiment in (root / "fifo", sweep, sweep / "experiment_summary.md", Path("/dev/null"), Path("/dev/zero")):
        message, problems = refusal(root, "plan_runs", {"experiment": str(experiment)})
        assert message
        assert problems
        assert all(problem["fix"] for problem in problems)


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        ("nothing", "outside-roots", ["'nothing'", "HERE/nothing'"]),
        ("~/nothing", "outside-roots", ["'~/nothing'", "HOME/nothing'"]),
        ("ROOT/nothing", "not-a-directory", ["'ROOT/nothing'"]),
        ("HOME/nothing", "outside-roots", ["'HOME/nothing'"]),
        ("here", "outside-roots", ["'here'", "HERE/here'"]),
        ("~/there", "outside-roots", ["'~/there'", "HOME/there'"]),
        ("ROOT/link", "outside-roots", ["'ROOT/link'", "'HOME/there'"]),
    ],
)
def test_a_wrong_path_is_named_as_given_and_the_same_call_is_not_the_next(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, given: str, code: str, named: list[str]
) -> None:
    home, here = tmp_path / "home", tmp_path / "current"
    (home / "there").mkdir(parents=True)
    (here / "here").mkdir(parents=True)
    (root / "link").symlink_to(home / "there")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))

    def placed(text: str) -> str:
        return text.replace("ROOT", str(root)).replace("HOME", str(home)).replace("HERE", str(here))

    (result,) = call(root, ("plan_runs", {"experiment": placed(given)}))
    data = result.structured_content or {}
    (problem,) = data["error"]["problems"]
    assert (problem["code"], problem["field"]) == (code, "experiment")
    assert not absent(problem["message"], *map(placed, named))
    assert f"--root {home} " not in problem["fix"], "not all files of a user"
    assert ("--root" in problem["fix"]) != given.endswith("nothing")
    assert data["next"].keys() == {"first"}


@pytest.mark.parametrize("name", ["claude.local.md", "scaffold.log", "rank8_lr1e-5/finetune.yaml"])
def test_another_file_of_an_experiment_is_not_its_summary(root: Path, sweep: Path, name: str) -> None:
    steps.scaffold(Request(sweep))
    (result,) = call(root, ("plan_runs", {"experiment": str(sweep / name)}))
    data = result.structured_content or {}
    (problem,) = data["error"]["problems"]
    assert (problem["code"], problem["field"]) == ("not-a-directory", "experiment")
    assert f"specify {sweep}," in problem["fix"]
    assert "ask" not in data["error"]
    assert data["next"].keys() == {"first"}


# --- damaged directories --------------------------------------------------------------------------------------------


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


@pytest.mark.long
@pytest.mark.parametrize("how", spread(BROKEN, every=3))
def test_a_damaged_state_is_a_structured_refusal_with_a_place(root: Path, sweep: Path, how: str) -> None:
    call(root, ("render_yaml", {"experiment": str(sweep)}))
    BROKEN[how](sweep)
    for name in ("plan_runs", "render_yaml", "run_setup", "validate"):
        message, problems = refusal(root, name, {"experiment": str(sweep)})
        assert "Error: " not in message
        assert problems
        assert all(problem["file"] and problem["fix"] for problem in problems)


@pytest.mark.parametrize("document", ["experiment_summary.md", "claude.local.md"])
def test_a_document_of_unreadable_bytes_is_a_structured_refusal(root: Path, sweep: Path, document: str) -> None:
    (sweep / document).write_bytes(b"# title\n\xff\xfe\n")
    for name in ("parse_summary", "plan_runs", "render_yaml"):
        _, (problem,) = refusal(root, name, {"experiment": str(sweep)})
        assert (problem["code"], problem["file"], problem["line"]) == ("document-unreadable", document, 2)


def test_an_unexpected_error_is_a_structured_reply(
    root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_request: object) -> None:
        raise ZeroDivisionError("of its\nown making")

    monkeypatch.setattr(steps, "validate", fails)
    (result,) = call(root, ("validate", {"experiment": str(sweep)}))
    error = (result.structured_content or {})["error"]
    assert absent(error["message"], "validate", "ZeroDivisionError: of its\\nown making") == []
    assert [problem["code"] for problem in error["problems"]] == ["internal-error"]
    assert not [record for record in caplog.records if record.exc_info]
