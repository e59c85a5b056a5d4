"""Step 7: verify that every planned value is in finetune.yaml and finetune.slurm, and give one verdict for all runs.

The expected places of values come only from torchtune's facts, and no code is shared with the code that writes the
files: otherwise both could have the same error. This package reads no files; its callers do. This module has all checks
of one run in order.

    run_files.py   the three files of a run, parsed once; reads finetune.slurm
    arrivals.py    the place of each setting in finetune.yaml
    finetune.py    values of finetune.yaml against the plan; the components and checkpoint files that it names
    directives.py  the #SBATCH lines against the plan
    commands.py    the commands of finetune.slurm against the plan
    report.py      comparison of typed values
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Scalar,
    did_you_mean,
    errors_in,
    few,
    finding,
    shortest_number,
    sort_findings,
)
from scaffold_torchtune.models import Arrival, Plan, PlannedRun, SourceKind
from scaffold_torchtune.results.step_results import ValidatedRun, ValidateResult
from scaffold_torchtune.settings.kinds import read_float
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML, STAGING
from scaffold_torchtune.system.serialization import YamlDocument, YamlError
from scaffold_torchtune.validate import directives, finetune
from scaffold_torchtune.validate.arrivals import DIRECT, FINETUNE_SETTINGS
from scaffold_torchtune.validate.report import Report, at, compare, dotted, quoted
from scaffold_torchtune.validate.run_files import RunFiles

_PATHS: Final = DIRECT | {"lora_alpha": ("model", "lora_alpha")}
_LABELS: Final = {"rank": "lora_rank", "bs": "batch_size", "ep": "epochs"} | {
    name: name for name in _PATHS if name != "log_every_n_steps"
}
"""The labels in a directory's name (`rank8_lr1e-5`), and their settings: those that determine which run it is."""

_RUN: Final = "RUN"
_UNREAD: Final = frozenset({"missing-file", "unreadable-file"})
"""The codes of runs that could not be checked completely."""

_LISTED: Final = 40
_FIX_NAME: Final = "set the intended value in the summary, or correct the Run Name; a started run keeps its directory"
_FIX_STAGED: Final = (
    "in the setup script, write paths that are relative to the run directory, in which the job starts, instead of"
    " os.getcwd(); then scaffold again"
)
WORKING_DIRECTORY: Final = "working directory"
"""The field of findings about a path in the directory in which the setup script ran."""

_FIX_SETUP: Final = "do not edit the file: run render again, then run setup"
_Read = TypeVar("_Read")


def claims(directory: str) -> list[tuple[str, str, float]]:
    """Return the part, the setting and the number of each part of a directory's name that is a label with a number.

    The parts are separated by underscores; a label may itself have underscores (`lora_dropout0.1`).
    """
    found, tokens = [], directory.split("_")
    while tokens:
        longest = next((n for n in range(len(tokens), 0, -1) if _claim("_".join(tokens[:n]))), 1)
        part = "_".join(tokens[:longest])
        if claim := _claim(part):
            found.append((part, *claim))
        tokens = tokens[longest:]
    return found


def _claim(part: str) -> tuple[str, float] | None:
    for label, setting in _LABELS.items():
        number = read_float(part.removeprefix(label)) if part.startswith(label) else None
        if number is not None:
            return setting, number
    return None


def _without_names(run: PlannedRun) -> str:
    """Return the directory's name without the model and the data set, which may have any name (`words_seed1`)."""
    folder, file = posixpath.split(run.data_path)
    names = {run.model, posixpath.splitext(file)[0], posixpath.basename(folder)} - {""}
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?:^|(?<=_))(?:{alternatives})(?=_|$)", "", run.directory)


def check_name(report: Report, data: dict[str, Any]) -> None:
    """Compare the directory's name with finetune.yaml, resolved: a second check, independent of the plan.

    If the name is a Run Name of the table and finetune.yaml has the planned value, a name that contradicts it is the
    author's choice and only a warning.
    """
    run = report.run
    for part, setting, number in claims(_without_names(run)):
        path = _PATHS[setting]
        actual = at(data, path)
        if type(actual) in {int, float} and actual == number:
            continue
        planned = run.settings.get(setting)
        is_as_planned = planned is not None and compare(planned.value, actual) is None
        chosen = is_as_planned and (run.by_author or run.directory == run.name)
        report.add(
            "name-mismatch",
            f"the directory name contains {quoted(part)}, but {dotted(path)} is"
            f" {'missing' if actual is None else quoted(actual)}",
            field=setting,
            expected=number,
            actual=actual,
            path=path,
            severity=Severity.WARNING if chosen else Severity.ERROR,
            fix=_FIX_NAME if chosen else _FIX_SETUP if is_as_planned else None,
        )
    name = report.planned("my_wandb_run_name")
    if name is not None and name != run.directory:
        report.add(
            "name-mismatch",
            f"the directory name is {quoted(run.directory)}, but the planned name of the run is {quoted(name)}",
            field="my_wandb_run_name",
            expected=run.directory,
            actual=name,
            path=("metric_logger", "name"),
        )


def deduplicated(checked: Mapping[str, Sequence[Finding]]) -> tuple[dict[str, tuple[Finding, ...]], list[Finding]]:
    """Separate findings that are not errors and that every run has, such as those of a script used by all runs.

    Args:
        checked: the findings of each run by its directory.

    Returns:
        The findings of individual runs, and the findings of all runs with files, once each: as in the first run, with
        `RUN` in the message instead of the run's directory. A single run keeps all of its findings.
    """
    keys = {name: [_key(one, name) for one in found] for name, found in checked.items()}
    whole = [name for name, found in checked.items() if not _UNREAD & {one.code for one in found}]
    whole = whole if len(whole) > 1 else list(checked)
    shared = set.intersection(*(set(keys[name]) for name in whole)) if len(whole) > 1 else set()
    own = {
        name: tuple(one for one, key in zip(found, keys[name], strict=True) if key not in shared)
        for name, found in checked.items()
    }
    runs = f"{_all(len(whole))} runs" + ("" if len(whole) == len(checked) else " with files")
    common = dict(zip(keys[whole[0]], checked[whole[0]], strict=True)) if whole else {}
    return own, [_of_all(one, whole[0], runs) for key, one in common.items() if key in shared]


def _all(number: int) -> str:
    return "both" if number == 2 else f"all {number}"  # noqa: PLR2004 - both are two


def _key(found: Finding, directory: str) -> object:
    """Return the comparable part of a finding of several runs; errors stay separate for each run."""
    if found.severity is Severity.ERROR:
        return found, directory
    file = (found.file or "").removeprefix(f"{directory}/")
    texts = tuple(_without(text, directory) for text in (found.message, found.fix, found.actual))
    return found.code, found.severity, found.field, file, texts


def _without(text: object, directory: str) -> object:
    """Return a text without the name of its run."""
    return text.replace(directory, _RUN) if isinstance(text, str) else text


def _of_all(found: Finding, directory: str, runs: str) -> Finding:
    message = f"in {runs}: {_without(found.message, directory)}"
    return found.model_copy(update={"message": message, "actual": _without(found.actual, directory)})


_OF_FINETUNE_YAML: Final = (
    "optimizer", "shuffle", "dtype",
    *(name for name, path in DIRECT.items() if len(path) == 1 and not name.startswith(("save_", "epochs_", "resume_"))),
)  # fmt: skip
"""The keys of finetune.yaml that change training or its cost, and that setup_finetune.yaml need not have."""


def chosen_by_setup(plan: Plan, files: Mapping[str, RunFiles]) -> dict[str, Scalar]:
    """Return the values of finetune.yaml that setup_finetune chose, because setup_finetune.yaml has none.

    Only the first run of each kind is read: of each model, recipe, and selection of given settings.
    """
    firsts: dict[tuple[object, ...], PlannedRun] = {}
    for run in plan.runs:
        given = (name in run.settings for name in _OF_FINETUNE_YAML)
        firsts.setdefault((run.model, run.value("custom_recipe"), *given), run)
    found: dict[str, dict[Scalar, None]] = {}
    for run in firsts.values():
        config = files[run.directory].readable_config if run.directory in files else None
        for name in _OF_FINETUNE_YAML if config else ():
            if config is None or name not in config.data:
                continue
            value = config.data[name]
            value = str(value.get("_component_")).rpartition(".")[2] if isinstance(value, dict) else value
            if name not in run.settings and not isinstance(value, list):
                found.setdefault(name, {}).setdefault("none" if value is None else value)
    several = {name: " or ".join(str(one).lower() for one in of) for name, of in found.items() if len(of) > 1}
    return {name: next(iter(of)) for name, of in found.items()} | several


def unchosen(plan: Plan, by_setup: Mapping[str, Scalar] | None = None) -> list[Finding]:
    """Return one finding with the settings that are a default in some run, so that they do not look chosen.

    `by_setup` are the values that setup_finetune chose.
    """
    values: dict[str, list[Scalar]] = {}
    for run in plan.runs:
        for name, setting in run.settings.items():
            if setting.source.kind is SourceKind.DEFAULT:
                values.setdefault(name, []).append(setting.value)
    values |= {name: [value] * len(plan.runs) for name, value in (by_setup or {}).items()}
    if not values:
        return []
    listed = few([_default(name, of, len(plan.runs)) for name, of in values.items()], _LISTED)
    message = f"settings left at their defaults: {listed}"
    fix = "no action if intended; otherwise set the intended values in the summary"
    return [finding("defaults-unchosen", message, actual=len(values), fix=fix)]


def _default(name: str, values: Sequence[Scalar], total: int) -> str:
    last = values[-1]
    shown = shortest_number(last) if isinstance(last, float) else quoted(last)
    return f"{name} {shown}" + ("" if len(values) == total else f" (in {len(values)} of {total} runs)")


def verdict(plan: Plan, checked: Mapping[str, tuple[Finding, ...]], extra: Iterable[Finding] = ()) -> ValidateResult:
    """Return the result of the validation.

    Args:
        plan: the plan.
        checked: the findings of each checked run, by the run's directory.
        extra: findings about the whole experiment.

    Returns:
        The result, `passed` only if the plan has runs, all of them were checked, and no finding is an error. Runs are
        in the order of the plan. Directories that are not planned do not count as checked.
    """
    names = {run.directory: run.name for run in plan.runs}
    runs = tuple(
        ValidatedRun(directory=each, name=name, passed=not errors_in(checked[each]), findings=checked[each])
        for each, name in names.items()
        if each in checked
    )
    findings, planned = list(extra), len(plan.runs)
    if planned == 0 or len(runs) != planned:
        message = f"only {len(runs)} of {planned} planned runs {'was' if len(runs) == 1 else 'were'} checked"
        message = message if planned else "the plan has no runs"
        fix = f"run {'setup' if planned else 'render and setup'} again, then run validate"
        findings.append(finding("nothing-checked", message, expected=planned, actual=len(runs), fix=fix))
    passed = not errors_in(findings) and all(run.passed for run in runs)
    return ValidateResult(passed=passed, checked=len(runs), planned=planned, runs=runs, findings=tuple(findings))


def validate_run(
    run: PlannedRun,
    files: RunFiles | Mapping[str, str | None],
    *,
    bundled: bool,
    arrivals: list[Arrival] | None = None,
) -> tuple[Finding, ...]:
    """Verify that every planned value of a run is in its files; read nothing from disk.

    Args:
        run: the run as planned.
        files: setup_finetune.yaml, finetune.yaml and finetune.slurm, or their texts by name; missing if None or without
            a key.
        bundled: whether the bundled setup_finetune made them. Additions and different defaults of another script are
            findings but not errors.
        arrivals: receives every place where a planned value was looked for.

    Returns:
        All findings, sorted by file and line. Any text gives findings, never an exception.
    """
    files = files if isinstance(files, RunFiles) else RunFiles(files)
    slurm = Report(run, FINETUNE_SLURM, bundled=bundled, arrivals=arrivals)
    script = _opened(slurm, lambda: files.script)
    recipe = None if script is None else directives.check_job(slurm, script)

    setup = Report(run, SETUP_YAML, bundled=bundled, fix=_FIX_SETUP, arrivals=arrivals)
    document = _opened(setup, lambda: files.document(SETUP_YAML))
    if document is not None:
        setup.document = document
        _setup(setup, document)
    _unproven(setup)

    report = Report(run, FINETUNE_YAML, bundled=bundled, arrivals=arrivals)
    config = _opened(report, lambda: files.config)
    if config is not None:
        report.document = config.document
        finetune.check_finetune(report, config, recipe)
        check_name(report, config.data)
    for each in (slurm, report):
        _staged(each, files.texts.get(each.name) or "")
    return tuple(sort_findings([*setup.findings, *report.findings, *slurm.findings]))


def _opened(report: Report, read: Callable[[], _Read | None]) -> _Read | None:
    """Return the content of a file; report a missing or unreadable one."""
    try:
        found = read()
    except YamlError as error:
        report.add("unreadable-file", f"{report.name} cannot be read: {quoted(error.message)}", line=error.line)
        return None
    if found is None:
        again = "run render again, then run setup"
        fix = again if report.name == SETUP_YAML else "run setup again; if it fails, its finding states the reason"
        report.add("missing-file", f"{report.name} is missing", fix=fix)
    return found


def _staged(report: Report, text: str) -> None:
    """Report the first path in the temporary directory in which the setup script ran; comments have no effect."""
    for number, line in enumerate(text.split("\n"), 1):
        is_comment = line.lstrip().startswith("#") and not line.startswith("#SBATCH")
        if f"{STAGING}/" in line and not is_comment:
            path = next((word for word in line.split() if f"{STAGING}/" in word), line)
            message = (
                f"the script writes its working directory (os.getcwd()) into {report.name}: this is a temporary"
                f" directory in {STAGING}, which no longer exists when the job starts"
            )
            report.add("unplanned-value", message, field=WORKING_DIRECTORY, actual=path, line=number, fix=_FIX_STAGED)
            return


def _setup(report: Report, document: YamlDocument) -> None:
    """Check that setup_finetune.yaml has exactly the planned values."""
    if not isinstance(document.data, dict):
        report.add("unreadable-file", "setup_finetune.yaml does not contain a mapping of keys to values", line=1)
        return
    for name, setting in report.run.settings.items():
        if name in report.run.unwritten:
            continue
        actual = document.data.get(name)
        code = compare(setting.value, actual) if name in document.data else "missing-value"
        report.looked(name, name, setting.value, actual, arrived=code is None, path=(name,))
        if code is not None:
            report.differs(name, name, setting.value, actual, code=code, path=(name,))
    for name, actual in document.data.items():
        if name not in report.run.settings or name in report.run.unwritten:
            message = did_you_mean(name, report.run.settings, f"{quoted(name)} is not in the plan.")
            report.add("unplanned-value", message, field=name, actual=actual, path=(name,))


def _unproven(report: Report) -> None:
    """Report settings without a known place in the files: their arrival is not verified."""
    known = FINETUNE_SETTINGS | directives.JOB_SETTINGS
    for name, setting in report.run.settings.items():
        if name not in known:
            message = f"it is unknown where the setting {quoted(name)} belongs in the files, so it was not verified"
            fix = "check the value in finetune.yaml and finetune.slurm yourself"
            report.add("unproven-setting", message, field=name, expected=setting.value, path=(name,), fix=fix)
