"""The proof that finetune.slurm starts the planned recipe in the planned environment."""

import re
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.shared.layout import FINETUNE_YAML
from scaffold_torchtune.torchtune_facts import load
from scaffold_torchtune.validate import exports, habits, resuming
from scaffold_torchtune.validate.arrivals import output_dir
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Command, Script
from scaffold_torchtune.validate.values import below, normal_path, quoted

SETTINGS: Final = exports.SETTINGS | {"conda_env", "custom_recipe", "modules", "venv"}
"""Settings whose arrival in the commands of finetune.slurm is known."""

_PREFIXES: Final = frozenset({"!", "command", "do", "else", "env", "exec", "if", "nohup", "srun", "then", "time", "{"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_PROCESSES: Final = frozenset({"--nproc_per_node", "--nproc-per-node"})
_SUBMITTED: Final = frozenset({".", "$PWD", "$SLURM_SUBMIT_DIR", "${SLURM_SUBMIT_DIR}"})  # where sbatch was called
_ACTIVATE: Final = "/bin/activate"
# `conda activate` is a function of the shell: `eval "$(conda shell.bash hook)"` or `source .../conda.sh` makes it.
_HOOK: Final = re.compile(r"\bshell\b.*\bhook\b|/conda\.sh$")
_FLAGS: Final = frozenset({"--standalone", "--no-python", "--no_python", "--run-path", "--run_path", "-m", "--module"})
_MAIN: Final = ".__main__"


def check(report: Report, script: Script) -> str | None:
    """Check the commands of finetune.slurm against the plan.

    Args:
        report: takes the findings.
        script: the script as read.

    Returns:
        The recipe that it must start; None where it starts none, or one of its own.
    """
    stripped = [Command(bare(command.words), command.line) for command in script.commands]
    plain = [command for command in stripped if command.words]
    starts = [command for command in plain if command.words[:2] == ("tune", "run")]
    if not starts:
        report.add("missing-value", "no command starts `tune run`, so nothing is trained", field="tune run")
        return None
    for command in starts[1:]:
        message = f"`tune run` is started twice, first in line {starts[0].line}"
        report.add("unplanned-value", message, field="tune run", line=command.line)
    before = plain[: plain.index(starts[0])]
    _modules(report, before)
    _environment(report, before)
    _working_directory(report, before)
    _folders(report, plain)
    first = next(i for i, command in enumerate(stripped) if command.words[:2] == ("tune", "run"))
    exports.check(report, script.commands[: first + 1])
    resuming.check(report, script.commands[: first + 1])
    return _tune(report, starts[0])


def bare(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a command without what may stand before its name."""
    while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    return words


def _modules(report: Report, commands: list[Command]) -> None:
    loads = [c for c in commands if c.words[:2] in {("module", "load"), ("ml", "load")}]
    found = [(name, c.line) for c in loads for name in c.words[2:]]
    planned = [name.strip() for name in str(report.planned("modules") or "").split(",") if name.strip()]
    names = [name for name, _ in found]
    for name in planned:
        if name not in names:
            report.differs("missing-value", "modules", place=f"`module load {name}`", expected=name)
    for name, line in found:
        if name not in planned:
            message = f"`module load {quoted(name)}` is there, and nobody planned it"
            report.unplanned(message, Severity.INFO, field="modules", actual=name, line=line)
    order = [name for name in names if name in planned]
    if order != planned and sorted(order) == sorted(planned):
        report.differs(
            "value-mismatch", "modules", place="the order of `module load`", expected=", ".join(planned),
            actual=", ".join(order), line=loads[0].line,
        )  # fmt: skip


def _environment(report: Report, commands: list[Command]) -> None:
    """The conda environment, or the virtual environment where one is planned; the last activation counts."""
    venv, conda = str(report.planned("venv") or "").strip("/"), str(report.planned("conda_env") or "")
    if venv:
        sources = [c for c in commands if c.words[0] in {"source", "."} and c.words[-1].endswith(_ACTIVATE)]
        last = sources[-1] if sources else None
        actual = last.words[-1].removesuffix(_ACTIVATE) if last else None
        good = actual is not None and f"/{normal_path(actual)}".endswith(f"/{venv}")
        _activation(report, "venv", venv, actual, last, good=good)
    elif conda:
        activations = [c for c in commands if c.words[:2] in {("conda", "activate"), ("micromamba", "activate")}]
        last = activations[-1] if activations else None
        actual = " ".join(last.words[2:]) if last else None
        _activation(report, "conda_env", conda, actual, last, good=actual == conda)
        if last and report.bundled:
            _hook(report, commands[: commands.index(last)], last.line)


def _hook(report: Report, commands: list[Command], line: int) -> None:
    """What must come before `conda activate` in the shell of a job, which reads none of the user's own files."""
    if not any(_HOOK.search(word) for command in commands for word in command.words):
        message = "`conda activate` comes before conda's shell hook, so the job's shell does not know it"
        expected = 'eval "$(conda shell.bash hook)"'
        report.add("missing-value", message, field="conda_env", expected=expected, line=line)


def _working_directory(report: Report, commands: list[Command]) -> None:
    """The job starts where it is submitted, in the run directory: elsewhere lies another finetune.yaml, or none."""
    for command in commands:
        place = " ".join(command.words[1:]).rstrip("/")
        if command.words[0] not in {"cd", "pushd"} or place in _SUBMITTED or place.endswith(f"/{report.run.directory}"):
            continue
        message = f"the job goes to {quoted(place)}, so `tune run` reads a finetune.yaml that is not this run's"
        report.unplanned(
            message, Severity.WARNING, field="cd", expected=report.run.directory, actual=place, line=command.line
        )


def _activation(
    report: Report, setting: str, planned: str, actual: str | None, command: Command | None, *, good: bool
) -> None:
    if good:
        return
    note = ""
    if actual is None and not report.bundled and report.planned("modules"):
        note = (
            "a known fault of cruijff_kit's setup_finetune.py: with modules set it deletes every line that contains "
            "'conda', the activation too; plan no modules, or name the environment with venv"
        )
    code = "missing-value" if actual is None else "value-mismatch"
    place = "the activation of the environment"
    line = command.line if command else None
    report.differs(code, setting, place=place, expected=planned, actual=actual, line=line, note=note)


def _folders(report: Report, commands: list[Command]) -> None:
    """Directories that the job makes must be the run's own."""
    place = output_dir(report.run)
    if place is None:
        return
    for command in [c for c in commands if c.words[0] == "mkdir"]:
        for word in command.words[1:]:
            if word.startswith("/") and not below(word, place):
                message = f"the job makes the directory {quoted(word)}, which is not in the run's output directory"
                report.unplanned(
                    message, Severity.WARNING, field="output_dir_base", expected=place, actual=word, line=command.line
                )


def _tune(report: Report, command: Command) -> str | None:
    """`tune run [options of torchrun] RECIPE --config finetune.yaml`."""
    words, processes = list(command.words[2:]), None
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if not equals and words and name not in _FLAGS:
            value = words.pop(0)
        if name in _PROCESSES:
            processes = value
        else:
            report.add(
                "unplanned-value",
                f"`tune run` is given {quoted(name)}, which nobody planned",
                field="tune run",
                actual=value,
                line=command.line,
                severity=habits.of_option(report, name),
            )
    recipe = words.pop(0) if words else ""
    planned = _recipe(report, recipe, command.line)
    _processes(report, processes, command.line)
    _config(report, words, command.line)
    return planned


def _gpus(report: Report) -> int | None:
    """The planned number of GPUs, None where there is none."""
    planned = str(report.planned("gpus"))
    return int(planned) if re.fullmatch(r"[0-9]{1,4}", planned, re.ASCII) else None


def _recipe(report: Report, recipe: str, line: int) -> str | None:
    """Compare the recipe; the planned one comes back, None where it is the script's own."""
    gpus, custom = _gpus(report), str(report.planned("custom_recipe") or "").removesuffix(_MAIN)
    form = "distributed" if gpus is not None and gpus > 1 else "single_device"
    # A recipe in a package is started as its module __main__; torchtune's own have none.
    name = recipe.removesuffix(_MAIN) if "." in recipe.removesuffix(_MAIN) else recipe
    expected = custom or f"lora_finetune_{form}"
    if name == expected:
        _fits(report, expected, line)
        return expected
    last = name.rsplit(".", 1)[-1]
    if not custom and not report.bundled and "." in name and form in last and last.startswith("lora_finetune"):
        message = f"the script starts its own recipe {quoted(name)}; what it reads of finetune.yaml is not known"
        report.add(
            "wrong-recipe", message, field="custom_recipe", actual=name, line=line, severity=Severity.INFO, fix=""
        )
        return None
    report.differs(
        "wrong-recipe",
        "custom_recipe" if custom else "gpus",
        place="the recipe of `tune run`",
        expected=expected,
        actual=recipe,
        line=line,
    )
    return expected


def _fits(report: Report, recipe: str, line: int) -> None:
    """The planned recipe must be one for the planned number of GPUs."""
    facts, gpus = load().recipes.get(recipe), _gpus(report)
    # The name of a recipe of one's own says it, where it says anything.
    forms = {"distributed": True, "single_device": False}
    distributed = facts.distributed if facts else next((is_so for form, is_so in forms.items() if form in recipe), None)
    if distributed is not None and gpus is not None and distributed != (gpus > 1):
        message = f"the recipe of `tune run` is {recipe}, which is not for {gpus} GPU(s)"
        field = "gpus" if facts else "custom_recipe"
        report.add("wrong-recipe", message, field=field, expected=gpus, actual=recipe, line=line)


def _processes(report: Report, actual: str | None, line: int) -> None:
    gpus = _gpus(report)
    if gpus is None:
        return
    place = "--nproc_per_node of `tune run`"
    if gpus > 1 and actual != str(gpus):
        report.differs("wrong-recipe", "gpus", place=place, expected=gpus, actual=actual, line=line)
    elif gpus == 1 and actual is not None:
        note = "one GPU needs the single-device recipe alone"
        report.differs("wrong-recipe", "gpus", place=place, expected=None, actual=actual, line=line, note=note)


def _config(report: Report, words: list[str], line: int) -> None:
    """The config that the recipe is given, and values on the command line that would win over it."""
    given, place = None, "--config of `tune run`"
    while words:
        word = words.pop(0)
        if word == "--config":
            given = words.pop(0) if words else ""
        elif word.startswith("--config="):
            given = word.removeprefix("--config=")
        elif resuming.is_planned(report, word):
            continue
        elif "=" in word or word.startswith(("~", "-")):
            message = f"`tune run` is given {quoted(word)}, which can win over finetune.yaml, and nobody planned it"
            report.add("unplanned-value", message, field=word.partition("=")[0], actual=word, line=line)
    if given is None:
        report.differs("missing-value", "config", place=place, expected=FINETUNE_YAML, line=line)
    elif given.removeprefix("./") != FINETUNE_YAML:
        report.differs("value-mismatch", "config", place=place, expected=FINETUNE_YAML, actual=given, line=line)
