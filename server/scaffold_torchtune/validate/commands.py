"""The proof that the commands of finetune.slurm start the planned training, and do nothing else."""

import re
from collections.abc import Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate.arrivals import OF_THE_TRAINING, output_dir
from scaffold_torchtune.validate.report import Report, below, join, normal_path, quoted
from scaffold_torchtune.validate.slurm_script import Command, SlurmScript

# The proof that the job exports what keeps it from waiting for the internet, where that is planned, and only there.
#
# The variables are those of huggingface_hub (HF_HUB_OFFLINE), datasets (HF_DATASETS_OFFLINE), transformers
# (TRANSFORMERS_OFFLINE) and wandb (WANDB_MODE), as their documentation names them.

EXPORT_SETTINGS: Final = frozenset({"offline"})
"""Settings whose arrival is known here."""

_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}
_ASSIGNED: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)


def check_exports(report: Report, commands: Sequence[Command]) -> None:
    """Check the variables that the commands hand to the last of them, the training."""
    found = _exported(commands)
    planned = report.planned("offline") is True and "offline" not in report.run.submitted
    for name, value in _OFFLINE.items() if planned else ():
        actual, line = found.pop(name, (None, None))
        if actual != value:
            code = "missing-value" if actual is None else "value-mismatch"
            place = f"the variable {name} before `tune run`"
            report.differs(code, "offline", place=place, expected=value, actual=actual, line=line)
    for name, (value, line) in found.items():
        if name in _OFFLINE:
            message = f"the job exports {quoted(name)} as {quoted(value)}, which nobody planned"
            report.unplanned(message, Severity.INFO, field="offline", actual=value, line=line)


def judges(words: Sequence[str]) -> bool:
    """Whether a command does nothing but set or export variables that are judged here."""
    return all(word.partition("=")[0] in _OFFLINE for word in words if word != "export")


def _exported(commands: Sequence[Command]) -> dict[str, tuple[str, int]]:
    """The variables that are exported, and those that stand before the last command's name, with their lines."""
    found: dict[str, tuple[str, int]] = {}
    for command in commands:
        is_export = command.words[:1] == ("export",)
        for word in command.words if is_export or command is commands[-1] else ():
            match = _ASSIGNED.fullmatch(word)
            if match:
                found[match["name"]] = (match["value"], command.line)
            elif word == "tune":  # what follows is the training's own
                break
    return found


# The proof that a job which is to resume does so from its own checkpoint, and begins where there is none yet.
#
# torchtune 0.6.1 reads `recipe_state/recipe_state.pt` in the output directory and the adapter of the newest `epoch_N`
# beside it, and ends with an error where there is none (training/checkpointing/_utils.py, get_adapter_checkpoint_path
# and
# get_recipe_checkpoint_path). So at a first start `tune run` must be told otherwise than finetune.yaml says.

RESUME_SETTING: Final = "resume_from_checkpoint"
_OVERRIDE: Final = f"{RESUME_SETTING}=$resume"
_BEGINS: Final = (("resume=true",), ("resume=false",))


def resume_is_planned(report: Report, word: str) -> bool:
    """Whether a word of `tune run` is the one that decides, at each start, whether it resumes."""
    return word == _OVERRIDE and report.planned(RESUME_SETTING) is True


def check_resuming(report: Report, commands: Sequence[Command]) -> None:
    """Check the commands up to `tune run`, which is the last of them."""
    place = output_dir(report.run)
    if report.planned(RESUME_SETTING) is not True or place is None or not report.bundled:
        return  # a script of another may be meant for runs that have a checkpoint already
    expected, line = join(place, "recipe_state", "recipe_state.pt"), commands[-1].line
    if _OVERRIDE not in commands[-1].words:
        note = "a first start has nothing to resume from, and torchtune then ends with an error"
        report.differs("missing-value", RESUME_SETTING, place=_OVERRIDE, expected=True, line=line, note=note)
        return
    words = [command.words for command in commands[:-1]]
    at = [words.index(each) if each in words else -1 for each in _BEGINS]
    between = commands[at[0] + 1 : at[1]] if 0 <= at[0] < at[1] else []
    asked = between[0].words if len(between) == 1 else ()
    actual = asked[2] if len(asked) == 4 and (*asked[:2], asked[3]) == ("[", "-e", "]") else None  # noqa: PLR2004
    if actual is None or normal_path(actual) != expected:
        code = "missing-value" if actual is None else "value-mismatch"
        place = "the file that decides whether `tune run` resumes"
        line = (between or commands)[-1].line
        report.differs(code, RESUME_SETTING, place=place, expected=expected, actual=actual, line=line)


# What a job does besides its work, and whether it comes to train at all: the reverse of the proof of its commands.

_GRAMMAR: Final = frozenset({"if", "then", "fi", "{", "}"})
_OPENING: Final = frozenset({"if", "for", "while", "until", "case", "select"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_CONDITIONS: Final = frozenset({"&&", "||", "|"})
# What a job needs for its work: to look where it is, load modules, activate an environment, make a directory, train.
_WORK: Final = frozenset(
    {".", "[", "cd", "echo", "eval", "exit", "mkdir", "pushd", "resume=false", "resume=true", "source", "stop"}
)
_FORMS: Final = frozenset(
    {("conda", "activate"), ("micromamba", "activate"), ("ml", "load"), ("module", "load"), ("module", "purge")}
)


def check_other_commands(report: Report, commands: Sequence[Command]) -> None:
    """Check the commands of finetune.slurm, in their order. Where none starts `tune run`, that is told elsewhere.

    What another script than the bundled one does besides is its own affair.
    """
    start = next((n for n, command in enumerate(commands) if bare(command.words)[:2] == ("tune", "run")), None)
    if start is None:
        return
    _early_end(report, commands[:start])
    if commands[start].joined == "&":
        message = "`tune run` is started in the background, so the job may end before the training does"
        _tell(report, "tune run", message, commands[start])
    if report.bundled:
        _conditions(report, commands, start)
        _besides(report, commands)


def _tell(report: Report, field: str, message: str, command: Command) -> None:
    report.unplanned(message, Severity.WARNING, field=field, actual=" ".join(command.words), line=command.line)


def _depth(commands: Sequence[Command]) -> int:
    """How many conditions, loops and functions are open after some commands."""
    opened = sum((c.words[0] in _OPENING) + (c.words[0] == "{" or c.words[-1] == "{") for c in commands)
    return opened - sum(c.words[0] in _CLOSING for c in commands)


def _conditional(commands: Sequence[Command], number: int) -> bool:
    """Whether a command runs only under some condition, or when its function is called."""
    before = commands[:number]
    return _depth(before) > 0 or any(command.joined in _CONDITIONS for command in before[-1:])


def _early_end(report: Report, before: Sequence[Command]) -> None:
    for number, command in enumerate(before):
        if bare(command.words)[:1] == ("exit",) and not _conditional(before, number):
            _tell(report, "exit", "the job ends here, before `tune run`, so nothing is trained", command)


def _conditions(report: Report, commands: Sequence[Command], start: int) -> None:
    command = commands[start]
    before = [w for w in command.words[: command.words.index("tune")] if not judges((w,))]
    if before:
        _tell(
            report, "tune run", f"{quoted(' '.join(before))} stands before `tune run`, and nobody planned it", command
        )
    elif _conditional(commands, start):
        _tell(report, "tune run", "`tune run` stands under a condition or in a function, so it may not run", command)


def _besides(report: Report, commands: Sequence[Command]) -> None:
    for command in commands:
        words = command.words
        while words and words[0] in _GRAMMAR:
            words = words[1:]
        if not words or words[0] in _WORK or words[:2] in _FORMS or bare(words)[:2] == ("tune", "run"):
            continue
        if not judges(words):
            name = words[0].partition("=")[0]
            _tell(report, name, f"the job runs {quoted(' '.join(words))}, which nobody planned", command)


# What an external setup_finetune.py writes by itself, and how much it matters.
#
# Of the generations of cruijff_kit's script it is known: their templates and their defaults by model, as read
# (November
# 2025, December 2025, v0.3.4 of August 2026). What is known is information; what is not may change what is trained.

NOTHING: Final = "Nothing to do: this setup_finetune.py always writes it."

ONE_GPU: Final = (
    "a known fault of this script: it takes gpus: 1 for not given, and then has its own number by the model"
)

_MAIL: Final = {"mail-type": r"begin|end", "mail-user": r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+"}
_DIRECTIVES: Final[dict[str, dict[str, str]]] = {
    "2025-11": _MAIL,
    "2025-12": {**_MAIL, "partition": "nomig", "constraint": "gpu80"},
    "v0.3.4": _MAIL,
}
# Options of the script that it writes to the top level of finetune.yaml, and a line of its template: nobody reads them.
_UNREAD: Final = frozenset(
    {
        "base_recipe", "batch_size_val", "config_file", "custom_recipe", "dataset_val", "epochs_to_save", "hf_token",
        "input_formatting", "modules", "run_val_every_n_steps", "save_last_epoch_only", "stash_adapter_weights", "venv",
    }
)  # fmt: skip
# Whoever wrote these: they change nothing of the job.
_HARMLESS: Final = frozenset({"mail-type", "mail-user", "comment"})
# With one of these it is another job: several at once, elsewhere, for another's account, or never.
_ANOTHER_JOB: Final = frozenset(
    {"account", "array", "chdir", "constraint", "hold", "ntasks-per-node", "partition", "wrap"}
)
_HARMLESS_TO_TORCHRUN: Final = frozenset({"--standalone"})


def is_habit(report: Report, directive: str, value: str) -> bool:
    """Whether the generation that wrote the script always has this directive."""
    known = _DIRECTIVES.get(report.run.generation, {}).get(directive) if not report.bundled else None
    return known is not None and re.fullmatch(known, value) is not None


def of_directive(report: Report, name: str, value: str) -> tuple[Severity, str | None]:
    """How much a directive matters that nobody planned, and the fix where there is nothing to do."""
    if is_habit(report, name, value):
        return Severity.INFO, NOTHING
    if report.bundled or name in _ANOTHER_JOB:
        return Severity.ERROR, None
    return Severity.INFO if name in _HARMLESS else Severity.WARNING, None


def of_option(report: Report, name: str) -> Severity:
    """How much an option of `tune run` matters that nobody planned."""
    if report.bundled:
        return Severity.ERROR
    return Severity.INFO if name in _HARMLESS_TO_TORCHRUN else Severity.WARNING


def of_value(report: Report, place: str) -> Severity:
    """How much a value of finetune.yaml matters that nobody planned and that torchtune's makers do not have either."""
    return Severity.ERROR if report.bundled or place in OF_THE_TRAINING else Severity.WARNING


def is_unread_habit(report: Report, key: str) -> bool:
    """Whether the generation always writes a top-level key that no recipe reads."""
    return bool(report.run.generation) and not report.bundled and key in _UNREAD


# The proof that finetune.slurm starts the planned recipe in the planned environment.

COMMAND_SETTINGS: Final = EXPORT_SETTINGS | {"conda_env", "custom_recipe", "modules", "venv"}
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


def check_commands(report: Report, script: SlurmScript) -> str | None:
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
    check_exports(report, script.commands[: first + 1])
    check_resuming(report, script.commands[: first + 1])
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
                severity=of_option(report, name),
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
        elif resume_is_planned(report, word):
            continue
        elif "=" in word or word.startswith(("~", "-")):
            message = f"`tune run` is given {quoted(word)}, which can win over finetune.yaml, and nobody planned it"
            report.add("unplanned-value", message, field=word.partition("=")[0], actual=word, line=line)
    if given is None:
        report.differs("missing-value", "config", place=place, expected=FINETUNE_YAML, line=line)
    elif given.removeprefix("./") != FINETUNE_YAML:
        report.differs("value-mismatch", "config", place=place, expected=FINETUNE_YAML, actual=given, line=line)
