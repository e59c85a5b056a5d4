"""`explain`: the source of each value of a run, the places where it is written, and its earlier values.

The places come from the checks of `validate`, so that only proven places are shown. It writes nothing.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field, computed_field

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Refused,
    Scalar,
    counted,
    did_you_mean,
    escape,
    finding,
    one_of,
    refuse,
    shown,
)
from scaffold_torchtune.models import (
    NOT_SET,
    Arrival,
    Experiment,
    FieldChange,
    Model,
    Plan,
    PlannedRun,
    Run,
    RunChange,
    Setting,
)
from scaffold_torchtune.pipeline import prepare, state
from scaffold_torchtune.pipeline.changes import MAKER
from scaffold_torchtune.pipeline.history import texts_of
from scaffold_torchtune.pipeline.locate import experiment_directory, named_script
from scaffold_torchtune.pipeline.validation import is_of_bundled, read_files
from scaffold_torchtune.plan.run_settings import given_values
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import SETTINGS_OF, Cut, Findings, OmitEmpty, StepResult
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import PARAMETERS, SUBMITTED, by_label, nearest_label
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.serialization import YamlError, read_yaml
from scaffold_torchtune.validate import arrivals, directives, validate_run
from scaffold_torchtune.validate.report import as_scalar, dotted

_MOST: Final = 2_000
"""The maximum number of settings that one call explains."""

_NAMED: Final = 8
_VERSIONS: Final = 20
_RECIPE: Final = "the recipe of `tune run`"
_Earlier = tuple[str, Mapping[str, Scalar]]
"""A version with its reason, and its values."""


class ExplainedRun(Model):
    """A run with explained settings."""

    directory: str
    name: str = Field(description="the row's Run Name")
    what: str = Field(
        description="new, unchanged, changed, edited (only its files differ), remade (another setup_finetune made its"
        " files), kept, dropped; planned if documents cannot be planned now"
    )
    state: OmitEmpty[str] = Field(default="", description="its progress, if it is known")
    files: tuple[str, ...] = Field(description="its existing files")


class Explained(Model):
    """The source of a value, the places where it is written, and its earlier values."""

    runs: OmitEmpty[tuple[str, ...]] = Field(default=(), description="the runs with this value; all if omitted")
    field: str
    value: Scalar
    source: str = Field(description="a line of a document; or default, derived, answer")
    places: tuple[Arrival, ...] = Field(default=(), exclude=True)
    submitted: OmitEmpty[str] = Field(default="", description="its option or variable in the submit line")
    unproven: OmitEmpty[bool] = Field(default=False, description="true if no place is known where it arrives")
    instead_of: OmitEmpty[tuple[str, ...]] = Field(default=(), description="other given values, which this overrides")
    documents: OmitEmpty[str] = Field(default="", description="for a kept run: the present value of the documents")
    former: OmitEmpty[str] = Field(default="", description="the value in the scaffolded plan, if it differs")
    history: OmitEmpty[tuple[str, ...]] = Field(default=(), description="other values of earlier versions")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def arrives(self) -> tuple[str, ...]:
        """Return each place of the value, found or expected, with the found value if it differs."""
        return tuple(arrival_line(place) for place in self.places)


class ExplainResult(StepResult):
    """The sources of values and the places where they are written."""

    LISTED = ()
    FIRST = (
        "report value, line and places to the user; if a place has a different value, report it, and that the planned"
        " value did not arrive; for a `changed` run, report that it is not scaffolded yet"
    )

    runs: tuple[ExplainedRun, ...]
    unexplained: OmitEmpty[int] = Field(default=0, description="number of further matching runs")
    settings: Annotated[tuple[Explained, ...], Cut.EXPLAINED]
    warnings: Findings

    def _numbers(self) -> dict[str, int]:
        every = tuple(run.directory for run in self.runs)
        wrong = {
            (run, place.file, place.where)  # several settings may make one value
            for each in self.settings
            for place in each.places
            if not place.arrived
            for run in each.runs or every
        }
        return {"runs": len(self.runs), "settings": len(self.settings), "not_arrived": len(wrong)}

    @property
    def summary(self) -> str:
        """Return the counts."""
        numbers = self._numbers()
        fields = len({each.field for each in self.settings})
        explained = f"{counted(fields, 'setting')} of {counted(numbers['runs'], 'run')} explained"
        wrong = f"; {counted(numbers['not_arrived'], 'place')} with a different value" if numbers["not_arrived"] else ""
        return f"{explained}{wrong}; {counted(self.counts['warnings'], 'warning')}. Nothing was written."


def arrival_line(place: Arrival) -> str:
    """Return a place in one line: `finetune.yaml:44 optimizer.lr`, with the found value if it differs."""
    at = f"{place.file}:{place.line}" if place.line else place.file
    is_plain = place.where == place.setting and place.file == layout.SETUP_YAML and place.line
    where = "" if is_plain else f" {place.where}"
    if place.arrived and place.found is None and place.expected is not None:
        return f"{at}{where} is not set; torchtune's default is {kinds.written(place.expected)}"
    if place.arrived:
        return f"{at}{where}" if place.line else f"{at}{where} is not set, as expected"
    found = "missing" if place.found is None else kinds.written(place.found)
    wanted = "" if place.expected is None else f" (expected {kinds.written(place.expected)})"
    return f"{at}{where} is {found}{wanted}"


@dataclass(frozen=True)
class _Known:
    """The present plan of the runs, the scaffolded plan, and the documents."""

    plan: Plan
    frozen: Plan | None
    experiment: Experiment | None
    what: Mapping[str, str]
    problems: tuple[Finding, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def scaffolded(self) -> dict[str, PlannedRun]:
        """Return every run as it was scaffolded, by its directory."""
        return {run.directory: run for run in (*self.frozen.former, *self.frozen.runs)} if self.frozen else {}

    @cached_property
    def runs(self) -> dict[str, PlannedRun]:
        """Return every run by its directory: the planned runs, and the runs that are no longer in the table."""
        former = {run.directory: run for run in (*(self.frozen.former if self.frozen else ()), *self.plan.former)}
        return {run.directory: run for run in self.plan.runs} | {
            name: run for name, run in former.items() if name not in {each.directory for each in self.plan.runs}
        }

    @cached_property
    def kept(self) -> dict[tuple[str, str], FieldChange]:
        """Return the differences between kept runs and the documents, by run and setting."""
        return {(one.directory, each.field): each for one in self.plan.kept for each in one.fields}

    @cached_property
    def rows(self) -> dict[str, Run]:
        """Return the rows of the documents by Run Name; none if the documents cannot be read."""
        return {run.name: run for run in self.experiment.runs} if self.experiment else {}


def explain(request: Request, wanted: str | None, field: str | None = None) -> ExplainResult:
    """Return the sources of values of runs, and the places where they are written.

    Args:
        request: the experiment. The scaffolded plan gives the options that are not set.
        wanted: a run's directory or Run Name, or a shell pattern of them; None: all runs.
        field: a setting, by its name, its label in documents, or its key in finetune.yaml; None: all settings.

    Raises:
        Refused: no run or setting has that name; or no plan is scaffolded, and the documents cannot be planned.
    """
    known = _known(request)
    runs = _matching(known, wanted)
    most = _MOST if field else max(1, _MOST // max(len(run.settings) for run in runs))
    made: list[ExplainedRun] = []
    settings: list[Explained] = []
    problems = [*known.problems]
    with Tree(experiment_directory(request)) as tree:
        for run in runs[:most]:
            looked = _look(tree, known, run)
            made.append(looked.run)
            problems += looked.problems
            earlier = _earlier(tree, run)
            settings += [_setting(known, run, name, looked, earlier) for name in _fields(run, field, looked.places)]
    if field is not None and not settings:
        raise _no_field(runs[0], field)
    return ExplainResult(
        runs=tuple(made),
        unexplained=len(runs) - len(made),
        settings=tuple(_together(settings, len(made))),
        warnings=tuple(problems),
    )


def _together(settings: Iterable[Explained], runs: int) -> list[Explained]:
    """Return settings that are the same in several runs as one; first the settings that differ between runs."""
    alike: dict[tuple[object, ...], list[Explained]] = {}
    for each in settings:
        told = each.model_copy(update={"runs": (), "places": ()})
        alike.setdefault((each.field, told, each.arrives), []).append(each)
    found = [(several[0], tuple(name for each in several for name in each.runs)) for several in alike.values()]
    own = [first.model_copy(update={"runs": names}) for first, names in found if len(names) < runs]
    return own + [first.model_copy(update={"runs": ()}) for first, names in found if len(names) == runs]


def _known(request: Request) -> _Known:
    """Plan the present documents with the options of the scaffolded plan; if that fails, return the scaffolded plan.

    A stored plan, which may come from elsewhere, does not choose the program that runs: if the caller does not name its
    setup script, the documents are not planned again.
    """
    with Tree(experiment_directory(request)) as tree:
        frozen = state.load_plan(tree)
    if frozen is None:
        prepared = prepare.prepare(request)
        return _planned(prepared, None)
    options, named = frozen.options, named_script(request)
    same = replace(
        request,
        local=request.local or (Path(options.local) if options.local else None),
        names=request.names or options.names,
        template=request.template or (Path(options.template) if options.template else None),
        answers={**options.answers, **request.answers},
        setup_script=request.setup_script if named is not None or options.setup_script != "bundled" else "bundled",
    )
    if named is None and options.setup_script != "bundled":
        return _as_scaffolded(same, frozen, f"the setup script {shown(options.setup_script)} is not specified")
    try:
        prepared = prepare.prepare(same)
    except Refused as refused:
        first = refused.problems[0] if refused.problems else None
        reason = first.model_copy(update={"fix": ""}).sentence() if first else refused.message
        return _as_scaffolded(same, frozen, reason, first.fix if first else "")
    return _planned(prepared, frozen)


def _planned(prepared: prepare.Prepared, frozen: Plan | None) -> _Known:
    states = {each.directory: each.state.state for each in prepared.changes if each.state and each.state.started}
    what = {each.directory: _what(each) for each in prepared.changes}
    return _Known(prepared.plan, frozen, prepared.parsed.experiment, what, states=states)


def _as_scaffolded(request: Request, frozen: Plan, reason: str, fix: str = "") -> _Known:
    """Return the scaffolded plan; `reason` says why the documents are not planned again if they have changed."""
    experiment, is_same = None, False
    with suppress(Refused):
        parsed = prepare.parse(request)
        experiment = parsed.experiment
        is_same = prepare.input_hashes(parsed.documents, frozen.options) == frozen.inputs
    what = dict.fromkeys((run.directory for run in frozen.runs), "unchanged" if is_same else "planned")
    what |= {one.directory: "kept" for one in frozen.kept} | {run.directory: "dropped" for run in frozen.former}
    if is_same:
        return _Known(frozen, frozen, experiment, what)
    message = (
        "the values shown are those of the scaffolded plan, because the documents have changed and no plan can be made"
        f" from them: {reason}"
    )
    fix = fix or "correct this problem in the documents to see their values"
    problem = finding("plan-outdated", message, severity=Severity.WARNING, file=layout.PLAN, fix=fix)
    return _Known(frozen, frozen, experiment, what, (problem,))


def _what(of: RunChange) -> str:
    """Return the kind of a change; changes that the documents did not cause have their own."""
    fields = {each.field for each in of.fields}
    if of.kind != "changed" or not fields or fields - {*layout.RUN_FILES, MAKER}:
        return of.kind
    return "remade" if MAKER in fields else "edited"


def _matching(known: _Known, wanted: str | None) -> list[PlannedRun]:
    """Return the runs that match a name or a pattern, in the plan's order."""
    runs = [*known.runs.values()]
    found = [run for run in runs if wanted in {None, run.directory}]
    found = found or [run for run in runs if run.name == wanted]
    if not found and wanted is not None:
        found = [run for run in runs if any(fnmatch.fnmatchcase(name, wanted) for name in (run.directory, run.name))]
    if not found:
        names = list(dict.fromkeys(name for run in runs for name in (run.directory, run.name)))
        message = did_you_mean(str(wanted), names, f"no run matches {shown(wanted)}.")
        fix = f"specify {one_of([run.directory for run in runs], _NAMED)}"
        raise refuse("unknown-name", message, field="run", actual=escape(str(wanted)), fix=fix)
    return found


def _fields(run: PlannedRun, field: str | None, places: Iterable[Arrival]) -> list[str]:
    """Return the settings of a run that a field refers to; a known setting is returned even if the run lacks it."""
    if field is None:
        return [*run.settings]
    if field in run.settings:
        return [field]
    parameter = by_label(field.removeprefix("--"))
    name = parameter.name if parameter else field
    if name in run.settings:
        return [name]
    of_parameter = [each for each in SETTINGS_OF.get(name, ()) if each in run.settings]
    paths = [(dotted(each.path), each.setting) for each in arrivals.expectations(run)]
    paths += [(place.where.removeprefix("--"), place.setting) for place in places]
    of_path = [setting for path, setting in paths if f"{path}.".startswith(f"{field.removeprefix('--')}.")]
    return [*dict.fromkeys(of_parameter or of_path or ([name] if name in PARAMETERS else []))]


def _no_field(run: PlannedRun, field: str) -> Refused:
    label = nearest_label(field)
    known = [*run.settings, *(dotted(each.path) for each in arrivals.expectations(run)), *([label] if label else [])]
    message = did_you_mean(field, known, f"{shown(field)} is not a known setting.", label)
    fix = (
        "specify a setting by its name in setup_finetune.yaml, its label in the documents, or its key in finetune.yaml"
    )
    return refuse("unknown-name", message, field="field", actual=escape(field), fix=fix)


class _Looked(NamedTuple):
    """The content of a run's files: the places where values must arrive, and the values of setup_finetune.yaml."""

    run: ExplainedRun
    places: list[Arrival]
    values: Mapping[str, Scalar]
    problems: list[Finding]


def _look(tree: Tree, known: _Known, run: PlannedRun) -> _Looked:
    """Look for a run's values in its files, as `validate` does."""
    files, problems = read_files(tree, run)
    what = known.what.get(run.directory, "planned")
    is_bundled = known.plan.options.setup_script == "bundled"
    ours = is_of_bundled(tree, run) if what in {"kept", "dropped"} else is_bundled
    places: list[Arrival] = []
    validate_run(run, files, bundled=ours, arrivals=places)
    places.sort(key=lambda place: layout.RUN_FILES.index(place.file))
    there = tuple(name for name in layout.RUN_FILES if files.texts.get(name) is not None)
    state = known.states.get(run.directory, "")
    head = ExplainedRun(directory=run.directory, name=run.name, what=what, state=state, files=there)
    return _Looked(head, places, _values(files.texts.get(layout.SETUP_YAML)), problems)


def _setting(known: _Known, run: PlannedRun, name: str, looked: _Looked, earlier: Iterable[_Earlier]) -> Explained:
    """Return the explanation of a setting of a run."""
    setting, was, row = run.settings.get(name), known.scaffolded.get(run.directory), known.rows.get(run.name)
    given = given_values(name, row, known.experiment) if row and known.experiment else []
    others = [each for each in given if setting and each.value != setting.value and each.source != setting.source]
    stands = setting or (given[0] if given else None)  # a name that only documents have, such as the recipe
    places = [each for each in looked.places if name in {each.setting, "recipe" if each.where == _RECIPE else ""}]
    former = ""
    if was and was.value(name) != run.value(name):
        former = f"{_written(was.value(name))}, from {_source(was.settings.get(name))}"
    said = known.kept.get((run.directory, name))
    is_earlier = looked.run.what in {"kept", "dropped"} and stands is not None and stands.source.line
    then = ", as it was when the run was scaffolded" if is_earlier else ""
    changed = _changes(name, looked.values.get(name, run.value(name)), earlier)
    return Explained(
        runs=(run.directory,),
        field=name,
        value=stands.value if stands else None,
        source=f"{_source(stands)}{then}",
        places=tuple(dict.fromkeys(places)),
        submitted=SUBMITTED.get(name, "") if name in run.submitted else "",
        unproven=setting is not None and name not in arrivals.FINETUNE_SETTINGS | directives.JOB_SETTINGS,
        instead_of=tuple(f"{_written(each.value)}, from {each.source}" for each in others),
        documents=f"{_written(said.new)}, from {said.source}" if said else "",
        former=former,
        history=tuple(changed),
    )


def _source(setting: Setting | None) -> str:
    return str(setting.source) if setting else "not set in this run"


def _written(value: Scalar) -> str:
    return NOT_SET if value is None else kinds.written(value)


def _values(text: str | None) -> dict[str, Scalar]:
    """Return the values in a setup_finetune.yaml; none if it cannot be read."""
    try:
        data: Any = read_yaml(text).data if text is not None else None
    except (YamlError, RecursionError):
        return {}
    return {str(name): as_scalar(value) for name, value in data.items()} if isinstance(data, dict) else {}


def _earlier(tree: Tree, run: PlannedRun) -> list[_Earlier]:
    """Return the values of setup_finetune.yaml in earlier versions of a run, the newest first, with their names."""
    found: list[_Earlier] = []
    for version, texts in texts_of(tree, run.directory, _VERSIONS):
        if values := _values(texts.get(layout.SETUP_YAML)):
            found.append((f"{version.version}: {version.reason}", values))
    return found


def _changes(name: str, value: Scalar, earlier: Iterable[_Earlier]) -> Iterator[str]:
    """Yield each earlier value that differs from the next one, with its version."""
    for version, values in earlier:
        if values.get(name) != value:
            value = values.get(name)
            yield f"{_written(value)} ({version})"
