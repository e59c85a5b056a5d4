"""What stops a scaffold besides its documents: an error of ours, and a machine that is not ready (`doctor`).

An exception that is no refusal becomes one, with a report for who mends it. Doctor reads and asks; it writes nothing.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from scaffold_torchtune import __version__
from scaffold_torchtune.external_checks.ask_torchtune import python_to_ask
from scaffold_torchtune.external_checks.sbatch import SWITCH, sbatch_program
from scaffold_torchtune.findings import Finding, Refused, errors_in, escape, finding, shown
from scaffold_torchtune.models import Check, Readiness, Setting, State
from scaffold_torchtune.parse import local_settings
from scaffold_torchtune.pipeline import apply, journal, state
from scaffold_torchtune.pipeline.external_setup import activates, environment_of, interface_of
from scaffold_torchtune.pipeline.locate import (
    Document,
    expanded,
    experiment_directory,
    local_document,
    read_document,
    summary_path,
)
from scaffold_torchtune.pipeline.prepare import default_script, named_script, parse
from scaffold_torchtune.preflight.disk import free_bytes
from scaffold_torchtune.request import Interrupted, Request, Stopped
from scaffold_torchtune.system import layout, locking, processes
from scaffold_torchtune.system.files import Tree, is_directory, is_file, is_there, real_path, temporary_directory
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.torchtune_facts.facts import load

EXIT_STATUS: Final = 70
"""The exit status of a command, as sysexits.h has it (EX_SOFTWARE)."""

WRITING: Final = frozenset({"render", "setup", "validate", "scaffold", "demo"})
"""The commands that log what they do."""

_LONGEST: Final = 200_000
_MESSAGE: Final = 300
_REPORT: Final = """\
scaffold-torchtune failed in a way that nobody foresaw: this is an error in it, not in what you did.

Report this file to who maintains it, with the summary and claude.local.md where you may share them, and with what was
done before. Read it first: it may hold paths and values of the experiment. Secrets of the environment are replaced.

version  scaffold-torchtune {version}
python   {python}
system   {system}
command  {command}

{traceback}"""


class InternalError(Stopped):
    """An exception that nobody foresaw; what was written before it stays."""


def internal_error(error: Exception, command: str, request: Request | None, *, ended: bool = False) -> InternalError:
    """Return an exception as a refusal with one finding, which names the report; the log of the experiment has it too.

    `command` is what failed; `ended` says that its work was done, and only telling of it failed. Never raises.
    """
    what = escape(processes.without_secrets(f"{type(error).__name__}: {error}"))[:_MESSAGE]
    text = _report(error, command)
    name = layout.internal_error(hashlib.sha256(_places(error).encode()).hexdigest()[:8])
    kept = _kept_in_experiment(name, text, request) or _kept_elsewhere(text)
    fix = f"repeat it; if it fails again, report {escape(kept)}, which says what to add" if kept else "report it"
    problem = finding("internal-error", f"{command} failed unexpectedly: {what}", file=escape(kept) or None, fix=fix)
    refused = InternalError(problem.message, [problem])
    if request and not ended and command in WRITING:
        with contextlib.suppress(Exception):  # what fails here may be what failed there
            refused.logged = _logged(request, refused)
    return refused


def _report(error: Exception, command: str) -> str:
    lines = "".join(traceback.format_exception(error))
    half = _LONGEST // 2
    cut = lines if len(lines) <= _LONGEST else f"{lines[:half]}\n[...]\n{lines[-half:]}"
    python, system = f"{platform.python_implementation()} {platform.python_version()}", platform.platform()
    text = _REPORT.format(version=__version__, python=python, system=system, command=command, traceback=cut)
    return processes.without_secrets(text)


def _places(error: Exception) -> str:
    """Return what tells one failure from another: its type, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} {[(frame.name, frame.lineno) for frame in frames[-20:]]}"


def _kept_in_experiment(name: str, text: str, request: Request | None) -> str:
    """Keep the report in the experiment, where there is one that is ours to write to; return where."""
    if request is None:
        return ""
    try:
        directory = experiment_directory(request)
        with Tree(directory) as tree:
            if not (tree.kind(layout.STATE) or os.path.lexists(summary_path(request, directory))):
                return ""
            tree.prepare()
            tree.write(name, text.encode(errors="backslashreplace"))
    except Exception:  # noqa: BLE001 - what fails here may be what failed there
        return ""
    return str(directory / name)


def _kept_elsewhere(text: str) -> str:
    try:
        descriptor, path = tempfile.mkstemp(prefix="scaffold-torchtune-error-", suffix=".txt")
        os.close(descriptor)
        Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return path


def _logged(request: Request, refused: Refused) -> tuple[str, ...]:
    """Let the log end with it, and no verdict stand after which nothing would be logged; return the entry's head."""
    with Tree(experiment_directory(request)) as tree:
        if not tree.kind(layout.STATE):
            return ()
        entry, now = journal.stopped_entry(refused), request.now()
        tree.append(layout.LOG, journal.format_entries([entry], now))
        with contextlib.suppress(Refused), apply.writing(tree):
            before = state.load_log_state(tree)
            if before is not None and before.status == "complete":
                failed = before.model_copy(update={"status": "failed", "verdict": ""})
                state.save(tree, layout.PROGRESS, failed)
        return (journal.head(entry, now),)


SECONDS: Final = 20.0
"""How long one program may take to answer."""

_ENOUGH: Final = 50_000_000  # bytes: a run's files are some kilobytes, and scripts need room for theirs
_BUNDLED: Final = (None, "", "bundled")
_OF_JOBS: Final = ("torchtune", "wandb")
_VERSIONS: Final = """\
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, "-")
"""


def doctor(request: Request, *, with_experiment: bool) -> Readiness:
    """Look at Python, roots, documents, environment, setup script, torchtune and SLURM. Each is bounded in time.

    Args:
        request: what a scaffold would be asked with; `experiment` is where documents are looked for.
        with_experiment: whether it is an experiment, whose documents must be there.

    Raises:
        Refused: the experiment is not there, or lies under none of the roots.
        Interrupted: who asked for it wants it to end.
    """
    directory = experiment_directory(request) if with_experiment else real_path(expanded(request.experiment))
    found = f"scaffold-torchtune {__version__} on Python {platform.python_version()}"
    checks = [Check(name="Python", state="ok", found=found), *_roots(request)]
    checks += [*_experiment(request, directory), *_lock(directory)] if with_experiment else []
    local, document = _local(request, directory)
    checks.append(local)
    settings: Mapping[str, Setting] = {}
    if document is not None:
        settings, problems = local_settings(document.text, document.name)
        # with the experiment, they are reported with its documents
        checks += [] if with_experiment else _as_checks(layout.LOCAL, errors_in(problems))
    environment, found_there = _environment(settings, request)
    checks += [*found_there, *_script(settings, request, environment)]
    checks += _torchtune(environment, request)
    checks.append(_sbatch(request))
    return Readiness(ready=all(check.state != "problem" for check in checks), checks=tuple(checks))


def _as_checks(name: str, problems: Sequence[Finding], state: State = "problem") -> list[Check]:
    """Return each finding as a check."""
    places = [f"{p.location()}: " if p.location() else "" for p in problems]
    found = zip(places, problems, strict=True)
    return [Check(name=name, state=state, found=f"{place}{p.message}", fix=p.fix) for place, p in found]


def _roots(request: Request) -> Iterator[Check]:
    """Yield the directories below which experiments may lie, where any were given."""
    roots = [real_path(expanded(one)) for one in request.roots]
    listed = ", ".join(escape(str(one)) for one in roots) or "none given: a command takes the experiment as typed"
    yield Check(name="roots", state="ok", found=listed)
    for absent in (one for one in roots if not is_directory(one)):
        fix = "correct --root or SCAFFOLD_TORCHTUNE_ROOT, or the scratch directory in claude.local.md"
        yield Check(name="roots", state="warning", found=f"{shown(str(absent))} is not there", fix=fix)


def _experiment(request: Request, directory: Path) -> list[Check]:
    """Check the experiment directory and its documents."""
    checks = [_writable(directory)]
    try:
        experiment = parse(request).experiment
    except Refused as refused:
        others = [p for p in refused.problems if (p.code, p.file) != ("document-missing", layout.LOCAL)]
        return checks + _as_checks("documents", others)  # `_local` reports a claude.local.md that is not there
    tuned = sum(run.type == "fine-tuned" for run in experiment.runs)
    warned = f"; {len(experiment.warnings)} warning(s), see parse" if experiment.warnings else ""
    found = f"{experiment.name}: {tuned} of {len(experiment.runs)} run(s) to fine-tune{warned}"
    return [*checks, Check(name="documents", state="ok", found=found)]


def _writable(directory: Path) -> Check:
    """Check whether files may be made in the experiment directory, and whether there is room."""
    found, fix = escape(str(directory)), ""
    free = free_bytes(str(directory))
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        found, fix = f"{found} cannot be written to", "give yourself write permission there, or move the experiment"
    elif free is not None:
        found, fix = f"{found}, {free / 1e9:.1f} GB free", "make room there" if free < _ENOUGH else ""
    return Check(name="experiment", state="problem" if fix else "ok", found=found, fix=fix)


def _lock(directory: Path) -> Iterator[Check]:
    """Check whether a scaffold is at work there, or has left its lock."""
    name = "lock"
    try:
        with Tree(directory) as tree:
            found = tree.look_at_lock()
    except Refused as refused:
        yield from _as_checks(name, refused.problems)
        return
    if isinstance(found, locking.Maker):
        where = f"a scaffold is at work: {escape(str(found))}"
        yield Check(name=name, state="warning", found=where, fix="wait for it")
    elif found is not None:
        left = f", {escape(str(found.maker))}" if found.maker else ""
        where = f"{layout.LOCK} is left of a scaffold that was killed{left}"
        yield Check(name=name, state="warning", found=where, fix="nothing: the next scaffold removes it")


def _local(request: Request, directory: Path) -> tuple[Check, Document | None]:
    """Find the claude.local.md that would be used."""
    name, path = layout.LOCAL, local_document(request, directory)
    if path is None:
        found = f"there is none in {escape(str(directory))}, in a parent of it, or in the working directory"
        fix = "write one ('scaffold-torchtune new DIR' makes one to start from), or name one with --local"
        return Check(name=name, state="problem", found=found, fix=fix), None
    try:
        document = read_document(path, path.name, follow=True)
    except Refused as refused:
        return _as_checks(name, refused.problems)[0], None
    return Check(name=name, state="ok", found=escape(str(path))), document


def _environment(settings: Mapping[str, Setting], request: Request) -> tuple[Environment | None, list[Check]]:
    """Find the environment that jobs and an external setup script activate; None where it is not to be had."""
    name = "environment"
    try:
        environment = environment_of(settings, request)
    except Interrupted:
        raise
    except Refused as refused:
        # where nothing here needs it, the jobs still do
        state: State = "warning" if named_script(request) in _BUNDLED else "problem"
        return None, _as_checks(name, refused.problems, state)
    found = f"{environment.how}; Python: {escape(environment.python)}"
    if environment.name or activates(request):
        return environment, [Check(name=name, state="ok", found=found)]
    fix = f"nothing, if it is the right one; else: {environment.commands}" if environment.commands else ""
    return environment, [Check(name=name, state="warning", found=found, fix=fix)]


def _script(settings: Mapping[str, Setting], request: Request, environment: Environment | None) -> list[Check]:
    """Check the setup script that would run, and what it takes."""
    name, path = "setup script", named_script(request)
    try:
        if path is None:
            default_script(settings.get("working_dir"))
        if path is None or path in _BUNDLED:
            return [Check(name=name, state="ok", found="the bundled setup_finetune")]
        if not is_file(path):
            fix = "correct --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, or say 'bundled'"
            return [Check(name=name, state="problem", found=f"there is none at {shown(path)}", fix=fix)]
        if environment is None:
            found = f"{escape(path)} cannot be asked without its environment"
            return [Check(name=name, state="problem", found=found, fix="see environment")]
        interface = interface_of(path, settings, request)
    except Refused as refused:
        return _as_checks(name, refused.problems)
    if interface is None or interface.options is None:
        found = f"{escape(path)} does not say what it takes, as it does not use argparse: it is given every key"
        return [Check(name=name, state="warning", found=found, fix="nothing, if it is meant so")]
    version = f"cruijff_kit's, generation {interface.generation}" if interface.generation else "of its own kind"
    found = f"{escape(path)}: {version}, {len(interface.options)} options; it finds the packages that it imports"
    return [Check(name=name, state="ok", found=found)]


def _torchtune(environment: processes.Environment | None, request: Request) -> Iterator[Check]:
    """Check that the environment of the jobs has torchtune and wandb, and the Python to be asked for torchtune has it.

    `environment` is None where that of the jobs is not to be had here; what was not activated is not looked at.
    """
    if environment is not None and environment.name:
        yield _packages("packages of jobs", environment.python, environment.variables, _OF_JOBS, "warning")
    asked = python_to_ask(request)
    if asked is not None:
        state: State = "problem" if asked.asked_for else "warning"
        yield _packages("torchtune", asked.path, processes.environment(), ("torchtune",), state)


def _packages(name: str, python: str, variables: Mapping[str, str], packages: Sequence[str], state: State) -> Check:
    """Check which versions of packages a Python has; `state` is that of one that lacks some."""
    known = load().torchtune
    program = shutil.which(python, path=variables.get("PATH"))
    output = _output_of([program, "-c", _VERSIONS, *packages], variables) if program else None
    rows = [line.split() for line in (output or "").splitlines()]
    found = {row[0]: row[1] for row in rows if len(row) == 2}  # noqa: PLR2004 - a name and its version
    if found.keys() != set(packages):
        fix = "name a Python that runs, or install one there"
        return Check(name=name, state=state, found=f"{shown(python)} does not say which packages it has", fix=fix)
    listed = ", ".join(f"{package} {escape(version)}" for package, version in found.items() if version != "-")
    absent = " and ".join(package for package, version in found.items() if version == "-")
    listing = f"{listed or 'none of them'} in {escape(python)}"
    if absent:
        fix = f"install it there: {escape(python)} -m pip install {absent.replace(' and ', ' ')}"
        return Check(name=name, state=state, found=f"{listing}; no {absent}", fix=fix)
    if found["torchtune"] != known:
        fix = f"use torchtune {known}, whose rules validate knows, or look at what has changed since"
        return Check(name=name, state="warning", found=listing, fix=fix)
    return Check(name=name, state="ok", found=listing)


def _sbatch(request: Request) -> Check:
    """Check whether there is a SLURM to submit to, and whether its controller answers."""
    name, program = "sbatch", sbatch_program(request)
    if program is None:
        off = not request.sbatch or os.environ.get(SWITCH) == "off"
        found = f"switched off ({SWITCH})" if off else "there is none on PATH: scripts are not tried"
        fix = "" if off else "nothing, if jobs are submitted elsewhere; else scaffold on a login node"
        return Check(name=name, state="ok" if off else "warning", found=found, fix=fix)
    variables = processes.environment()
    configuration = variables.get("SLURM_CONF", "")
    if configuration and not is_there(configuration):  # Slurm's programs would wait a minute for it
        found = f"{escape(program)}; SLURM_CONF names {shown(configuration)}, which is not there"
        return Check(name=name, state="warning", found=found, fix="correct SLURM_CONF, or unset it")
    output = (_output_of([program, "--version"], variables) or "").split()
    version = escape(" ".join(output)) if output[:1] == ["slurm"] else "of an unknown version"
    control = shutil.which("scontrol")
    answer = _output_of([control, "ping"], variables) if control else None
    where = f"{escape(program)}, {version}"
    if answer is not None and " is UP" in answer:
        return Check(name=name, state="ok", found=f"{where}; its controller answers")
    last = next((line.strip() for line in reversed((answer or "").splitlines()) if line.strip()), "")
    found = f"{where}; no controller answers" + (f": {escape(last)}" if last else "")
    return Check(name=name, state="warning", found=found, fix="look at `scontrol ping`, or go to a login node")


def _output_of(command: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """Return what a program prints; None where it cannot be started, or takes too long."""
    try:
        with temporary_directory() as empty:
            done = processes.run(command, empty, SECONDS, env=variables)
    except OSError:
        return None
    return None if done.ended else done.output
