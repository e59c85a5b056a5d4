"""Raise an exception anywhere: it becomes a finding, a report and a log entry, and the next call continues."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from scaffold_torchtune.cli import dispatch, main, run_screens, screens
from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.pipeline import apply, diagnosis, journal, prepare, publish, state, steps, validation
from scaffold_torchtune.results import reply
from scaffold_torchtune.system import locking
from scaffold_torchtune.system.files import Tree
from support.experiments import actions, log
from support.mcp_calls import STEPS, Call, with_client
from support.sampling import spread

PLACES: Final[dict[str, tuple[object, str]]] = {
    "parsing": (prepare, "parse_experiment"),
    "planning": (prepare, "make_plan"),
    "rendering": (prepare, "render_runs"),
    "the bundled setup": (prepare, "run_bundled"),
    "preflight": (prepare, "check_plan"),
    "reading a record": (state, "load_record"),
    "saving": (state, "save"),
    "writing": (apply, "write_renders"),
    "the first entries": (journal, "render_entries"),
    "the lock": (locking, "acquire"),
    "setup": (publish, "run_setups"),
    "the second entries": (journal, "setup_entries"),
    "validating": (validation, "validate_plan"),
    "the line that submits": (sbatch, "line"),
    "the verdict": (journal, "closing_entries"),
    "any file": (Tree, "write"),
    "any directory": (Tree, "make_directory"),
}


class Unforeseen(Exception):
    """An exception that no code expects."""


def unforeseen(*_args: Any, **_given: Any) -> Any:
    raise Unforeseen("of its\nown \ud800 making")


def check_reported(problem: dict[str, Any], experiment: Path, *, is_there: bool) -> None:
    """Check that the finding names a report with the traceback, which is in the experiment if possible."""
    assert (problem["code"], problem["severity"]) == ("internal-error", "error")
    assert "Unforeseen" in problem["message"]
    assert "\n" not in problem["message"]
    assert problem["file"] in problem["fix"]
    report = Path(problem["file"])
    assert report.is_relative_to(experiment / ".scaffold") == is_there
    text = report.read_text()
    assert "Traceback" in text
    assert "in unforeseen" in text
    if not is_there:
        report.unlink()


@pytest.mark.long
@pytest.mark.parametrize("place", spread(PLACES, every=2))
def test_an_exception_anywhere_in_a_command_is_reported(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    is_there = not place.startswith("any ")
    for number in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(*PLACES[place], unforeseen)
            assert main(["scaffold", str(experiment), *(["--json"] if number else [])]) == 70
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        if number:
            (problem,) = json.loads(out)["error"]["problems"]
            check_reported(problem, experiment, is_there=is_there)
            assert error == ""
        else:
            assert (out, error.count("\n")) == ("", 1)
            assert "internal-error-" in error or not is_there
        if is_there or "scaffold.log" in {path.name for path in experiment.iterdir()}:
            assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
        assert not (experiment / ".scaffold" / "lock").exists()
    assert 0 <= len(list(experiment.glob(".scaffold/internal-error-*"))) - is_there <= 1, "one for each way there"
    assert main(["scaffold", str(experiment)]) == 0
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


@pytest.mark.long
@pytest.mark.parametrize("place", spread(PLACES, every=3))
def test_an_exception_anywhere_in_a_tool_is_reported_and_the_server_keeps_running(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    calls: list[Call] = [(name, {"experiment": str(experiment)}) for name in STEPS.values()]

    async def use(client: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(*PLACES[place], unforeseen)
            replies = [await client.call_tool(*call) for call in calls]
        problems = [
            each for reply in replies if reply.is_error for each in reply.structured_content["error"]["problems"]
        ]
        found = [each for each in problems if each["code"] == "internal-error"]
        assert found
        assert {each["code"] for each in problems} <= {"internal-error", "not-rendered"}
        check_reported(found[-1], experiment, is_there=not place.startswith("any "))
        for call in calls:
            assert not (await client.call_tool(*call)).is_error

    with_client(experiment, use)
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (["parse"], (steps, "parse")),
        (["plan"], (prepare, "make_plan")),
        (["doctor"], (diagnosis, "_torchtune")),
        (["new"], (run_screens, "create")),
        (["demo"], (dispatch, "write_example")),
        (["skill"], (dispatch, "install_skill")),
        (["scaffold"], (screens, "result")),
        (["scaffold", "--json"], (reply, "of_result")),
    ],
)
def test_each_command_reports_an_unexpected_error(
    experiment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    where: tuple[object, str],
) -> None:
    monkeypatch.setattr(*where, unforeseen)
    name, *options = command
    assert main([name, str(experiment), *options]) == 70
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    (report,) = {Path(found) for found in re.findall(r"/[^\s\",:]*error-\w+\.txt", out + error)}
    assert "in unforeseen" in report.read_text()
    if not report.is_relative_to(experiment):
        report.unlink()
    if name == "scaffold":  # its work was already finished
        assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [
        (["scaffold"], ["SCAFFOLD_TORCHTUNE_COMPLETE"]),
        (["setup"], ["SCAFFOLD_TORCHTUNE_REFUSED"]),
        (["plan", "--template", "no"], []),
    ],
)
def test_an_unexpected_error_after_a_step_is_reported_as_one_after_its_end(
    experiment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    ends: list[str],
) -> None:
    monkeypatch.setattr(prepare, "needed_answers", unforeseen)
    name, *options = arguments
    assert main([name, str(experiment), "--json", *options]) == 70
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    check_reported(problem, experiment, is_there=True)
    assert (actions(experiment)[-1:] if (experiment / "scaffold.log").exists() else []) == ends


@pytest.mark.parametrize("command", ["parse", "plan"])
def test_a_failing_read_only_step_logs_nothing(experiment: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    assert main(["scaffold", str(experiment)]) == 0
    before = log(experiment)
    monkeypatch.setattr(prepare, "parse_experiment", unforeseen)
    assert main([command, str(experiment)]) == 70
    assert log(experiment) == before


def test_a_failure_after_a_verdict_requires_a_new_verdict(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["scaffold", str(experiment)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(validation, "validate_plan", unforeseen)
        assert main(["validate", str(experiment)]) == 70
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    assert main(["validate", str(experiment)]) == 0
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_a_report_is_bounded_and_contains_no_secret(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", "0123456789abcdef")

    def huge(*_args: Any) -> Any:
        raise Unforeseen("0123456789abcdef" + "x" * 1_000_000)

    monkeypatch.setattr(prepare, "parse_experiment", huge)
    assert main(["parse", str(experiment), "--json"]) == 70
    out = capsys.readouterr().out
    assert len(out) < 4000
    (report,) = experiment.glob(".scaffold/internal-error-*")
    assert report.stat().st_size < 300_000
    assert "0123456789abcdef" not in report.read_text() + out


def test_deep_recursion_and_lack_of_memory_are_reported(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(*_args: Any) -> Any:
        return deep()

    def full(*_args: Any) -> Any:
        raise MemoryError

    failing: Callable[..., Any]
    for failing in (deep, full):
        monkeypatch.setattr(prepare, "parse_experiment", failing)
        assert main(["parse", str(experiment)]) == 70
    assert len(list(experiment.glob(".scaffold/internal-error-*"))) == 2


def test_outside_the_roots_nothing_is_written(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "parse", unforeseen)
    assert main(["parse", str(experiment), "--root", str(tmp_path / "elsewhere"), "--json"]) == 70
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    check_reported(problem, experiment, is_there=False)
    assert not (experiment / ".scaffold").exists()


def test_a_call_that_fails_outside_its_step_is_reported(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaffold_torchtune.mcp_server._chosen", unforeseen)

    async def use(client: Any) -> None:
        reply = await client.call_tool("parse_summary", {"experiment": str(experiment)})
        check_reported(reply.structured_content["error"]["problems"][0], experiment, is_there=False)

    with_client(experiment, use)
