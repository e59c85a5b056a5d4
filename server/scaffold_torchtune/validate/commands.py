"""Checks that the commands of finetune.slurm start the planned training, and nothing else."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import counted
from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate.arrivals import output_dir
from scaffold_torchtune.validate.directives import (
    ACTIVATES,
    ASSIGNED,
    COPIES,
    SUBMITTED,
    check_directives,
    check_directory,
    check_environment,
    check_exports,
    check_folders,
    check_modules,
    check_variables,
    only_exports,
)
from scaffold_torchtune.validate.report import Report, ReportParts, join, normal_path, quoted
from scaffold_torchtune.validate.run_files import (
    CONDA,
    CONTAINERS,
    KEYWORDS,
    LAUNCHERS,
    SHELLS,
    Command,
    Runs,
    SlurmScript,
    bare,
    function_of,
    keywords,
    launchers,
    plain,
    program_of,
    reached,
    split,
    trains,
    unwrapped,
)

_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:\[[@*]\])?\})")
_DECLARES: Final = frozenset({"declare", "export", "local", "readonly", "typeset"})
_SETS: Final = frozenset({"for", "getopts", "let", "mapfile", "printf", "read", "readarray", "select", "unset"})
_RESUME: Final = "resume_from_checkpoint"
_OVERRIDE: Final = f"{_RESUME}=$resume"
_BEGINS: Final = (("resume=true",), ("resume=false",))
_GRAMMAR: Final = frozenset({"if", "then", "fi", "{", "}"})
_EDITORS: Final = frozenset({"perl", "ruby", "sed", "yq"})
_IN_PLACE_OPTION: Final = re.compile("-[0-9EPaclnprsuwz]*i|--in-?place")
_OUTPUT_OPTIONS: Final = frozenset({"--out", "--output", "--output-file"})
# Programs of which also -o or -O is an option for the output.
_WRITERS: Final = frozenset({"curl", "jq", "sort", "wget", "yq"})
_CHANGES: Final = frozenset({"ed", "ex", "patch", "rm", "shred", "tee", "truncate", "unlink"})
# Commands that a job needs: print its location, load modules, activate an environment, make a directory, train.
_WORK: Final = frozenset(
    {".", "[", "cd", "echo", "eval", "exit", "mkdir", "pushd", "resume=false", "resume=true", "source", "stop"}
)
_FORMS: Final = ACTIVATES | {("ml", "load"), ("module", "load"), ("module", "purge")}
_MOST_EXPANDED: Final = 100_000
"""Characters of the values of variables in the words of `tune run`."""

_STARTERS: Final = frozenset({"mpiexec", "mpirun", "srun"})
_TASKS: Final = re.compile(r"(?:-n=?|-np=|--ntasks=|--ntasks-per-node=)([0-9]{1,9})", re.ASCII)
# Programs that only read the files in their words, if `_rewrites` does not know better.
_READS: Final = frozenset(
    {
        *("[", "[[", "aws", "awk", "basename", "cat", "chmod", "chown", "cksum", "cmp", "cut", "date", "declare"),
        *("diff", "dirname", "du", "echo", "egrep", "export", "fgrep", "file", "for", "gawk", "grep", "gsutil", "head"),
        *("jq", "less", "local", "logger", "ls", "mail", "md5sum", "more", "nl", "od", "perl", "printf", "rclone"),
        *("read", "readlink", "readonly", "realpath", "rg", "ruby", "scp", "sed", "set", "sha1sum", "sha256sum"),
        *("sha512sum", "sort", "stat", "sync", "tail", "tar", "test", "touch", "trap", "tune", "typeset", "uniq"),
        *("wandb", "wc", "yq", "zip"),
    }
)
_GIT_CHANGES: Final = frozenset({"apply", "checkout", "pull", "reset", "restore", "stash", "switch"})
_WRITES: Final = re.compile(
    r"dump|write|save|copy|move|rename|replace|remove|unlink|[\"'][wax]b?\+?[\"']|>|(?<!\w)-i|\b(?:tee|cp|mv|rm|ln)\b"
)
_EXPANSION: Final = re.compile(r"\$\{[^{}]*\}|\$\([^()]*\)|\$\w+|`[^`]*`")
_BRACES: Final = re.compile(r"\{[^{}]*\}")
_SETUP: Final = re.compile(r"(?:.*[/.])?setup_finetune(?:\.py)?", re.DOTALL)
_LONGEST_PATTERN: Final = 200

_PROCESSES: Final = frozenset({"--nproc_per_node", "--nproc-per-node"})
_ANY: Final = "$"
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_CALLERS: Final = LAUNCHERS.keys() - KEYWORDS | SHELLS | {"eval", "parallel", "trap", "xargs"}

_FLAGS: Final = frozenset({"--standalone", "--no-python", "--no_python", "--run-path", "--run_path", "-m", "--module"})
_MAIN: Final = ".__main__"


def check_job(report: Report, script: SlurmScript) -> str | None:
    """Check finetune.slurm against the plan.

    Returns:
        The torchtune recipe that it must start, if known.
    """
    check_directives(report, script)
    return _commands(report, script)


def _commands(report: Report, script: SlurmScript) -> str | None:
    """Check the commands of finetune.slurm against the plan.

    Returns:
        The torchtune recipe that it must start; None without one.
    """
    commands = script.commands if report.bundled else [each for one in script.commands for each in unwrapped(one)]
    commands = commands if report.bundled else _called(report, commands)
    _other_commands(report, commands)
    bared = [replace(command, words=words) for command in commands if (words := bare(command))]
    starts = [number for number, command in enumerate(bared) if trains(command.words)]
    if not starts:
        report.add("missing-value", "no command starts `tune run`, so nothing is trained", field="tune run")
        return None
    training = bared[starts[0]]
    # a subshell has modules and an environment of its own
    before = [command for command in bared[: starts[0]] if training.nested or not command.nested]
    for number in starts[1:]:
        message = f"`tune run` is started twice, first on line {training.line}"
        report.add("unplanned-value", message, field="tune run", line=bared[number].line)
    check_modules(report, before)
    first = next(number for number, command in enumerate(commands) if trains(command.words))
    (training,) = _with_values([training], commands[:first])
    launch, start = split(commands[first].words)
    _launcher(report, launch, training.line)
    launched = _launched_in(report, launch, start[0], training.line)
    check_environment(report, [*before, *launched])
    if not report.bundled:  # it is an unplanned command there
        check_variables(report, commands[: first + 1])
    check_directory(report, commands[: first + 1], training)
    check_folders(report, bared)
    check_exports(report, commands[: first + 1])
    _check_resuming(report, commands[: first + 1])
    return _tune(report, training)


def _called(report: Report, commands: list[Command]) -> list[Command]:
    """Return the commands without functions that are never called; report if the training is in one of these."""
    functions = _uncalled(commands)
    for number, command in enumerate(commands):
        is_alias = command.words[0] == "alias" and any(word.startswith("tune=") for word in command.words)
        if is_alias or function_of(commands, number) == "tune":
            message = "the script defines its own command `tune`, so `tune run` may start something else"
            _unplanned(report, "tune run", message, command)
    kept = [command for command, function in zip(commands, functions, strict=True) if not function]
    if any(trains(command.words) for command in kept):
        return kept
    for command, function in zip(commands, functions, strict=True):
        if trains(command.words):
            message = f"`tune run` is in the function {quoted(function)}, which is never called, so nothing is trained"
            _unplanned(report, "tune run", message, command, Severity.ERROR)
            break
    return commands


def _uncalled(commands: Sequence[Command]) -> list[str]:
    """Return for each command the function that it is in, if the script never calls that function; else ''."""
    owners: list[str] = []
    calls: dict[str, set[str]] = {"": set()}
    owner, depth = "", 0
    for number, command in enumerate(commands):
        if not owner and (name := function_of(commands, number)):
            owner, depth = name, 0
        owners.append(owner)
        is_header = number + 1 < len(commands) and bool(function_of(commands, number + 1))
        calls.setdefault(owner, set()).update(() if is_header else _calls(command))
        depth += sum({"{": 1, "}": -1}.get(word, 0) for word in keywords(command.words))
        owner = owner if depth > 0 else ""
    known, waiting = {""}, [""]
    while waiting:
        names = calls.get(waiting.pop(), set())
        if _ANY in names:
            return [""] * len(owners)
        new = (names & calls.keys()) - known
        known |= new
        waiting += new
    return ["" if each in known else each for each in owners]


def _calls(command: Command) -> set[str]:
    """Return the names of functions that a command may call; `_ANY` if a variable has the name."""
    words = bare(replace(command, words=plain(command.words)))
    texts = [word for word in command.words if "$(" in word or "`" in word]
    if _CALLERS & {program_of(word) for word in command.words}:
        texts += command.words
    names = {name for text in texts for name in _NAME.findall(text)}
    return names | ({_ANY} if words[:1] and words[0].startswith("$") else {*words[:1]})


def _with_values(commands: Sequence[Command], before: Sequence[Command]) -> list[Command]:
    """Return commands in which the shell's variables have their values, where the script sets them as plain text.

    A variable remains if the text would become too long.
    """
    values = {name: " ".join(parts) for name, parts in _assigned(before).items() if parts is not None}
    room = _MOST_EXPANDED

    def value(name: re.Match[str]) -> str:
        nonlocal room
        text = values.get(name[1] or name[2], name[0])
        if len(text) > room:
            return name[0]
        room -= len(text)
        return text

    found = []
    for command in commands:
        words: list[str] = []
        redirections = set(command.redirections)
        for word in command.words:
            is_known = command.expands(word) and word != _OVERRIDE
            text = _VARIABLE.sub(value, word) if is_known else word
            redirections |= {text} if word in redirections else set()
            words += [word] if text == word else text.split()
        found.append(replace(command, words=tuple(words), redirections=frozenset(redirections)))
    return found


def _assigned(commands: Sequence[Command]) -> dict[str, list[str] | None]:
    """Return the variables that commands set, also arrays; None if a value is not plain text, or not the only one."""
    values: dict[str, list[str] | None] = {}
    array = ""
    for command in commands:
        parts = values.get(array)
        if array and command.nested:
            if parts is None or any(map(command.expands, command.words)):
                values[array] = None
            else:
                parts.extend(command.words)
            continue
        words = [word for word in plain(command.words) if word not in _DECLARES and not word.startswith("-")]
        found = [match for word in words if (match := ASSIGNED.fullmatch(word))]
        array = ""
        for match in found if len(found) == len(words) else ():
            name, value = match["name"], [match["value"]]
            is_known = not match["part"] and not command.expands(match[0]) and values.get(name, value) == value
            values[name] = value if is_known else None
            array = name if command.joined.startswith("(") else ""
        if _SETS & {*words}:
            values |= dict.fromkeys(words)
    return values


def _launcher(report: Report, words: tuple[str, ...], line: int) -> None:
    """Report what the words before `tune run` change: its end, the number of its processes, or its environment."""
    names = [program_of(word) for word in words]
    text = f"`tune run` is preceded by {quoted(' '.join(words))}, which"
    own = [pairwise([*own, ""]) for program, own in launchers(words) if program in _STARTERS]
    forms = (form for pairs in own for one, two in pairs for form in (one, f"{one}={two}"))
    tasks = [match[1] for form in forms if (match := _TASKS.fullmatch(form))]
    parts: ReportParts = {"field": "tune run", "actual": " ".join(words), "line": line}
    if any(int(number) > 1 for number in tasks):
        report.unplanned(f"{text} starts it several times", Severity.WARNING, **parts)
    if "timeout" in names:
        report.unplanned(f"{text} may end it before the time limit of the job", Severity.WARNING, **parts)
    if CONTAINERS.keys() & {*names}:
        parts["fix"] = None if report.bundled else f"no action if this is intended; otherwise {report.fix}"
        report.unplanned(f"{text} starts it in a container with its own environment", Severity.INFO, **parts)


def _launched_in(report: Report, launch: Sequence[str], program: str, line: int) -> list[Command]:
    """Return the activations that are equivalent to `conda run -n NAME` and to the directory of `tune`."""
    found: list[Command] = []
    conda = next((n for n, word in enumerate(launch) if program_of(word) in CONDA), len(launch))
    for one, two in pairwise([*launch[conda:], ""]):
        name, equals, value = one.partition("=")
        if name in {"-n", "--name", "-p", "--prefix"} and not found:
            found.append(Command(("conda", "activate", value if equals else two), line))
    folder, _, name = program.rpartition("/bin/")
    planned = report.run.text("venv").strip("/") or report.run.text("conda_env")
    if not folder or name != "tune" or "$" in folder:
        return found
    if f"/{normal_path(folder)}".endswith(f"/{planned}"):
        activation = ("source", f"{folder}/bin/activate") if report.run.text("venv") else ("conda", "activate", planned)
        found.append(Command(activation, line))
    elif planned:
        message = f"`tune run` is started as {quoted(program)}, which might not be in the planned environment"
        field, expected = "venv" if report.run.text("venv") else "conda_env", planned
        report.unplanned(message, Severity.WARNING, field=field, expected=expected, actual=program, line=line)
    return found


def _tune(report: Report, command: Command) -> str | None:
    """Check `tune run [options of torchrun] RECIPE --config finetune.yaml`."""
    words, processes, line = deque(command.words[2:]), None, command.line
    while words and words[0].startswith("-"):
        name, equals, value = words.popleft().partition("=")
        if not equals and words and name not in _FLAGS:
            value = words.popleft()
        if name in _PROCESSES:
            processes = value
        else:
            otherwise = Severity.INFO if name == "--standalone" else Severity.WARNING
            message = f"`tune run` has the option {quoted(name)}, which is not in the plan"
            report.unplanned(message, otherwise, field="tune run", actual=value, line=line)
    recipe = words.popleft() if words else ""
    planned = _recipe(report, recipe, line)
    _processes(report, processes, line)
    _config(report, words, command)
    return planned


def _gpus(report: Report) -> int | None:
    """Return the planned number of GPUs, or None."""
    planned = str(report.planned("gpus"))
    return int(planned) if re.fullmatch(r"[0-9]{1,4}", planned, re.ASCII) else None


def _recipe(report: Report, recipe: str, line: int) -> str | None:
    """Check the recipe; return the planned one, or None if the script has its own."""
    gpus, custom = _gpus(report), str(report.planned("custom_recipe") or "").removesuffix(_MAIN)
    form = "distributed" if gpus is not None and gpus > 1 else "single_device"
    # A recipe in a package is started as its module __main__; torchtune's own recipes are not in a package.
    name = recipe.removesuffix(_MAIN) if "." in recipe.removesuffix(_MAIN) else recipe
    expected, setting = custom or f"lora_finetune_{form}", "custom_recipe" if custom else "gpus"
    where, last = "the recipe of `tune run`", name.rsplit(".", 1)[-1]
    is_own = not custom and not report.bundled and "." in name and form in last and last.startswith("lora_finetune")
    for part in dict.fromkeys((setting, "gpus")):
        report.looked(part, where, expected, recipe, arrived=is_own or name == expected, line=line)
    if name == expected:
        _fits(report, expected, line)
        return expected
    if is_own:
        message = (
            f"the script starts its own recipe {quoted(name)}; it is unknown which keys of finetune.yaml that recipe"
            " reads"
        )
        fix = "no action if that recipe reads the planned settings"
        report.add(
            "wrong-recipe", message, field="custom_recipe", actual=name, line=line, severity=Severity.INFO, fix=fix
        )
        return None
    report.differs(setting, where, expected, recipe, code="wrong-recipe", line=line)
    return expected


def _fits(report: Report, recipe: str, line: int) -> None:
    """Check that the planned recipe supports the planned number of GPUs."""
    facts, gpus = load().recipes.get(recipe), _gpus(report)
    # A custom recipe may show it by its name.
    forms = {"distributed": True, "single_device": False}
    distributed = facts.distributed if facts else next((is_so for form, is_so in forms.items() if form in recipe), None)
    if distributed is not None and gpus is not None and distributed != (gpus > 1):
        message = f"the recipe of `tune run` is {recipe}, which does not support {counted(gpus, 'GPU')}"
        field = "gpus" if facts else "custom_recipe"
        report.add("wrong-recipe", message, field=field, expected=gpus, actual=recipe, line=line)


def _processes(report: Report, actual: str | None, line: int) -> None:
    gpus, where, code = _gpus(report), "--nproc_per_node of `tune run`", "wrong-recipe"
    if gpus is not None and (gpus > 1 or actual is not None):
        planned = str(gpus) if gpus > 1 else None
        report.looked("gpus", where, planned, actual, arrived=actual == planned, line=line)
    found = int(actual) if actual is not None and re.fullmatch(r"[0-9]{1,4}", actual, re.ASCII) else actual
    if gpus is not None and gpus > 1 and actual != str(gpus):
        report.differs("gpus", where, gpus, found, code=code, line=line)
    elif gpus == 1 and actual is not None:
        note = "a single GPU requires the single-device recipe"
        report.differs("gpus", where, None, found, code=code, line=line, note=note)


def _config(report: Report, words: deque[str], command: Command) -> None:
    """Check the config of the recipe, and values on the command line that override it."""
    given, line = None, command.line
    while words:
        word = words.popleft()
        name = word.partition("=")[0]
        if word == "--config":
            given = words.popleft() if words else ""
        elif word.startswith("--config="):
            given = word  # torchtune 0.6.1 searches its arguments for "--config" alone
        elif word == _OVERRIDE and report.planned(_RESUME) is True:
            continue
        elif command.expands(word) and ("$" in name or "`" in name):
            message = (
                f"`tune run` has the argument {quoted(word)}, which the shell expands; the result may"
                " override finetune.yaml"
            )
            fix = "write the arguments of `tune run` as plain text in the setup script, then run setup again"
            report.add("unplanned-value", message, field="tune run", actual=word, line=line, fix=fix)
        elif "=" in word or word.startswith(("~", "-")):
            message = (
                f"`tune run` has the argument {quoted(word)}, which is not in the plan and may override finetune.yaml"
            )
            report.add("unplanned-value", message, field=name, actual=word, line=line)
    if given is None or not _is_own(given):
        note = "torchtune reads the file from the word after --config"
        report.differs("config", "--config of `tune run`", FINETUNE_YAML, given, line=line, note=note)


def _is_own(path: str) -> bool:
    """Return whether a path is the finetune.yaml of the run, if the job stays in its directory."""
    folder = path.removesuffix(f"/{FINETUNE_YAML}")
    return path == FINETUNE_YAML or (folder != path and bool(SUBMITTED.fullmatch(folder)))


def _check_resuming(report: Report, commands: Sequence[Command]) -> None:
    """Check that the job resumes from its own checkpoint, or starts without one; the last command trains.

    torchtune 0.6.1 reads `recipe_state/recipe_state.pt` in the output directory and the adapter of the newest
    `epoch_N` next to it, and fails if they are missing (training/checkpointing/_utils.py,
    get_adapter_checkpoint_path and get_recipe_checkpoint_path): the first start must override finetune.yaml.
    """
    folder = output_dir(report.run)
    if report.planned(_RESUME) is not True or folder is None or not report.bundled:
        return  # a different script may be intended for runs that already have a checkpoint
    has_override, line = _OVERRIDE in commands[-1].words, commands[-1].line
    report.looked(_RESUME, _OVERRIDE, expected=True, actual=has_override or None, arrived=has_override, line=line)
    if not has_override:
        message = (
            f"the argument {_OVERRIDE} of `tune run` is missing; without it, the first start of the job fails, because"
            " it has no checkpoint to resume from"
        )
        report.add("missing-value", message, field=_RESUME, expected=True, line=commands[-1].line)
        return
    words = [command.words for command in commands[:-1]]
    at = [words.index(each) if each in words else -1 for each in _BEGINS]
    between = commands[at[0] + 1 : at[1]] if 0 <= at[0] < at[1] else []
    test = between[0].words if len(between) == 1 else ()
    actual = test[2] if len(test) == 4 and (*test[:2], test[3]) == ("[", "-e", "]") else None  # noqa: PLR2004
    expected = join(folder, "recipe_state", "recipe_state.pt")
    if actual is None or normal_path(actual) != expected:
        where, line = "the file that decides whether `tune run` resumes", (between or commands)[-1].line
        report.differs(_RESUME, where, expected, actual, line=line)


def _other_commands(report: Report, commands: Sequence[Command]) -> None:
    """Check the other commands of finetune.slurm, and whether the job reaches the training.

    A missing `tune run` has its own finding. Other commands of scripts other than the bundled one are accepted.
    """
    start = next((n for n, command in enumerate(commands) if trains(command.words)), None)
    if start is None:
        return
    runs = reached(commands)
    # what precedes `&&` or `|` is expected to succeed: `sed ... > b && mv b finetune.yaml`, `cat a | tee finetune.yaml`
    expected = reached(commands, frozenset({"||"}))
    valued = [] if report.bundled else _without_arrays(_with_values(commands[:start], commands[:start]))
    for number, command in enumerate(commands[:start]):
        ending = _ending(command)
        is_alone = not command.nested and command.joined not in {"&", "|"}
        if ending and is_alone and runs[number] is Runs.ALWAYS:
            message = "the job ends here, before `tune run`, so nothing is trained"
            if ending == "exec":
                message = "the job continues as a different program here, so it does not reach `tune run`"
            _unplanned(report, ending, message, command, Severity.ERROR)
        elif not report.bundled and (change := _change(report, valued, number)):
            before = commands[number - 1] if number else Command(("",), 0)
            is_tested = before.joined == "&&" and (before.words[0] == "test" or before.words[-1] in {"]", "]]"})
            is_certain = change is Runs.ALWAYS and expected[number] is Runs.ALWAYS and not is_tested
            changes = "changes" if is_certain else "may change"
            message = f"the job {changes} finetune.yaml before `tune run`, so it may not train with the planned values"
            severity = Severity.ERROR if is_certain else Severity.WARNING
            _unplanned(report, FINETUNE_YAML, message, command, severity)
    if runs[start] is Runs.NEVER and not report.bundled:
        message = "`tune run` is behind a condition that is never true, so nothing is trained"
        _unplanned(report, "tune run", message, commands[start], Severity.ERROR)
    if commands[start].joined == "&":
        message = "`tune run` is started in the background, so the job may end before the training does"
        _unplanned(report, "tune run", message, commands[start])
    if report.bundled:
        _conditions(report, commands[start], is_conditional=runs[start] is not Runs.ALWAYS)
        _others(report, commands)


def _ending(command: Command) -> str:
    """Return `exit`, or `exec` with a program, if the command ends the script; else nothing."""
    words = bare(command)
    if words[:1] == ("exit",):
        return "exit"
    starts = words and not words[0].startswith("{")  # `exec {log}>FILE` only opens a file
    return "exec" if starts and plain(command.words)[:1] == ("exec",) else ""


def _unplanned(
    report: Report, field: str, message: str, command: Command, otherwise: Severity = Severity.WARNING
) -> None:
    report.unplanned(message, otherwise, field=field, actual=" ".join(command.words), line=command.line)


def _change(report: Report, commands: Sequence[Command], number: int) -> Runs | None:
    """Return whether the command at a position changes the run's finetune.yaml; None if it does not."""
    command, before = commands[number], commands[number - 1] if number else Command(("",), 0)
    if _rewrites(report, command):
        return Runs.ALWAYS
    words = bare(command)
    if not words:
        return None
    piped = before.words if before.joined == "|" else ()
    return Runs.MAYBE if _may_rewrite(report, command, program_of(words[0]), words[1:], piped) else None


def _without_arrays(commands: Sequence[Command]) -> list[Command]:
    """Return commands in which the elements of arrays, as in `A=(a b)`, have no words."""
    found: list[Command] = []
    before, is_element = Command(("",), 0), False
    for command in commands:
        begins = before.joined == "(" and before.words[-1].endswith("=")
        is_element = command.nested and (begins or (is_element and not before.joined.startswith(")")))
        found.append(replace(command, words=()) if is_element else command)
        before = command
    return found


def _may_rewrite(report: Report, command: Command, program: str, words: Sequence[str], piped: Sequence[str]) -> bool:
    """Return whether a command may change finetune.yaml through a pattern, a variable, a program or its text."""
    operands = [word for word in words if not word.startswith("-")]
    is_in_place = _edits_in_place(program, words)
    if is_in_place or program in _CHANGES:
        return any(_may_be_own(report, word, unknown=is_in_place) for word in operands[is_in_place:])
    if program in COPIES:
        return _copies_into(report, program, operands)
    if program == "git":
        return operands[:1] != [] and operands[0] in _GIT_CHANGES and "-C" not in words
    if program in {"find", "parallel", "xargs"}:
        return _applies(report, program, words, piped)
    if program in _READS:
        return False
    texts = [word for word in words if FINETUNE_YAML in word]
    is_named = any(_is_own(text.rpartition("=")[2]) for text in texts)
    is_code = any(FINETUNE_YAML in text and _WRITES.search(text) for text in (*texts, command.document))
    return is_named or is_code or any(_SETUP.fullmatch(word) for word in (program, *words))


def _may_be_own(report: Report, word: str, *, unknown: bool = False) -> bool:
    """Return whether a pattern, or with `unknown` also a variable, may stand for the run's finetune.yaml."""
    folder, slash, name = word.rpartition("/")
    pattern = _EXPANSION.sub("*", name) if unknown else name
    is_here = not slash or SUBMITTED.fullmatch(folder) or folder.endswith(f"/{report.run.directory}")
    if unknown and _EXPANSION.search(folder):
        is_here = True
        pattern = pattern.replace(FINETUNE_YAML, "*")
    is_pattern = len(pattern) < _LONGEST_PATTERN and not {*"*?[{"}.isdisjoint(pattern)
    return bool(is_here) and is_pattern and fnmatchcase(FINETUNE_YAML, _BRACES.sub("*", pattern))


def _copies_into(report: Report, program: str, operands: Sequence[str]) -> bool:
    """Return whether a command copies files of another directory, with names that it does not give, into the run's."""
    if not operands or not SUBMITTED.fullmatch(operands[-1].rstrip("/")):
        return False
    sources = [path.rpartition("/") for path in operands[:-1] if "/" in path]
    names = {"", "."} if program == "rsync" else {"."}
    return any(
        not SUBMITTED.fullmatch(folder) and (name in names or _may_be_own(report, name)) for folder, _, name in sources
    )


def _applies(report: Report, program: str, words: Sequence[str], piped: Sequence[str]) -> bool:
    """Return whether `find` or `xargs` lets a program change files that may include finetune.yaml."""
    is_in_place = any(_edits_in_place(program_of(word), words[n:]) for n, word in enumerate(words))
    changes = is_in_place or any(program_of(word) in {*_CHANGES, "mv"} for word in words)
    if program != "find":
        return changes and (is_in_place or any(_is_own(word) or _may_be_own(report, word) for word in piped))
    folder = next(iter(words), ".")
    names = [two for one, two in pairwise(words) if one in {"-iname", "-name"}]
    is_here = folder.startswith("-") or bool(SUBMITTED.fullmatch(folder.rstrip("/")))
    is_named = not names or any(_is_own(name) or _may_be_own(report, name) for name in names)
    return is_here and is_named and (changes or "-delete" in words)


def _rewrites(report: Report, command: Command) -> bool:
    """Return whether a command changes the run's finetune.yaml, except by a copy to itself."""

    def is_own(path: str) -> bool:
        return _is_own(path) or path.endswith(f"/{report.run.directory}/{FINETUNE_YAML}")

    words = bare(command)
    program, operands = program_of("".join(words[:1])), [word for word in words[1:] if not word.startswith("-")]
    if any(map(is_own, _written(command, program))):
        return True
    if program == "tune" and operands[:1] == ["cp"]:
        return is_own(operands[-1])
    if program in COPIES and operands:
        return _copies_onto(is_own, program, operands)
    return (program in _CHANGES or _edits_in_place(program, words)) and any(map(is_own, operands))


def _written(command: Command, program: str) -> list[str]:
    """Return the files to which a command is redirected, and the values of its options for the output."""
    found = []
    has_short = program in _WRITERS or program.startswith("python")
    for one, two in pairwise([*command.words, ""]):
        name, _, value = one.partition("=")
        if target := command.redirected(one):
            found += [target["file"] or two] * (">" in target["operator"])
        elif name in _OUTPUT_OPTIONS or (has_short and name in {"-O", "-o"}) or (program == "dd" and name == "of"):
            found.append(value or two)
    return found


def _edits_in_place(program: str, words: Sequence[str]) -> bool:
    if program in {"awk", "gawk"}:
        return ("-i", "inplace") in pairwise(words)
    return program in _EDITORS and any(_IN_PLACE_OPTION.match(word) for word in words)


def _copies_onto(is_own: Callable[[str], bool], program: str, operands: Sequence[str]) -> bool:
    *sources, target = operands
    if program == "mv" and any(map(is_own, sources)):
        return True
    others = [path for path in sources if not is_own(path)]
    if SUBMITTED.fullmatch(target.rstrip("/")):
        return any(path.endswith(f"/{FINETUNE_YAML}") for path in others)
    return bool(others) and is_own(target)


def _conditions(report: Report, command: Command, *, is_conditional: bool) -> None:
    launch, training = split(command.words)
    before = [word for word in (*launch, *training[:1]) if word != "tune" and not only_exports((word,))]
    if before:
        message = f"`tune run` is preceded by {quoted(' '.join(before))}, which is not in the plan"
        _unplanned(report, "tune run", message, command)
    elif is_conditional:
        message = "`tune run` is inside a conditional or a function, so it might never run"
        _unplanned(report, "tune run", message, command)


def _others(report: Report, commands: Sequence[Command]) -> None:
    for command in commands:
        words = command.words
        while words and words[0] in _GRAMMAR:
            words = words[1:]
        if not words or words[0] in _WORK or words[:2] in _FORMS or trains(words):
            continue
        if not only_exports(words):
            name = words[0].partition("=")[0]
            _unplanned(report, name, f"the job runs {quoted(' '.join(words))}, which is not in the plan", command)
