"""Obstacles outside the documents: an internal error, and a machine that is not ready (`doctor`).

An unexpected exception becomes a refusal, with a report for the maintainers. `doctor` only reads and queries; it writes
nothing.
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
from scaffold_torchtune.external_checks.sbatch import SWITCH, configuration_problem, is_off, sbatch_program
from scaffold_torchtune.findings import Finding, Refused, counted, errors_in, escape, finding, shown
from scaffold_torchtune.models import Check, Readiness, Setting, State
from scaffold_torchtune.parse import local_settings
from scaffold_torchtune.pipeline import apply, journal, state
from scaffold_torchtune.pipeline.backend import activates, environment_of, interface_of
from scaffold_torchtune.pipeline.locate import (
    Document,
    expanded,
    experiment_directory,
    local_document,
    named_script,
    read_document,
    summary_path,
)
from scaffold_torchtune.pipeline.prepare import default_script, parse
from scaffold_torchtune.preflight import log_path_problem
from scaffold_torchtune.preflight.disk import free_bytes
from scaffold_torchtune.request import Interrupted, Request, Stopped
from scaffold_torchtune.system import layout, locking, processes
from scaffold_torchtune.system.files import Tree, is_directory, is_file, real_path, temporary_directory
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.torchtune_facts.facts import load

EXIT_STATUS: Final = 70
"""The exit status of a command after an internal error: EX_SOFTWARE of sysexits.h."""

WRITING: Final = frozenset({"render", "setup", "validate", "scaffold", "demo"})
"""The commands that write to scaffold.log."""

_LONGEST: Final = 200_000
_MESSAGE: Final = 300
_REPORT: Final = """\
An unexpected error occurred. This is a bug in scaffold-torchtune, not a problem with your input.

Report this file to the maintainers, with the summary and claude.local.md if you may share them, and with the steps that
led to the error. Read it first: it may contain paths and values of the experiment. Secrets from environment variables
are replaced.

version  scaffold-torchtune {version}
python   {python}
system   {system}
command  {command}

{traceback}"""


class InternalError(Stopped):
    """An unexpected exception; files written before it stay."""


def internal_error(error: Exception, command: str, request: Request | None, *, ended: bool = False) -> InternalError:
    """Return an exception as a refusal with one finding, which names the report; add it to the experiment's log.

    `command` is the command that failed; `ended` is true if its work was done, and only its report failed. Never
    raises.
    """
    reason = f": {error}" if str(error) else ""
    what = escape(processes.without_secrets(f"{type(error).__name__}{reason}"))[:_MESSAGE]
    text = _report(error, command)
    name = layout.internal_error(hashlib.sha256(_places(error).encode()).hexdigest()[:8])
    kept = _kept_in_experiment(name, text, request) or _kept_elsewhere(text)
    fix = (
        f"try again; if it fails again, report the error and attach the file {escape(kept)}"
        if kept
        else "report the error"
    )
    problem = finding(
        "internal-error", f"{shown(command)} failed unexpectedly: {what}", file=escape(kept) or None, fix=fix
    )
    refused = InternalError(problem.message, [problem])
    if request and not ended and command in WRITING:
        with contextlib.suppress(Exception):  # the cause of the error may also make this fail
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
    """Return the characteristics of a failure: its type, and the functions and lines of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} {[(frame.name, frame.lineno) for frame in frames[-20:]]}"


def _kept_in_experiment(name: str, text: str, request: Request | None) -> str:
    """Write the report to the experiment's state, if there is an experiment; return its path, or an empty string."""
    if request is None:
        return ""
    try:
        directory = experiment_directory(request)
        with Tree(directory) as tree:
            if not (tree.kind(layout.STATE) or os.path.lexists(summary_path(request, directory))):
                return ""
            tree.prepare()
            tree.write(name, text.encode(errors="backslashreplace"))
    except Exception:  # noqa: BLE001 - the cause of the error may also make this fail
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
    """Append the error to the log, and reopen a log that a verdict has closed; return the entry's head."""
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
"""The time limit for the answer of one program."""

_ENOUGH: Final = 50_000_000  # bytes: a run's files have a few kilobytes, and scripts need room for their own
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
    """Check Python, roots, documents, environment, setup script, torchtune and SLURM, each within a time limit.

    Args:
        request: the request that a scaffold would get; documents are searched in its `experiment`.
        with_experiment: whether it is an experiment, which must have documents.

    Raises:
        Refused: the experiment does not exist, or is outside the roots.
        Interrupted: the caller stopped the call.
    """
    directory = experiment_directory(request) if with_experiment else real_path(expanded(request.experiment))
    found = f"scaffold-torchtune {__version__} on Python {platform.python_version()}"
    checks = [Check(name="Python", state="ok", found=found), *_roots(request)]
    checks += [*_experiment(request, directory), *_logs(directory), *_lock(directory)] if with_experiment else []
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
    """Yield the directories that may contain experiments, if any were given."""
    roots = [real_path(expanded(one)) for one in request.roots]
    listed = ", ".join(escape(str(one)) for one in roots) or "none specified: commands accept any experiment"
    yield Check(name="roots", state="ok", found=listed)
    for absent in (one for one in roots if not is_directory(one)):
        fix = "correct --root or SCAFFOLD_TORCHTUNE_ROOT, or the scratch directory in claude.local.md"
        yield Check(name="roots", state="warning", found=f"{shown(str(absent))} does not exist", fix=fix)


def _experiment(request: Request, directory: Path) -> list[Check]:
    """Check the experiment directory and its documents."""
    checks = [_writable(directory)]
    try:
        experiment = parse(request).experiment
    except Refused as refused:
        others = [p for p in refused.problems if (p.code, p.file) != ("document-missing", layout.LOCAL)]
        return checks + _as_checks("documents", others)  # `_local` reports a missing claude.local.md
    tuned = sum(run.type == "fine-tuned" for run in experiment.runs)
    warned = f"; {counted(len(experiment.warnings), 'warning')}, shown by parse" if experiment.warnings else ""
    found = f"{experiment.name}: {tuned} of {counted(len(experiment.runs), 'run')} to fine-tune{warned}"
    return [*checks, Check(name="documents", state="ok", found=found)]


def _writable(directory: Path) -> Check:
    """Check whether files can be created in the experiment directory, and whether it has enough space."""
    found, fix = escape(str(directory)), ""
    free = free_bytes(str(directory))
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        found, fix = f"{found} is not writable", "get write permission for it, or move the experiment"
    elif free is not None:
        found, fix = f"{found}, {free / 1e9:.1f} GB free", "free space on this file system" if free < _ENOUGH else ""
    return Check(name="experiment", state="problem" if fix else "ok", found=found, fix=fix)


def _logs(directory: Path) -> list[Check]:
    """Check whether SLURM can write logs in the directory."""
    found = log_path_problem(str(directory))
    return _as_checks("experiment", [found], "warning") if found else []


def _lock(directory: Path) -> Iterator[Check]:
    """Check whether another scaffold is at work in the experiment, or has left its lock."""
    name = "lock"
    try:
        with Tree(directory) as tree:
            found = tree.look_at_lock()
    except Refused as refused:
        yield from _as_checks(name, refused.problems)
        return
    if isinstance(found, locking.Maker):
        where = f"another scaffold is working on this experiment: {escape(str(found))}"
        yield Check(name=name, state="warning", found=where, fix="wait until it has ended")
    elif found is not None:
        left = f", {escape(str(found.maker))}" if found.maker else ""
        where = f"{layout.LOCK} was left by a scaffold that was killed{left}"
        yield Check(name=name, state="warning", found=where, fix="no action needed: the next scaffold removes the lock")


def _local(request: Request, directory: Path) -> tuple[Check, Document | None]:
    """Find the claude.local.md that would be used."""
    name, path = layout.LOCAL, local_document(request, directory)
    if path is None:
        found = f"not found in {escape(str(directory))}, in any of its parent directories, or in the working directory"
        fix = "create one (`scaffold-torchtune new DIR` creates one to start from), or specify one with --local"
        return Check(name=name, state="problem", found=found, fix=fix), None
    try:
        document = read_document(path, path.name, follow=True)
    except Refused as refused:
        return _as_checks(name, refused.problems)[0], None
    return Check(name=name, state="ok", found=escape(str(path))), document


def _environment(settings: Mapping[str, Setting], request: Request) -> tuple[Environment | None, list[Check]]:
    """Find the environment that jobs and an external setup script activate; None if it cannot be activated."""
    name = "environment"
    try:
        environment = environment_of(settings, request)
    except Interrupted:
        raise
    except Refused as refused:
        # only the jobs need it if setup is bundled
        state: State = "warning" if named_script(request) in _BUNDLED else "problem"
        return None, _as_checks(name, refused.problems, state)
    found = f"{environment.how}; Python: {escape(environment.python)}"
    if environment.name or activates(request):
        return environment, [Check(name=name, state="ok", found=found)]
    fix = ""
    if environment.commands:
        fix = f"no action if this is the right environment; otherwise run: {environment.commands}"
    return environment, [Check(name=name, state="warning", found=found, fix=fix)]


def _script(settings: Mapping[str, Setting], request: Request, environment: Environment | None) -> list[Check]:
    """Check the setup script that would run, and its options."""
    name, path = "setup script", named_script(request)
    try:
        if path is None:
            default_script(settings.get("working_dir"))
        if path is None or path in _BUNDLED:
            return [Check(name=name, state="ok", found="the bundled setup_finetune")]
        if not is_file(path):
            fix = "correct `--setup-script` or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, or use `--setup-script bundled`"
            return [Check(name=name, state="problem", found=f"{shown(path)} does not exist", fix=fix)]
        if environment is None:
            found = f"{escape(path)} cannot be checked without its environment"
            return [Check(name=name, state="problem", found=found, fix="correct the environment first, see above")]
        interface = interface_of(path, settings, request)
    except Refused as refused:
        return _as_checks(name, refused.problems)
    if interface is None or interface.options is None:
        found = f"{escape(path)} does not list its options, because it does not use argparse, so it gets every key"
        return [Check(name=name, state="warning", found=found, fix="no action if intended")]
    generation = interface.generation
    version = f"the script of cruijff_kit, generation {generation}" if generation else "your own script"
    found = f"{escape(path)}: {version}, {counted(len(interface.options), 'option')}; it finds the packages it imports"
    return [Check(name=name, state="ok", found=found)]


def _torchtune(environment: processes.Environment | None, request: Request) -> Iterator[Check]:
    """Check that the environment of the jobs has torchtune and wandb, and that the Python that checks configs does too.

    `environment` is None if the environment of the jobs cannot be activated here; it is checked only if it is active.
    """
    if environment is not None and environment.name:
        yield _packages("packages of jobs", environment.python, environment.variables, _OF_JOBS, "warning")
    asked = python_to_ask(request)
    if asked is not None:
        state: State = "problem" if asked.asked_for else "warning"
        yield _packages("torchtune", asked.path, processes.environment(), ("torchtune",), state)


def _packages(name: str, python: str, variables: Mapping[str, str], packages: Sequence[str], state: State) -> Check:
    """Check the versions of packages in a Python; `state` is the result if some are missing."""
    known = load().torchtune
    program = shutil.which(python, path=variables.get("PATH"))
    output = _output_of([program, "-c", _VERSIONS, *packages], variables) if program else None
    rows = [line.split() for line in (output or "").splitlines()]
    found = {row[0]: row[1] for row in rows if len(row) == 2}  # noqa: PLR2004 - a name and its version
    if found.keys() != set(packages):
        fix = "specify a working Python, or install one at this path"
        return Check(name=name, state=state, found=f"{shown(python)} cannot list its packages", fix=fix)
    listed = ", ".join(f"{package} {escape(version)}" for package, version in found.items() if version != "-")
    absent = " and ".join(package for package, version in found.items() if version == "-")
    listing = f"{listed} in {escape(python)}"
    if absent:
        missing = f"{absent} {'are' if ' and ' in absent else 'is'} missing"
        fix = f"install {absent}: {escape(python)} -m pip install {absent.replace(' and ', ' ')}"
        found_there = f"{listing}; {missing}" if listed else f"{missing} in {escape(python)}"
        return Check(name=name, state=state, found=found_there, fix=fix)
    if found["torchtune"] != known:
        fix = f"use torchtune {known}, the version that validate knows, or check the differences"
        return Check(name=name, state="warning", found=listing, fix=fix)
    return Check(name=name, state="ok", found=listing)


def _sbatch(request: Request) -> Check:
    """Check whether SLURM is installed, and whether its controller answers."""
    name, program = "sbatch", sbatch_program(request)
    if program is None:
        off = is_off(request)
        found = f"disabled ({SWITCH})" if off else "not found on PATH: job scripts are not tested"
        fix = "" if off else "no action if you submit from a different machine; otherwise scaffold on a login node"
        return Check(name=name, state="ok" if off else "warning", found=found, fix=fix)
    variables = processes.environment()
    if problem := configuration_problem(variables):
        found = f"{escape(program)}; {problem}"
        return Check(name=name, state="warning", found=found, fix="correct SLURM_CONF, or unset it")
    output = (_output_of([program, "--version"], variables) or "").split()
    version = escape(" ".join(output)) if output[:1] == ["slurm"] else "of an unknown version"
    control = shutil.which("scontrol")
    answer = _output_of([control, "ping"], variables) if control else None
    where = f"{escape(program)}, {version}"
    if answer is not None and " is UP" in answer:
        return Check(name=name, state="ok", found=f"{where}; its controller responds")
    last = next((line.strip() for line in reversed((answer or "").splitlines()) if line.strip()), "")
    found = f"{where}; no controller responds" + (f": {escape(last)}" if last else "")
    return Check(name=name, state="warning", found=found, fix="try `scontrol ping`, or use a login node")


def _output_of(command: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """Return the output of a program; None if it cannot be started, or exceeds the time limit."""
    try:
        with temporary_directory() as empty:
            done = processes.run(command, empty, SECONDS, env=variables)
    except OSError:
        return None
    return None if done.ended else done.output
