"""`new`: writes an experiment_summary.md, and a claude.local.md where there is none, that scaffold as they are.

Options are typed by what reads documents. What was rendered is read back and planned in memory, and every value is
compared with what was asked for, before anything is written.
"""

import itertools
import math
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.errors import Finding, Refused, Scalar, Severity, finding
from scaffold_torchtune.models.base import Model, Setting, Source, SourceKind
from scaffold_torchtune.models.plan import Options, Plan
from scaffold_torchtune.parse import clean, local, parse_experiment
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.pipeline import Request, check_roots
from scaffold_torchtune.pipeline.locate import Document, expanded, local_document, read_document, refuse
from scaffold_torchtune.plan import Place, checks, make_plan, naming
from scaffold_torchtune.render import render_run
from scaffold_torchtune.setup import run_bundled
from scaffold_torchtune.setup_finetune.registry import find_model, known_models
from scaffold_torchtune.shared import layout, numbers, templating
from scaffold_torchtune.shared.parameters import PARAMETERS
from scaffold_torchtune.shared.resources import TEMPLATES
from scaffold_torchtune.shared.text import did_you_mean, escape, shown

MOST_RUNS: Final = 2_000


class Option(NamedTuple):
    """An option of the command: the parameter that it gives, and whether it may have several values."""

    flag: str
    parameter: str
    metavar: str
    help: str
    many: bool = False


OPTIONS: Final = (
    Option("--name", "experiment_name", "NAME", "name of the experiment; default: that of DIR"),
    Option("--model", "model", "MODEL", "base model; may be repeated", many=True),
    Option("--rank", "lora_rank", "N,...", "LoRA ranks", many=True),
    Option("--lr", "lr", "X,...", "learning rates", many=True),
    Option("--batch-size", "batch_size", "N,...", "batch sizes", many=True),
    Option("--epochs", "epochs", "N", "number of epochs"),
    Option("--seed", "seed", "N,...", "seeds", many=True),
    Option("--data", "dataset", "PATH", "data set, .json or .parquet; a relative path is taken from DIR"),
    Option("--system-prompt", "system_prompt", "TEXT", "system prompt, exactly as given"),
    Option("--model-dir", "models_dir", "PATH", "directory that holds the models; a relative path is taken from DIR"),
    Option("--conda-env", "conda_env", "NAME", "conda environment of the jobs"),
    Option("--project", "my_wandb_project", "NAME", "Weights & Biases project; default: the experiment's name"),
    Option("--output-dir", "output_dir_base", "PATH", "where checkpoints go; default: outputs, taken from DIR"),
    Option("--account", "account", "NAME", "SLURM account"),
    Option("--partition", "partition", "NAME", "SLURM partition"),
    Option("--constraint", "constraint", "FEATURES", "SLURM constraint"),
    Option("--time", "time", "H:MM:SS", "time limit of a job"),
    Option("--gpus", "gpus", "N", "GPUs of a job"),
    Option("--module", "modules", "NAME", "module that a job loads; may be repeated", many=True),
)
"""What may be asked for. A value is known by the name of its parameter."""

_OPTION: Final = {option.parameter: option for option in OPTIONS}
_COLUMNS: Final = {"lora_rank": "LoRA Rank", "lr": "Learning Rate", "batch_size": "Batch Size", "seed": "Seed"}
_TRAINING: Final = {
    "epochs": "Epochs",
    "seed": "Seed",
    "gpus": "GPUs",
    "time": "Time limit",
    "system_prompt": "System prompt",
}
# What only claude.local.md says.
_OF_LOCAL: Final = ("conda_env", "my_wandb_project", "output_dir_base", "account", "partition", "constraint", "modules")
# What a run's settings do not hold as it was given.
_PLACED: Final = frozenset({"model", "dataset", "models_dir", "output_dir_base", "modules"})
_MARKUP: Final = re.compile(r"[\\`*\[\]<>&|]|(?<![^\W_])_|_(?![^\W_])")


class NewResult(Model):
    """What was written: paths, the experiment's name, its number of fine-tuned runs, the claude.local.md it uses."""

    created: tuple[str, ...]
    experiment: str
    runs: int
    local: str
    warnings: tuple[Finding, ...] = ()


@dataclass
class _Asked:
    """What was asked for, typed: the values by parameter, the runs that follow from them, and what is wrong.

    `local` is the claude.local.md that was found, and `said` what it says as text; None where one is to be written.
    """

    directory: Path
    control: bool
    local: Document | None = None
    said: dict[str, Field] = field(default_factory=dict)
    values: dict[str, list[Scalar]] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)

    def one(self, name: str) -> Scalar:
        """The value of a parameter that has one; None where it has none."""
        return self.values[name][0] if name in self.values else None

    def problem(self, code: str, name: str, message: str, fix: str, **found: Scalar) -> None:
        """Note what is wrong with an option."""
        self.problems.append(finding(code, message, field=name, fix=fix, **found))  # type: ignore[arg-type]

    def below(self, name: str) -> str:
        """An absolute path: a relative one is taken from the experiment directory."""
        return posixpath.normpath(posixpath.join(str(self.directory), str(self.one(name))))

    @property
    def columns(self) -> list[str]:
        """The parameters that are columns of the runs table beside the model. One seed is a line of Configuration."""
        given = {name: len(self.values.get(name, ())) for name in _COLUMNS}
        return [name for name, count in given.items() if count > 1 or (count and name != "seed")]

    def rows(self) -> list[tuple[str, dict[str, Scalar]]]:
        """Every fine-tuned run: its name, as `plan` names it, and its parameters."""
        names = ["model", *self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(self.values[n] for n in names))]
        varying = naming.varying_parameters(names, rows)
        if varying:
            return list(zip(naming.names_by_varying(varying, rows).names, rows, strict=True))
        usual = {name: PARAMETERS[name].default for name in ("lora_rank", "lr")}
        return [(naming.single_name("", usual | rows[0]), rows[0])]


def create(request: Request, wishes: Mapping[str, Sequence[str]], *, control: bool = False) -> NewResult:
    """Write the documents of a new experiment into `request.experiment`.

    `wishes` are the texts of the options by parameter, as they were typed. `control` adds a control for each model.

    Raises:
        Refused: something asked for is missing, is not what it must be or cannot be scaffolded, or a file is in the
            way; names every problem, and nothing was written.
    """
    asked = _Asked(_directory(request), control)
    _type(asked, wishes)
    _find_local(asked, request)
    _complete(asked)
    _check(asked)
    if asked.problems:
        raise Refused(f"{len(asked.problems)} problem(s) with what was asked for", asked.problems)
    documents = {layout.SUMMARY: _summary(asked, request)}
    if asked.local is None:
        documents[layout.LOCAL] = _local(asked)
    warnings = _prove(asked, documents)
    created = _write(asked.directory, documents)
    path = asked.local.path if asked.local else asked.directory / layout.LOCAL
    return NewResult(
        created=tuple(str(file) for file in created),
        experiment=str(asked.one("experiment_name")),
        runs=len(asked.rows()),
        local=str(path),
        warnings=(*warnings, *_absent_data(asked)),
    )


def _directory(request: Request) -> Path:
    """The real path of the directory, which need not be there."""
    given = expanded(request.experiment)
    try:
        real = given.resolve()
        taken = real.exists() and not real.is_dir()
    except (OSError, RuntimeError) as error:
        message = f"{shown(str(given))} cannot be looked at"
        raise refuse("not-a-directory", message, field="experiment", fix="give another path") from error
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} holds a character that cannot be printed"
        raise refuse("unsafe-path", message, field="experiment", fix="give another directory")
    check_roots(real, request)
    if taken or real.name.lower() in layout.RESERVED:
        message = f"{shown(str(given))} is not a directory for an experiment"
        raise refuse("not-a-directory", message, field="experiment", fix="give another directory")
    return real


def _type(asked: _Asked, wishes: Mapping[str, Sequence[str]]) -> None:
    """Type what every option says."""
    for option in OPTIONS:
        texts = list(wishes.get(option.parameter, ()))
        if option.many:
            texts = [part.strip() for text in texts for part in text.split(",")]
        elif len(texts) > 1:
            asked.problem("ambiguous", option.parameter, f"{option.flag} is given twice", "give it once")
            continue
        for text in texts:
            try:
                value = _typed(option, text)
            except clean.NotTyped as problem:
                message = f"{option.flag}: {shown(text)} is not {problem.allowed}"
                fix, actual = f"give {problem.allowed}", escape(text)
                asked.problem("invalid-value", option.parameter, message, fix, actual=actual, expected=problem.allowed)
                continue
            values = asked.values.setdefault(option.parameter, [])
            if value in values:
                message = f"{option.flag} gives {shown(value)} twice"
                asked.problem("ambiguous", option.parameter, message, "give each value once")
            values.append(value)


def _typed(option: Option, text: str) -> Scalar:
    """The value of an option, exactly as a document that holds it is read.

    Raises:
        NotTyped: the text is not such a value.
    """
    parameter = PARAMETERS[option.parameter]
    if parameter.name == "system_prompt":
        value = clean.typed(parameter, Field(_quoted(text), 1, option.flag))
        if value != text or any("\ud800" <= c <= "\udfff" for c in text):
            raise clean.NotTyped("text that a document can hold: put no white space and no quotes around it")
        return value
    if clean.is_unset(text):
        raise clean.NotTyped("a value (where there is none, leave the option out)")
    if clean.unquoted(clean.without_remark(text)) != text:
        raise clean.NotTyped("a value alone, without quotes, white space or a remark around it")
    return clean.typed(parameter, Field(text, 1, option.flag))


def _find_local(asked: _Asked, request: Request) -> None:
    """The claude.local.md that the experiment will use, if there is one already."""
    path = local_document(request, asked.directory)
    if path is None:
        return
    asked.local = Document(path, path.name, "", "")
    try:
        asked.local = read_document(path, path.name, follow=True)
    except Refused as refused:
        asked.problems += refused.problems
    draft = local.read(asked.local.text, asked.local.name)
    asked.problems += draft.problems
    asked.said = draft.settings


def _complete(asked: _Asked) -> None:
    """Fill in what has a default, and note what is missing."""
    given = {problem.field for problem in asked.problems}
    if not given & {"experiment_name"} and "experiment_name" not in asked.values:
        _default_name(asked)
        given |= {problem.field for problem in asked.problems}
    needed = ["model", "batch_size", "epochs", "dataset"]
    if asked.local is None:
        needed.append("conda_env")
        _default(asked, "my_wandb_project", asked.one("experiment_name"), given)
    if "models_dir" not in asked.said:
        needed.append("models_dir")
    if "output_dir_base" not in asked.said:
        _default(asked, "output_dir_base", "outputs", given)
    for name in needed:
        if name not in asked.values and name not in given:
            option = _OPTION[name]
            asked.problem("missing-field", name, f"{option.flag} is missing", f"add {option.flag} {option.metavar}")


def _default(asked: _Asked, name: str, value: Scalar, given: Iterable[str | None]) -> None:
    if value is not None and name not in given:
        asked.values.setdefault(name, [value])


def _default_name(asked: _Asked) -> None:
    """The directory's name is the experiment's, where it can be."""
    name = asked.directory.name
    try:
        asked.values["experiment_name"] = [_typed(_OPTION["experiment_name"], name)]
    except clean.NotTyped as problem:
        message = f"the directory's name {shown(name)} cannot be the experiment's: it is not {problem.allowed}"
        asked.problem("invalid-value", "experiment_name", message, "add --name NAME", actual=escape(name))


def _check(asked: _Asked) -> None:
    """Note what cannot be scaffolded, contradicts the claude.local.md that was found, or is in the way."""
    for model in asked.values.get("model", ()):
        if find_model(str(model)) is None:
            message = f"{shown(model)} is not a known model. {did_you_mean(str(model), known_models())}".strip()
            asked.problem("unknown-model", "model", message, f"give one of {', '.join(known_models())}", actual=model)
    runs = math.prod(len(values) for name, values in asked.values.items() if name in {"model", *_COLUMNS})
    if runs > MOST_RUNS:
        message = f"that makes {runs} runs, more than {MOST_RUNS}"
        asked.problem("unsupported-setting", "runs", message, "give fewer values, or several experiments")
    if "dataset" in asked.values:
        source = Source(kind=SourceKind.RESOURCES)
        data = [Setting(value=asked.one("dataset"), source=source)]
        asked.problems += checks.data_problems(data, Options(), _place(asked))
    if asked.local is not None:
        _against_local(asked, asked.local)
    names = (layout.SUMMARY, layout.SUMMARY_YAML, *([] if asked.local else [layout.LOCAL]))
    for name in names:
        if os.path.lexists(asked.directory / name):
            message = f"{name} is in {escape(str(asked.directory))} already, and is never overwritten"
            fix = "give another directory, or move the file away"
            asked.problems.append(finding("edited-output", message, file=name, fix=fix))


def _against_local(asked: _Asked, found: Document) -> None:
    """What is asked for of the surroundings must be what the found claude.local.md says: that is what is used."""
    for name in _OF_LOCAL:
        text = asked.said.get(name)
        if name not in asked.values or (text is None and name == "output_dir_base"):
            continue
        value: Scalar = ",".join(map(str, asked.values[name]))
        try:
            there = clean.typed(PARAMETERS[name], text) if text else None
        except clean.NotTyped:
            continue  # which is told when the documents are read
        if name == "output_dir_base":
            value = asked.below(name)
            there = posixpath.normpath(posixpath.join(str(found.path.parent), str(there)))
        if value != there:
            says = f"says {shown(there)} (line {text.line})" if text else "does not give it"
            flag = _OPTION[name].flag
            message = f"{flag} is {shown(value)}, but {escape(str(found.path))}, which is used here, {says}"
            fix = f"leave {flag} out, or correct that file, or put a {layout.LOCAL} of its own into the directory"
            asked.problem("ambiguous", name, message, fix)


# --- the documents ----------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """The text in quotes that it does not hold; as it is where it holds all of them."""
    pairs = (('"', '"'), ("'", "'"), ("“", "”"))
    opening, closing = next((pair for pair in pairs if not any(quote in text for quote in pair)), ("", ""))
    return f"{opening}{text}{closing}"


def _prose(text: str) -> str:
    """Text as Markdown that is read back as it is."""
    return _MARKUP.sub(r"\\\g<0>", text).replace("\n", "&#10;").replace("\t", "&#9;")


def _code(value: Scalar) -> str:
    """A name or path as a code span: no such value holds a backtick."""
    return f"`{value}`"


def _number(value: Scalar) -> str:
    """A number in its shortest form; other values as they are."""
    return numbers.canonical(value) if isinstance(value, float) else str(value)


def _summary(asked: _Asked, request: Request) -> str:
    """The text of experiment_summary.md."""
    columns, rows, models = asked.columns, asked.rows(), [str(model) for model in asked.values["model"]]
    controls = models if asked.control else []
    count = f"{len(rows)} fine-tuned"
    if controls:
        count += f" + {len(controls)} control = {len(rows) + len(controls)} total"
    cells = [[_prose(n), str(row["model"]), *(_number(row[c]) for c in columns), "Fine-tuned"] for n, row in rows]
    cells += [[f"{model}_base", model, *("-" for _ in columns), "Control"] for model in controls]
    labels = {"model": "Model"} | {column: _COLUMNS[column] for column in columns}
    several = {label: asked.values[name] for name, label in labels.items() if len(asked.values[name]) > 1}
    training = [
        (label, _prose(_quoted(str(asked.one(name)))) if name == "system_prompt" else _number(asked.one(name)))
        for name, label in _TRAINING.items()
        if name in asked.values and name not in columns
    ]
    base = asked.one("models_dir")
    lacking = asked.local is not None and "output_dir_base" not in asked.said
    context = {
        "name": _prose(str(asked.one("experiment_name"))),
        "created": request.now().date().isoformat(),
        "count": count,
        "variables": [(label, ", ".join(map(_number, values))) for label, values in several.items()],
        "columns": ["Run Name", *labels.values(), "Type"],
        "rows": cells,
        "models": [(m, _code(posixpath.join(str(base), m))) for m in models] if base else [],
        "dataset": _code(asked.one("dataset")),
        "training": training,
        "output": _code(asked.one("output_dir_base")) if lacking else None,
    }
    return templating.render("new_summary.md.j2", context, [TEMPLATES])


def _local(asked: _Asked) -> str:
    """The text of claude.local.md."""
    names = ("models_dir", "account", "partition", "constraint", "conda_env", "my_wandb_project", "output_dir_base")
    values = {name: _code(asked.one(name)) if name in asked.values else "(leave empty)" for name in names}
    modules = [str(module) for module in asked.values.get("modules", ())]
    return templating.render("new_local.md.j2", {**values, "modules": modules}, [TEMPLATES])


# --- the proof --------------------------------------------------------------------------------------------------------


def _place(asked: _Asked) -> Place:
    folder = asked.local.path.parent if asked.local else asked.directory
    return Place(str(asked.directory), str(folder), str(TEMPLATES), lambda path: Path(path).is_file())


def _prove(asked: _Asked, documents: Mapping[str, str]) -> list[Finding]:
    """Read the documents back and plan them: they must scaffold, to what was asked for. Returns what is remarkable.

    Raises:
        Refused: they would not; names every problem.
    """
    found = asked.local
    surroundings = (found.name, found.text) if found else (layout.LOCAL, documents[layout.LOCAL])
    try:
        experiment = parse_experiment((layout.SUMMARY, documents[layout.SUMMARY]), surroundings, lambda _: True)
        plan = make_plan(experiment, Options(), _place(asked))
        outcomes = [run_bundled(run, render_run(plan, run, [TEMPLATES]).text) for run in plan.runs]
    except Refused as refused:
        message = "what was asked for could not be scaffolded"
        raise Refused(message, [_unplaced(p, found) for p in refused.problems]) from refused
    problems = list({p.message: p for outcome in outcomes for p in outcome.problems}.values())
    if problems:
        raise Refused("setup_finetune would refuse what was asked for", [_unplaced(p, found) for p in problems])
    if differing := _differences(asked, plan):
        raise Refused("what was asked for cannot be written as a summary", differing)
    warnings = {p.message: p for p in (*plan.warnings, *(w for outcome in outcomes for w in outcome.warnings))}
    return [_unplaced(p, found) for p in warnings.values()]


def _unplaced(problem: Finding, found: Document | None) -> Finding:
    """The problem without its place, where that is a file that is not written yet."""
    there = found is not None and problem.file == found.name
    return problem if there else problem.model_copy(update={"file": None, "line": None})


def _differences(asked: _Asked, plan: Plan) -> list[Finding]:
    """What the plan has otherwise than it was asked for: nothing, or there is a fault in how it was written."""
    rows = asked.rows()
    controls = [f"{model}_base" for model in asked.values["model"]] if asked.control else []
    if [run.directory for run in plan.runs] != [name for name, _ in rows] or controls != [
        e.name for e in plan.excluded
    ]:
        return [_mismatch("runs", None, None)]
    excused = {SourceKind.DEFAULT, SourceKind.DERIVED, *([SourceKind.LOCAL] if asked.local else [])}
    problems = {}
    for (name, row), run in zip(rows, plan.runs, strict=True):
        wanted = _wanted(asked, name, row)
        found = {k: s.value for k, s in run.settings.items() if k in wanted or s.source.kind not in excused}
        for key in sorted(wanted.keys() | found.keys()):
            one, other = wanted.get(key), found.get(key)
            if (type(one), one) != (type(other), other):
                problems[key] = _mismatch(key, one, other)
    return list(problems.values())


def _mismatch(key: str, wanted: Scalar, found: Scalar) -> Finding:
    message = f"{key}: {shown(wanted)} would be read back as {shown(found)}"
    fix = "this is a fault of `new`: report it; until then write the summary by hand, after the bundled example"
    expected, actual = (escape(v) if isinstance(v, str) else v for v in (wanted, found))
    return finding("render-mismatch", message, field=key, expected=expected, actual=actual, fix=fix)


def _wanted(asked: _Asked, name: str, row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Every setting of a run that was asked for, as the plan must have it."""
    data = asked.below("dataset")
    label, extension = layout.data_label(data)
    wanted = {n: v[0] for n, v in asked.values.items() if n not in _PLACED}
    wanted |= {n: v for n, v in row.items() if n != "model"}
    wanted |= {
        "my_wandb_run_name": name,
        "torchtune_model_name": row["model"],
        "input_dir_base": posixpath.join(posixpath.dirname(data), ""),
        "dataset_label": label,
        "dataset_ext": extension,
    }
    if "models_dir" in asked.values:
        wanted |= {"models_dir": asked.below("models_dir"), "model_checkpoint": row["model"]}
    if "output_dir_base" in asked.values:
        wanted["output_dir_base"] = asked.below("output_dir_base")
    if "modules" in asked.values:
        wanted["modules"] = ",".join(map(str, asked.values["modules"]))
    return wanted


def _absent_data(asked: _Asked) -> list[Finding]:
    """A reminder of the data set, where it is not there yet."""
    path = asked.below("dataset")
    if Path(path).is_file():
        return []
    message = f"the data set is not at {escape(path)} yet"
    fix = "put it there before the runs are submitted, or correct the path in the summary"
    return [finding("missing-file", message, field="dataset", fix=fix, severity=Severity.WARNING)]


# --- the files --------------------------------------------------------------------------------------------------------


def _write(directory: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write the documents: each appears whole, and all of them or none.

    Raises:
        Refused: the file system said no.
    """
    targets = [directory / name for name in documents]
    halves: list[Path] = []
    done: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for target, text in zip(targets, documents.values(), strict=True):
            half = target.with_name(f".{target.name}.{os.getpid()}")
            with half.open("x", encoding="utf-8", newline="\n") as stream:
                halves.append(half)
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        for half, target in zip(halves, targets, strict=True):
            half.replace(target)
            done.append(target)
    except BaseException as error:
        for path in (*halves, *done):
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        message = f"cannot write into {escape(str(directory))}: {error.strerror}"
        fix = "make room or give write permission, or give another directory"
        raise Refused(message, [finding("write-failed", message, file=escape(str(directory)), fix=fix)]) from error
    return targets
