"""The state of a scaffold in .scaffold: the plan, a record for each run, the state of the log; and reading its files.

plan.json is read with size limits and checked as strictly as a new plan: setup and validate use the plan that render
froze, and the file may be damaged, edited or come from elsewhere. So its id must be the hash of its content, and its
content must be a possible result of planning.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from operator import not_
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from scaffold_torchtune.findings import Refused, Scalar, counted, few, refuse, shown
from scaffold_torchtune.models import Model, Plan, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.pipeline.locate import experiment_directory
from scaffold_torchtune.plan import check_names, id_of, plan_result, with_id
from scaffold_torchtune.plan.naming import is_safe
from scaffold_torchtune.plan.run_settings import parameters_of
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import PlanResult
from scaffold_torchtune.settings.kinds import NotTyped, ValueKind
from scaffold_torchtune.settings.parameters import KEYS, Parameter
from scaffold_torchtune.setup.bundled import check_values
from scaffold_torchtune.setup.keys import REQUIRED
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import MAX_READ, Tree, read_regular, sha256
from scaffold_torchtune.system.serialization import NotJson, YamlError, read_json, read_yaml

MOST_RUNS: Final = 10_000
_LONGEST_INTEGER: Final = 18  # digits: no integer of a plan is longer
_LONGEST_PATH: Final = 4_096
_SHOWN: Final = 3
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in JSON; two backslashes are one in the text
_PATHS: Final[frozenset[ValueKind]] = frozenset({"path", "pattern_free_path"})
_NAMES: Final[frozenset[ValueKind]] = frozenset({"name", "label", "modules"})
"""The kinds of names that are activated before the script runs: plain words from any source."""


class NotAPlan(ValueError):
    """The file does not contain a plan that planning could have made."""


def read_plan(data: bytes) -> Plan:
    """Return the plan in the bytes of plan.json. The same bytes are not checked again.

    Raises:
        NotAPlan: it is damaged, was edited, or contains something that planning never makes.
    """
    judged = _judged(data)
    if isinstance(judged, str):
        raise NotAPlan(judged)
    return judged


@functools.lru_cache(maxsize=2)
def _judged(data: bytes) -> Plan | str:
    """Return the plan, or the reason why it is not one."""
    try:
        return _read(data)
    except NotAPlan as error:
        return str(error)


def _read(data: bytes) -> Plan:
    content = _json(data)
    if content.get("id") != id_of(content):
        raise NotAPlan("its id does not match its content")
    runs = content.get("runs")
    if isinstance(runs, list) and len(runs) > MOST_RUNS:
        raise NotAPlan(f"it has {len(runs)} runs, more than the limit of {MOST_RUNS}")
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"].replace("Input should", "it should", 1)
        raise NotAPlan(f"the value of {shown(place)} is not valid in a plan: {what}") from error
    if problems := [*_problems(plan)]:
        raise NotAPlan(few(problems, _SHOWN, between="; "))
    return plan


def _json(data: bytes) -> dict[str, Any]:
    """Return a JSON object with only finite numbers, and with only texts that every file can contain."""
    try:
        content = read_json(data, MAX_READ, parse_int=_integer, parse_float=_float, parse_constant=_no_number)
    except NotJson as error:
        raise NotAPlan(str(error)) from error
    if not isinstance(content, dict):
        raise NotAPlan("it is not a JSON object")
    if b"\\u" in data and not _is_text(json.dumps(content, ensure_ascii=False)):
        raise NotAPlan("it contains a character that a text file cannot contain")
    return content


def _is_text(written: str) -> bool:
    """Return whether a JSON text contains neither a lone surrogate nor a NUL."""
    try:
        written.encode()
    except UnicodeEncodeError:
        return False
    return _NUL.search(written) is None


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        _no_number(text[:_LONGEST_INTEGER] + "...")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise NotAPlan(f"it contains the number {text[:40]}, which is not valid in a plan")


def _problems(plan: Plan) -> Iterator[str]:
    """Yield each property of a plan that planning never makes."""
    names = [run.directory for run in plan.runs]
    if unknown := {one.directory for one in plan.kept} - {*names}:
        yield f"'kept' contains {shown(min(unknown))}, which is not a planned run"
    if both := {run.directory for run in plan.former} & {*names}:
        yield f"'former' contains {shown(min(both))}, which is a planned run"
    yield from (each.message for each in check_names(names, [run.line for run in plan.runs], None))
    for name, path in {
        "experiment_dir": plan.experiment_dir,
        "options.template": plan.options.template,
        "options.local": plan.options.local,
        "options.setup_script": None if plan.options.setup_script == "bundled" else plan.options.setup_script,
    }.items():
        if path is not None and not _is_path(path):
            yield f"{name} is {shown(path)}, which is not an absolute path"
    if plan.options.template and Path(plan.options.template).name not in plan.inputs:
        yield f"the template {shown(plan.options.template)} is not among its inputs"
    if any(count < 0 for counts in plan.splits.values() for count in counts.values()):
        yield "'splits' contains a negative number of samples"
    for run in plan.former:  # each alone: over time the names of two such runs may differ only in case
        yield from (each.message for each in check_names([run.directory], [run.line], None))
    is_bundled, kept = plan.options.setup_script == "bundled", {one.directory for one in plan.kept}
    for run in (*plan.runs, *plan.former):
        # a former run may have been planned for another script
        is_now = is_bundled and run.directory in names and run.directory not in kept
        for problem in (*_run_problems(run), *(_bundled_problems(run) if is_now else _external_problems(run))):
            yield f"{run.directory}: {problem}"


def is_sound(run: PlannedRun) -> bool:
    """Return whether a plan may contain a former run that is only known from its files."""
    try:
        _json(json.dumps(run.model_dump(mode="json")).encode())
    except NotAPlan:
        return False
    names = check_names([run.directory], [run.line], None)
    return not names and next(itertools.chain(_run_problems(run), _external_problems(run)), None) is None


def _run_problems(run: PlannedRun) -> Iterator[str]:
    if not _is_path(run.data_path):
        yield f"data_path is {shown(run.data_path)}, which is not an absolute path"
    if (name := run.value("my_wandb_run_name")) != run.directory:
        yield f"my_wandb_run_name is {'not set' if name is None else shown(name)} (expected {shown(run.directory)})"
    for name in (*run.unwritten, *run.submitted):
        if name not in run.settings:
            yield f"{shown(name)} is not one of its settings"
    if run.line < 0 or any((setting.source.line or 1) < 1 for setting in run.settings.values()):
        yield "a line number is below 1"


def _bundled_problems(run: PlannedRun) -> Iterator[str]:
    """Yield the problems for which the bundled setup_finetune would refuse a run."""
    try:
        check_values({name: setting.value for name, setting in run.settings.items()})
    except Refused as refused:
        yield from (problem.message for problem in refused.problems)


def _external_problems(run: PlannedRun) -> Iterator[str]:
    """Yield missing and invalid values. Settings that only an external script knows may have any plain value."""
    for name in REQUIRED:
        if run.value(name) in {None, ""}:
            yield f"{name} is missing"
    for name, setting in run.settings.items():
        parameter, value = KEYS.get(name), setting.value
        if parameter is not None and value is not None and not _fits(parameter, value, setting.source.kind):
            yield f"{name} has the invalid value {shown(value)}"


def _fits(parameter: Parameter, value: Scalar, source: SourceKind) -> bool:
    """Return whether a parameter may have a value. Paths, and texts from the script's defaults, are checked less."""
    if parameter.kind == "bool":
        return isinstance(value, bool)
    if parameter.kind in {"int", "float"}:
        return _is_number(value, whole=parameter.kind == "int") and parameter.bounds.hold(float(str(value)))
    if not isinstance(value, str):
        return False
    if parameter.kind in _PATHS or parameter.scope == "experiment":
        return len(value) <= _LONGEST_PATH and value.isprintable()
    is_own = source is SourceKind.DEFAULT and parameter.kind not in _NAMES
    return not value or is_own or _reads(parameter, value)


def _is_number(value: Scalar, *, whole: bool) -> bool:
    return type(value) is int or (type(value) is float and not whole)


def _reads(parameter: Parameter, text: str) -> bool:
    try:
        parameter.read(text)
    except NotTyped:
        return False
    return True


def _is_path(path: str) -> bool:
    return path.startswith("/") and len(path) <= _LONGEST_PATH and path.isprintable()


M = TypeVar("M", bound=Model)
_SURELY_FEW = 200
_ROOM = 0.9  # of the largest plan: warnings are added to it
LARGEST_SCRIPT: Final = 10_000_000


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OutputName = Annotated[str, Field(pattern=r"^finetune\.(?:yaml|slurm)$")]


Printable = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,4000}$")]
Offset = Annotated[int, Field(ge=0, lt=2**60)]


class Record(Model):
    """The record of the files of one run, and of their sources.

    `setup_yaml` is the SHA-256 of its setup_finetune.yaml. `outputs` maps finetune.yaml and finetune.slurm to theirs,
    and is empty until they are made; `backend` is the setup_finetune that made them, `beside` has digests of the files
    in the external script's directory at that time (None: not known). `replaced` are the SHA-256 of earlier files at
    the time of the record, both generated files and files that the user allowed to be replaced: a record is written
    before its files, so that a scaffold recognizes the files of one that was killed. `failed` is the reason why the
    last setup failed, which left the earlier files. `rejected`: validation found an error in the files of an external
    script. `sources` has the source of each setting. `past` are jobs that trained with replaced files, and their
    results if the run resumes from them: they are no evidence for the present files.
    """

    directory: str
    setup_yaml: Sha256
    backend: str = ""
    beside: dict[Printable, str] | None = None
    failed: str = ""
    rejected: bool = False
    outputs: dict[OutputName, Sha256] = Field(default_factory=dict)
    replaced: tuple[Sha256, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    past: tuple[Printable, ...] = Field(default=(), exclude_if=not_)

    def is_published(self, there: Mapping[str, str]) -> bool:
        """Return whether all outputs were published, given the SHA-256 of present files: finetune.slurm is the last."""
        made = self.outputs.get(layout.FINETUNE_SLURM)
        return made is not None and made == there.get(layout.FINETUNE_SLURM)

    def foreign(self, there: Mapping[str, str]) -> list[str]:
        """Return the names of files that this tool did not generate, given the SHA-256 of the present files.

        A file that was about to be replaced counts as generated until all outputs are published, and not later.
        """
        replaced = () if self.is_published(there) else self.replaced
        ours = {layout.SETUP_YAML: self.setup_yaml, **self.outputs}
        return [name for name, digest in there.items() if digest != ours.get(name) and digest not in replaced]


class LogState(Model):
    """The state of scaffold.log: the start of the scaffold, and how the last entry ends it.

    `unlogged` is a step that has not logged its work yet: it was killed if nobody holds the lock. `entries` are being
    appended to the log, which has `size` bytes before them: the state is written first, so that a call that is killed
    between the two writes leaves exactly one copy of the entries. `submit` is the SHA-256 of the submit line in the
    last entry; None in a state of an older version.
    """

    plan: str
    started: AwareDatetime
    status: Literal["open", "complete", "failed"]
    verdict: str = ""
    submit: str | None = None
    unlogged: Literal["", "render", "setup"] = ""
    entries: str = ""
    size: Offset = 0


def load_model(tree: Tree, path: str, read: Callable[[bytes], M], fix: str = "") -> M | None:
    """Return the model in a file, or None. Raises `Refused`, with `fix`, if it cannot be read."""
    data = tree.read(path)
    if data is None:
        return None
    try:
        return read(data)
    except (NotAPlan, ValidationError) as error:
        reason = f": {error}" if isinstance(error, NotAPlan) else ""
        message = f"{path} was not written by scaffold-torchtune, or was changed or damaged afterwards{reason}"
        fix = fix or f"remove {path} and render again"
        raise refuse("document-unreadable", message, file=path, fix=fix) from error


def dumped(model: Model) -> bytes:
    """Return the content of a model's file."""
    return (model.model_dump_json(indent=1) + "\n").encode()


def save(tree: Tree, path: str, model: Model) -> None:
    """Write a model."""
    tree.write(path, dumped(model))


def check_readable(plan: Plan) -> None:
    """Refuse a plan that could not be read back, before anything is written.

    Raises:
        Refused: it has too many runs.
        NotAPlan: planning made an invalid plan, which would block each later call if it were saved.
    """
    data = dumped(plan)
    if len(plan.runs) > MOST_RUNS or len(data) > MAX_READ:
        size = f"their plan would have {len(data):,} bytes, more than the limit of {MAX_READ:,}"
        reason = f"the limit is {MOST_RUNS:,}" if len(plan.runs) > MOST_RUNS else size
        message = f"{len(plan.runs)} runs are too many for one experiment: {reason}"
        fix = "split the runs into several experiments"
        raise refuse("invalid-value", message, field="runs", actual=len(plan.runs), fix=fix)
    read_plan(data)  # the next reader gets the same bytes, which are not checked again


def fitting(plan: Plan) -> Plan:
    """Return the plan without its oldest former runs if it could not be read back with all of them."""
    while plan.former and len(plan.runs) + len(plan.former) > _SURELY_FEW and len(dumped(plan)) > _ROOM * MAX_READ:
        plan = with_id(plan.model_copy(update={"former": plan.former[len(plan.former) // 4 + 1 :]}))
    return plan


def load_plan(tree: Tree) -> Plan | None:
    """Return the frozen plan, or None. Raises `Refused` if it cannot be read."""
    return load_model(tree, layout.PLAN, read_plan)


def existing_plan(tree: Tree) -> Plan:
    """Return the frozen plan. Raises `Refused` if there is none, or it cannot be read."""
    plan = load_plan(tree)
    if plan is None or not plan.runs:
        fix = "run render first (MCP tool: render_yaml), which saves the plan"
        raise refuse("not-rendered", "no plan has been saved yet", file=layout.PLAN, fix=fix)
    return plan


def as_planned(request: Request) -> Request:
    """Return the request with the options of the frozen plan, if there is one that can be read."""
    with suppress(Refused), Tree(experiment_directory(request)) as tree:
        plan = load_plan(tree)
        return request.with_options(plan.options) if plan else request
    return request


_read_record = functools.lru_cache(maxsize=4_096)(Record.model_validate_json)
"""A cached function that returns the record in some bytes, since each step reads it; the caller limits the size."""


def load_record(tree: Tree, directory: str) -> Record | None:
    """Return the record of a run, or None. Raises `Refused` if it cannot be read, or is the record of another run."""
    path = layout.record(directory)
    record = load_model(tree, path, _read_record)
    if record is not None and record.directory != directory:
        fix = f"remove {path} and render again"
        raise refuse("document-unreadable", f"{path} is the record of a different run", file=path, fix=fix)
    return record


def hash_of(tree: Tree, path: str) -> str | None:
    """Return the SHA-256 of a file, or None if it does not exist."""
    data = tree.read(path)
    return None if data is None else sha256(data)


def hashes_of(tree: Tree, directory: str, names: Iterable[str] = layout.OUTPUTS) -> dict[str, str]:
    """Return the SHA-256 of the existing files of a run, by name."""
    return {name: digest for name in names if (digest := hash_of(tree, f"{directory}/{name}"))}


def files_there(tree: Tree, directory: str) -> dict[str, str]:
    """Return the SHA-256 of a run's files by name; "" for an entry of that name that is not a plain file."""
    found: dict[str, str] = {}
    for name in layout.RUN_FILES if tree.kind(directory) == "directory" else ():
        try:
            digest = hash_of(tree, f"{directory}/{name}")
        except Refused:
            digest = ""
        if digest is not None:
            found[name] = digest
    return found


def identity(plan: Plan) -> str:
    """Return the identity of the plan's setup_finetune, which changes if its results may change.

    Raises:
        OSError: the script cannot be read.
    """
    planned = plan.options.setup_script
    if planned == "bundled":
        return f"bundled {plan.version}"
    return f"{planned} {sha256(read_regular(planned, LARGEST_SCRIPT))}"


def recorded(tree: Tree) -> list[str]:
    """Return the directories of runs that have a record."""
    return [name.removesuffix(".json") for name in tree.names(layout.RUNS) if name.endswith(".json")]


def known_runs(tree: Tree, plan: Plan | None) -> dict[str, PlannedRun]:
    """Return the scaffolded runs, by directory: the runs of the plan, and runs that are only known from their files.

    If the plan was lost, the records name the runs; if these were lost too, each setup_finetune.yaml does.
    """
    planned = {run.directory: run for run in (*plan.former, *plan.runs)} if plan else {}
    others = recorded(tree) if plan else [*recorded(tree), *tree.names()]
    rest = [name for name in dict.fromkeys(others) if name not in planned and is_safe(name)]
    return {name: run for name in rest if (run := _run_of_files(tree, name))} | planned


_AS_SCAFFOLDED: Final = Source(kind=SourceKind.DERIVED, note="as it was scaffolded")


def _run_of_files(tree: Tree, directory: str) -> PlannedRun | None:
    """Return the run of a setup_finetune.yaml; None if there is none that could have been planned."""
    path = f"{directory}/{layout.SETUP_YAML}"
    if tree.kind(directory) != "directory" or tree.kind(path) != "file":
        return None
    try:
        content = read_yaml((tree.read(path) or b"").decode()).data
        values = {str(name): value for name, value in content.items() if isinstance(value, bool | int | float | str)}
        settings = {name: Setting(value=value, source=_AS_SCAFFOLDED) for name, value in values.items()}
        label, ending = settings["dataset_label"].text, settings["dataset_ext"].text
        data = Setting(value=f"{settings['input_dir_base'].text}{label}{ending}", source=_AS_SCAFFOLDED)
        run = PlannedRun(
            directory=directory,
            name=directory,
            line=0,
            model=settings["torchtune_model_name"].text,
            data_path=data.text,
            parameters=parameters_of((), settings, data),
            settings=settings,
        )
    except (Refused, UnicodeDecodeError, YamlError, AttributeError, KeyError, ValidationError):
        return None
    return run if is_sound(run) else None


def adopted(tree: Tree, directory: str, backend: str) -> Record:
    """Return a new record for the present files of a run without a record."""
    there = files_there(tree, directory)
    none = sha256(b"")
    outputs = {name: digest for name, digest in there.items() if name in layout.OUTPUTS and digest}
    made = there.get(layout.SETUP_YAML) or none
    return Record(directory=directory, setup_yaml=made, backend=backend, outputs=outputs)


def load_log_state(tree: Tree) -> LogState | None:
    """Return the state of the log, or None. Raises `Refused` if it cannot be read."""
    return load_model(tree, layout.PROGRESS, LogState.model_validate_json)


LONGEST = 40_000
"""The maximum number of bytes of a text: the end of a log, which has the verdict, and the beginning of other files."""


def log_text(request: Request) -> str:
    """Return the end of scaffold.log; if it is cut, the first line says so.

    Raises:
        Refused: there is no such experiment, or it has no log.
    """
    with Tree(experiment_directory(request)) as tree:
        content = _content(tree, layout.LOG)
    if len(content) <= LONGEST:
        return content.decode(errors="replace")
    kept = content[-LONGEST:]
    kept = kept[kept.find(b"\n\n[") + 2 :]  # starting with a whole entry
    return f"({len(content) - len(kept)} earlier bytes omitted)\n\n{kept.decode(errors='replace')}"


def frozen_plan(request: Request) -> PlanResult:
    """Return the frozen plan.

    Raises:
        Refused: there is no such experiment, or nothing is rendered yet.
    """
    with Tree(experiment_directory(request)) as tree:
        return plan_result(existing_plan(tree))


def run_file(request: Request) -> str:
    """Return a file of a planned run; `request.experiment` is its path: EXPERIMENT/RUN/finetune.yaml.

    Raises:
        Refused: it is not one of the three files of a planned run, or it does not exist.
    """
    path = request.experiment
    directory, name = path.parent.name, path.name
    there = Request(path.parent.parent, roots=request.roots)
    with Tree(experiment_directory(there)) as tree:
        if name not in layout.RUN_FILES or directory not in {run.directory for run in existing_plan(tree).runs}:
            fix = f"specify one of {', '.join(layout.RUN_FILES)} in the directory of a planned run"
            raise _not_there(f"{directory}/{name}", fix)
        text = _content(tree, f"{directory}/{name}").decode(errors="replace")
    cut = len(text) - LONGEST
    return text if cut <= 0 else f"{text[:LONGEST]}\n... ({counted(cut, 'more character')})\n"


def _content(tree: Tree, path: str) -> bytes:
    content = tree.read(path)
    if content is None:
        raise _not_there(path, "generate it first: call render_yaml, then run_setup")
    return content


def _not_there(path: str, fix: str) -> Refused:
    return refuse("missing-file", f"{Path(path).name} does not exist", file=path, fix=fix)
