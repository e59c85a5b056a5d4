"""All checks of one run."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from scaffold_torchtune.findings import Finding, sort_findings
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML
from scaffold_torchtune.shared.text import did_you_mean
from scaffold_torchtune.shared.yamlio import YamlDocument, YamlError
from scaffold_torchtune.validate import finetune, job, names
from scaffold_torchtune.validate.files import RunFiles
from scaffold_torchtune.validate.report import FIX_MISSING, FIX_SETUP, FIX_SETUP_MISSING, Report
from scaffold_torchtune.validate.values import compare, quoted

_Read = TypeVar("_Read")


def validate_run(run: PlannedRun, files: RunFiles | Mapping[str, str | None], *, bundled: bool) -> tuple[Finding, ...]:
    """Prove that every planned value of a run stands in its files; nothing is read from disk.

    Args:
        run: the run as planned.
        files: setup_finetune.yaml, finetune.yaml and finetune.slurm, or their texts by name; None or absent: missing.
        bundled: whether the bundled setup_finetune made them. What another script adds of its own, and where its
            defaults differ from ours, is told but is no error.

    Returns:
        Everything found, sorted by file and line. Any text at all gives findings, never an exception.
    """
    files = files if isinstance(files, RunFiles) else RunFiles(files)
    slurm = Report(run, FINETUNE_SLURM, bundled=bundled)
    script = _opened(slurm, lambda: files.script)
    recipe = None if script is None else job.check(slurm, script)

    setup = Report(run, SETUP_YAML, bundled=bundled, fix=FIX_SETUP)
    setup.document = _opened(setup, lambda: files.document(SETUP_YAML))
    if setup.document is not None:
        _setup(setup, setup.document)
    _unproven(setup)

    report = Report(run, FINETUNE_YAML, bundled=bundled)
    config = _opened(report, lambda: files.config)
    if config is not None:
        report.document = config.document
        finetune.check(report, config, recipe)
        names.check(report, config.data)
    return tuple(sort_findings([*setup.findings, *report.findings, *slurm.findings]))


def _opened(report: Report, read: Callable[[], _Read | None]) -> _Read | None:
    """What a file holds, after saying where it is missing or cannot be read."""
    try:
        found = read()
    except YamlError as error:
        report.add("unreadable-file", f"{report.name} cannot be read: {quoted(error.message)}", line=error.line)
        return None
    if found is None:
        fix = FIX_SETUP_MISSING if report.name == SETUP_YAML else FIX_MISSING
        report.add("missing-file", f"{report.name} is not there", fix=fix)
    return found


def _setup(report: Report, document: YamlDocument) -> None:
    """setup_finetune.yaml says exactly what is planned."""
    if not isinstance(document.data, dict):
        report.add("unreadable-file", "setup_finetune.yaml holds no mapping of keys to values", line=1)
        return
    for name, setting in report.run.settings.items():
        if name in report.run.unwritten:
            continue
        if name not in document.data:
            report.differs("missing-value", name, place=name, expected=setting.value, path=(name,))
            continue
        actual = document.data[name]
        code = compare(setting.value, actual)
        if code is not None:
            report.differs(code, name, place=name, expected=setting.value, actual=actual, path=(name,))
    for name, actual in document.data.items():
        if name not in report.run.settings or name in report.run.unwritten:
            message = did_you_mean(name, report.run.settings, f"{quoted(name)} is not in the plan.")
            report.add("unplanned-value", message, field=name, actual=actual, path=(name,))


def _unproven(report: Report) -> None:
    """Settings of which it is not known where they must arrive: their arrival is not proven, which must be seen."""
    known = finetune.SETTINGS | job.SETTINGS
    for name, setting in report.run.settings.items():
        if name not in known:
            message = f"where the setting {quoted(name)} must arrive is not known, so its arrival is not proven"
            fix = "Look for the value in finetune.yaml and finetune.slurm yourself."
            report.add("unproven-setting", message, field=name, expected=setting.value, path=(name,), fix=fix)
