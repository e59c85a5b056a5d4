"""Step 7: read the files of the run directories and validate them."""

from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune import __version__
from scaffold_torchtune.external_checks import WHOLE, FilesByRun, ask_torchtune, sbatch
from scaffold_torchtune.findings import Finding, Refused, finding, serious, sort_findings
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline import prepare, state
from scaffold_torchtune.pipeline.apply import OUTPUTS, hash_of, left_over
from scaffold_torchtune.pipeline.backend import identity
from scaffold_torchtune.pipeline.locate import experiment_directory, read_documents
from scaffold_torchtune.pipeline.prepare import preflight_findings
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ValidateResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.text import one_line, shown
from scaffold_torchtune.validate.run_files import RunFiles
from scaffold_torchtune.validate.runs import deduplicated, unchosen, validate_run, verdict

# Whether a run's files were made by this setup from this plan, as its record tells, or are left over.

_AGAIN = "run setup again"


def expected_maker(plan: Plan) -> str | None:
    """What the plan's setup_finetune is now; None where its script cannot be read any more."""
    try:
        return identity(plan)
    except OSError:
        return None


def freshness_findings(tree: Tree, run: PlannedRun, made_by: str | None) -> list[Finding]:
    """What the run's record says against its outputs. `made_by` is what setup would make them with now."""
    try:
        there = {name: digest for name in OUTPUTS if (digest := hash_of(tree, f"{run.directory}/{name}"))}
        record = state.load_record(tree, run.directory)
    except Refused:
        return []  # reported where the file itself is read
    if record is None:
        return []
    if record.failed:
        output = layout.output(run.directory)
        fix = f"mend the cause, then {_AGAIN}"
        fix = f"look at what the script printed ({output}), {fix}" if tree.kind(output) else fix
        message, path = f"its last setup failed: {one_line(record.failed)}", layout.record(run.directory)
        return [finding("setup-failed", message, file=path, fix=fix)]
    if there and not record.outputs:
        return [_stale(run, name, "is left from an earlier setup") for name in there]
    if there and made_by and record.backend != made_by:
        return [_stale(run, name, f"was made by another setup_finetune ({record.backend})") for name in there]
    return [
        finding(
            "changed-output",
            f"{name} was changed since setup made it",
            file=f"{run.directory}/{name}",
            fix="change the summary instead and scaffold again; setup with --overwrite puts it back",
        )
        for name, digest in there.items()
        if record.outputs.get(name) not in {None, digest}
    ]


def _stale(run: PlannedRun, name: str, what: str) -> Finding:
    return finding("stale-output", f"{name} {what}", file=f"{run.directory}/{name}", fix=_AGAIN)


# What the programs say that the runs are for: SLURM's sbatch of the scripts, torchtune of the configs.

Checked = Mapping[str, tuple[Finding, ...]]
"""Findings by the run's directory."""


def with_external_checks(
    root: Path, plan: Plan, files: FilesByRun, checked: Checked, request: Request
) -> tuple[dict[str, tuple[Finding, ...]], list[Finding]]:
    """What was found in each run with what the programs find besides, and what they say of the whole experiment.

    `root` is the experiment directory, `files` are the files of each run by its directory and their name.
    """
    found: dict[str, list[Finding]] = {}
    for ask in (sbatch.ask_sbatch, ask_torchtune.ask_torchtune):
        for directory, one in ask(root, plan, files, request):
            found.setdefault(directory, []).append(one)
    joined = {name: tuple(sort_findings([*before, *found.get(name, ())])) for name, before in checked.items()}
    return joined, found.get(WHOLE, [])


# Step 7: reads what lies in the run directories and lets validate judge it.

_FILES = (layout.SETUP_YAML, layout.FINETUNE_YAML, layout.FINETUNE_SLURM)


def validate_plan(tree: Tree, plan: Plan, request: Request) -> ValidateResult:
    """Validate every planned run, from the files as they lie there, and by what sbatch and torchtune say of them."""
    bundled = plan.options.setup_script == "bundled"
    made_by = expected_maker(plan)
    checked: dict[str, tuple[Finding, ...]] = {}
    files: dict[str, RunFiles] = {}
    for run in plan.runs:
        files[run.directory], problems = _read(tree, run)
        told = {(problem.file, "missing-file") for problem in problems}  # it is there, but cannot be read
        judged_run = [
            f for f in validate_run(run, files[run.directory], bundled=bundled) if (f.file, f.code) not in told
        ]
        checked[run.directory] = (*problems, *freshness_findings(tree, run, made_by), *judged_run)
        request.told("validate", len(checked), len(plan.runs))
    own, alike = deduplicated(checked)
    judged, said = with_external_checks(tree.root, plan, files, own, request)
    ahead = serious(preflight_findings(plan, files))
    whole = [*outdated(plan, request), *left_over(tree, plan), *ahead, *said, *alike, *unchosen(plan)]
    return verdict(plan, judged, whole)


def _read(tree: Tree, run: PlannedRun) -> tuple[RunFiles, list[Finding]]:
    """The texts of a run's files, and what kept one from being read."""
    texts: dict[str, str | None] = {}
    problems: list[Finding] = []
    for name in _FILES:
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
            problems.append(finding("unreadable-file", message, file=path, line=line, fix="run setup again"))
    return RunFiles(texts), problems


def outdated(plan: Plan, request: Request) -> list[Finding]:
    """Whether the documents now plan something else than what was frozen. A change that plans the same is none."""
    same = request.with_options(plan.options)
    try:
        directory = experiment_directory(same)
        hashes = prepare.input_hashes(read_documents(same, directory), plan.options)
        if (hashes, str(directory), __version__) == (plan.inputs, plan.experiment_dir, plan.version):
            return []
        if plan.options.setup_script not in {"bundled", prepare.named_script(request)}:
            # planning asks the script, and a plan, which may come from elsewhere, must not choose what runs
            return [_outdated(_UNNAMED.format(script=shown(plan.options.setup_script)))]
        now = prepare.prepared(same).plan
    except Refused as refused:
        reason = refused.problems[0].sentence() if refused.problems else refused.message
        return [_outdated(f"the documents have changed since the plan was made, and are refused now: {reason}")]
    before = {run.directory: {k: s.value for k, s in run.settings.items()} for run in plan.runs}
    after = {run.directory: {k: s.value for k, s in run.settings.items()} for run in now.runs}
    if before == after:
        return []
    differing = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [_outdated(f"the documents have changed since the plan was made; {', '.join(differing)} would differ now")]


_UNNAMED = (
    "the documents have changed since the plan was made, and whether they still plan the same cannot be said without"
    " the setup script {script}: name it with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT"
)


def _outdated(message: str) -> Finding:
    return finding("plan-outdated", message, file=layout.PLAN, fix="render again, then run setup and validate")
