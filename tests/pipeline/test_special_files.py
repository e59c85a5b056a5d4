"""Devices, pipes, link loops and unusual names in the paths of documents, templates and outputs."""

import itertools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.system import templating
from support.command_line import command
from support.experiments import RUNS, everything, make_experiment
from support.mcp_calls import call
from support.permissions import held_to_modes
from support.sampling import spread
from support.scaffolding import codes, refusal

pytestmark = pytest.mark.long

OUTPUTS = "/scratch/gpfs/LAB/ada/ck-outputs"
NOT_UTF8 = os.fsdecode(b"x\xff")
LONG = "e\u0301" * 120  # of combining characters: 240 characters, and more bytes than a name may have


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


def _sparse(file: Path) -> None:
    file.touch()
    os.truncate(file, 10 * 2**30)


def _kernel(file: Path) -> None:
    file.symlink_to("/proc/self/pagemap")  # a regular file without a size, and without an end


def _link(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


THINGS: dict[str, Callable[[Path], object]] = {
    "loop": _loop,
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "sparse": _sparse,
    "kernel": _kernel,
    "zero": _link("/dev/zero"),
    "messages": _link("/dev/kmsg"),
    "messages of the kernel": _link("/proc/kmsg"),
    "terminal": _link("/dev/tty"),
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(
    ("name", "option"),
    [("l.md", "local"), ("t.yaml", "template"), ("t.yaml.j2", "template"), ("s.py", "setup_script")],
)
def test_a_special_file_is_refused_as_an_option(
    experiment: Path, tmp_path: Path, thing: str, name: str, option: str
) -> None:
    THINGS[thing](tmp_path / name)
    given: dict[str, Any] = {option: str(tmp_path / name) if option == "setup_script" else tmp_path / name}
    before = everything(experiment)
    refused = refusal(steps.plan, experiment, **given)
    expected = {
        "document-missing", "document-unreadable", "missing-template", "template-error", "setup-script-missing",
        "script-unasked", "activation-failed", "environment-missing", "setup-would-fail",
    }  # fmt: skip
    assert set(codes(refused)) <= expected
    assert everything(experiment) == before


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["experiment_summary.md", "experiment_summary.yaml", "claude.local.md"])
def test_a_special_file_is_refused_as_a_document(experiment: Path, thing: str, name: str) -> None:
    (experiment / name).unlink(missing_ok=True)
    THINGS[thing](experiment / name)
    refused = refusal(steps.plan, experiment)
    assert set(codes(refused)) <= {"document-missing", "document-unreadable", "missing-field"}


@pytest.mark.parametrize("name", [LONG, "a/" * 3000, f"{LONG}/x.yaml"])
@pytest.mark.parametrize("option", ["local", "template"])
def test_a_too_long_name_is_refused(experiment: Path, name: str, option: str) -> None:
    given: dict[str, Any] = {option: experiment / name}
    assert set(codes(refusal(steps.plan, experiment, **given))) <= {
        "document-missing", "document-unreadable", "missing-template"
    }  # fmt: skip
    assert codes(refusal(steps.plan, experiment / name)) == ["not-a-directory"]


@pytest.mark.parametrize("option", ["local", "template", "setup_script"])
def test_a_file_that_is_not_utf8_is_refused_as_an_option(experiment: Path, tmp_path: Path, option: str) -> None:
    file = tmp_path / NOT_UTF8
    file.write_text("lr: 1e-5\n")
    given: dict[str, Any] = {option: str(file) if option == "setup_script" else file}
    refused = refusal(steps.plan, experiment, **given)
    assert [(one.code, one.field) for one in refused.problems] == [("unsafe-path", option)]


@pytest.fixture(params=["experiment", "run", "data"])
def with_odd_names(done: Path, request: pytest.FixtureRequest) -> Path:
    """Return a scaffold with names that are not UTF-8 in one of its directories."""
    folder = {"experiment": done, "run": done / RUNS[0], "data": done / "data"}[request.param]
    (folder / NOT_UTF8).mkdir()
    (folder / f"{NOT_UTF8}.slurm").touch()
    return done


def test_every_command_reports_names_that_are_not_utf8(
    with_odd_names: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ("parse", "plan", "render", "setup", "validate", "scaffold")
    for step, json_wanted in itertools.product(steps, ((), ("--json",))):
        assert main([step, str(with_odd_names), *json_wanted]) in {0, 1, 2}
        out, error = capsys.readouterr()
        assert "internal-error" not in out + error
        assert not json_wanted or json.loads(out)


@pytest.mark.parametrize("options", [["--json"], pytest.param([], marks=pytest.mark.long)])
def test_a_process_reports_names_that_are_not_utf8(with_odd_names: Path, options: list[str]) -> None:
    told = command("validate", with_odd_names, *options)
    assert told.returncode in {0, 1}
    assert (told.stderr, bool(told.stdout)) == ("", True)


def test_the_tools_report_names_that_are_not_utf8(tmp_path: Path, with_odd_names: Path) -> None:
    experiment = with_odd_names
    replies = call(tmp_path, *((tool, {"experiment": str(experiment)}) for tool in ("plan_runs", "validate")))
    assert all(reply.structured_content for reply in replies)
    assert not any("unexpectedly" in str(reply.structured_content) for reply in replies)


@pytest.mark.parametrize("thing", ["file", "fifo", "/dev/null"])
@pytest.mark.parametrize("below", ["", "/below/it"])
def test_an_output_base_that_is_not_a_directory_is_refused(tmp_path: Path, thing: str, below: str) -> None:
    base = tmp_path / "base"
    if thing == "file":
        base.touch()
    elif thing == "fifo":
        os.mkfifo(base)
    else:
        base.symlink_to(thing)
    experiment = make_experiment(tmp_path / "e", replace={OUTPUTS: f"{base}{below}"})
    refused = refusal(steps.plan, experiment)
    (found,) = [one for one in refused.problems if one.code == "output-not-directory"]
    assert (found.field, found.actual) == ("output_dir_base", str(base))
    assert found.line


def test_an_output_base_missing_on_this_machine_is_accepted(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.symlink_to("/no/such/file/system")
    experiment = make_experiment(tmp_path / "e", replace={OUTPUTS: str(base)})
    assert steps.plan(Request(experiment)).runs


@pytest.mark.parametrize("below", ["", "/below/it"])
def test_an_output_base_without_write_permission_is_a_warning(tmp_path: Path, below: str) -> None:
    base = tmp_path / "base"
    base.mkdir(mode=0o555)
    experiment = make_experiment(tmp_path / "e", replace={OUTPUTS: f"{base}{below}"})
    with held_to_modes():
        found = [one for one in steps.plan(Request(experiment)).all_findings() if one.code == "write-failed"]
    assert [(one.field, one.actual, one.severity) for one in found] == [("output_dir_base", str(base), "warning")]
    assert found[0].line
    base.chmod(0o755)
    with held_to_modes():
        again = steps.plan(Request(experiment)).all_findings()
    assert "write-failed" not in [one.code for one in again]


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def test_an_endless_template_is_interrupted_when_the_call_is_cancelled(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml.j2").write_text(ENDLESS)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        steps.plan(Request(experiment, template=tmp_path / "own.yaml.j2", stop=stop))


@pytest.mark.parametrize(
    "source", spread(["{{ 'x' * 10**10 }}", ENDLESS, "{% for i in [1] %}" * 99 + "{% endfor %}" * 99], every=2)
)
def test_a_template_that_exceeds_its_limits_is_refused(
    experiment: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml.j2").write_text(source)
    short = templating.Limits(seconds=1)
    monkeypatch.setattr(templating, "Limits", lambda: short)
    before = everything(experiment)
    refused = refusal(steps.scaffold, experiment, template=tmp_path / "own.yaml.j2")
    assert [(one.code, one.field) for one in refused.problems] == [("template-error", "template")]
    assert set(everything(experiment)) - set(before) <= {"scaffold.log"}
