"""The locations of the documents and of the experiment, and the roots that allow them."""

from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.pipeline import locate, steps
from scaffold_torchtune.request import Request
from support.experiments import RUNS, change, everything, make_experiment, run_directories
from support.scaffolding import codes, refusal, scaffold
from support.wording import absent


def test_an_experiment_without_a_summary_gets_no_log(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None)
    before = everything(experiment)
    assert codes(refusal(steps.scaffold, experiment)) == ["document-missing"]
    assert everything(experiment) == before


def test_both_documents_are_named_when_both_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None, local=None)
    monkeypatch.chdir(experiment)
    refused = refusal(steps.parse, experiment)
    assert [problem.file for problem in refused.problems] == ["claude.local.md", "experiment_summary.md"]


def test_documents_that_are_too_large_or_not_utf8_are_refused(experiment: Path) -> None:
    (experiment / "experiment_summary.md").write_bytes(b"# x\n\n\xff\n")
    (experiment / "claude.local.md").write_bytes(b" " * 1_000_001)
    refused = refusal(steps.parse, experiment)
    assert codes(refused) == ["document-unreadable", "document-unreadable"]
    assert [(p.file, p.line) for p in refused.problems] == [("claude.local.md", None), ("experiment_summary.md", 3)]


def test_claude_local_md_is_found_in_a_parent_the_project_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "a" / "sweep")
    local = (experiment / "claude.local.md").rename(tmp_path / "claude.local.md")
    other = tmp_path / "a" / "other"
    other.mkdir()

    def account(**given: Any) -> object:
        return steps.parse(Request(experiment, **given)).environment["account"].value

    assert account() == "lab"
    local = local.rename(other / "claude.local.md")
    assert account(local=local) == "lab"
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(other))
    assert account() == "lab"
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(other)
    assert account() == "lab"


def test_an_experiment_below_a_root_is_allowed(experiment: Path, tmp_path: Path) -> None:
    assert scaffold(experiment, roots=(tmp_path / "nowhere", tmp_path)).ok
    assert scaffold(experiment, roots=(experiment,)).ok


def test_an_experiment_outside_the_roots_is_refused_with_the_option_that_adds_one(
    experiment: Path, tmp_path: Path
) -> None:
    before = everything(experiment)
    for step in (steps.parse, steps.plan, steps.render, steps.setup, steps.validate, steps.scaffold):
        refused = refusal(step, experiment, roots=(tmp_path / "sweep2", tmp_path / "swe"))
        assert codes(refused) == ["outside-roots"]
        assert f"--root {tmp_path}" in refused.problems[0].fix
        assert f"SCAFFOLD_TORCHTUNE_ROOT={tmp_path}" in refused.problems[0].fix
    assert everything(experiment) == before


def test_a_linked_experiment_is_checked_by_its_real_path(experiment: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(experiment)
    assert codes(refusal(steps.scaffold, root / "link", roots=(root,))) == ["outside-roots"]
    assert scaffold(root / "link", roots=(experiment,)).ok


@pytest.mark.parametrize("path", ["nothing", "nothing/experiment_summary.md", "~nobody-of-that-name/sweep", "nul\0"])
def test_a_missing_experiment_is_refused(tmp_path: Path, path: str) -> None:
    assert codes(refusal(steps.scaffold, tmp_path / path if path[0] != "~" else Path(path))) == ["not-a-directory"]


def test_an_unprintable_path_is_refused(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "two\nlines", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"})
    before = everything(experiment)
    assert codes(refusal(steps.scaffold, experiment)) == ["unsafe-path"]
    assert everything(experiment) == before


def test_the_summary_file_may_be_given_instead_of_the_directory(experiment: Path) -> None:
    (experiment / "experiment_summary.md").rename(experiment / "plan.md")
    assert scaffold(experiment / "plan.md").ok
    assert run_directories(experiment) == sorted(RUNS)


def test_the_roots_of_a_server_are_the_project_and_the_scratch_directory(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(experiment))
    assert locate.default_roots() == [experiment, Path("/scratch/gpfs/LAB/ada")]
    change(experiment / "claude.local.md", "- **Scratch directory**: `/scratch/gpfs/LAB/ada`\n", "")
    assert locate.default_roots() == [experiment]
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(tmp_path)
    assert locate.default_roots() == [tmp_path]


@pytest.mark.parametrize("path", ["nowhere", "data", "no\0where", "x" * 300])
def test_a_summary_that_names_a_different_directory_is_refused(experiment: Path, path: str) -> None:
    change(experiment / "experiment_summary.md", f"- Experiment: `{experiment}`", f"- Experiment: `{path}`")
    refused = refusal(steps.scaffold, experiment)
    assert set(codes(refused)) <= {"wrong-experiment-dir", "invalid-value"}
    assert not run_directories(experiment)


def test_without_claude_local_md_all_its_missing_fields_are_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "sweep", local=None, without=["- **Epochs"])
    monkeypatch.chdir(experiment)
    before = everything(experiment)
    refused = refusal(steps.plan, experiment)
    told = {(each.code, each.field, each.file) for each in refused.problems}
    assert ("document-missing", None, "claude.local.md") in told
    assert {("missing-field", name, "claude.local.md") for name in ("conda_env", "my_wandb_project")} <= told
    assert ("missing-field", "epochs", "experiment_summary.md") in told
    assert absent(refused.message, len(refused.problems)) == []
    assert refused.ask == ()
    fixes = [each.fix for each in refused.problems if each.field == "conda_env"]
    assert "conda" in fixes[0].lower()
    assert everything(experiment) == before


def test_without_claude_local_md_a_complete_summary_has_only_that_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "sweep", local=None)
    monkeypatch.chdir(experiment)
    given = {"conda_env": "tune", "my_wandb_project": "words"}
    refused = refusal(steps.plan, experiment, answers=given)
    assert codes(refused) == ["document-missing"]
    (experiment / "experiment_summary.md").write_bytes(b"\xff")
    assert codes(refusal(steps.plan, experiment)) == ["document-missing", "document-unreadable"]
