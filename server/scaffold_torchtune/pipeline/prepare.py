"""Steps 1, 2, 4 and 5 without writing: from the documents to the plan and every setup_finetune.yaml."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Question,
    Refused,
    Scalar,
    counted,
    errors_in,
    escape,
    finding,
    refuse,
    serious,
    shown,
)
from scaffold_torchtune.models import (
    CheckpointState,
    DiskState,
    Experiment,
    Options,
    Plan,
    PlannedRun,
    Results,
    RunChange,
    Setting,
    SourceKind,
)
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.pipeline.backend import interface_of, trial
from scaffold_torchtune.pipeline.changes import (
    compare,
    decisions,
    kept_findings,
    started_warnings,
    taken_outputs,
)
from scaffold_torchtune.pipeline.locate import (
    Document,
    chosen_local,
    copied,
    experiment_directory,
    named_script,
    plain_template,
    read_document,
    read_documents,
    summary_document,
    template_path,
)
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import known_runs, load_plan
from scaffold_torchtune.plan import Difference, differences, make_plan, with_id
from scaffold_torchtune.plan.naming import TIES, stated_names
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.preflight import check_plan, log_path_problem
from scaffold_torchtune.preflight.data_files import DataSets
from scaffold_torchtune.preflight.design import is_misnamed
from scaffold_torchtune.preflight.disk import free_bytes, in_the_way, inspect_checkpoint, inspect_results, unwritable
from scaffold_torchtune.preflight.samples import forms_by_data
from scaffold_torchtune.preflight.training import output_dir
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.setup import Outcome, Rendered, render_runs, run_bundled
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_file, is_same, is_there
from scaffold_torchtune.system.templating import TemplateStopped
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.finetune import checkpoint_files
from scaffold_torchtune.validate.run_files import RunFiles

_SCRIPTS = ("src/tools/torchtune/setup_finetune.py", "tools/torchtune/setup_finetune.py")


@dataclass(frozen=True)
class Parsed:
    """An experiment, and the documents from which it was read."""

    directory: Path
    documents: tuple[Document, ...]
    experiment: Experiment
    twin: Experiment | None = None


@dataclass(frozen=True)
class Prepared:
    """A plan, and the text of setup_finetune.yaml of its runs, except for kept runs.

    `rendered` is in the plan's order. `outcomes` are the results of the bundled setup_finetune. `changes` is the
    comparison with the `previous` plan and with the `known` runs that were scaffolded. `unrecorded` are unchanged runs
    with records that do not match their files.
    """

    parsed: Parsed
    plan: Plan
    rendered: tuple[Rendered, ...]
    outcomes: Mapping[str, Outcome]
    changes: tuple[RunChange, ...]
    previous: Plan | None = None
    known: Mapping[str, PlannedRun] = dataclasses.field(default_factory=dict)
    unrecorded: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Return the experiment directory."""
        return self.parsed.directory

    def outcomes_of(self, one: Rendered) -> Mapping[str, bytes]:
        """Return the files that the bundled setup_finetune made for a run, by name; none for another script."""
        return self.outcomes[one.run.directory].files if self.outcomes else {}

    @property
    def made(self) -> dict[tuple[str, str], Outcome]:
        """Return the results of the bundled setup_finetune, by the run's directory and its setup_finetune.yaml."""
        rendered = self.rendered if self.outcomes else ()
        return {(one.run.directory, one.text): self.outcomes[one.run.directory] for one in rendered}


def parse(request: Request) -> Parsed:
    """Find and read the experiment.

    Raises:
        Refused: see `experiment_directory`, `read_documents` and `parse_experiment`.
    """
    request.report("parse", 0, 0)
    directory = experiment_directory(request)
    plain = plain_template(request)
    template = (plain.name, plain.text) if plain else None

    def is_here(path: str) -> bool:
        return is_same(directory / path, directory)

    def read(form: Document, local: tuple[str, str]) -> Experiment:
        answers = {field: value for field, value in request.answers.items() if field != TIES}
        return parse_experiment((form.name, form.text), local, is_here, template, answers)

    try:
        summary, local, *others = documents = read_documents(request, directory)
    except Refused as refused:
        if [(problem.code, problem.file) for problem in refused.problems] != [("document-missing", layout.LOCAL)]:
            raise
        raise _without_local(refused, lambda: read(summary_document(request, directory), (layout.LOCAL, ""))) from None
    experiment, twin = read(summary, (local.name, local.text)), None
    for other in others:
        with _refused_as_twin(summary.name, other.name):
            twin = read(other, (local.name, local.text))
    return Parsed(directory, documents, experiment, twin)


def _without_local(refused: Refused, read: Callable[[], Experiment]) -> Refused:
    """Return the refusal of an experiment without claude.local.md, with all its other problems.

    It contains no questions, because answers belong in a document, which is missing.
    """
    try:
        read()
    except Refused as others:
        count = len(refused.problems) + len(errors_in(others.problems))
        message = f"{layout.LOCAL} is missing; {counted(count, 'problem')} in total"
        return Refused(message, [*refused.problems, *others.problems])
    return refused


def needed_answers(request: Request) -> dict[str, Scalar]:
    """Return the answers of a call that the next one must repeat: no document gives them, and none was refused."""
    if not request.answers:
        return {}
    try:
        needed = {TIES, *(each.field for each in parse(request).experiment.answers)}
        return {field: value for field, value in request.answers.items() if field in needed}
    except Refused as refused:
        bad = {each.field for each in refused.problems if each.code in {"answer-differs", "unknown-key"}}
        bad |= {escape(question.field) for question in refused.ask}
        left = {field: value for field, value in request.answers.items() if escape(field) not in bad}
    return left if left == request.answers else needed_answers(dataclasses.replace(request, answers=left))


def planned_options(request: Request) -> dict[str, Any]:
    """Return the options with which a call plans as the frozen plan did, by name, without those that it has anyway.

    Empty if there is no such plan, or it cannot be read.
    """
    with suppress(Refused), Tree(experiment_directory(request)) as tree:
        plan = load_plan(tree)
        return repeated_options(plan, request) if plan else {}
    return {}


def repeated_options(plan: Plan, request: Request) -> dict[str, Any]:
    """Return the options of a plan that a call must repeat to plan the same, by name."""
    options, usual = plan.options, "table" if layout.SUMMARY_YAML in plan.inputs else "varying"
    with suppress(Refused):
        script = named_script(request) or "bundled"
        found = options.model_dump(exclude={"names", "setup_script", "answers"})
        found["answers"] = needed_answers(request.with_options(options))
        found["names"] = options.names if options.names != usual else None
        found["setup_script"] = options.setup_script if options.setup_script != script else None
        return {name: value for name, value in found.items() if value}
    return {}


@contextmanager
def _refused_as_twin(used: str, other: str) -> Iterator[None]:
    """Add to a refusal of the unused form the reason why it is read, and how to avoid that."""
    try:
        yield
    except Refused as refused:
        message = (
            f"the directory contains both {used}, which is used, and {other}, which has errors; both must describe the"
            " same plan"
        )
        fix = f"correct {other}, or remove or rename it so that only {used} is used"
        problem = finding("ambiguous", message, file=other, fix=fix)
        message = f"{other}, in the same directory as {used}, has errors: {refused.message}"
        raise Refused(message, [problem, *refused.problems], refused.ask) from refused


def prepare(request: Request) -> Prepared:
    """Plan the experiment and render every text in memory.

    Raises:
        Refused: every problem that `parse` raises, problems of the plan, of the template and of the bundled
            setup_finetune, and problems that would make the runs fail in training.
    """
    found = parse(request)
    tuned = sum(run.type == "fine-tuned" for run in found.experiment.runs)
    request.report("plan", 0, tuned)
    with Tree(found.directory) as tree:
        previous = load_plan(tree)
        options = _options(request, found, previous)
        known = known_runs(tree, previous)
        own = _keeping_names(tree, known, previous, request)
    environment = found.experiment.template | found.experiment.environment | _for_all(found.experiment)
    inspected, data_sets = cache(inspect_checkpoint), DataSets()
    interface = interface_of(options.setup_script, environment, request)
    context = PlanContext(
        experiment_dir=str(found.directory),
        local_dir=str(found.documents[1].path.parent),
        templates_dir=str(layout.TEMPLATES),
        is_file=is_file,
        inputs=input_hashes(found.documents, options),
        legend=previous.legend if previous else {},
        known=own,
        ties=str(request.answers.get(TIES, "")),
        interface=interface,
        checkpoint=inspected,
        train_rows=data_sets.train_rows,
    )
    plan = make_plan(found.experiment, options, context)
    same = _same_in_twin(found, found.twin, options, context) if found.twin else []
    is_own = options.template and not layout.is_plain_template(options.template)
    folders = [Path(str(options.template)).parent, layout.TEMPLATES] if is_own else [layout.TEMPLATES]
    try:
        rendered = render_runs(plan, plan.runs, folders, request.stop)
    except TemplateStopped as stopped:
        raise Interrupted from stopped
    runs = tuple(one.run for one in rendered)
    if runs != plan.runs:  # the template has additional settings
        plan = with_id(plan.model_copy(update={"runs": runs}))
    with Tree(found.directory) as tree:
        plan, rendered, changes, unrecorded = compare(tree, plan, rendered, known, previous, request)
    bundled = rendered if options.setup_script == "bundled" else ()
    outcomes: dict[str, Outcome] = {}
    for one in bundled:
        outcomes[one.run.directory] = run_bundled(one.run, one.document)
        request.report("plan", len(outcomes), len(bundled))
    warnings = _bundled_warnings(bundled, outcomes)
    # An unchanged plan has already been tried.
    is_new = previous is None or (previous.runs, previous.options) != (plan.runs, plan.options)
    if is_new and (tried := trial(plan, rendered, interface, request)):
        message = f"{counted(len(tried), 'problem')}: the setup script would not generate the planned files"
        raise Refused(message, [_in_documents(each, run) for run, each in tried])
    made = {name: RunFiles({n: data.decode() for n, data in one.files.items()}) for name, one in outcomes.items()}
    ahead = preflight_findings(plan, made, inspected, data_sets)
    ahead += taken_outputs([one.run for one in rendered], changes)
    if errors := errors_in(ahead):
        raise Refused(f"{counted(len(errors), 'problem')}: the runs would fail", serious(ahead))
    names = [each.directory for each in changes]
    says = decisions(request, names)
    outputs = {run.directory: arrivals.output_dir(run) for run in plan.runs}
    stated = stated_names(found.experiment.names, plan, outputs) if found.experiment.names else []
    copies = copied(previous, found.directory, names, request)
    told = [each.model_copy(update={"severity": Severity.WARNING}) for each in copies]
    if not told:  # the state of a copy belongs to the original
        told += started_warnings(plan, changes, says)
        told += [each for each in kept_findings(plan) if each.code != "kept-run"]  # `changes` has them
    plan = plan.model_copy(update={"warnings": (*same, *plan.warnings, *stated, *told, *warnings, *ahead)})
    return Prepared(found, plan, rendered, outcomes, changes, previous, known, unrecorded)


def _for_all(experiment: Experiment) -> dict[str, Setting]:
    """Return the summary's settings of the environment of all runs."""
    return {name: setting for name, setting in experiment.config.items() if PARAMETERS[name].common}


def _same_in_twin(found: Parsed, twin: Experiment, options: Options, context: PlanContext) -> list[Finding]:
    """Return a note that the summary's other form plans the same.

    Raises:
        Refused: the two forms disagree; contains each pair of places that differ, with their first run and setting.
    """
    used, unused = found.experiment.summary_file, twin.summary_file
    options, context = (
        options.model_copy(update={"names": "varying"}),
        dataclasses.replace(context, known={}, legend={}),
    )
    one = make_plan(found.experiment, options, context)
    if "name-from-title" in {warning.code for warning in (*found.experiment.warnings, *twin.warnings)}:
        twin = twin.model_copy(update={"name": found.experiment.name})  # a title in words is not another name
    with _refused_as_twin(used, unused):
        other = make_plan(twin, options, context)
    problems: dict[object, Finding] = {}
    for each in differences(one.runs, other.runs):
        # differences with the same two places are one, no matter for how many runs and settings
        sources = tuple(setting.source for setting in (each.here, each.there) if setting and setting.source.line)
        key = sources if len(sources) == 2 else (each.name, each.here, each.there)  # noqa: PLR2004 - both
        problems.setdefault(key, _differs(each, used, unused))
    if problems:
        raise Refused(f"{used} and {unused} describe different plans", problems.values())
    why = "because other tools use its run names" if used == layout.SUMMARY_YAML else "because it was specified"
    message = f"{unused} describes the same plan as {used}, which is used {why}"
    return [finding("two-summaries", message, file=unused, fix="no action needed")]


def _differs(found: Difference, used: str, unused: str) -> Finding:
    """Return a difference between the two forms, with both places."""
    here = _value_at(found.here, used)
    source = found.there.source if found.there else None
    is_here = source is not None and source.line is not None
    there = f"{shown(found.there.value)} here" if found.there and is_here else _value_at(found.there, unused)
    message = f"for the run {shown(found.run)}, {found.name} is {here}, but {there}"
    if found.name == "runs":
        there = _value_at(found.there, unused)
        message = f"a run is in only one of the two summaries: {here if found.here else there}"
    return finding(
        "ambiguous",
        message,
        field=found.name,
        file=(source.file if source and source.line else None) or unused,
        line=source.line if source else None,
        fix=f"correct either {used} or {unused}, or remove or rename {unused}",
    )


def _value_at(setting: Setting | None, document: str) -> str:
    """Return a value and its place in a form of the summary: `2 in experiment_summary.yaml:4`."""
    if setting is None:
        return f"missing in {document}"
    source = setting.source
    if source.line is None:
        if source.kind is SourceKind.DEFAULT:
            return f"{shown(setting.value)} ({source.note or 'the default'}, because {document} does not set it)"
        return f"{shown(setting.value)} in {document} ({source.note or source.kind.value})"
    return f"{shown(setting.value)} in {source.file or document}:{source.line}"


def preflight_findings(
    plan: Plan,
    files: Mapping[str, RunFiles],
    inspected: Callable[[str], CheckpointState] = inspect_checkpoint,
    data_sets: DataSets | None = None,
) -> list[Finding]:
    """Return findings about failures and surprises in training; kept runs are not checked.

    Args:
        plan: the plan.
        files: the existing files of runs, by directory: finetune.yaml names the checkpoint's files.
        inspected: a function that inspects the directory of a base model.
        data_sets: the data sets that were already inspected.
    """
    whole, kept = plan, {one.directory for one in plan.kept}
    plan = plan.model_copy(update={"runs": tuple(run for run in plan.runs if run.directory not in kept)})
    if not plan.runs:
        return []
    logs = log_path_problem(plan.experiment_dir)
    data, seen = {run.data_path: run.text("dataset_ext") for run in plan.runs}, data_sets or DataSets()
    checkpoints = {directory for run in plan.runs if (directory := run.checkpoint_dir)}
    outputs, forms = {directory for run in plan.runs if (directory := output_dir(run))}, forms_by_data(plan.runs)
    resuming = [run for run in plan.runs if run.value("resume_from_checkpoint") is True]
    results = {run.directory: arrivals.output_dir(run) for run in resuming}
    disk = DiskState(
        data={path: seen.inspect(path, extension, forms.get(path, ())) for path, extension in data.items()},
        checkpoints={directory: inspected(directory) for directory in checkpoints},
        free={directory: free for directory in outputs if (free := free_bytes(directory)) is not None},
        in_the_way={directory: path for directory in outputs if (path := in_the_way(directory)) is not None},
        unwritable={directory: path for directory in outputs if (path := unwritable(directory)) is not None},
        states={run: left for run, path in results.items() if path and (left := _resumable(path))},
    )
    # the checkpoint files of each model, from its first run
    first = {run.checkpoint_dir: files.get(run.directory) for run in reversed(plan.runs)}
    found = {directory: checkpoint_files(each) for directory, each in first.items() if directory and each}
    listed = {directory: names for directory, names in found.items() if names}
    saved = {run: RunFiles({layout.FINETUNE_YAML: state.text}) for run, state in disk.states.items()}
    own = [logs.model_copy(update={"severity": Severity.WARNING})] if logs else []
    configs = _configs(files, disk.states), _configs(saved, disk.states)
    return [*own, *check_plan(plan, disk, listed, configs, whole=whole)]


def _resumable(path: str) -> Results | None:
    left = inspect_results(path)
    return left if left and left.can_resume else None


def _configs(files: Mapping[str, RunFiles], runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the resolved configs of some runs, if they can be read."""
    found = {run: files[run].readable_config for run in runs if run in files}
    return {run: config.data for run, config in found.items() if config and config.data}


def input_hashes(documents: Iterable[Document], options: Options) -> dict[str, str]:
    """Return the SHA-256 of every input file by its name: the documents, and the template if the operator gave one.

    A missing template is skipped; planning reports it.
    """
    hashes = {document.name: document.sha256 for document in documents}
    if options.template and is_there(options.template):
        template = read_document(Path(options.template), Path(options.template).name, follow=True)
        hashes[template.name] = template.sha256
    return hashes


def _bundled_warnings(rendered: Iterable[Rendered], outcomes: Mapping[str, Outcome]) -> list[Finding]:
    """Return the warnings of the bundled setup_finetune, before anything is written; each for its first run.

    Raises:
        Refused: it would refuse a run; contains each problem once for each place that must be fixed.
    """
    problems: dict[tuple[Finding, str], Finding] = {}
    warnings: dict[Finding, Finding] = {}
    for run in (one.run for one in rendered):
        for each in outcomes[run.directory].problems:
            located = _in_documents(each, run)
            place = located.location() if located is not each else ""
            problems.setdefault((each.unplaced(), place), located)
        for each in outcomes[run.directory].warnings:
            warnings.setdefault(each.unplaced(), _in_documents(each, run))
    if problems:
        raise Refused(f"{counted(len(problems), 'problem')}: setup_finetune would refuse the plan", problems.values())
    return list(warnings.values())


def _in_documents(found: Finding, run: PlannedRun) -> Finding:
    """Return a finding about a setup_finetune.yaml that is not written yet, at the place of its setting's source."""
    setting = run.settings.get(found.field or "")
    if setting is None or setting.source.file is None or setting.source.line is None:
        return found
    source, fix = setting.source, found.fix_in_document or found.fix
    return found.model_copy(update={"file": source.file, "line": source.line, "fix": fix})


def _options(request: Request, found: Parsed, previous: Plan | None) -> Options:
    experiment = found.experiment
    return Options(
        # The run names of the YAML form are directory names, which other tools of its users need.
        names=request.names
        or ("table" if experiment.form == "yaml" else previous.options.names if previous else "varying"),
        template=template_path(request),
        setup_script=_setup_script(request, experiment),
        answers={field: value for field, value in request.answers.items() if field != TIES},
        local=chosen_local(request, found.directory),
    )


def _keeping_names(
    tree: Tree, known: Mapping[str, PlannedRun], previous: Plan | None, request: Request
) -> Mapping[str, PlannedRun]:
    """Return the runs that keep their directories: started runs, and others unless they need a new name.

    They need one if the way of naming changes, or if their Run Name contradicts a value and may have been corrected.
    """
    is_same = previous is None or request.names in {None, previous.options.names}
    states = states_of(tree, [run for run in known.values() if not is_same or is_misnamed(run)], request)
    return {name: run for name, run in known.items() if name not in states or states[name].started}


def _setup_script(request: Request, experiment: Experiment) -> str:
    """Return 'bundled', or the real path of the script that the operator named; documents cannot choose it.

    Raises:
        Refused: the named script does not exist; or none was named and the working directory has one.
    """
    script = named_script(request)
    if script is None:
        return default_script(experiment.environment.get("working_dir"))
    if script != "bundled" and not is_file(script):
        message = f"the setup script {shown(script)} does not exist"
        fix = "correct `--setup-script` or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, or use `--setup-script bundled`"
        raise refuse("setup-script-missing", message, file=script, field="setup_script", fix=fix)
    return script


def default_script(working_dir: Setting | None) -> str:
    """Return 'bundled' for a call without a script, if the working directory of claude.local.md has none.

    Raises:
        Refused: the working directory has one.
    """
    scripts = (Path(working_dir.text) / path for path in _SCRIPTS) if working_dir else ()
    script = next((each for each in scripts if is_file(each)), None)
    if working_dir is None or script is None:
        return "bundled"
    message = f"the working directory contains {script}; choose whether to use this script"
    fix = (
        'to use the bundled setup_finetune, add `--setup-script bundled` (in a tool call: `setup_script: "bundled"`, as'
        " an argument or in `answers`);"
        f" to use this script, add `--setup-script {script}` (for the server, only the user can allow the script: set"
        f" `SCAFFOLD_TORCHTUNE_SETUP_SCRIPT={script}`)"
    )
    problem = finding("setup-choice", message, field="setup_script", at=working_dir.source, fix=fix)
    question = (
        "Which setup_finetune should generate the runs' files: the bundled one, or your own in the working directory"
        f" ({script})?"
    )
    raise Refused(message, [problem], [Question(field="setup_script", question=question, options=("bundled", "own"))])
