"""Step 5: render the text of each run's setup_finetune.yaml and read it back. Nothing is written here."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold_torchtune.findings import Collector, Location, Refused, Scalar, refuse
from scaffold_torchtune.models import Plan, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.system import templating, yamlio
from scaffold_torchtune.system.layout import SETUP_TEMPLATES, SETUP_YAML, is_plain_template
from scaffold_torchtune.system.text import did_you_mean, escape, shown


@dataclass(frozen=True)
class Rendered:
    """The text of a run's setup_finetune.yaml, what it reads back as, and the run with what its template added."""

    run: PlannedRun
    text: str
    document: yamlio.YamlDocument


def render_run(plan: Plan, run: PlannedRun, folders: Sequence[Path]) -> Rendered:
    """Render one run's setup_finetune.yaml; see `render_runs`."""
    return render_runs(plan, [run], folders)[0]


def render_runs(
    plan: Plan, runs: Sequence[PlannedRun], folders: Sequence[Path], stop: threading.Event | None = None
) -> tuple[Rendered, ...]:
    """Render each run's setup_finetune.yaml with the template of the plan, looked up in `folders`.

    Keys that the template gives of its own are added to the run's settings, with the template as their source. Who sets
    `stop` wants no more of it.

    Raises:
        Refused: the template cannot be rendered, or what it rendered does not read back as the plan.
        TemplateStopped: `stop` was set.
    """
    own = plan.options.template
    found: dict[str, list[PlannedRun]] = {}
    for run in runs:
        # The values of a plain template are in the plan already.
        template = own if own and not is_plain_template(own) else SETUP_TEMPLATES[run.text("dataset_ext")]
        found.setdefault(template, []).append(run)
    rendered: dict[str, Rendered] = {}
    for template, some in found.items():
        written = [{k: setting for k, setting in run.settings.items() if k not in run.unwritten} for run in some]
        each = [_context(plan, run, settings) for run, settings in zip(some, written, strict=True)]
        try:
            texts = templating.render_each(Path(template).name, each, folders, stop)
        except templating.TemplateProblem as problem:
            message = f"the template cannot be rendered for {some[problem.number].directory}: {escape(problem.message)}"
            fix = "correct the template; templates/setup_finetune_template.yaml.j2 has the complete structure"
            at = Location(template, problem.line)
            raise refuse("template-error", message, field="template", at=at, fix=fix) from problem
        for run, settings, text in zip(some, written, texts, strict=True):
            rendered[run.directory] = _read_back(run, settings, text, template)
    return tuple(rendered[run.directory] for run in runs)


def _context(plan: Plan, run: PlannedRun, written: Mapping[str, Setting]) -> dict[str, Any]:
    """Return what a template is rendered with."""
    values = {key: setting.value for key, setting in written.items()}
    others = [key for key in values if key not in KEYS]
    return {"settings": values, "others": others, "run": run.directory, "experiment": plan.experiment}


def _read_back(run: PlannedRun, written: Mapping[str, Setting], text: str, template: str) -> Rendered:
    report = Collector(f"{run.directory}/{SETUP_YAML}")
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        message = f"what {template} rendered for {run.directory} is not YAML: {escape(error.message)}"
        report.add("render-mismatch", message, line=error.line, fix="correct the template")
        raise Refused("the template does not render YAML", report.findings) from error
    data = document.data if isinstance(document.data, dict) else {}
    report.lines = {str(path[0]): line for path, line in document.lines.items() if len(path) == 1}
    for key, setting in written.items():
        if key not in data or not same(setting.value, data[key]):
            _mismatch(key, setting.value, data.get(key), template, report)
    extra = {key: value for key, value in data.items() if key not in written}
    for key, value in extra.items():
        if key not in KEYS:
            message = did_you_mean(key, KEYS, f"the template gives {shown(key)}, which setup_finetune does not take.")
            line = report.lines.get(key)
            report.add("unknown-key", message, field=escape(key), line=line, fix="correct or remove the key")
        elif not isinstance(value, bool | int | float | str):
            message = f"the template gives {key} a value that is not a single one"
            report.add("render-mismatch", message, field=key, fix="give it one plain value")
    if report.findings:
        raise Refused(f"what the template rendered for {run.directory} is not the plan", report.findings)
    source = Source(kind=SourceKind.TEMPLATE, file=template)
    added = {key: Setting(value=value, source=source) for key, value in extra.items()}
    whole = run.model_copy(update={"settings": run.settings | added}) if added else run
    return Rendered(whole, text, document)


def same(planned: Scalar, read: object) -> bool:
    """Return whether a value read back is the planned one, in value and type."""
    return type(planned) is type(read) and planned == read


def _mismatch(key: str, planned: Scalar, read: object, template: str, report: Collector) -> None:
    actual = read if isinstance(read, bool | int | float | str | None) else type(read).__name__
    message = f"{key} is planned as {shown(planned)}, but {template} renders {shown(actual)}"
    fix = f"write '{key}: {{{{ settings.{key} | yaml }}}}' in the template"
    report.add("render-mismatch", message, field=key, expected=planned, actual=actual, fix=fix)
