"""What the operator's plain YAML template gives: keys that nobody knows, and values that do not apply."""

import posixpath
from collections.abc import Sequence

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Experiment
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.models.script import Interface
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import KEYS, by_label
from scaffold_torchtune.shared.text import did_you_mean, escape, shown


def problems(experiment: Experiment, interface: Interface | None) -> list[Finding]:
    """Keys of the template that neither we nor the external script know."""
    options = interface.options or {} if interface else {}
    known = [*KEYS, *options]
    found = []
    for key, setting in experiment.template_others.items():
        if key in options:
            continue
        meant = by_label(key)
        message = f"the template gives {shown(key)}, which setup_finetune does not take."
        found.append(
            finding(
                "unknown-key",
                did_you_mean(key, known, message, meant.name if meant else None),
                field=escape(key),
                actual=setting.value,
                at=setting.source,
                fix="correct or remove the key",
            )
        )
    return found


def remarks(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finding]:
    """Where what is planned wins over another value of the template: one finding a key, with both places."""
    found = [_remark(name, setting, runs) for name, setting in experiment.template.items()]
    return [each for each in found if each is not None]


def _remark(name: str, setting: Setting, runs: Sequence[PlannedRun]) -> Finding | None:
    others = [run for run in runs if not _applies(name, setting, run)]
    if not others:
        return None
    first, place = others[0], f"line {setting.source.line} of the template"
    planned = first.settings.get(name)
    if planned is None:
        message = f"{name} is {shown(setting.value)} in {place}, and has no effect: {_why_not(name)}"
    else:
        alike = all(run.settings.get(name) == planned for run in runs)
        where = "in all runs" if alike else f"in {len(others)} run(s), first in {shown(first.directory)}"
        message = (
            f"{name} is {shown(planned.value)} {where}, by {_by(planned)}, which wins over {shown(setting.value)}"
            f" in {place}"
        )
    return finding(
        "overridden",
        message,
        field=name,
        expected=planned.value if planned else None,
        actual=setting.value,
        at=setting.source,
        fix="nothing, if the documents are right",
        severity=Severity.INFO,
    )


def _by(planned: Setting) -> str:
    """The place of a planned value, or the rule that it follows."""
    derived = planned.source.kind is SourceKind.DERIVED
    return f"the rule ({planned.source.note})" if derived else str(planned.source)


def _applies(name: str, setting: Setting, run: PlannedRun) -> bool:
    """Whether a run has the template's value, under its own name or another, or the same from elsewhere."""
    planned = run.settings.get(name)
    if any(each.source == setting.source for each in run.settings.values()):
        return True
    return planned is not None and _plain(name, planned) == _plain(name, setting)


def _plain(name: str, setting: Setting) -> object:
    """A value as it is compared: how a path or a time is spelt makes no difference."""
    value = setting.value
    if KEYS[name].kind in {"path", "pattern_free_path"}:
        return posixpath.normpath(str(value))
    return kinds.slurm_seconds(str(value)) if name == "time" else value


def _why_not(name: str) -> str:
    if name == "project_dir":
        return "outputs go below the output directory that is planned"
    if name == "venv":
        return "a conda environment is planned"
    return "the runs have no such setting"
