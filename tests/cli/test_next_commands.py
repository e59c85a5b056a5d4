"""The commands and calls that follow a plan repeat its options, so that only the documents change the plan."""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from support.command_line import answer
from support.document_forms import YAML
from support.experiments import change
from support.mcp_calls import call
from support.plan_files import change_plan
from support.scaffolding import codes, refusal, scaffold
from support.setup_scripts import MAKE, script
from support.wording import absent

pytestmark = pytest.mark.long

SUMMARY = "experiment_summary.md"
PROMPT = ('"Capitalize the given word"', '"Say it loud"')
COMMAND = re.compile(r"scaffold-torchtune [^`\n]+")


def frozen(experiment: Path) -> Plan:
    with Tree(experiment) as tree:
        return existing_plan(tree)


def values(plan: Plan) -> dict[str, dict[str, object]]:
    return {run.directory: {name: each.value for name, each in run.settings.items()} for run in plan.runs}


def with_template(experiment: Path) -> dict[str, Any]:
    template = experiment.parent / "my templates" / "setup_finetune_json.yaml"
    template.parent.mkdir()
    template.write_text("lora_dropout: 0.1\nseed: 3\ntrain_on_input: true\n")
    return {"template": template}


def with_answer(experiment: Path) -> dict[str, Any]:
    change(experiment / SUMMARY, "- **Epochs:** 2\n", "")
    return {"answers": {"epochs": "2"}}


def with_names(_: Path) -> dict[str, Any]:
    return {"names": "table"}


def with_local(experiment: Path) -> dict[str, Any]:
    other = experiment.parent / "other.local.md"
    other.write_text((experiment / "claude.local.md").read_text().replace("0:59:00", "0:45:00"))
    return {"local": other}


def with_script(experiment: Path) -> dict[str, Any]:
    return {"setup_script": str(script(experiment.parent, MAKE)), "activate": False}


WAYS: dict[str, Callable[[Path], dict[str, Any]]] = {
    each.__name__: each for each in (with_template, with_answer, with_names, with_local, with_script)
}


@pytest.fixture(params=WAYS)
def planned(request: pytest.FixtureRequest, experiment: Path) -> tuple[Path, dict[str, Any]]:
    """Return an experiment that was scaffolded with an option, and whose prompt then changed; and the option."""
    given = WAYS[request.param](experiment)
    assert scaffold(experiment, **given).ok
    change(experiment / SUMMARY, *PROMPT)
    return experiment, given


def with_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs of SLURM that accept everything and know no job on PATH."""
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def follow(line: str, experiment: Path, given: dict[str, Any]) -> None:
    """Run a printed command, and check that only the changed document changes the plan."""
    before = frozen(experiment)
    program, command, *words = shlex.split(line)
    more = ["--no-activate"] * ("--no-activate" not in words and given.get("activate") is False)
    assert (program, main(["scaffold" if command == "plan" else command, *words, *more])) == ("scaffold-torchtune", 0)
    after = frozen(experiment)
    assert after.options == before.options
    assert values(after) == {run: each | {"system_prompt": "Say it loud"} for run, each in values(before).items()}


@pytest.mark.parametrize("command", ["validate", "setup", "submit"])
def test_the_next_command_repeats_the_options_of_the_plan(
    planned: tuple[Path, dict[str, Any]],
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment, given = planned
    if command == "submit":
        with_slurm(experiment.parent / "bin", monkeypatch)
    assert main([command, str(experiment)]) != 0
    said = capsys.readouterr()
    follow(COMMAND.findall(said.out + said.err)[-1], experiment, given)


def test_the_command_in_the_status_repeats_the_options_of_the_plan(planned: tuple[Path, dict[str, Any]]) -> None:
    experiment, given = planned
    found = status(Request(experiment))
    (line,) = COMMAND.findall(found.changed_told)
    assert line in found.summary
    follow(line, experiment, given)


def test_the_plan_after_add_repeats_the_options_of_the_plan(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = with_answer(experiment) | with_template(experiment)
    assert scaffold(experiment, **given).ok
    before = values(frozen(experiment))
    assert main(["add", str(experiment), "--rank", "32"]) == 0
    (line,) = COMMAND.findall(capsys.readouterr().out)
    assert main(["scaffold", *shlex.split(line)[2:]]) == 0
    after = values(frozen(experiment))
    assert (len(after), {run: after[run] for run in before}) == (len(before) + 2, before)


def test_run_names_of_the_yaml_form_are_not_mentioned_and_another_way_of_naming_is(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = experiment.parent / "yaml"
    (folder / "data").mkdir(parents=True)
    (folder / "claude.local.md").write_text((experiment / "claude.local.md").read_text())
    (folder / "data" / "words.json").write_text((experiment / "data" / "words.json").read_text())
    (folder / "experiment_summary.yaml").write_text(YAML)
    for names in (None, "varying"):
        assert scaffold(folder, names=names).ok
        change(folder / "experiment_summary.yaml", "epochs: ", "epochs: 1")
        assert main(["validate", str(folder)]) == 1
        line = COMMAND.findall(capsys.readouterr().out)[-1]
        assert shlex.split(line)[3:] == (["--names", "varying"] if names else [])
        change(folder / "experiment_summary.yaml", "epochs: 1", "epochs: ")


def test_nothing_is_repeated_if_the_plan_has_no_options(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(done / SUMMARY, *PROMPT)
    assert main(["validate", str(done), "--local", str(done / "claude.local.md")]) == 1
    line = COMMAND.findall(capsys.readouterr().out)[-1]
    assert shlex.split(line)[1:3] == ["scaffold", str(done)]
    assert frozen(done).options.local is None
    assert "plan " + str(done) + "`" in status(Request(done)).changed_told


def test_options_of_the_command_itself_have_priority(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = (with_local(experiment) for _ in range(2))
    assert scaffold(experiment, **own).ok
    given = other["local"].rename(experiment.parent / "third.local.md")
    change(given, "`cruijff`", "`other`")
    assert main(["validate", str(experiment), "--local", str(given)]) == 1
    words = shlex.split(COMMAND.findall(capsys.readouterr().out)[-1])
    assert words[words.index("--local") + 1 :] == [str(given)]


def test_a_given_local_file_is_read_again_by_steps_that_follow_the_plan(experiment: Path) -> None:
    given = with_local(experiment)
    assert scaffold(experiment, **given).ok
    assert steps.validate(Request(experiment)).passed
    assert status(Request(experiment)).changed_documents == ()
    change(given["local"], "0:45:00", "0:30:00")
    result = steps.validate(Request(experiment))
    assert [each.code for each in result.findings if each.severity == "error"] == ["plan-outdated"]
    assert not absent("".join(each.message for each in result.findings), "'0:45:00' -> '0:30:00'")
    assert status(Request(experiment)).changed_documents == ("other.local.md",)


def test_the_next_call_repeats_the_options_of_the_plan(experiment: Path) -> None:
    given = with_answer(experiment) | with_template(experiment) | with_local(experiment) | {"names": "table"}
    assert scaffold(experiment, **given).ok
    change(experiment / SUMMARY, *PROMPT)
    where = {"experiment": str(experiment)}
    before = frozen(experiment)
    failed, refused = call(experiment, ("validate", where), ("run_setup", where))
    following = (refused.structured_content or {})["next"]
    stored = {name: str(each) if isinstance(each, Path) else each for name, each in given.items()}
    assert (following["tool"], following["arguments"]) == ("plan_runs", where | stored)
    told = (failed.structured_content or {})["next"]["first"]
    assert not absent(told, *(f'"{name}":' for name in stored))
    render = call(experiment, ("plan_runs", following["arguments"]))[0].structured_content or {}
    call(experiment, (render["next"]["tool"], render["next"]["arguments"]))
    after = frozen(experiment)
    assert after.options == before.options
    assert values(after) == {run: each | {"system_prompt": "Say it loud"} for run, each in values(before).items()}


def test_an_external_script_is_not_an_argument_of_a_call(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = with_script(experiment) | with_template(experiment)
    assert scaffold(experiment, **given).ok
    change(experiment / SUMMARY, *PROMPT)
    assert main(["setup", str(experiment), "--json"]) == 2
    following = answer(capsys)["next"]
    assert following["tool"] == "plan_runs"
    assert following["arguments"] == {"experiment": str(experiment), "template": str(given["template"])}


def test_a_claude_local_md_of_a_stored_plan_must_be_an_absolute_path(experiment: Path) -> None:
    assert scaffold(experiment, **with_local(experiment)).ok
    change_plan(experiment, lambda plan: plan["options"].update(local="other.local.md"))
    assert codes(refusal(steps.validate, experiment)) == ["document-unreadable"]


EPOCHS = ("- **GPUs:**", "- **Epochs:** 3\n- **GPUs:**")
"""A change of the summary that gives the epochs, which a user had answered."""


def answered(experiment: Path) -> None:
    """Scaffold an experiment with two answers; the summary then gives another value for one of them."""
    change(experiment / SUMMARY, "- **Epochs:** 2\n", "")
    change(experiment / "claude.local.md", "- **Default conda environment**: `cruijff`\n", "")
    assert scaffold(experiment, answers={"epochs": "2", "conda_env": "mine"}).ok
    change(experiment / SUMMARY, *EPOCHS)


def epochs(experiment: Path) -> set[object]:
    return {values(frozen(experiment))[run]["epochs"] for run in values(frozen(experiment))}


@pytest.mark.parametrize(
    "words",
    [
        ["setup"],
        ["validate"],
        ["scaffold", "--answer", "epochs=2", "--answer", "conda_env=mine"],
        ["plan", "--answer=epochs=2", "--answer=conda_env=mine"],
        ["plan", "--answer", "epochs=3", "--ans", "conda_env=mine"],
        ["plan", "--ans", "epochs=3", "--answer", "conda_env=mine", "--answer", "foo=1"],
        ["plan", "--answer", "epochs=2", "--answer", "conda_env=mine", "--json"],
    ],
)
def test_the_next_command_omits_an_answer_that_the_documents_give(
    experiment: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    answered(experiment)
    main([words[0], str(experiment), *words[1:]])
    said = capsys.readouterr()
    if "--json" in words:
        given = json.loads(said.out)["next"]["arguments"]
        assert given == {"experiment": str(experiment), "answers": {"conda_env": "mine"}}
        return
    line = shlex.split(COMMAND.findall(said.out + said.err)[-1])
    assert main(["scaffold", *line[2:]]) == 0
    assert frozen(experiment).options.answers == {"conda_env": "mine"}
    assert epochs(experiment) == {3}


def test_the_next_command_omits_an_answer_that_was_refused(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2\n", "")
    assert main(["plan", str(experiment), "--answer", "epochs=two", "--no-activate"]) == 2
    line = COMMAND.findall(capsys.readouterr().err)[-1]
    assert shlex.split(line)[1:] == ["plan", str(experiment), "--no-activate"]


def test_the_status_omits_an_answer_that_the_documents_give(experiment: Path) -> None:
    answered(experiment)
    (line,) = COMMAND.findall(status(Request(experiment)).changed_told)
    assert shlex.split(line)[1:] == ["plan", str(experiment), "--answer", "conda_env=mine"]


@pytest.mark.parametrize("tool", ["run_setup", "plan_runs"])
def test_the_next_call_omits_an_answer_that_the_documents_give(experiment: Path, tool: str) -> None:
    answered(experiment)
    where = {"experiment": str(experiment)}
    given = {"answers": {"epochs": 2, "conda_env": "mine"}} if tool == "plan_runs" else {}
    (refused,) = call(experiment, (tool, where | given))
    following = (refused.structured_content or {})["next"]
    assert refused.is_error
    assert (following["tool"], following["arguments"]) == ("plan_runs", where | {"answers": {"conda_env": "mine"}})
    assert not call(experiment, ("plan_runs", following["arguments"]))[0].is_error


def test_a_failed_validation_omits_an_answer_that_the_documents_give(experiment: Path) -> None:
    answered(experiment)
    (failed,) = call(experiment, ("validate", {"experiment": str(experiment)}))
    told = (failed.structured_content or {})["next"]["first"]
    assert not absent(told, '{"answers":{"conda_env":"mine"}}')
