"""SLURM's own `sbatch --test-only` for the scripts, which submits nothing, and the submit line.

The messages are those of Slurm 22.05 (src/sbatch, src/common/slurm_errno.c), tried with a real installation.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from scaffold_torchtune.external_checks import WHOLE, Checked, FilesByRun, RunFinding
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, counted, escape, few, finding, shown
from scaffold_torchtune.models import Plan, PlannedRun, SourceKind
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ExternalCheck
from scaffold_torchtune.settings import parameters
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import Tree, is_there
from scaffold_torchtune.system.layout import FINETUNE_SLURM
from scaffold_torchtune.validate.run_files import Directive, SlurmScript, parse_script

SWITCH: Final = "SCAFFOLD_TORCHTUNE_SBATCH"
"""The environment variable that switches sbatch off with the value `off`."""

DEADLINE: Final = 30.0
"""The time limit of one call of sbatch in seconds; a working controller needs far less than one."""

AskedOptions = tuple[tuple[str, str], ...]
"""The requests of a script to SLURM: names and values of its effective directives, sorted."""

OWN: Final = frozenset({"job-name", "output", "error"})
"""Directives that differ between runs and that no cluster rejects."""

_UNAVAILABLE: Final = re.compile(
    r"unable to contact slurm|connection failure|connect failure|socket timed out|zero bytes were transmitted"
    r"|authentication error|munge|auth plugin|credential|configuration (source|file)|slurm\.conf|parse_file"
    r"|dns srv|standby mode|incompatible versions|talking to database|can't be reached now"
    r"|temporarily unable|error while loading shared libraries",
    re.IGNORECASE,
)
"""Messages of a SLURM that does not work: no configuration, no controller, no munge."""

_NOT_NOW: Final = re.compile(
    r"inactive or drain|down, drained or reserved|nodes are busy|temporarily|try again", re.IGNORECASE
)
"""Messages about a correct script that the cluster may accept later."""

_PREFIX: Final = re.compile(r"^((sbatch|error|fatal|allocation failure):\s*)+")
_GPUS: Final = ("gres", "gpus", "gpus-per-node")
_NODE: Final = (*_GPUS, "mem", "cpus-per-task", "constraint", "nodes", "nodelist", "exclude", "partition")
_CAUSES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"\baccount", ("account", "partition")),
    (r"time limit", ("time", "partition")),
    (r"\bqos\b", ("qos", "account", "partition")),
    (r"reservation", ("reservation",)),
    (r"feature", ("constraint",)),
    (r"partition", ("partition",)),
    (r"generic resource|\bgres\b|\bgpu", (*_GPUS, "partition")),
    (r"processors|cpu count", ("cpus-per-task", "ntasks", "nodes", "partition")),
    (r"memory", ("mem", "partition")),
    (r"node count", ("nodes", "partition")),
    (r"node name", ("nodelist", "exclude")),
    (r"license", ("licenses",)),
    (r"node configuration|nodes? not available", _NODE),
)
"""The directives that a message can be about, the likeliest first."""

_SHOWN: Final = 3
_TWO: Final = 2
_COMMANDS: Final = {
    "account": "sacctmgr show associations user=$USER",
    "qos": "sacctmgr show qos",
    "reservation": "scontrol show reservation",
    "licenses": "scontrol show licenses",
}
_NODES: Final = "sinfo -o '%P %l %G %f %m %c'"
"""The command that shows the resources of a cluster, for directives without a command of their own."""

STANDS_FOR: Final = {
    f"SBATCH_{name.upper()}": name for name in ("account", "clusters", "constraint", "partition", "qos", "reservation")
}
"""Variables that sbatch treats as a directive (sbatch(1), INPUT ENVIRONMENT VARIABLES), and the directive."""

_UNKNOWN_OPTION: Final = re.compile("(?:invalid|unrecognized|ambiguous|unknown) option", re.IGNORECASE)
_ORIGINS: Final = {
    SourceKind.CONFIGURATION: "the Configuration section",
    SourceKind.DERIVED: "other values",
    SourceKind.ANSWER: "an answer",
    SourceKind.DEFAULT: "the defaults",
}
"""Sources of values that are not in a document, as text."""

_RUN: Final = "$run"


class SbatchAnswer(NamedTuple):
    """The result of sbatch, its last message, and all of its messages."""

    verdict: Literal["taken", "refused", "not-now", "unavailable"]
    message: str
    messages: str = ""


def ask_sbatch(root: Path, plan: Plan, files: FilesByRun, request: Request) -> Checked:
    """Return sbatch's findings for every readable script; scripts with the same requests are tested once.

    After the first answer that SLURM does not work, sbatch is not called again.
    """
    sbatch = sbatch_program(request)
    if sbatch is None:
        return _check("switched off", "off") if is_off(request) else _check("not on PATH"), []
    found: list[RunFinding] = []
    groups = _groups(plan, files)
    for done, (asked, runs) in enumerate(groups.items()):
        answer = _answer(sbatch, root, str(files[runs[0].directory].texts[FINETUNE_SLURM]), *asked)
        if answer.verdict == "unavailable":
            found.append((WHOLE, unavailable(answer.message, len(groups) - done, len(groups))))
            tested = f"{done} of {len(groups)} distinct scripts tested, then " if done else ""
            return _check(f"{tested}no answer: {answer.message}"), found
        if answer.verdict != "taken":
            scripts = [(run, script) for run in runs if (script := files[run.directory].script)]
            found += [(run.directory, refusal(run, script, answer, options(run))) for run, script in scripts]
        request.report("sbatch", done + 1, len(groups))
    if not groups:
        return _check("no readable script"), found
    return _check(f"{counted(sum(map(len, groups.values())), 'script')} tested", "ran"), found


def _check(told: str, state: Literal["ran", "off", "not run"] = "not run") -> ExternalCheck:
    return ExternalCheck(program="sbatch", state=state, told=told)


def is_off(request: Request) -> bool:
    """Return whether the operator switched SLURM off."""
    return not request.sbatch or os.environ.get(SWITCH) == "off"


def configuration_problem(env: Mapping[str, str]) -> str:
    """Return why a program of SLURM would wait a minute for its configuration; an empty text if it would not."""
    path = env.get("SLURM_CONF")
    return f"SLURM_CONF is {shown(path)}, which does not exist" if path and not is_there(path) else ""


def sbatch_program(request: Request) -> str | None:
    """Return the sbatch of PATH, unless the operator switched it off."""
    found = None if is_off(request) else shutil.which("sbatch")
    return os.path.abspath(found) if found else None  # noqa: PTH100 - a link is called by its own name


def _groups(plan: Plan, files: FilesByRun) -> dict[tuple[AskedOptions, AskedOptions], list[PlannedRun]]:
    """Return the runs with the same requests, by directives and by options of the submit line."""
    groups: dict[tuple[AskedOptions, AskedOptions], list[PlannedRun]] = {}
    for run in plan.runs:
        script = files[run.directory].script
        asked = asked_options(script) if script else None
        if asked is not None:
            groups.setdefault((asked, tuple(options(run))), []).append(run)
    return groups


def asked_options(script: SlurmScript) -> AskedOptions | None:
    """Return the requests of a script without those that always differ; None if it cannot be read."""
    if script.problems:
        return None
    return tuple(sorted((name, found.value) for name, found in active(script).items() if name not in OWN))


def _answer(sbatch: str, root: Path, script: str, asked: AskedOptions, options: AskedOptions) -> SbatchAnswer:
    env = dict(_environment((*asked, *options)))
    if problem := configuration_problem(env):
        return SbatchAnswer("unavailable", problem)
    try:
        command = [sbatch, "--test-only", *words(options)]
        done = processes.run(command, root, DEADLINE, given=script.encode(), env=env)
    except OSError as error:
        return SbatchAnswer("unavailable", f"sbatch could not be started: {error.strerror}")
    if done.ended:
        return SbatchAnswer("unavailable", f"sbatch did not answer within {DEADLINE:g} s")
    return answer(done.status, done.output)


def _environment(asked: AskedOptions) -> Iterator[tuple[str, str]]:
    """Return this process's environment, without sbatch's own variables for directives that the script has.

    Such a variable would override the script, so that the script's own directive would not be tested.
    """
    given = {name for name, _ in asked}
    for name, value in processes.environment().items():
        if not name.startswith("SBATCH_") or (name in STANDS_FOR and STANDS_FOR[name] not in given):
            yield name, value


def answer(status: int, output: str) -> SbatchAnswer:
    """Return the result for the exit status and the output of `sbatch --test-only`."""
    lines = [_PREFIX.sub("", line.strip()) for line in output.splitlines()]
    messages = [escape(line) for line in lines if line and not line.startswith('Try "sbatch')]
    last = messages[-1] if messages else f"sbatch exited with status {status} and printed nothing"
    joined = "; ".join(dict.fromkeys(messages[-_SHOWN:])) or last
    if status == 0:
        return SbatchAnswer("taken", last, joined)
    # only the last message decides: earlier ones may repeat text of the script
    if status < 0 or status in {126, 127} or _UNAVAILABLE.search(last):
        return SbatchAnswer("unavailable", last, joined)
    return SbatchAnswer("not-now" if _NOT_NOW.search(last) else "refused", last, joined)


def refusal(run: PlannedRun, script: SlurmScript, of: SbatchAnswer, options: Sequence[tuple[str, str]] = ()) -> Finding:
    """Return the finding that sbatch rejected a run's script, at the directive that its message is about.

    `options` are those of the submit line, which override the script.
    """
    submitted = {name: Directive(name, value, 0, late=False) for name, value in options}
    likely = _likely(active(script) | submitted, of.message)
    first = likely[0] if likely else Directive("", "", 0, late=False)
    command, values = _shows_values(first.name, of.message), "the available values"
    if _UNKNOWN_OPTION.search(of.message):
        command, values = "sbatch --help", "the options of sbatch"
    later = of.verdict == "not-now"
    if later:
        fix = f"no action if the cluster can run the job later; `{command}` shows the current state of the cluster"
    elif likely:
        found = few([_with_origin(run, directive) for directive in likely], len(likely), last="or")
        found = f"one of {found}" if len(likely) > _TWO else found
        fix = (
            f"correct the likely cause, {found}, in the document or template that sets it, then scaffold again;"
            f" `{command}` shows {values}"
        )
    else:
        named = next((f"correct or add the option --{name} in claude.local.md" for name in _causes(of.message)), "")
        fix = named or "correct or remove the option that sbatch rejects, in claude.local.md or in the template"
        fix = f"{fix}; then scaffold again; `{command}` shows {values}"
    return finding(
        "sbatch-refused",
        f"sbatch rejected the script: {of.messages}",
        field=first.name or None,
        actual=of.message,
        file=f"{run.directory}/{FINETUNE_SLURM}",
        line=first.line or None,
        severity=Severity.WARNING if later else None,
        fix=fix,
    )


def _shows_values(name: str, message: str) -> str:
    """Return the command that shows the possible values of the directive that a message is about."""
    names = _causes(message)
    return next((_COMMANDS[each] for each in (name, *names[:1]) if each in _COMMANDS), _NODES)


def _likely(given: Mapping[str, Directive], message: str) -> list[Directive]:
    """Return the directives that a message can be about, the likeliest first."""
    named = re.search(r"--([a-z][a-z-]*)|option -- '(\w)'", message)
    if named:
        return [found for name, found in given.items() if name in named.groups()]
    return [given[name] for name in _causes(message) if name in given]


def _causes(message: str) -> tuple[str, ...]:
    """Return the names of the directives that a message can be about, the likeliest first."""
    return next((names for pattern, names in _CAUSES if re.search(pattern, message, re.IGNORECASE)), ())


def _with_origin(run: PlannedRun, directive: Directive) -> str:
    """Return a directive with its line, and the source of its value."""
    setting = run.settings.get("gpus" if directive.name in _GPUS else directive.name.replace("-", "_"))
    origin = ""
    if setting:
        source = setting.source
        origin = f", from {source if source.file else _ORIGINS.get(source.kind, source)}"
    line = f"line {directive.line}" if directive.line else "in the submit line"
    return f"--{escape(directive.name)}={escape(directive.value)} ({line}{origin})"


def unavailable(reason: str, untested: int, kinds: int) -> Finding:
    """Return the finding that SLURM does not work here, with `untested` of `kinds` distinct scripts."""
    were = "was" if untested == 1 else "were"
    what = "the scripts were" if untested == kinds else f"{untested} of {kinds} distinct scripts {were}"
    message = f"{what} not tested with `sbatch --test-only`: {reason}"
    fix = (
        "no action if this machine has no SLURM; otherwise correct the cause, or run validate again on a machine where"
        " sbatch can reach the controller"
    )
    return finding("sbatch-unavailable", message, fix=fix)


def log_folders(text: str) -> list[str]:
    """Return the directories for logs in a script's `--output` and `--error`, which SLURM does not create.

    Names with SLURM's placeholders (`%j`) are skipped, and relative ones if the job starts elsewhere (`--chdir`).
    """
    found = active(parse_script(text))
    named = (found[name].value.rpartition("/") for name in ("output", "error") if name in found)
    folders = dict.fromkeys(folder or slash for folder, slash, _ in named if slash)
    return [folder for folder in folders if "%" not in folder and (folder.startswith("/") or "chdir" not in found)]


def active(script: SlurmScript) -> dict[str, Directive]:
    """Return the effective directives by name: sbatch uses the last one of a name."""
    return {directive.name: directive for directive in script.directives if not directive.late}


def options(run: PlannedRun) -> list[tuple[str, str]]:
    """Return the options on sbatch's command line, which override the script's directives, as (name, value)."""
    values = {name: run.settings[name].value for name in run.submitted}
    found = parameters.directives(values)
    if "gpu_type" in values:
        found.append(("gres", parameters.gres(run.integer("gpus", 1), values["gpu_type"])))
    return found


def words(of: Iterable[tuple[str, str]]) -> list[str]:
    """Return options as the words of a command."""
    return [f"--{name}={value}" if value else f"--{name}" for name, value in of]


def line(runs: Iterable[PlannedRun], tree: Tree) -> str:
    """Return the submit line for some runs, at least one, in any POSIX shell, relative to the experiment directory.

    Runs of the bundled setup_finetune only need `sbatch finetune.slurm`. Settings that an external script does not
    accept are passed here. Directories for logs in the directives are created first, because SLURM does not create
    them.
    """
    commands = {run.directory: _command(run, _folders(tree, run)) for run in runs}
    start = f"cd {shlex.quote(str(tree.root))}"
    if len(set(commands.values())) == 1:
        first = next(iter(commands.values()))
        names = " ".join(shlex.quote(name) for name in commands)
        return f'{start} && for run in {names}; do (cd "{_RUN}" && {first}) || break; done'
    each = (f'(run={shlex.quote(name)} && cd "{_RUN}" && {command})' for name, command in commands.items())
    return " && ".join([start, *each])


def _folders(tree: Tree, run: PlannedRun) -> list[str]:
    """Return the directories that must exist before the run's job starts."""
    try:
        content = tree.read(f"{run.directory}/{FINETUNE_SLURM}")
    except Refused:
        return []
    return log_folders(content.decode(errors="replace")) if content else []


def _command(run: PlannedRun, folders: list[str]) -> str:
    """Return the command that submits a run from its directory; the shell variable `run` has its name."""
    made = [f"mkdir -p -- {_quoted(folder, run.directory)} && " for folder in folders]
    variables = parameters.variables({name: run.settings[name].value for name in run.submitted})
    given = words(options(run)) + (["--export=ALL"] if variables else [])
    assigned = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    parts = [*assigned, "sbatch", *map(shlex.quote, given), FINETUNE_SLURM]
    return "".join(made) + " ".join(parts)


def _quoted(path: str, run: str) -> str:
    """Return a path as a shell word; the variable replaces the run's name, so that many runs have the same command."""
    before, found, after = path.partition(f"/{run}/")
    if not found:
        return shlex.quote(path)
    return f'{shlex.quote(before + "/")}"{_RUN}"{shlex.quote("/" + after)}'
