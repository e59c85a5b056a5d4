"""What SLURM's own `sbatch --test-only` says of a script: which scripts it judges alike, and what its answer means.

The messages are those of Slurm 22.05 (src/sbatch, src/common/slurm_errno.c), tried with a real one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared.layout import FINETUNE_SLURM
from scaffold_torchtune.shared.text import escape
from scaffold_torchtune.validate.script import Directive, Script, parse

Asked = tuple[tuple[str, str], ...]
"""What a script asks SLURM for: names and values of the directives that count, sorted."""

_OWN: Final = frozenset({"job-name", "output", "error"})
"""Directives in which runs differ and that no cluster refuses."""

_UNAVAILABLE: Final = re.compile(
    r"unable to contact slurm|connection failure|connect failure|socket timed out|zero bytes were transmitted"
    r"|authentication error|munge|auth plugin|credential|configuration (source|file)|slurm\.conf|parse_file"
    r"|dns srv|standby mode|incompatible versions|talking to database|can't be reached now"
    r"|temporarily unable|error while loading shared libraries",
    re.IGNORECASE,
)
"""What is said where no SLURM works here: no configuration, no controller, no munge."""

_NOT_NOW: Final = re.compile(
    r"inactive or drain|down, drained or reserved|nodes are busy|temporarily|try again", re.IGNORECASE
)
"""What is said of a script that is right and that the cluster will take at another time."""

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
"""Which directives a message can be about, the likeliest first."""

_SHOWN: Final = 3
_SETTINGS: Final = dict.fromkeys(_GPUS, "gpus")
_LOOK: Final = {"account": "sacctmgr show associations user=$USER", "qos": "sacctmgr show qos"}
_NODES: Final = "sinfo -o '%P %l %G %f %m %c'"


class Answer(NamedTuple):
    """What sbatch said: whether it takes the script, its last message, and that with those before it."""

    verdict: Literal["taken", "refused", "not-now", "unavailable"]
    said: str
    all_said: str = ""


def asked(script: Script) -> Asked | None:
    """What a script asks SLURM for, the same for scripts that SLURM must judge alike; None where it cannot be read."""
    if script.problems:
        return None
    return tuple(sorted((name, found.value) for name, found in _active(script).items() if name not in _OWN))


def log_folders(text: str) -> list[str]:
    """The directories that a script's `--output` and `--error` name for logs, which SLURM does not make.

    Left out are those whose names SLURM fills in (`%j`), and relative ones where the job starts elsewhere (`--chdir`).
    """
    active = _active(parse(text))
    named = (active[name].value.rpartition("/") for name in ("output", "error") if name in active)
    folders = dict.fromkeys(folder or slash for folder, slash, _ in named if slash)
    return [folder for folder in folders if "%" not in folder and (folder.startswith("/") or "chdir" not in active)]


def _active(script: Script) -> dict[str, Directive]:
    """The directives that count, by name: sbatch takes the last one of a name."""
    return {directive.name: directive for directive in script.directives if not directive.late}


def answer(status: int, output: str) -> Answer:
    """What the exit status and the output of `sbatch --test-only` mean."""
    lines = [_PREFIX.sub("", line.strip()) for line in output.splitlines()]
    said = [escape(line) for line in lines if line and not line.startswith('Try "sbatch')]
    last = said[-1] if said else f"nothing, and ended with status {status}"
    all_said = "; ".join(dict.fromkeys(said[-_SHOWN:])) or last
    if status == 0:
        return Answer("taken", last, all_said)
    # only the last message is judged: those before it may repeat what the script says
    if status < 0 or status in {126, 127} or _UNAVAILABLE.search(last):
        return Answer("unavailable", last, all_said)
    return Answer("not-now" if _NOT_NOW.search(last) else "refused", last, all_said)


def refusal(run: PlannedRun, script: Script, of: Answer, options: Sequence[tuple[str, str]] = ()) -> Finding:
    """The finding that sbatch does not take a run's script, at the directive that its message is about.

    `options` are those of the line that submits, which win over the script.
    """
    told = {name: Directive(name, value, 0, late=False) for name, value in options}
    likely = _likely(_active(script) | told, of.said)
    first = likely[0] if likely else None
    places = "; ".join(_place(run, directive) for directive in likely)
    look = _LOOK.get(first.name if first else "", _NODES)
    if of.verdict == "not-now":
        fix = f"nothing, where the cluster is to take it later; `{look}` shows how it is now"
    elif likely:
        fix = f"likely: {places}. Correct it where it comes from, then scaffold again; `{look}` shows what there is"
    else:
        fix = f"give what SLURM misses in claude.local.md, then scaffold again; `{look}` shows what there is"
    return finding(
        "sbatch-refused",
        f"sbatch does not take the script{' now' if of.verdict == 'not-now' else ''}: {of.all_said}",
        field=first.name if first else None,
        actual=of.said,
        file=f"{run.directory}/{FINETUNE_SLURM}",
        line=(first.line or None) if first else None,
        severity=Severity.WARNING if of.verdict == "not-now" else None,
        fix=fix,
    )


def _likely(active: Mapping[str, Directive], said: str) -> list[Directive]:
    """The directives that a message can be about, the likeliest first."""
    named = re.search(r"--([a-z][a-z-]*)|option -- '(\w)'", said)
    if named:
        return [found for name, found in active.items() if name in named.groups()]
    names = next((names for pattern, names in _CAUSES if re.search(pattern, said, re.IGNORECASE)), ())
    return [active[name] for name in names if name in active]


def _place(run: PlannedRun, directive: Directive) -> str:
    """A directive with its line, and where its value comes from."""
    setting = run.settings.get(_SETTINGS.get(directive.name, directive.name.replace("-", "_")))
    origin = f", from {setting.source}" if setting else ""
    place = f"line {directive.line}" if directive.line else "on the line that submits"
    return f"--{escape(directive.name)}={escape(directive.value)} ({place}{origin})"


def unavailable(reason: str, untested: int, kinds: int) -> Finding:
    """The finding that no SLURM works here, for `untested` of so many `kinds` of scripts."""
    what = "the scripts were" if untested == kinds else f"{untested} of {kinds} kinds of scripts were"
    message = f"{what} not tested with sbatch --test-only: {reason}"
    fix = "nothing, if no SLURM is expected here; else validate again where sbatch reaches its controller"
    return finding("sbatch-unavailable", message, fix=fix)
