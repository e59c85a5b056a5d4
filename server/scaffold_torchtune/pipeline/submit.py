"""`submit`: submit runs to SLURM, each only once, even if calls are killed at any point.

A submission is recorded as intended, with a unique name; sbatch creates a held job; its id is recorded; the job is
released. A call that is killed in between leaves a job that does not start: the next call finds it by its name, records
and releases it. If squeue does not answer, nothing is submitted.
"""

import fnmatch
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, Literal, NamedTuple

from pydantic import Field

from scaffold_torchtune.external_checks import sbatch, slurm_jobs
from scaffold_torchtune.external_checks.slurm_jobs import Job, SbatchCall, Script
from scaffold_torchtune.findings import (
    Finding,
    Refused,
    counted,
    did_you_mean,
    errors_in,
    escape,
    few,
    finding,
    refuse,
    shown,
)
from scaffold_torchtune.models import CommandResult, Model, Plan, PlannedRun, RunState
from scaffold_torchtune.pipeline import apply, journal, state, steps
from scaffold_torchtune.pipeline.locate import experiment_directory
from scaffold_torchtune.pipeline.run_states import (
    Submission,
    Submissions,
    ended_arrays,
    load_jobs,
    save_jobs,
    states_of,
)
from scaffold_torchtune.plan import states_told
from scaffold_torchtune.preflight import log_path_problem
from scaffold_torchtune.request import Request, midway
from scaffold_torchtune.results.step_results import ValidateResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, make_directories, sha256
from scaffold_torchtune.system.layout import FINETUNE_SLURM, RUN_FILES

_LISTED: Final = 4
_LONGEST_NAME: Final = 60  # characters of an experiment's name in a job's name
_TOKEN: Final = 4  # bytes
_OF_ARRAY: Final = re.compile(r"[0-9]{1,9}(?:[.]started)?|slurm-[0-9]{1,18}_[0-9]{1,9}[.]out", re.ASCII)
"""The names of an array's links, and of the logs of its script's jobs that started nothing."""

_END: Final = 1_000_000  # bytes at the end of the log that are searched for an entry


class Wanted(NamedTuple):
    """The selection: runs with a directory or name that matches `only`, at most `at_once` of them at a time.

    With `failed`, failed runs too. With `dry_run`, nothing is written or submitted.
    """

    only: str | None = None
    at_once: int | None = None
    arrays: bool = True
    failed: bool = False
    dry_run: bool = False


class Batch(Model):
    """The runs of one call of sbatch: an array, or one run."""

    runs: tuple[str, ...]
    script: str = Field(description="the script, relative to the experiment")
    asks: tuple[str, ...] = Field(description="the options of sbatch that all its runs share")
    job: str = Field(default="", description="id of the job or array; empty if not submitted")


class SubmitResult(CommandResult):
    """The batches that were submitted, or would be."""

    experiment: str
    experiment_dir: str
    outcome: Literal["nothing", "planned", "declined", "submitted", "stopped"]
    batches: tuple[Batch, ...] = ()
    at_once: int | None = None
    states: str = Field(default="", description="the states of the other runs")
    warnings: tuple[Finding, ...] = ()
    problems: tuple[Finding, ...] = Field(default=(), description="why runs were not submitted or started")

    @property
    def summary(self) -> str:
        """Return the number of submitted runs, or of those that would be, and the states of the others."""
        runs, jobs = counted(self.runs, "run"), [each.job for each in self.batches if each.job]
        every = sum(len(each.runs) for each in self.batches)
        others = f" Other runs: {self.states}." if self.states else ""
        if self.outcome == "nothing":
            return f"Nothing to submit: no scaffolded run is left to start ({self.states or 'no runs'})."
        if self.outcome in {"planned", "declined"}:
            what = f"would be submitted in {counted(len(self.batches), 'job')}"
            if self.outcome == "declined":
                what = f"{'was' if self.runs == 1 else 'were'} not confirmed"
            return f"Nothing was submitted: {runs} {what}.{others}"
        told = f" as {'job' if len(jobs) == 1 else 'jobs'} {few(jobs, _LISTED)}" if jobs else ""
        left = f"; {every - self.runs} not submitted" if every != self.runs else ""
        return f"{runs} submitted{told}{left}.{others}"

    @property
    def runs(self) -> int:
        """Return the number of runs that were submitted, or would be."""
        return sum(len(each.runs) for each in self.batches if each.job or self.outcome in {"planned", "declined"})


class _Proposal(NamedTuple):
    """The batches to submit, the pending and running jobs, and a fingerprint to detect changes of the runs."""

    plan: Plan
    groups: tuple[tuple[Script, ...], ...]
    jobs: tuple[str, ...]
    result: SubmitResult
    verdict: ValidateResult | None
    fingerprint: Mapping[str, object]


def submit(request: Request, wanted: Wanted, confirm: Callable[[SubmitResult], bool]) -> SubmitResult:
    """Submit the runs that are scaffolded, valid and not started.

    Args:
        request: the experiment.
        wanted: the selection of runs and the options.
        confirm: shows the proposal, and returns whether the user accepts it.

    Raises:
        Refused: nothing was submitted, because validation failed, SLURM does not answer or rejects a script, or another
            call is running. `Stopped` if something was already written.
    """
    with Tree(experiment_directory(request)) as tree:
        plan = steps.rendered_plan(tree)
        _refuse_unavailable(request)
        held = () if wanted.dry_run else _settle(tree, request)
        found = _propose(tree, request, wanted)
        found = found._replace(result=found.result.model_copy(update={"problems": held}))
        if wanted.dry_run:
            return found.result
        if not found.groups:
            apply.clear_leftovers(tree)
            return found.result
        if not confirm(found.result):
            return found.result.model_copy(update={"outcome": "declined"})
        with apply.writing(tree):
            request.slurm_said.clear()
            if _fingerprint(tree, plan, states_of(tree, plan.runs, request)) != found.fingerprint:
                message = "runs were submitted or changed after the proposal was shown"
                raise refuse("runs-changed", message, fix="run submit again")
            _refuse_foreign(tree, found.result.batches)
            with midway():
                _clear_ended(tree, request)
                return _Submitting(tree, found, request, wanted).all()


# --- the proposal -----------------------------------------------------------------------------------------------------


def _propose(tree: Tree, request: Request, wanted: Wanted) -> _Proposal:
    plan = steps.rendered_plan(tree)
    _refuse_unknown(slurm_jobs.queued(tree.root, request).unknown)
    states = states_of(tree, plan.runs, request)
    meant = {run.directory: run for run in _meant(plan, wanted.only)}
    failed = [name for name in meant if wanted.failed and states[name].state == "failed"]
    unseen = [name for name in failed if states[name].unseen and wanted.only is None]
    runs = [
        run
        for name, run in meant.items()
        if states[name].state == "scaffolded" or (name in failed and name not in unseen)
    ]
    _refuse_expanded(str(tree.root))
    names = {run.directory for run in runs}
    result = SubmitResult(
        experiment=plan.experiment,
        experiment_dir=str(tree.root),
        outcome="planned" if runs else "nothing",
        at_once=wanted.at_once,
        states=states_told({name: each for name, each in states.items() if name not in names}),
        warnings=tuple(_unseen(unseen)),
    )
    waiting = dict.fromkeys(job.partition("_")[0] for each in states.values() for job in each.jobs)
    before = _fingerprint(tree, plan, states)
    if not runs:
        return _Proposal(plan, (), tuple(waiting), result, None, before)
    verdict = steps.verdict(tree, plan, request, states)
    if not verdict.passed:
        problems = [*verdict.findings, *(each for run in verdict.runs for each in run.findings)]
        raise Refused("nothing was submitted, because validation failed", errors_in(problems))
    scripts = [slurm_jobs.read_script(run, _text(tree, run)) for run in runs]
    clusters = next((script.clusters for script in scripts if script.clusters), "")
    most = slurm_jobs.largest_array(clusters, tree.root, request) if wanted.arrays and len(scripts) > 1 else 1
    groups = slurm_jobs.grouped(scripts, most, arrays=wanted.arrays)
    batches = tuple(_batch(group, number) for number, group in enumerate(groups))
    _refuse_foreign(tree, batches)
    _test(tree, plan, groups, request)
    told = {"batches": batches, "warnings": (*result.warnings, *_ignored(scripts))}
    return _Proposal(plan, tuple(groups), tuple(waiting), result.model_copy(update=told), verdict, before)


def _refuse_unavailable(request: Request) -> None:
    if sbatch.is_off(request):
        message, fix = (
            f"the use of SLURM is switched off ({sbatch.SWITCH})",
            f"unset {sbatch.SWITCH}, then repeat the command",
        )
        raise refuse("submit-unavailable", message, actual=sbatch.SWITCH, fix=fix)
    if missing := slurm_jobs.missing():
        message = f"{few(missing, len(missing))} {'was' if len(missing) == 1 else 'were'} not found on this machine"
        raise refuse("submit-unavailable", message, actual=missing[0], fix="submit from a login node of the cluster")


def _refuse_unknown(unknown: str) -> None:
    if unknown:
        message = f"nothing was submitted, because it is unknown which runs have jobs: {unknown}"
        raise refuse("queue-unknown", message, fix="repeat the command when squeue responds again")


def _refuse_expanded(root: str) -> None:
    if found := log_path_problem(root):
        raise Refused(found.message, [found])


def _meant(plan: Plan, only: str | None) -> list[PlannedRun]:
    """Return the runs that a pattern of directories or names matches, in the plan's order."""
    if only is None:
        return list(plan.runs)
    found = [run for run in plan.runs if any(fnmatch.fnmatchcase(name, only) for name in (run.directory, run.name))]
    if not found:
        message = did_you_mean(only, [run.directory for run in plan.runs], f"{shown(only)} matches no run.")
        raise refuse(
            "invalid-value",
            message,
            field="only",
            actual=escape(only),
            fix="specify the name of a run, or a pattern such as 'rank8*'",
        )
    return found


def _text(tree: Tree, run: PlannedRun) -> str:
    return (tree.read(f"{run.directory}/{FINETUNE_SLURM}") or b"").decode(errors="replace")


def _fingerprint(tree: Tree, plan: Plan, states: Mapping[str, RunState]) -> Mapping[str, object]:
    """Return a fingerprint to detect later changes: the runs' files, the started runs, and the plan."""
    now = state.load_plan(tree)
    files = {run.directory: state.hashes_of(tree, run.directory, RUN_FILES) for run in plan.runs}
    started = {name: (each.state, each.jobs) for name, each in states.items() if each.started}
    jobs = {name: each for name, each in started.items() if each[0] == "failed"}
    return {"plan": now.id if now else "", "files": files, "started": [*started], "failed": jobs}


def _batch(group: Sequence[Script], number: int) -> Batch:
    first = group[0]
    own = f"{first.run.directory}/{FINETUNE_SLURM}"
    return Batch(
        runs=tuple(script.run.directory for script in group),
        script=_script_name(number) if _is_array(group) else own,
        asks=tuple(f"{name}={value}" if value else name for name, value in first.effective),
    )


def _is_array(group: Sequence[Script]) -> bool:
    return len(group) > 1


def _script_name(number: int) -> str:
    return f"finetune_array{f'_{number + 1}' if number else ''}.slurm"


def _test(tree: Tree, plan: Plan, groups: Iterable[Sequence[Script]], request: Request) -> None:
    """Refuse scripts that SLURM would reject; if one of several is rejected, nothing is submitted."""
    problems: list[Finding] = []
    for group in groups:
        first = group[0]
        if _is_array(group):
            text = slurm_jobs.array_script(group, _job_name(plan.experiment, "test"), f"{layout.ARRAYS}/test", None)
            call = SbatchCall((), "", tree.root, text=text)
        else:
            call = SbatchCall(
                _given(first), "", tree.root / first.run.directory, first.variables, _text(tree, first.run)
            )
        if reason := slurm_jobs.test(call, request):
            problems.append(_not_taken(group, reason))
    if problems:
        raise Refused("nothing was submitted, because SLURM would reject it", problems)


def _given(script: Script) -> tuple[str, ...]:
    return tuple(sbatch.words(script.options))


def _not_taken(group: Sequence[Script], reason: str) -> Finding:
    names = few([script.run.directory for script in group], _LISTED)
    message = f"sbatch rejected {names}: {reason}"
    limit = re.search(r"Max[A-Za-z]{0,40}(Submit|Jobs|Array)", reason)
    fix = "correct the option that sbatch names, then run submit again"
    if limit:
        fix = "submit fewer runs at a time with --only PATTERN, and the others after jobs have ended"
    return finding("submit-refused", message, actual=group[0].run.directory, fix=fix)


def _unseen(runs: Sequence[str]) -> Iterator[Finding]:
    """Yield the runs that may have failed, if that cannot be determined."""
    if runs:
        message = f"cannot tell whether {few(runs, _LISTED)} failed; not submitted again"
        fix = "check the results; to submit one of these runs again, add --failed --only RUN"
        yield finding("outcome-unseen", message, actual=runs[0], fix=fix)


def _ignored(scripts: Sequence[Script]) -> Iterator[Finding]:
    """Yield the variables that sbatch would read as options, and that no script gives."""
    given = {name for script in scripts for name, _ in script.effective}
    stand_for = sbatch.STANDS_FOR
    for name in slurm_jobs.ignored():
        if stand_for.get(name) not in given:
            message = f"the environment variable {escape(name)} is set, but `submit` does not pass it to sbatch"
            option = stand_for.get(name)
            fix = (
                f"no action if the jobs do not need it; otherwise set {option} in claude.local.md, then scaffold again"
                if option
                else "no action if the jobs do not need it; otherwise submit the runs with the line that `validate`"
                " prints, so that sbatch reads the variable"
            )
            yield finding("variable-ignored", message, field=option, actual=escape(name), fix=fix)


# --- submitting -------------------------------------------------------------------------------------------------------


def _job_name(experiment: str, token: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._+-]', '-', experiment)[:_LONGEST_NAME]}-{token}"


class _Submitting:
    """The submission of one batch after the other, under the experiment's lock."""

    def __init__(self, tree: Tree, found: _Proposal, request: Request, wanted: Wanted) -> None:
        self._tree, self._found, self._request, self._wanted = tree, found, request, wanted
        self._records = load_jobs(tree)
        self._at = request.now()
        self._problems = list(found.result.problems)
        self._before: list[str] = list(found.jobs)  # the jobs that the next batch waits for, if `at_once` is given
        self._alone: list[str] = []  # single jobs since then

    def all(self) -> SubmitResult:
        """Submit all batches; stop at the first that is rejected."""
        if self._found.verdict:
            times = (self._request.now(), self._request.now())
            journal.close(self._tree, self._found.plan, self._found.verdict, times)
        batches = list(self._found.result.batches)
        for number, group in enumerate(self._found.groups):
            one = self._intended(group, number)
            job = self._submitted(one, group)
            if not job:
                break
            batches[number] = batches[number].model_copy(update={"job": job})
            self._request.report("submit", number + 1, len(batches))
        _log(self._tree, self._records)
        is_whole = all(each.job for each in batches)
        told = {"outcome": "submitted" if is_whole else "stopped", "batches": tuple(batches)}
        return self._found.result.model_copy(update={**told, "problems": tuple(self._problems)})

    def _save(self, one: Submission) -> Submission:
        self._records = self._records.replaced(one)
        save_jobs(self._tree, self._records)
        return one

    def _intended(self, group: Sequence[Script], number: int) -> Submission:
        """Record a batch as intended and write the files that it needs, before it is submitted."""
        token = secrets.token_hex(_TOKEN)
        is_array = _is_array(group)
        one = Submission(
            token=token,
            name=_job_name(self._found.plan.experiment if is_array else group[0].name, token),
            at=self._at,
            runs=tuple(script.run.directory for script in group),
            is_array=is_array,
            clusters=group[0].clusters,
            at_once=self._wanted.at_once,
        )
        if not is_array:
            for folder in group[0].folders:
                _make_folder(self._tree, group[0].run.directory, folder)
            return self._save(one)
        text = slurm_jobs.array_script(group, one.name, one.folder, one.at_once).encode()
        script = _script_name(number)
        one = self._save(one.model_copy(update={"script": script, "digest": sha256(text)}))
        self._tree.make_directory(layout.ARRAYS)
        self._tree.make_directory(one.folder)
        for task, run in enumerate(one.runs):
            self._tree.link(f"{one.folder}/{task}", f"../../../{run}")
        self._tree.write(script, text)
        return one

    def _submitted(self, one: Submission, group: Sequence[Script]) -> str:
        """Submit a held job, record its id, and release it; return the id, or an empty text if there is no job."""
        first = group[0]
        waits = self._dependency(first, is_array=one.is_array)
        if one.is_array:
            call = SbatchCall(waits, one.script, self._tree.root)
        else:
            options = (*_given(first), f"--job-name={one.name}", *waits)
            call = SbatchCall(options, FINETUNE_SLURM, self._tree.root / first.run.directory, first.variables)
        answer = slurm_jobs.submit(call, self._request)
        if answer.is_refused:
            self._records = _drop(self._tree, self._records, one)
            self._problems.append(_not_taken(group, answer.said))
            return ""
        job = answer.job or self._job_by_name(one)
        if not job:
            were = "was" if len(one.runs) == 1 else "were"
            message = f"cannot tell whether {few(one.runs, _LISTED)} {were} submitted: {answer.said}"
            fix = "run submit again: it first looks for the job, which is on hold and does not start by itself"
            self._problems.append(finding("submit-unanswered", message, actual=one.runs[0], fix=fix))
            return ""
        held = one.model_copy(update={"job": job, "clusters": answer.cluster or one.clusters, "progress": "held"})
        self._problems += _released(self._tree, self._save(held), self._save, self._request)
        self._follows(job, is_array=one.is_array)
        return job

    def _job_by_name(self, one: Submission) -> str:
        self._request.slurm_said.clear()
        found, _ = slurm_jobs.named(self._tree.root, [one.name], self._request, one.clusters)
        return _base(job.id for job in found.get(one.name, ()))

    def _dependency(self, script: Script, *, is_array: bool) -> tuple[str, ...]:
        """Return the option that limits the number of the experiment's runs at once.

        An array, which limits itself, waits for all earlier jobs; a single job waits for the job `at_once` before it.
        """
        most, alone = self._wanted.at_once, self._alone
        if most is None:
            return ()
        waits = alone[-most:] if alone and is_array else alone[-most:][:1] if len(alone) >= most else self._before
        own = dict(script.effective).get("dependency", "")
        after = f"afterany:{':'.join(waits)}" if waits else ""
        return (f"--dependency={','.join(filter(None, (own, after)))}",) if after else ()

    def _follows(self, job: str, *, is_array: bool) -> None:
        if is_array:
            self._before, self._alone = [job], []
        else:
            self._alone.append(job)


def _refuse_foreign(tree: Tree, batches: Iterable[Batch]) -> None:
    """Refuse to replace a file with an array's script if it was edited or not generated by this tool."""
    ours = {one.digest for one in load_jobs(tree).submissions}
    for script in [each.script for each in batches if "/" not in each.script]:
        if state.hash_of(tree, script) not in {None, *ours}:
            edited = f"{script} has been edited since it was generated, or was not generated by this tool"
            message = f"{edited}; a job array's script would replace it"
            raise refuse("edited-output", message, file=script, fix=f"move the file away: mv {script} my_{script}")


def _make_folder(tree: Tree, run: str, folder: str) -> None:
    """Create a directory for logs, because SLURM does not create it."""
    path = tree.root / run / folder
    try:
        make_directories(path)
    except OSError as error:
        message = f"cannot create {shown(str(path))}, where the script writes its logs: {error.strerror}"
        fix = "create this directory, then run submit again"
        raise refuse("write-failed", message, file=f"{run}/{FINETUNE_SLURM}", fix=fix) from error


def _clear_ended(tree: Tree, request: Request) -> None:
    """Remove the scripts and links of ended arrays, so that only the links of the last arrays remain.

    Logs of a script that the user submitted again are removed too: they only contain that nothing was started.
    """
    for one in ended_arrays(tree, load_jobs(tree), request):
        with suppress(Refused):
            if all(_OF_ARRAY.fullmatch(name) for name in tree.names(one.folder)):
                _remove_files(tree, one)


def _remove_files(tree: Tree, one: Submission) -> None:
    """Remove the script of an array, unless it was edited or replaced, then its links, without which it cannot run."""
    with suppress(Refused):  # a directory instead of the script
        if one.script and state.hash_of(tree, one.script) == one.digest:
            tree.remove(one.script)
    if tree.kind(one.folder):
        tree.clear(one.folder)


def _drop(tree: Tree, records: Submissions, one: Submission) -> Submissions:
    """Remove a submission that created no job, with its files; return the others."""
    if one.is_array:
        _remove_files(tree, one)
    records = records.without(one)
    save_jobs(tree, records)
    return records


def _released(tree: Tree, one: Submission, save: Callable[[Submission], Submission], request: Request) -> list[Finding]:
    """Release a recorded job; return the problem if that failed."""
    reason = slurm_jobs.release(one.job, one.clusters, tree.root, request)
    if reason:
        request.slurm_said.clear()
        there, unknown = slurm_jobs.named(tree.root, [one.name], request, one.clusters)
        if unknown or _is_on_hold(there.get(one.name, ())):
            submitted = f"job {one.job} was submitted for {few(one.runs, _LISTED)}"
            message = f"{submitted}, but is still on hold because it could not be released: {reason}"
            where = f"--clusters={one.clusters} " if one.clusters else ""
            fix = f"release the job: `scontrol {where}release {one.job}`"
            return [finding("still-held", message, actual=one.job, fix=fix)]
    save(one.model_copy(update={"progress": "released"}))
    return []


def _is_on_hold(jobs: Sequence[Job]) -> bool:
    """Return whether a job that could not be released is still on hold.

    scontrol fails for an array with tasks that have ended, although it releases the others: with Slurm 22.05, it prints
    `62_1-2: No error`.
    """
    pending = [job for job in jobs if not (job.has_ended or job.runs)]
    return any(job.detail.startswith("JobHeld") for job in pending) or (bool(pending) and len(pending) == len(jobs))


# --- leftovers of an earlier call -------------------------------------------------------------------------------------


def _settle(tree: Tree, request: Request) -> tuple[Finding, ...]:
    """Complete an earlier call that was killed: find its unrecorded jobs, release the held jobs, and log them.

    Returns the problems that prevent jobs from starting.

    Raises:
        Refused: squeue does not answer, or another call is running.
    """
    if not _is_open(load_jobs(tree)):
        return ()
    problems: list[Finding] = []
    with apply.writing(tree), midway():
        records = load_jobs(tree)
        for one in records.intended():
            found, unknown = slurm_jobs.named(tree.root, [one.name], request, one.clusters)
            _refuse_unknown(unknown)
            if job := _base(job.id for job in found.get(one.name, ())) or _started_as(tree, one):
                records = records.replaced(one.model_copy(update={"job": job, "progress": "held"}))
                save_jobs(tree, records)
            else:
                records = _drop(tree, records, one)
        for one in records.submissions:
            if one.progress == "held":

                def save(changed: Submission) -> Submission:
                    save_jobs(tree, load_jobs(tree).replaced(changed))
                    return changed

                problems += _released(tree, one, save, request)
        _log(tree, load_jobs(tree))
    request.slurm_said.clear()
    return tuple(problems)


def _is_open(records: Submissions) -> bool:
    return any(one.progress != "released" or not one.logged for one in records.submissions)


def _base(ids: Iterable[str]) -> str:
    """Return the id of the first job, without the number of an array's task; an empty text if there is no job."""
    return min((job.partition("_")[0] for job in ids), key=int, default="")


def _started_as(tree: Tree, one: Submission) -> str:
    """Return the id of the job that started tasks of an array, from the links that the tasks created."""
    links = (tree.link_target(f"{one.folder}/{task}.started") for task in range(len(one.runs)) if one.is_array)
    return next((target for target in links if target and re.fullmatch(r"[0-9]{1,18}", target)), "")


def _log(tree: Tree, records: Submissions) -> None:
    """Log the submissions that are not logged yet, one entry for each call."""
    calls: dict[datetime, list[Submission]] = {}
    for one in records.submissions:
        if one.job and not one.logged:
            calls.setdefault(one.at, []).append(one)
    for at, some in calls.items():
        told = [journal.SubmittedJob(one.job, one.runs, one.is_array, one.at_once) for one in some]
        text = journal.format_entries([journal.submit_entry(told)], at)
        end = max(0, tree.size(layout.LOG) - _END)
        if text not in (tree.read(layout.LOG, start=end) or b""):  # already logged by a call that was killed here
            tree.append(layout.LOG, text)
        for one in some:
            records = records.replaced(one.model_copy(update={"logged": True}))
    if calls:
        save_jobs(tree, records)
