"""Step 7: reads what lies in the run directories and lets validate judge it."""

from scaffold_torchtune import __version__
from scaffold_torchtune.findings import Finding, Refused, finding, serious
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.results import ValidateResult
from scaffold_torchtune.pipeline import freshness, outside, prepare
from scaffold_torchtune.pipeline.apply import left_over
from scaffold_torchtune.pipeline.foresight import foreseen
from scaffold_torchtune.pipeline.locate import experiment_directory, read_documents
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree
from scaffold_torchtune.shared.text import shown
from scaffold_torchtune.validate import RunFiles, told_once, unchosen, validate_run, verdict

_FILES = (layout.SETUP_YAML, layout.FINETUNE_YAML, layout.FINETUNE_SLURM)


def judge(tree: Tree, plan: Plan, request: Request) -> ValidateResult:
    """Validate every planned run, from the files as they lie there, and by what sbatch and torchtune say of them."""
    bundled = plan.options.setup_script == "bundled"
    made_by = freshness.made_by(plan)
    checked: dict[str, tuple[Finding, ...]] = {}
    files: dict[str, RunFiles] = {}
    for run in plan.runs:
        files[run.directory], problems = _read(tree, run)
        told = {(problem.file, "missing-file") for problem in problems}  # it is there, but cannot be read
        judged_run = [
            f for f in validate_run(run, files[run.directory], bundled=bundled) if (f.file, f.code) not in told
        ]
        checked[run.directory] = (*problems, *freshness.findings(tree, run, made_by), *judged_run)
        request.told("validate", len(checked), len(plan.runs))
    own, alike = told_once(checked)
    judged, said = outside.judged(tree.root, plan, files, own, request)
    ahead = serious(foreseen(plan, files))
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
