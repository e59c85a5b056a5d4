"""`status` and `report`: the state, progress and cause of failure of each run, and the whole experiment.

`status` writes nothing. `report` writes a page, or prints a Markdown text or a CSV table. Once the page is written,
each scaffold and validation updates it unless it was edited.
"""

import fnmatch
import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Refused,
    Scalar,
    counted,
    did_you_mean,
    escape,
    few,
    finding,
    one_of,
    refuse,
    shown,
)
from scaffold_torchtune.job_causes import (
    ENDED_BY_SLURM,
    JobEnd,
    Requested,
    Symptom,
    cause,
    not_well,
    symptom,
    unexplained,
)
from scaffold_torchtune.job_output import JobOutput
from scaffold_torchtune.models import CommandResult, JobState, Plan, PlannedRun, RunState, SourceKind
from scaffold_torchtune.pipeline import journal, state, validation
from scaffold_torchtune.pipeline.apply import writing
from scaffold_torchtune.pipeline.changes import edited_files
from scaffold_torchtune.pipeline.locate import copied, experiment_directory
from scaffold_torchtune.pipeline.prepare import repeated_options
from scaffold_torchtune.pipeline.run_states import job_outputs, last_output, read_job_output, states_of
from scaffold_torchtune.pipeline.validation import read_files
from scaffold_torchtune.preflight.training import need_of
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.report_contents import (
    ExperimentReport,
    LogEntry,
    RunCost,
    csv_table,
    markdown,
    report_of,
)
from scaffold_torchtune.results.report_page import is_page, is_unedited, page, written_at
from scaffold_torchtune.results.step_results import RunStatus, StatusResult, ValidateResult
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import to_give
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import MAX_READ, Tree, is_taken, publish, read_regular
from scaffold_torchtune.torchtune_facts.facts import load

_VERDICTS: Final = {
    "complete": "validation passed",
    "failed": "the last validation failed or was stopped midway",
    "open": "not validated since files last changed",
}
_NAMED: Final = 8
_LONG_END: Final = 1_048_576
"""The number of bytes at the end of an output that are read if fewer do not show why its job failed."""

_SETTINGS: Final = (
    "batch_size", "gradient_accumulation_steps", "mem", "time", "lr", "enable_activation_checkpointing", "wandb_mode",
    "resume_from_checkpoint", "save_adapter_weights_only",
)  # fmt: skip
"""The settings for which a fix names the line of a document."""


def status(request: Request, only: str | None = None) -> StatusResult:
    """Return the status of each planned run, in the plan's order, and of started runs that are no longer in the table.

    Args:
        request: names the experiment; may forbid asking SLURM.
        only: a pattern of run directories or Run Names; None for all.

    Raises:
        Refused: the experiment does not exist, nothing was rendered yet, or no run matches.
    """
    directory = experiment_directory(request)
    with Tree(directory) as tree:
        plan, log = state.existing_plan(tree), state.load_log_state(tree)
        planned = {run.directory for run in plan.runs}
        former = [run for name, run in state.known_runs(tree, plan).items() if name not in planned]
        runs = _matching((*plan.runs, *former), only)
        shown_too = {run.directory for run in runs}
        others = [run for run in plan.runs if run.directory not in shown_too]
        states = states_of(tree, (*runs, *others), request)
        started = frozenset(name for name, each in states.items() if each.started)
        found = tuple(
            _of_run(tree, run, states[run.directory], _for_one_run(plan, run, started))
            for run in runs
            if run.directory in planned
        )
        removed = [run for run in runs if run.directory not in planned and _is_left(tree, states[run.directory], run)]
        left = tuple(_of_former(tree, run, states[run.directory]) for run in removed)
        verdict = _verdict(tree, plan, log)
        if not found and not left:
            raise _unknown_run(str(only), [run.directory for run in plan.runs])
    copies = copied(plan, directory, [run.directory for run in plan.runs], request)
    reasons = dict.fromkeys(each.unasked for each in states.values() if each.unasked)
    return StatusResult(
        experiment=plan.experiment,
        experiment_dir=str(directory),
        verdict=verdict,
        findings=tuple(each.model_copy(update={"severity": Severity.WARNING}) for each in copies),
        runs=found,
        former=left,
        changed_documents=validation.changed_documents(plan, directory, request),
        options=repeated_options(plan, request),
        not_asked=tuple(f"SLURM: {reason}" for reason in reasons),
    )


_Alone = Callable[[str, Scalar], str]
"""Returns the fix that gives a setting a value for one run only; an empty text if the line for all runs may change."""


def _for_all(_name: str, _value: Scalar) -> str:
    return ""


def _for_one_run(plan: Plan, run: PlannedRun, started: frozenset[str]) -> _Alone:
    """Return the fixes for a run; a line for all runs must not change if it gives the value of another started run."""

    def fix(name: str, value: Scalar) -> str:
        others = (each for each in plan.runs if each.directory in started and each.directory != run.directory)
        sharing = any(not _is_of_row(each, name) for each in others)
        if not sharing and not _is_of_row(run, name):
            return ""
        return to_give(name, {run.directory: value}, [run], plan.runs)

    return fix


def _is_of_row(run: PlannedRun, name: str) -> bool:
    return name in run.settings and run.settings[name].source.kind is SourceKind.ROW


def _verdict(tree: Tree, plan: Plan, log: state.LogState | None) -> str:
    """Return the last verdict of validation, and the files of runs that are no longer as they were then."""
    told = _VERDICTS[log.status if log else "open"]
    if log is None or log.status != "complete":
        return told
    accepted = {one.directory: one.edited for one in plan.kept}
    found: list[str] = []
    for run in plan.runs:
        with suppress(Refused):  # validation reports an unreadable record
            record = state.load_record(tree, run.directory)
            edited = edited_files(record, state.files_there(tree, run.directory)) if record else {}
            known = accepted.get(run.directory, {})
            found += [f"{run.directory}/{name}" for name, digest in edited.items() if known.get(name) != digest]
    return f"{told}, but files were edited or removed since: {few(found, _NAMED)}" if found else told


def _is_left(tree: Tree, found: RunState, run: PlannedRun) -> bool:
    """Return whether a run that is no longer in the table was started, and has its directory or a job."""
    return found.started and (tree.kind(run.directory) == "directory" or bool(found.jobs))


def _of_former(tree: Tree, run: PlannedRun, found: RunState) -> RunStatus:
    """Return the status of a run that is no longer in the table; its problem only while its job exists."""
    status = _of_run(tree, run, found)
    return status if found.state in {"submitted", "running"} else status.model_copy(update={"cause": None})


def _matching(runs: Sequence[PlannedRun], only: str | None) -> Sequence[PlannedRun]:
    if only is None:
        return runs
    found = [run for run in runs if any(fnmatch.fnmatchcase(name, only) for name in (run.directory, run.name))]
    if not found:
        raise _unknown_run(only, [run.directory for run in runs])
    return found


def _unknown_run(only: str, names: Sequence[str]) -> Refused:
    message = did_you_mean(only, names, f"no run matches {shown(only)}.")
    fix = f"specify {one_of(names, _NAMED)}"
    return refuse("unknown-name", message, field="run", actual=escape(only), fix=fix)


class _Look(NamedTuple):
    """A run with its state, the path and content of the output of its last job, and the fixes for it alone."""

    run: PlannedRun
    state: RunState
    path: str
    output: JobOutput | None
    alone: _Alone


def _of_run(tree: Tree, run: PlannedRun, found: RunState, alone: _Alone = _for_all) -> RunStatus:
    look = _look(tree, run, found, alone)
    problem = _problem(tree, look)
    job, output, unseen = (
        found.job,
        look.output,
        [each for each in found.unseen if not found.unasked or found.unasked not in each],
    )
    if look.path and output is None:
        unseen.append(f"{look.path} (not a readable file)")
    last = output.last if output else None
    epochs = run.integer("epochs", 1)
    return RunStatus(
        directory=run.directory,
        state=found.state,
        evidence=found.evidence,
        job=job.id if job else next(iter((*found.jobs[-1:], *found.past[-1:])), ""),
        job_state=_job_state(job),
        output=look.path,
        output_dir=found.output_dir,
        epochs_done=_epochs_done(look),
        epochs=epochs,
        step=last.number if last else None,
        steps=last.per_epoch * epochs if last and last.per_epoch else None,
        loss=last.loss if last and math.isfinite(last.loss) else None,
        losses=output.losses if output else (),
        elapsed=job.elapsed if job else None,
        limit=job.limit if job else kinds.slurm_seconds(run.text("time")) or None,
        cause=problem,
        unseen=tuple(unseen),
    )


def _job_state(job: JobState | None) -> str:
    if job is None:
        return ""
    return f"{job.state} ({job.reason})" if job.reason else job.state


def _look(tree: Tree, run: PlannedRun, found: RunState, alone: _Alone) -> _Look:
    """Find the output of the last job; a pending or just started job may have no output yet."""
    outputs = job_outputs(tree, run.directory)
    ids = {job_id: name for name, job_id in outputs.items()}
    current = found.job.id if found.job else next(iter(found.jobs[-1:]), "")
    name = ids.get(current, "") if current and (current in ids or found.jobs) else last_output(outputs)
    path = f"{run.directory}/{name}" if name else ""
    return _Look(run, found, path, read_job_output(tree, path) if path else None, alone)


def _epochs_done(look: _Look) -> int | None:
    """Return the number of epochs that were trained: from the output directory, else from the job's output."""
    if look.state.epochs is not None and not look.state.unseen:
        return look.state.epochs
    output = look.output
    if output is None or output.first is None or output.last is None:
        return look.state.epochs or None
    return max(output.first.epoch - 1 + output.saved, output.last.epoch - 1, look.state.epochs or 0)


def _problem(tree: Tree, look: _Look) -> Finding | None:
    """Return why the run failed, or the problem of a running or finished run; None if there is none."""
    found, output = look.state, look.output
    if found.state in {"planned", "scaffolded"}:
        return None
    job = found.job
    end = JobEnd(job.id, job.state, job.exit_code, job.elapsed, job.limit) if job else JobEnd()
    if found.state == "finished":
        return not_well(end, _asked(tree, look), output, found.epochs)
    seen = symptom(output, end.state if found.state == "failed" else "")
    if seen is None and found.state == "failed" and output and look.path:
        longer = read_job_output(tree, look.path, _LONG_END)
        seen = symptom(longer, end.state)
    if found.state in {"submitted", "running"}:
        if seen is not None and found.state == "running":
            return cause(seen, end, _asked(tree, look), output)
        return not_well(end, _asked(tree, look), output, None)
    return _why_failed(seen, end, _asked(tree, look), output)


def _why_failed(seen: Symptom | None, end: JobEnd, asked: Requested, output: JobOutput | None) -> Finding:
    """Return the cause; a loss that is not finite has priority over the end of the job by SLURM."""
    lost = not_well(end, asked, output, None) if seen is None or seen.code in ENDED_BY_SLURM else None
    if lost is not None:
        return lost
    return unexplained(end, asked, output) if seen is None else cause(seen, end, asked, output)


def _asked(tree: Tree, look: _Look) -> Requested:
    """Return the requests of the run: from its finetune.yaml and finetune.slurm, else from the plan."""
    run = look.run
    files, _ = read_files(tree, run)
    config = files.readable_config.data if files.readable_config else {}
    tokenizer = config.get("tokenizer")
    directives = {each.name: each.value for each in (files.script.directives if files.script else []) if not each.late}
    optimizer = config.get("optimizer")
    places: dict[str, str] = {name: _place(run, name) for name in _SETTINGS if name in run.settings}
    return Requested(
        experiment=str(tree.root),
        run=run.directory,
        output=look.path,
        batch_size=_whole(config.get("batch_size")) or run.integer("batch_size", 1),
        accumulation=_whole(config.get("gradient_accumulation_steps")) or run.integer("gradient_accumulation_steps", 1),
        gpus=run.integer("gpus", 1),
        max_seq_len=_whole(tokenizer.get("max_seq_len")) if isinstance(tokenizer, dict) else None,
        checkpointing=config.get("enable_activation_checkpointing") is True,
        lr=_number(optimizer.get("lr")) if isinstance(optimizer, dict) else None,
        epochs=run.integer("epochs", 1),
        memory=escape(directives.get("mem", run.text("mem"))),
        time=kinds.slurm_seconds(directives.get("time", run.text("time"))) or None,
        resumes=run.value("resume_from_checkpoint") is True,
        environment=run.text("conda_env") or run.text("venv"),
        model=run.checkpoint_dir or run.text("torchtune_model_name"),
        data=run.data_path,
        output_dir=look.state.output_dir,
        places=places,
        yaml=kinds.is_yaml(run),
        alone=look.alone,
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError, OverflowError):
        number = float(value)
        return number if math.isfinite(number) and number > 0 else None
    return None


def _place(run: PlannedRun, name: str) -> str:
    source = run.settings[name].source
    return f"{source.file}:{source.line}" if source.file and source.line else ""


ReportForm = Literal["page", "markdown", "csv"]
PRINTED: Final = "-"
_MOST_LOG: Final = 400_000  # bytes of the log's end


class ReportResult(CommandResult):
    """A report that was written, or that the caller prints."""

    form: ReportForm
    path: str = Field(default="", description="the file that was written; empty if the text is printed")
    text: str = Field(default="", exclude=True, description="the text to print")
    verdict: str
    runs: int

    @property
    def summary(self) -> str:
        """Return the verdict and the place of the report."""
        where = f"written to {self.path}" if self.path else "printed"
        return f"Report of {counted(self.runs, 'run')} {where}: {self.verdict}."


def report(request: Request, form: ReportForm, output: str | None = None) -> ReportResult:
    """Write or return a report of an experiment in its present state.

    Args:
        request: the experiment; SLURM and torchtune are asked as by `validate`. With `overwrite`, an existing file is
            replaced.
        form: the form of the report.
        output: the file to write, or `-` to print; if None, the page is scaffold.html, and other forms are printed.

    Raises:
        Refused: nothing was rendered yet, or an existing file is not an unedited page of this tool.
    """
    with Tree(experiment_directory(request)) as tree:
        made = _collect(tree, request)
        result = ReportResult(form=form, verdict=made.verdict, runs=len(made.runs))
        text = {"page": page, "markdown": markdown, "csv": csv_table}[form](made)
        if output == PRINTED or (output is None and form != "page"):
            return result.model_copy(update={"text": text})
        own = tree.root / layout.PAGE
        path = own if output is None else Path(output).absolute()
        if path == own:
            _check(tree.read(layout.PAGE), layout.PAGE, request)
            with writing(tree):
                tree.write(layout.PAGE, text.encode())
        else:
            _write(path, text.encode(), request)
        return result.model_copy(update={"path": str(path)})


def _write(path: Path, data: bytes, request: Request) -> None:
    """Write a file that the user named.

    Raises:
        Refused: an existing file is not an unedited page of this tool, or the file cannot be written.
    """
    name = escape(str(path))
    try:
        _check(read_regular(path, MAX_READ * 10, follow=False) if is_taken(path) else None, name, request)
        publish({path: data})
    except OSError as error:
        message, fix = f"cannot write this file: {error.strerror}", "specify a different file with `--output`"
        problem = finding("write-failed", message, file=name, fix=fix)
        raise Refused(f"cannot write {name}", [problem]) from error


def _check(there: bytes | None, name: str, request: Request) -> None:
    """Refuse to replace a file that is not an unedited page of this tool."""
    if there is None or request.overwrite or is_unedited(there):
        return
    what = "has been edited since it was generated" if is_page(there) else "was not generated by this tool"
    fix = (
        "specify a different file with `--output`; or, to keep this file, move it elsewhere; or, to replace it, run the"
        " command again with `--overwrite`"
    )
    raise refuse("edited-output", f"{name} {what}", file=name, fix=fix)


def renew(request: Request, validated: ValidateResult | None = None) -> Finding | None:
    """Update the page if it exists and was not edited; return a warning if that fails.

    Nothing is written if only the time would change, or if this tool did not generate the file.

    Args:
        request: the experiment.
        validated: the verdict; if None, the experiment is validated.
    """
    with Tree(experiment_directory(request)) as tree:
        if tree.kind(layout.PAGE) != "file":
            return None
        try:
            there = tree.read(layout.PAGE) or b""
            if not is_page(there):
                return None
            _check(there, layout.PAGE, request)
            made = _collect(tree, request, validated)
            same = page(made.model_copy(update={"written": written_at(there)}))
            if same.encode() != there:
                with writing(tree):
                    tree.write(layout.PAGE, page(made).encode())
        except Refused as refused:
            reason = refused.problems[0] if refused.problems else None
            message = f"the report was not updated: {reason.message if reason else refused.message}"
            again = shlex.join(["scaffold-torchtune", "report", str(tree.root)])
            fix = reason.fix if reason else f"generate it again: run `{again}`"
            if reason and reason.code == "edited-output":
                fix = f"to keep your edits, move {layout.PAGE} elsewhere and generate the report again with `{again}`;"
                fix += f" to discard them, run `{again} --overwrite`"
            return finding("report-outdated", message, severity=Severity.WARNING, file=layout.PAGE, fix=fix)
    return None


def with_page(request: Request, result: ValidateResult) -> ValidateResult:
    """Update the page after a verdict; if that fails, add a warning to the verdict."""
    found = renew(request, result)
    return result.model_copy(update={"findings": (*result.findings, found)}) if found else result


def _collect(tree: Tree, request: Request, validated: ValidateResult | None = None) -> ExperimentReport:
    plan = state.existing_plan(tree)
    if validated is None:
        validated = validation.validate_plan(tree, validation.without_undone(tree, plan), request)
        if validated.passed:
            validated = validated.model_copy(update={"tracking": validation.tracking(plan)})
    written = f"{request.now():%Y-%m-%d %H:%M}"
    return report_of(plan, status(request), validated, _needs(plan), _log(tree), written)


def _needs(plan: Plan) -> dict[str, RunCost]:
    found = {}
    for run in plan.runs:
        facts = load().model(run.text("torchtune_model_name"))
        need = need_of(run, facts) if facts else None
        gpus = run.integer("gpus", 1)
        found[run.directory] = RunCost(gpus, need.held, need.saved) if need else RunCost(gpus)
    return found


def _log(tree: Tree) -> list[LogEntry]:
    """Return the last entries of scaffold.log; none if it cannot be read."""
    with suppress(Refused):
        start = max(0, tree.size(layout.LOG) - _MOST_LOG)
        text = (tree.read(layout.LOG, start=start) or b"").decode(errors="replace")
        return [*journal.read_entries(text[text.find("\n[") + 1 :] if start else text)]
    return []
