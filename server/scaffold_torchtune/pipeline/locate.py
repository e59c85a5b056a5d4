"""Find the experiment, its documents and its template; refuse paths outside the roots."""

import errno
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scaffold_torchtune.external_checks import slurm_jobs
from scaffold_torchtune.findings import Finding, Refused, escape, few, finding, refuse, shown
from scaffold_torchtune.models import Plan
from scaffold_torchtune.parse.local import scratch_directory
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import (
    Tree,
    is_directory,
    is_file,
    is_same,
    is_taken,
    is_there,
    read_regular,
    real_path,
    sha256,
)

MAX_DOCUMENT = 1_000_000
_FEW = 12


@dataclass(frozen=True)
class Document:
    """A document that was read: its path, its name in messages, its text and the SHA-256 of its bytes."""

    path: Path
    name: str
    text: str
    sha256: str


def expanded(path: Path) -> Path:
    """Return the path with `~` replaced, if there is such a home directory."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def named_path(path: Path | str, field: str) -> Path:
    """Return the real path of a file that the operator names.

    Raises:
        Refused: it contains a character that cannot be printed.
    """
    real = real_path(expanded(Path(path)))
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} contains a non-printable character"
        raise refuse("unsafe-path", message, field=field, fix="rename the file or its directory")
    return real


def named_script(request: Request) -> str | None:
    """Return the operator's choice: 'bundled', the real path of a script, or None. An empty variable is no choice."""
    named = request.setup_script
    if named is None:
        named = os.environ.get("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT") or None
    return named if named in {None, "", "bundled"} else str(named_path(str(named), "setup_script"))


def experiment_directory(request: Request) -> Path:
    """Return the real path of the experiment directory.

    Raises:
        Refused: it does not exist, is outside the roots, contains a character that cannot be printed, or is a file of
            an experiment other than its summary.
    """
    given = expanded(request.experiment)
    check_can_be_seen(given)
    real = real_path(given if is_directory(given) else given.parent)
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} contains a non-printable character"
        raise refuse(
            "unsafe-path",
            message,
            field="experiment",
            fix="rename the directory, so that its path has only printable characters",
        )
    check_roots(real, request, must_exist=True)
    if not is_there(given):
        fix = f"specify the path of the experiment directory, or of its {layout.SUMMARY}"
        raise refuse("not-a-directory", f"{_named(request)} does not exist", field="experiment", fix=fix)
    above = next((folder for folder in (real, real.parent) if is_experiment(folder, with_state=False)), None)
    name = given.name.casefold()
    if is_file(given) and (name == layout.LOCAL or (above and name in _NO_SUMMARIES)):
        message = f"{_named(request)} is not the summary of an experiment, but its {given.name}"
        fix = f"specify {shlex.quote(str(above))}" if above else "specify the experiment directory"
        raise refuse("not-a-directory", message, field="experiment", fix=f"{fix}, or its {layout.SUMMARY}")
    return real


_NO_SUMMARIES: Final = frozenset({layout.LOG, layout.PAGE, *layout.RUN_FILES})
"""The names of generated files. Elsewhere they may be files of other tools, for which the parser has its own advice."""


def _named(request: Request) -> str:
    """Return the path of the experiment as it was given, with the absolute path if that differs."""
    given, full = str(request.experiment), _absolute(request)
    return shown(given) if given == full else f"{shown(given)} ({shown(full)})"


def _absolute(request: Request) -> str:
    return os.path.abspath(expanded(request.experiment))  # noqa: PTH100 - links stay


def is_experiment(path: Path, *, with_state: bool = True) -> bool:
    """Return whether a path is a summary, or a directory with one; `with_state`: or with the state of a scaffold."""
    given = expanded(path)
    names = (layout.SUMMARY, layout.SUMMARY_YAML, *([layout.STATE] if with_state else []))
    return is_file(given) or any(is_taken(given / name) for name in names)


def no_experiment_here() -> Refused:
    """Return the refusal of a command to which no experiment was given, outside of one."""
    here = real_path(Path())
    above = next((folder for folder in here.parents if is_experiment(folder, with_state=False)), None)
    message = f"EXPERIMENT is not specified, and the current directory {shown(str(here))} has no {layout.SUMMARY}"
    meant = f"specify {os.path.relpath(above, here)}" if above else "specify the experiment directory"
    return refuse("not-a-directory", message, field="experiment", fix=f"{meant}, or change to that directory")


def check_can_be_seen(path: Path) -> None:
    """Refuse a path that cannot be inspected because of permissions, a long name or a loop of links."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        message = f"{shown(str(path))} cannot be inspected: {getattr(error, 'strerror', None) or error}"
        raise refuse("not-a-directory", message, field="experiment", fix="specify a different path") from error


def check_roots(real: Path, request: Request, *, must_exist: bool = False) -> None:
    """Refuse a real path that is outside the request's roots, if it has any.

    With `must_exist`, no root is suggested for an experiment that does not exist.
    """
    roots = [real_path(expanded(root)) for root in request.roots]
    if roots and not any(real.is_relative_to(root) for root in roots):
        listed = few([shown(str(root)) for root in roots], len(roots))
        full = _absolute(request)
        links = f", which links to {shown(str(real))}," if str(real) not in {full, str(Path(full).parent)} else ""
        is_missing = must_exist and not is_there(expanded(request.experiment))
        what = "does not exist, and is outside" if is_missing else "is outside"
        message = f"the experiment {_named(request)}{links} {what} the roots: {listed}"
        # never all files of a user
        more = real if real.parent in {Path(real.anchor), real_path(expanded(Path("~")))} else real.parent
        fix = (
            "specify an experiment under a root, or ask the person who starts the server or command to add a root:"
            f" `--root {more}` on its command line, or `SCAFFOLD_TORCHTUNE_ROOT={more}` in its environment"
        )
        fix = fix if real != real.parent and not is_missing else "specify the path of an experiment under a root"
        raise refuse("outside-roots", message, field="experiment", fix=fix)


def read_document(path: Path, name: str, *, follow: bool) -> Document:
    """Read a document: a regular UTF-8 file of at most 1 MB. With `follow` it may be a link.

    Raises:
        Refused: it is missing or not such a file.
    """
    try:
        data = read_regular(path, MAX_DOCUMENT, follow=follow)
    except FileNotFoundError as error:
        message, fix = f"{shown(str(path))} does not exist", f"create {path.name}, or correct its path"
        raise refuse("document-missing", message, file=name, fix=fix) from error
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "make it a readable UTF-8 text file")
        raise _unreadable(name, error.strerror or str(error), fix) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(name, f"it is not UTF-8 (line {line})", "save it as a plain UTF-8 text file", line) from error
    return Document(path, name, text, sha256(data))


_FIXES: Final = {
    errno.EACCES: "give yourself read permission",
    errno.EFBIG: f"shorten it to at most {MAX_DOCUMENT} bytes",
    errno.EINVAL: "replace it with a regular UTF-8 text file",
}


def _unreadable(name: str, reason: str, fix: str, line: int | None = None) -> Refused:
    message = f"{name} cannot be read: {escape(reason)}"
    return refuse("document-unreadable", message, file=name, line=line, fix=fix)


def read_documents(request: Request, directory: Path) -> tuple[Document, ...]:
    """Read the summary and the claude.local.md of the experiment, and the other form of the summary if it exists.

    Raises:
        Refused: documents are missing or cannot be read; contains all such problems.
    """
    summary = summary_path(request, directory)
    documents: list[Document] = []
    problems: list[Finding] = []
    local = local_document(request, directory)
    for path, follow in ((summary, False), (local, True), *((twin, False) for twin in _twin(summary))):
        try:
            if path is None:
                raise _no_local(directory)
            documents.append(read_document(path, path.name, follow=follow))
        except Refused as refused:
            problems += refused.problems
    if problems:
        raise Refused("the experiment's documents cannot be read", problems)
    return tuple(documents)


def summary_document(request: Request, directory: Path) -> Document:
    """Read the summary.

    Raises:
        Refused: it is missing or cannot be read.
    """
    path = summary_path(request, directory)
    return read_document(path, path.name, follow=False)


def summary_path(request: Request, directory: Path) -> Path:
    """Return the path of the summary: the given file, else the YAML form if it exists, else the Markdown form."""
    given = expanded(request.experiment)
    usual = layout.SUMMARY_YAML if os.path.lexists(directory / layout.SUMMARY_YAML) else layout.SUMMARY
    return directory / (usual if is_directory(given) else given.name)


def _twin(summary: Path) -> list[Path]:
    """Return the other form of a summary, if the same directory has it."""
    forms = {layout.SUMMARY, layout.SUMMARY_YAML}
    others = forms - {summary.name} if summary.name in forms else set[str]()
    return [summary.with_name(name) for name in others if os.path.lexists(summary.with_name(name))]


def _no_local(directory: Path) -> Refused:
    message = (
        f"{layout.LOCAL} is missing: not found in {directory}, in any of its parent directories,"
        " or in the working directory"
    )
    fix = (
        "specify its path with `--local` (in a tool call: `local`), or create it in the experiment directory"
        " or one of its parent directories, with a line such as `- **Account:** value` for each setting; account and"
        " partition belong under '## SLURM Defaults'"
    )
    return refuse("document-missing", message, file=layout.LOCAL, fix=fix)


def local_document(request: Request, directory: Path) -> Path | None:
    """Return the path of claude.local.md: as given, or in the experiment, a parent, the project or the current one."""
    if request.local is not None:
        return named_path(request.local, "local")
    project = os.environ.get("CLAUDE_PROJECT_DIR")
    folders = [directory, *directory.parents, *([Path(project)] if project else []), Path.cwd()]
    return next((folder / layout.LOCAL for folder in folders if is_file(folder / layout.LOCAL)), None)


def chosen_local(request: Request, directory: Path) -> str | None:
    """Return the path of the given claude.local.md; None if it is the one that is found anyway."""
    if request.local is None:
        return None
    given, found = named_path(request.local, "local"), local_document(replace(request, local=None), directory)
    return None if found is not None and is_same(given, found) else str(given)


def default_roots() -> list[Path]:
    """Return the server's roots if the operator gave none.

    They are the project directory (CLAUDE_PROJECT_DIR, else the working directory) and the scratch directory in the
    project's claude.local.md.
    """
    project = Path(os.environ.get("CLAUDE_PROJECT_DIR") or Path.cwd())
    local = project / layout.LOCAL
    try:
        document = read_document(local, layout.LOCAL, follow=True)
    except Refused:
        return [project]
    scratch = scratch_directory(document.text, layout.LOCAL)
    return [project, Path(scratch)] if scratch else [project]


def template_path(request: Request) -> str | None:
    """Return the real path of the given template, even if it does not exist; None if none was given."""
    return str(named_path(request.template, "template")) if request.template else None


def plain_template(request: Request) -> Document | None:
    """Read the template if it is plain YAML: its values are read with the documents.

    Raises:
        Refused: it is missing or cannot be read.
    """
    path = template_path(request)
    if path is None or not layout.is_plain_template(path):
        return None
    named = Path(path)
    if not is_there(named):
        message = f"the template {shown(path)} does not exist"
        raise refuse("missing-template", message, file=path, field="template", fix="correct the path (`--template`)")
    return read_document(named, named.name, follow=True)


def copied(plan: Plan | None, directory: Path, names: Iterable[str], request: Request) -> list[Finding]:
    """Return a finding if a directory is a copy of the experiment of its plan, and the original still exists.

    A moved experiment is not a copy: its original path no longer exists. A copy may replace an original without a
    plan, once no job that was submitted in the original is pending or running.

    Args:
        plan: the frozen plan in the directory.
        directory: the experiment directory.
        names: the run directories.
        request: may forbid asking SLURM.
    """
    names = list(names)
    if plan is None or plan.experiment_dir == str(directory) or is_same(plan.experiment_dir, directory):
        return []
    original = Path(plan.experiment_dir)
    if not is_there(original / layout.PLAN):
        return _jobs_of_original(original, names, request)
    message = (
        f"this directory is a copy of {shown(str(original))}, which still exists: the runs and jobs in {layout.STATE}"
        " belong to the original, and the copy would write to the same output directories as the original"
    )
    there = [name for name in names if is_taken(directory / name)]
    runs = [" ".join(there) if len(there) <= _FEW else f"$(ls {layout.RUNS} | sed 's/[.]json$//')"]
    with Tree(directory) as tree:
        arrays = [name for name in tree.names() if layout.ARRAY_SCRIPT.fullmatch(name)]
    moved = " ".join([*runs, *arrays, layout.STATE])
    aside = f"cd {shlex.quote(str(directory))} && mkdir -p original && mv -n {moved} original/"
    fix = (
        f"to use the original, scaffold there; to make the copy a separate experiment, give it a different title, then"
        f" run `{aside}`; to replace the original with the copy, cancel the jobs of the original or wait until"
        f" they have ended, then rename the directory {layout.STATE} of the original"
    )
    return [finding("copied-scaffold", message, file=layout.PLAN, actual=str(original), fix=fix)]


def _jobs_of_original(original: Path, names: Iterable[str], request: Request) -> list[Finding]:
    """Return a finding if jobs of an original that a copy replaces are pending or running."""
    if not is_there(original):
        return []
    queue = slurm_jobs.queued(original, request).jobs
    places = [original, *(original / name for name in names)]  # an array is submitted in the experiment directory
    there = [job for place in places for job in queue.get(str(real_path(place)), ())]
    jobs = [job.id for job in there if not job.has_ended]
    if not jobs:
        return []
    message = (
        f"this directory is a copy of {shown(str(original))}, whose jobs are pending or running ({few(jobs, _FEW)}) and"
        " write to the same output directories"
    )
    arrays = dict.fromkeys(job.partition("_")[0] for job in jobs)
    fix = f"wait for these jobs to end, or cancel them with `scancel {' '.join(arrays)}`"
    return [finding("copied-scaffold", message, file=layout.PLAN, actual=str(original), fix=fix)]
