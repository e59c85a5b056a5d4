"""What nobody foresaw: an exception that is no refusal becomes one, with a report for who mends it."""

import contextlib
import hashlib
import os
import platform
import tempfile
import traceback
from pathlib import Path
from typing import Final

from scaffold_torchtune import __version__, journal
from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.pipeline import apply, state
from scaffold_torchtune.pipeline.locate import experiment_directory, summary_path
from scaffold_torchtune.request import Request, Stopped
from scaffold_torchtune.system import layout, processes
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.text import escape

STATUS: Final = 70
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
