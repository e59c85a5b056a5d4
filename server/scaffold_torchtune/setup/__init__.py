"""Step 5: render the text of each run's setup_finetune.yaml. Step 6: run setup_finetune for it.

This module renders, reads each rendered text back, and runs setup_finetune (`run_script` if it is external, within the
time limit of `system/processes.py`). Nothing is written. The failure of a run is a value, never an exception.

bundled.py          the bundled setup_finetune: the texts of finetune.yaml and finetune.slurm
keys.py             the keys of setup_finetune.yaml, their rules, and the data set
external.py         an external setup_finetune.py: its environment, its options, causes of its failure
options_program.py  the program that prints the options of a script
"""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune.findings import (
    Collector,
    Finding,
    Location,
    Refused,
    Scalar,
    did_you_mean,
    escape,
    refuse,
    shown,
)
from scaffold_torchtune.models import Plan, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.setup.external import Cause, cause_of, lack_of, line_that_matters
from scaffold_torchtune.system import processes, templating
from scaffold_torchtune.system.files import open_regular
from scaffold_torchtune.system.layout import (
    FINETUNE_SLURM,
    FINETUNE_YAML,
    OUTPUTS,
    SETUP_TEMPLATES,
    SETUP_YAML,
    is_plain_template,
)
from scaffold_torchtune.system.serialization import YamlDocument, YamlError, read_yaml


@dataclass(frozen=True)
class Rendered:
    """The text of a run's setup_finetune.yaml, the document read back from it, and the run with its template's keys."""

    run: PlannedRun
    text: str
    document: YamlDocument


def render_run(plan: Plan, run: PlannedRun, folders: Sequence[Path]) -> Rendered:
    """Render one run's setup_finetune.yaml; see `render_runs`."""
    return render_runs(plan, [run], folders)[0]


def render_runs(
    plan: Plan, runs: Sequence[PlannedRun], folders: Sequence[Path], stop: threading.Event | None = None
) -> tuple[Rendered, ...]:
    """Render each run's setup_finetune.yaml with the template of the plan, looked up in `folders`.

    Keys that only the template gives are added to the run's settings, with the template as their source. Setting `stop`
    ends the rendering.

    Raises:
        Refused: the template cannot be rendered, or the rendered text does not read back as the plan.
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
            why = escape(problem.message).removesuffix(".")
            message = f"the template cannot be rendered for {some[problem.number].directory}: {why}"
            fix = "correct the template; see templates/setup_finetune_template.yaml.j2 for a complete template"
            at = Location(template, problem.line)
            raise refuse("template-error", message, field="template", at=at, fix=fix) from problem
        for run, settings, text in zip(some, written, texts, strict=True):
            rendered[run.directory] = _read_back(run, settings, text, template)
    return tuple(rendered[run.directory] for run in runs)


def _context(plan: Plan, run: PlannedRun, written: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the variables of a template."""
    values = {key: setting.value for key, setting in written.items()}
    others = [key for key in values if key not in KEYS]
    return {"settings": values, "others": others, "run": run.directory, "experiment": plan.experiment}


def _read_back(run: PlannedRun, written: Mapping[str, Setting], text: str, template: str) -> Rendered:
    report = Collector(f"{run.directory}/{SETUP_YAML}")
    try:
        document = read_yaml(text)
    except YamlError as error:
        message = (
            f"the text that the template {shown(template)} renders for the run {shown(run.directory)} cannot be read:"
            f" {escape(error.message)}"
        )
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
            message = did_you_mean(key, KEYS, f"the template sets {shown(key)}, which is not a key of setup_finetune.")
            line = report.lines.get(key)
            report.add("unknown-key", message, field=escape(key), line=line, fix=_IN_TEMPLATE)
        elif not isinstance(value, bool | int | float | str):
            what = "a list" if isinstance(value, list) else "a mapping" if value else "no value"
            message = f"the template gives {key} {what} (expected one plain value)"
            report.add("render-mismatch", message, field=key, fix=f"set {key} to one plain value in the template")
    if report.findings:
        raise Refused(f"the text rendered for {run.directory} does not match the plan", report.findings)
    source = Source(kind=SourceKind.TEMPLATE, file=template)
    added = {key: Setting(value=value, source=source) for key, value in extra.items()}
    whole = run.model_copy(update={"settings": run.settings | added}) if added else run
    return Rendered(whole, text, document)


_IN_TEMPLATE = "correct or remove the key in the template, not in the rendered file"


def same(planned: Scalar, read: object) -> bool:
    """Return whether a value that was read back equals the planned one, in value and type."""
    return type(planned) is type(read) and planned == read


def _mismatch(key: str, planned: Scalar, read: object, template: str, report: Collector) -> None:
    actual = read if isinstance(read, bool | int | float | str | None) else type(read).__name__
    found = "is null" if actual is None else f"is {shown(actual)}"
    message = f"{key} {found} in the text rendered with the template {shown(template)} (expected {shown(planned)})"
    fix = f"write `{key}: {{{{ settings.{key} | yaml }}}}` in the template"
    report.add("render-mismatch", message, field=key, expected=planned, actual=actual, fix=fix)


MAX_OUTPUT = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """The result of setup_finetune for a run: the two files by name, or the reason and the cause of its failure.

    `problems` are the findings of a refusal by the bundled setup_finetune. `ran` is None if no script was run.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    cause: Cause = field(default_factory=Cause)
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    ran: processes.Completed | None = None


def run_bundled(run: PlannedRun, content: str | YamlDocument) -> Outcome:
    """Run the bundled setup_finetune on the text of a run's setup_finetune.yaml, or on the document read from it."""
    try:
        outputs = build(content, file=f"{run.directory}/{SETUP_YAML}")
    except Refused as refused:
        reason = "; ".join(problem.sentence() for problem in refused.problems)
        return Outcome(reason=reason, problems=refused.problems)
    files = {FINETUNE_YAML: outputs.finetune_yaml.encode(), FINETUNE_SLURM: outputs.finetune_slurm.encode()}
    return Outcome(files, warnings=outputs.warnings)


_HANGS: Final = "the script hangs or waits for something, or the file system is slow"
_ENDED: Final = {
    "deadline": ("ran longer than {:g} s", Cause(_HANGS, "if it is only slow, allow more time with --timeout SECONDS")),
    "output": ("printed endlessly", Cause("the script repeats itself", "look at its output, then fix the script")),
    "stopped": ("was stopped", Cause("the scaffold was stopped", "scaffold again to continue from there")),
}
_UNFINISHED: Final = Cause(
    "the script exited with status 0 without doing its work",
    "look at the full output, or use a different version of the script",
)


class _NoOutput(Exception):
    """A script did not write an expected file."""

    def __init__(self, message: str, cause: Cause = _UNFINISHED) -> None:
        super().__init__(message)
        self.cause = cause


def run_script(
    script: Path,
    folder: Path,
    timeout: float,
    environment: processes.Environment,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run an external setup_finetune.py in `folder`, which holds only the run's setup_finetune.yaml.

    `timeout` is in seconds; setting `stop` ends the script.
    """
    try:
        done = processes.run([environment.python, str(script)], folder, timeout, stop, env=environment.variables)
    except OSError as error:
        return Outcome(reason=f"the script cannot be started: {error.strerror}")
    line = line_that_matters(done.output)
    if done.ended:
        what, cause = _ENDED[done.ended]
        what = f"{what.format(timeout)} and was ended"
    elif done.status != 0:
        what = f"exited with status {done.status}"
        cause = lack_of(line, script, environment) or cause_of(line, done.status)
    else:
        try:
            return Outcome({name: _output(folder / name) for name in OUTPUTS}, ran=done)
        except _NoOutput as problem:
            what, cause = f"exited with status 0 but wrote {problem}", problem.cause
    printed = f"The script printed: {line}" if line else "The script printed nothing"
    return Outcome(reason=f"the script {what}. {printed}", cause=cause, ran=done)


def _output(path: Path) -> bytes:
    """Return the bytes of a file that a script wrote.

    Raises:
        _NoOutput: there is no such file, or it cannot be published.
    """
    try:
        with open_regular(path, follow=False) as file:
            size, data = os.fstat(file.fileno()).st_size, file.read(MAX_OUTPUT)
    except OSError as error:
        raise _NoOutput(f"no {path.name}") from error
    if not 0 < size <= MAX_OUTPUT:
        raise _NoOutput(f"a {path.name} of {size} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _NoOutput(f"a {path.name} that is not UTF-8 text") from error
    if path.name == FINETUNE_YAML:
        _check_mapping(text)
    if path.name == FINETUNE_SLURM and not text.startswith("#!"):
        raise _NoOutput(f"a {path.name} that does not begin with #!, which sbatch requires")
    return data


def _check_mapping(text: str) -> None:
    """Check that the text of a finetune.yaml is a mapping.

    Raises:
        _NoOutput: it is not one, or is not supported YAML.
    """
    try:
        data = read_yaml(text, aliases=True).data
    except YamlError as error:
        where = f" (line {error.line})" if error.line else ""
        message = f"a {FINETUNE_YAML} that cannot be read: {escape(error.message)}{where}"
        fix = f"correct the setup script or its template: in {FINETUNE_YAML}, {error.fix}"
        raise _NoOutput(message, Cause(fix=fix)) from error
    if not data or not isinstance(data, dict):
        raise _NoOutput(f"a {FINETUNE_YAML} that is not a YAML mapping")
