"""Asks SLURM's own sbatch whether it would take the scripts: `sbatch --test-only`, which submits nothing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.pipeline import submit
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.said import FilesByRun, Said
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.layout import FINETUNE_SLURM
from scaffold_torchtune.shared.text import shown
from scaffold_torchtune.validate import submission
from scaffold_torchtune.validate.submission import Answer, Asked

SWITCH = "SCAFFOLD_TORCHTUNE_SBATCH"
"""The environment variable that is `off` where sbatch must not be asked."""

DEADLINE = 30.0
"""How long one call of sbatch may take, in seconds; a controller that answers needs far less than one."""

# Variables that sbatch takes for a directive (sbatch(1), INPUT ENVIRONMENT VARIABLES), and the directive.
_STANDS_FOR = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_CLUSTERS": "clusters",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
}


def ask(root: Path, plan: Plan, files: FilesByRun, request: Request) -> Said:
    """What sbatch says of every script that can be read; scripts that ask for the same are asked for once.

    Nothing, where there is no sbatch or the operator switched it off. After the first answer that no SLURM works here
    there is no further call.
    """
    said = Said()
    sbatch = program(request)
    groups = _groups(plan, files) if sbatch else {}
    for done, (asked, runs) in enumerate(groups.items()):
        answer = _answer(str(sbatch), root, str(files[runs[0].directory].texts[FINETUNE_SLURM]), *asked)
        if answer.verdict == "unavailable":
            said.whole.append(submission.unavailable(answer.said, len(groups) - done, len(groups)))
            break
        if answer.verdict != "taken":
            for run in runs:
                if script := files[run.directory].script:
                    said.of(run.directory, submission.refusal(run, script, answer, submit.options(run)))
        request.told("sbatch", done + 1, len(groups))
    return said


def program(request: Request) -> str | None:
    """The sbatch of PATH, unless the operator switched it off."""
    found = shutil.which("sbatch") if request.sbatch and os.environ.get(SWITCH) != "off" else None
    return os.path.abspath(found) if found else None  # noqa: PTH100 - a link is called by its own name


def _groups(plan: Plan, files: FilesByRun) -> dict[tuple[Asked, Asked], list[PlannedRun]]:
    """The runs for which the same is asked, by directives, and by options of the submit line."""
    groups: dict[tuple[Asked, Asked], list[PlannedRun]] = {}
    for run in plan.runs:
        script = files[run.directory].script
        asked = submission.asked(script) if script else None
        if asked is not None:
            groups.setdefault((asked, tuple(submit.options(run))), []).append(run)
    return groups


def _answer(sbatch: str, root: Path, script: str, asked: Asked, options: Asked) -> Answer:
    env = dict(_environment((*asked, *options)))
    configuration = env.get("SLURM_CONF", "")
    if configuration and not Path(configuration).exists():  # sbatch would wait a minute for it
        return Answer("unavailable", f"SLURM_CONF names {shown(configuration)}, which is not there")
    try:
        command = [sbatch, "--test-only", *submit.words(options)]
        done = processes.run(command, root, DEADLINE, given=script.encode(), env=env)
    except OSError as error:
        return Answer("unavailable", f"sbatch could not be started: {error.strerror}")
    if done.ended:
        return Answer("unavailable", f"sbatch did not answer within {DEADLINE:g} s")
    return submission.answer(done.status, done.output)


def _environment(asked: Asked) -> Iterator[tuple[str, str]]:
    """Our environment; of sbatch's own variables, those that stand for a directive which the script does not have.

    A variable would win over the script, so that the script's own word would not be tested.
    """
    given = {name for name, _ in asked}
    for name, value in processes.environment().items():
        if not name.startswith("SBATCH_") or (name in _STANDS_FOR and _STANDS_FOR[name] not in given):
            yield name, value
