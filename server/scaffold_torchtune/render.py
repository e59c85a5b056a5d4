"""Step 5: render the text of each run's setup_finetune.yaml and read it back. Nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold_torchtune.findings import Finding, Refused, Scalar, finding
from scaffold_torchtune.models import Plan, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.system import templating, yamlio
from scaffold_torchtune.system.layout import SETUP_TEMPLATES, SETUP_YAML, is_plain_template
from scaffold_torchtune.system.text import did_you_mean, escape, shown

# Renders one run's setup_finetune.yaml, and proves by reading it back that it says what the plan says.


@dataclass(frozen=True)
class Rendered:
    """The text of a run's setup_finetune.yaml, what it reads back as, and the run with what its template added."""

    run: PlannedRun
    text: str
    document: yamlio.YamlDocument


def render_run(plan: Plan, run: PlannedRun, folders: Sequence[Path]) -> Rendered:
    """Render the run's setup_finetune.yaml with the template of the plan, looked up in `folders`.

    Keys that the template gives of its own are added to the run's settings, with the template as their source.

    Raises:
        Refused: the template cannot be rendered, or what it rendered does not read back as the plan.
    """
    own = plan.options.template
    # The values of a plain template are in the plan already.
    template = own if own and not is_plain_template(own) else SETUP_TEMPLATES[run.text("dataset_ext")]
    name = Path(template).name
    written = {key: setting for key, setting in run.settings.items() if key not in run.unwritten}
    values = {key: setting.value for key, setting in written.items()}
    others = [key for key in values if key not in KEYS]
    context = {"settings": values, "others": others, "run": run.directory, "experiment": plan.experiment}
    try:
        text = templating.render(name, context, folders)
    except templating.TemplateProblem as problem:
        message = f"the template cannot be rendered for {run.directory}: {escape(problem.message)}"
        fix = "correct the template; templates/setup_finetune_template.yaml.j2 has the complete structure"
        refused = finding("template-error", message, field="template", file=template, line=problem.line, fix=fix)
        raise Refused("the template cannot be rendered", [refused]) from problem
    return _read_back(run, written, text, template)


def _read_back(run: PlannedRun, written: Mapping[str, Setting], text: str, template: str) -> Rendered:
    where = f"{run.directory}/{SETUP_YAML}"
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        message = f"what {template} rendered for {run.directory} is not YAML: {escape(error.message)}"
        problem = finding("render-mismatch", message, file=where, line=error.line, fix="correct the template")
        raise Refused("the template does not render YAML", [problem]) from error
    data = document.data if isinstance(document.data, dict) else {}
    problems = [
        _mismatch(key, setting.value, data.get(key), where, document.line((key,)), template)
        for key, setting in written.items()
        if key not in data or not same(setting.value, data[key])
    ]
    extra = {key: value for key, value in data.items() if key not in written}
    found = [_extra_problem(key, value, where, document.line((key,))) for key, value in extra.items()]
    problems += [problem for problem in found if problem is not None]
    if problems:
        raise Refused(f"what the template rendered for {run.directory} is not the plan", problems)
    source = Source(kind=SourceKind.TEMPLATE, file=template)
    added = {key: Setting(value=value, source=source) for key, value in extra.items()}
    whole = run.model_copy(update={"settings": run.settings | added}) if added else run
    return Rendered(whole, text, document)


def same(planned: Scalar, read: object) -> bool:
    """Whether a value read back is the planned one, in value and type."""
    return type(planned) is type(read) and planned == read


def _mismatch(key: str, planned: Scalar, read: object, where: str, line: int | None, template: str) -> Finding:
    actual = read if isinstance(read, bool | int | float | str) else None if read is None else str(type(read).__name__)
    message = f"{key} is planned as {shown(planned)}, but {template} renders {shown(actual)}"
    fix = f"write '{key}: {{{{ settings.{key} | yaml }}}}' in the template"
    return finding(
        "render-mismatch", message, field=key, expected=planned, actual=actual, file=where, line=line, fix=fix
    )


def _extra_problem(key: str, value: object, where: str, line: int | None) -> Finding | None:
    if key not in KEYS:
        message = did_you_mean(key, KEYS, f"the template gives {shown(key)}, which setup_finetune does not take.")
        fix = "correct or remove the key"
        return finding("unknown-key", message, field=escape(key), file=where, line=line, fix=fix)
    if not isinstance(value, bool | int | float | str):
        message = f"the template gives {key} a value that is not a single one"
        return finding("render-mismatch", message, field=key, file=where, line=line, fix="give it one plain value")
    return None
