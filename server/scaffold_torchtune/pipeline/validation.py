"""Step 7: read the files of the run directories and validate them."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from scaffold_torchtune import __version__
from scaffold_torchtune.external_checks import WHOLE, ask_torchtune, sbatch
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar, few, finding, one_line, serious, shown, sort_findings
from scaffold_torchtune.models import Kept, Plan, PlannedRun, RunChange
from scaffold_torchtune.pipeline import prepare, state
from scaffold_torchtune.pipeline.apply import left_over
from scaffold_torchtune.pipeline.changes import fields_between, kept_findings
from scaffold_torchtune.pipeline.locate import (
    copied,
    experiment_directory,
    local_document,
    named_script,
    read_document,
    read_documents,
)
from scaffold_torchtune.pipeline.prepare import preflight_findings
from scaffold_torchtune.pipeline.state import Record, files_there, hashes_of, identity
from scaffold_torchtune.plan import changed_fields
from scaffold_torchtune.preflight.training import output_dir
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.results.step_results import ValidateResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_taken
from scaffold_torchtune.validate import deduplicated, unchosen, validate_run, verdict
from scaffold_torchtune.validate.run_files import RunFiles

_AGAIN = "run setup again"
_LISTED = 6
_UNNAMED = (
    "the documents have changed since the plan was made, and cannot be compared with it without the setup script"
    " {script}: name it with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT"
)


def tracking(plan: Plan) -> str:
    """Return the instruction for sending offline runs to Weights & Biases; an empty string if no run is offline.

    WandBLogger's log_dir is `logs` in the run's output directory, and wandb keeps a run there as
    `wandb/offline-run-DATE-ID` (wandb's documentation, "wandb sync").
    """
    offline = [run for run in plan.runs if run.value("wandb_mode") == "offline"]
    runs = dict.fromkeys(filter(None, map(_logs, offline)))
    return (
        f"W&B is offline; after the runs have ended, upload their logs with: wandb sync {' '.join(runs)}"
        if runs
        else ""
    )


def _logs(run: PlannedRun) -> str | None:
    """Return a shell pattern for the offline runs of all runs with outputs in the same directory as a run."""
    folder = output_dir(run)
    if folder is None:
        return None
    own = "*/artifacts" if run.value("project_dir") else "ck-out-*"
    return f"{shlex.quote(folder)}/{own}/logs/wandb/offline-run-*"


def freshness_findings(
    tree: Tree, run: PlannedRun, script: str, made_by: str | None, kept: Kept | None = None
) -> list[Finding]:
    """Return findings about outputs that do not match the run's record.

    `script` is the plan's setup script, `made_by` its present identity: None if it cannot be read. A kept run may have
    been made by another script, and its files must be unchanged since it was kept.
    """
    try:
        record = state.load_record(tree, run.directory)
    except Refused as refused:
        return list(refused.problems)
    try:
        there = hashes_of(tree, run.directory)
    except Refused:
        return []  # reported where the file itself is read
    if record is None:
        return []
    if kept is not None:
        return list(_changed_since(tree, record, kept))
    if record.failed:
        output = layout.output(run.directory)
        fix = f"fix the cause, then {_AGAIN}"
        fix = f"read the script's output ({output}), {fix}" if tree.kind(output) else fix
        message, path = f"its last setup failed: {one_line(record.failed)}", layout.record(run.directory)
        return [finding("setup-failed", message, file=path, fix=fix)]
    if there and not record.outputs:
        return [_stale(run, name, "was left by an earlier setup") for name in there]
    if there and record.backend != made_by and (made_by or not record.backend.startswith(f"{script} ")):
        return [_stale(run, name, f"was made by another setup_finetune ({record.backend})") for name in there]
    return [
        finding(
            "changed-output",
            f"{name} was edited since setup generated it",
            file=f"{run.directory}/{name}",
            fix="first copy a value that you want to keep into the summary;"
            " then restore the file with `setup --overwrite`",
        )
        for name, digest in there.items()
        if record.outputs.get(name) not in {None, digest}
    ]


def _changed_since(tree: Tree, record: Record, kept: Kept) -> Iterator[Finding]:
    """Yield a finding for each file of a started run that was changed since the run was kept."""
    there = files_there(tree, kept.directory)
    expected = {layout.SETUP_YAML: record.setup_yaml, **record.outputs, **kept.edited}
    for name, digest in expected.items():
        if there.get(name, "") != digest:
            path = f"{kept.directory}/{name}"
            what = "was edited" if name in there else "was removed"
            fix = "restore the file that was trained with; or keep the present one with --started keep"
            message = f"{name} {what} since the run was kept as it was when it started"
            yield finding("changed-output", message, file=path, severity=Severity.ERROR, fix=fix)


def newly_rejected(tree: Tree, plan: Plan, result: ValidateResult) -> list[Record]:
    """Return the updated records of runs that an external script made and that did not pass."""
    if plan.options.setup_script == "bundled":
        return []
    failed = [run.directory for run in result.runs if not run.passed]
    found: list[Record] = []
    for directory in failed:
        with suppress(Refused):  # the findings report it
            record = state.load_record(tree, directory)
            if record is not None and record.outputs and not record.failed and not record.rejected:
                found.append(record.model_copy(update={"rejected": True}))
    return found


def _stale(run: PlannedRun, name: str, what: str) -> Finding:
    return finding("stale-output", f"{name} {what}", file=f"{run.directory}/{name}", fix=_AGAIN)


def validate_plan(tree: Tree, plan: Plan, request: Request) -> ValidateResult:
    """Validate every planned run from its present files, and with sbatch and torchtune."""
    bundled, made_by = plan.options.setup_script == "bundled", None
    with suppress(OSError):  # the script can no longer be read
        made_by = identity(plan)
    kept = {one.directory: one for one in plan.kept}
    checked: dict[str, tuple[Finding, ...]] = {}
    files: dict[str, RunFiles] = {}
    for run in plan.runs:
        files[run.directory], problems = read_files(tree, run)
        unread = {(problem.file, "missing-file") for problem in problems}  # it exists, but cannot be read
        ours = is_of_bundled(tree, run) if run.directory in kept else bundled
        found = [f for f in validate_run(run, files[run.directory], bundled=ours) if (f.file, f.code) not in unread]
        held = kept.get(run.directory)
        fresh = freshness_findings(tree, run, plan.options.setup_script, made_by, held)
        read = [*problems, *found]
        checked[run.directory] = (*fresh, *(_known(read, held) if held else read))
        request.report("validate", len(checked), len(plan.runs))
    own, shared = deduplicated(checked)
    external: dict[str, list[Finding]] = {}
    judged = plan.model_copy(update={"runs": tuple(run for run in plan.runs if run.directory not in kept)})
    for ask in (sbatch.ask_sbatch, ask_torchtune.ask_torchtune) if judged.runs else ():
        for directory, each in ask(tree.root, judged, files, request):
            external.setdefault(directory, []).append(each)
    joined = {name: tuple(sort_findings([*_causes(found), *external.get(name, ())])) for name, found in own.items()}
    ahead = serious(preflight_findings(plan.model_copy(update={"experiment_dir": str(tree.root)}), files))
    whole = [
        *outdated(plan, request),
        *left_over(tree, plan),
        *kept_findings(plan),
        *ahead,
        *external.get(WHOLE, ()),
        *shared,
        *unchosen(plan),
    ]
    return verdict(plan, joined, whole)


def _causes(found: Sequence[Finding]) -> Iterable[Finding]:
    """Return the findings of a run, except for missing files if its setup failed."""
    has_failed = any(each.code == "setup-failed" for each in found)
    return (each for each in found if not (has_failed and each.code == "missing-file"))


def _known(found: Iterable[Finding], kept: Kept) -> Iterator[Finding]:
    """Yield the findings of a kept run; in files that were edited before it was kept, they are warnings."""
    edited = {f"{kept.directory}/{name}" for name in kept.edited}
    for each in found:
        yield each.model_copy(update={"severity": Severity.WARNING}) if each.file in edited else each


def is_of_bundled(tree: Tree, run: PlannedRun) -> bool:
    """Return whether the bundled setup_finetune made the files of a run, according to its record."""
    try:
        record = state.load_record(tree, run.directory)
    except Refused:
        return False
    return record is not None and record.backend.startswith("bundled ")


def read_files(tree: Tree, run: PlannedRun) -> tuple[RunFiles, list[Finding]]:
    """Return the texts of a run's files, and findings about unreadable files."""
    texts: dict[str, str | None] = {}
    problems: list[Finding] = []
    for name in layout.RUN_FILES:
        path = f"{run.directory}/{name}"
        texts[name] = None
        try:
            data = tree.read(path) if tree.kind(run.directory) == "directory" else None
            texts[name] = None if data is None else data.decode()
        except Refused as refused:
            problems += refused.problems
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            message = f"{path} is not UTF-8 text"
            problems.append(finding("unreadable-file", message, file=path, line=line, fix=_AGAIN))
    return RunFiles(texts), problems


def outdated(plan: Plan, request: Request) -> list[Finding]:
    """Return a finding if the plan of the present documents differs from the frozen one."""
    same = request.with_options(plan.options)
    try:
        directory = experiment_directory(same)
        if problems := copied(plan, directory, [run.directory for run in plan.runs]):
            return problems
        hashes = prepare.input_hashes(read_documents(same, directory), plan.options)
        if (hashes, str(directory), __version__) == (plan.inputs, plan.experiment_dir, plan.version):
            return []
        if plan.options.setup_script not in {"bundled", named_script(request)}:
            # planning runs the script, and a plan, which may come from elsewhere, must not choose a program
            return [_outdated(_UNNAMED.format(script=shown(plan.options.setup_script)))]
        now = prepare.prepare(same).plan
    except Interrupted:
        raise
    except Refused as refused:
        reason = refused.problems[0].sentence() if refused.problems else refused.message
        return [_outdated(f"the documents have changed since the plan was made, and are now refused: {reason}")]
    if changes := _differences(plan.runs, now.runs):
        return [_outdated(f"the documents have changed since the plan was made: {few(changes, _LISTED, between='; ')}")]
    return []


def changed_documents(plan: Plan, directory: Path, request: Request) -> tuple[str, ...]:
    """Return the names of the documents that were edited, added or removed since the plan was frozen.

    Nothing is planned. A claude.local.md or template that is not found is skipped: an option may have named it.
    """
    forms = {layout.SUMMARY, layout.SUMMARY_YAML}
    added = [name for name in sorted(forms) if forms & {*plan.inputs} and is_taken(directory / name)]
    local, template = local_document(request, directory), plan.options.template
    elsewhere = {path.name: path for path in (local, Path(template) if template else None) if path}
    found: list[str] = []
    for name in dict.fromkeys([*plan.inputs, *added]):
        path = directory / name if is_taken(directory / name) else elsewhere.get(name)
        digest: str | None = None
        with suppress(Refused):
            digest = read_document(path, name, follow=path != directory / name).sha256 if path else None
        if digest != plan.inputs.get(name) and (path or name in forms):
            found.append(name)
    return tuple(found)


def _differences(before: Sequence[PlannedRun], now: Sequence[PlannedRun]) -> list[str]:
    """Return the differences between the frozen plan and the documents: `epochs 2 -> 5 (summary.md:46)`."""
    old, new = ({run.directory: run for run in runs} for runs in (before, now))
    both = [(old[name], run) for name, run in new.items() if name in old]
    changed = [RunChange(directory=run.directory, kind="changed", fields=fields_between(was, run)) for was, run in both]
    names = [run.directory for was, run in both if _values(was) != _values(run)]
    told = changed_fields(changed)
    if names and not told:
        told = [f"the text of {few(names, _LISTED)}"]
    others = {"new": new.keys() - old.keys(), "no longer in the table": old.keys() - new.keys()}
    return [*told, *(f"{what}: {few(sorted(of), _LISTED)}" for what, of in others.items() if of)]


def _values(run: PlannedRun) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in run.settings.items()}


def _outdated(message: str) -> Finding:
    fix = "scaffold again; or render again, then run setup and validate"
    return finding("plan-outdated", message, file=layout.PLAN, fix=fix)
