"""`new`: write an experiment_summary.md, and a claude.local.md where there is none, that scaffold as they are.

Options are typed by what reads documents. What was rendered is read back and planned in memory, and every value is
compared with what was asked for, before anything is written.
"""

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar, finding, refuse
from scaffold_torchtune.models import Experiment, Model, Options, Plan, SourceKind
from scaffold_torchtune.new import options
from scaffold_torchtune.new.options import NewExperiment
from scaffold_torchtune.parse.experiment import parse_experiment
from scaffold_torchtune.pipeline.locate import Document, check_can_be_seen, check_roots, expanded
from scaffold_torchtune.plan.planner import make_plan
from scaffold_torchtune.render import render_run
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.setup import run_bundled
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import is_directory, is_file, is_taken, publish, real_path
from scaffold_torchtune.system.text import escape, shown


class NewResult(Model):
    """What was written: paths, the experiment's name, its number of fine-tuned runs, the claude.local.md it uses."""

    created: tuple[str, ...]
    experiment: str
    runs: int
    local: str
    warnings: tuple[Finding, ...] = ()


def create(request: Request, given: Mapping[str, Sequence[str]], *, control: bool = False) -> NewResult:
    """Write the documents of a new experiment into `request.experiment`.

    `given` are the texts of the options by parameter, as they were typed. `control` adds a control for each model.

    Raises:
        Refused: something asked for is missing, is not what it must be or cannot be scaffolded, or a file is in the
            way; names every problem, and nothing was written.
    """
    asked = NewExperiment(_directory(request), control)
    options.type_options(asked, given)
    options.find_local(asked, request)
    options.complete(asked)
    options.check(asked)
    if problems := asked.problems.findings:
        raise Refused(f"{len(problems)} problem(s) with what was asked for", problems)
    documents = {layout.SUMMARY: options.summary_text(asked, request)}
    if asked.local is None:
        documents[layout.LOCAL] = options.local_text(asked)
    warnings = _read_back(asked, documents)
    created = _write(asked.directory, documents)
    path = asked.local.path if asked.local else asked.directory / layout.LOCAL
    return NewResult(
        created=tuple(str(file) for file in created),
        experiment=str(asked.one("experiment_name")),
        runs=len(asked.rows()),
        local=str(path),
        warnings=(*warnings, *_absent_data(asked)),
    )


def _directory(request: Request) -> Path:
    """Return the real path of the directory, which need not be there."""
    given = expanded(request.experiment)
    fix = "give another directory"
    check_can_be_seen(given)
    real = real_path(given)
    taken = is_taken(real) and not is_directory(real)
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} holds a character that cannot be printed"
        raise refuse("unsafe-path", message, field="experiment", fix=fix)
    check_roots(real, request)
    if taken or real.name.lower() in layout.RESERVED:
        message = f"{shown(str(given))} is not a directory for an experiment"
        raise refuse("not-a-directory", message, field="experiment", fix=fix)
    return real


def _write(directory: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write the documents: each appears whole, and all of them or none."""
    files = {directory / name: text.encode() for name, text in documents.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        publish(files)
    except OSError as error:
        message = f"cannot write into {escape(str(directory))}: {error.strerror}"
        fix = "make room or give write permission, or give another directory"
        raise refuse("write-failed", message, file=escape(str(directory)), fix=fix) from error
    return list(files)


def _read_back(asked: NewExperiment, documents: Mapping[str, str]) -> list[Finding]:
    """Read the documents back and plan them: they must scaffold, to what was asked for. Returns what is remarkable.

    Raises:
        Refused: they would not; names every problem.
    """
    found = asked.local
    surroundings = (found.name, found.text) if found else (layout.LOCAL, documents[layout.LOCAL])
    try:
        experiment = parse_experiment((layout.SUMMARY, documents[layout.SUMMARY]), surroundings, lambda _: True)
        plan = make_plan(experiment, Options(), asked.context())
        outcomes = [run_bundled(run, render_run(plan, run, [layout.TEMPLATES]).document) for run in plan.runs]
    except Refused as refused:
        message = "what was asked for could not be scaffolded"
        raise Refused(message, [_unplaced(p, found) for p in refused.problems]) from refused
    problems = list({p.message: p for outcome in outcomes for p in outcome.problems}.values())
    if problems:
        raise Refused("setup_finetune would refuse what was asked for", [_unplaced(p, found) for p in problems])
    if differing := _differences(asked, plan, experiment):
        raise Refused("what was asked for cannot be written as a summary", differing)
    warnings = {p.message: p for p in (*plan.warnings, *(w for outcome in outcomes for w in outcome.warnings))}
    return [_unplaced(p, found) for p in warnings.values()]


def _unplaced(problem: Finding, found: Document | None) -> Finding:
    """Return the problem without its place, where that is a file that is not written yet."""
    there = found is not None and problem.file == found.name
    return problem if there else problem.model_copy(update={"file": None, "line": None})


def _differences(asked: NewExperiment, plan: Plan, experiment: Experiment) -> list[Finding]:
    """Return what the plan has otherwise than it was asked for: nothing, or there is a fault in how it was written."""
    rows = asked.rows()
    controls = [f"{model}_base" for model in asked.values["model"]] if asked.control else []
    planned = [run.directory for run in plan.runs], [row.name for row in plan.excluded]
    if planned != ([name for name, _ in rows], controls):
        return [_mismatch("runs", None, None)]
    excused = {SourceKind.DEFAULT, SourceKind.DERIVED, *([SourceKind.LOCAL] if asked.local else [])}
    problems = {}
    for (name, row), run in zip(rows, plan.runs, strict=True):
        wanted = _wanted(asked, name, row)
        if asked.is_full():
            gpus = run.settings["gpus"].integer
            wanted["custom_recipe"] = recipes.for_gpus(str(asked.one("recipe")), gpus)
        of_plan = run.settings
        if "warmup_ratio" in wanted:  # which the plan has as steps
            of_plan = {k: s for k, s in of_plan.items() if k != "num_warmup_steps"}
            of_plan |= {k: s for k, s in experiment.config.items() if k == "warmup_ratio"}
        found = {k: s.value for k, s in of_plan.items() if k in wanted or s.source.kind not in excused}
        for key in sorted(wanted.keys() | found.keys()):
            one, other = wanted.get(key), found.get(key)
            if (type(one), one) != (type(other), other):
                problems[key] = _mismatch(key, one, other)
    return list(problems.values())


def _mismatch(key: str, wanted: Scalar, found: Scalar) -> Finding:
    message = f"{key}: {shown(wanted)} would be read back as {shown(found)}"
    fix = "this is a fault of `new`: report it; until then write the summary by hand, after the bundled example"
    expected, actual = (escape(v) if isinstance(v, str) else v for v in (wanted, found))
    return finding("render-mismatch", message, field=key, expected=expected, actual=actual, fix=fix)


def _wanted(asked: NewExperiment, name: str, row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return every setting of a run that was asked for, as the plan must have it."""
    converted = {"model", "dataset", "models_dir", "output_dir_base", "modules", "recipe"}
    data = asked.below("dataset")
    label, extension = layout.data_label(data)
    wanted = {n: v[0] for n, v in asked.values.items() if n not in converted}
    wanted |= {n: v for n, v in row.items() if n != "model"}
    wanted |= {
        "my_wandb_run_name": name,
        "torchtune_model_name": row["model"],
        "input_dir_base": posixpath.join(posixpath.dirname(data), ""),
        "dataset_label": label,
        "dataset_ext": extension,
    }
    if "models_dir" in asked.values:
        wanted |= {"models_dir": asked.below("models_dir"), "model_checkpoint": row["model"]}
    if "output_dir_base" in asked.values:
        wanted["output_dir_base"] = asked.below("output_dir_base")
    if "modules" in asked.values:
        wanted["modules"] = ",".join(map(str, asked.values["modules"]))
    return wanted


def _absent_data(asked: NewExperiment) -> list[Finding]:
    """Return a reminder of the data set, where it is not there yet."""
    path = asked.below("dataset")
    if is_file(path):
        return []
    message = f"the data set is not at {escape(path)} yet"
    fix = "put it there before the runs are submitted, or correct the path in the summary"
    return [finding("missing-file", message, field="dataset", fix=fix, severity=Severity.WARNING)]
