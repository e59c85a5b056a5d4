"""`new`: write an experiment_summary.md, and a claude.local.md if there is none, that can be scaffolded unchanged.

Options are typed by the readers of documents, completed with defaults and checked. The rendered documents are read back
and planned in memory, and every value is compared with the options, before anything is written.
"""

import itertools
import math
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Collector,
    Finding,
    Refused,
    Scalar,
    counted,
    did_you_mean,
    escape,
    finding,
    refuse,
    shortest_number,
    shown,
)
from scaffold_torchtune.models import CommandResult, Experiment, Options, Plan, Setting, Source, SourceKind
from scaffold_torchtune.parse import local, parse_experiment, values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.pipeline.locate import (
    Document,
    check_can_be_seen,
    check_roots,
    expanded,
    local_document,
    read_document,
)
from scaffold_torchtune.plan import checks, make_plan, naming
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.preflight import log_path_problem
from scaffold_torchtune.preflight.data_files import DataSets
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import OF_LOCAL, PARAMETERS
from scaffold_torchtune.setup import render_run, run_bundled
from scaffold_torchtune.system import layout, templating
from scaffold_torchtune.system.files import is_directory, is_file, is_taken, publish, real_path
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.markdown import table_lines
from scaffold_torchtune.torchtune_facts import (
    FULL,
    OF_LORA,
    find_model,
    known_models,
    method_of,
    recipe_for_gpus,
    supported_models,
)

_MOST_RUNS: Final = 2_000
_ORDER: Final = (
    "experiment_name", "model", "recipe", "lora_rank", "lr", "batch_size", "epochs", "seed", "dataset",
    "system_prompt", "models_dir", "conda_env", "my_wandb_project", "output_dir_base", "account", "partition",
    "constraint", "qos", "gpu_type", "mail_user", "mail_type", "wandb_entity", "wandb_mode", "time", "gpus", "modules",
    "lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "num_warmup_steps", "warmup_ratio",
)  # fmt: skip
_FOUND: Final = {name: p.option for name, p in PARAMETERS.items() if p.option is not None}

OPTIONS: Final = {name: _FOUND[name] for name in sorted(_FOUND, key=(*_ORDER, *_FOUND).index)}
"""The options, by parameter: first the ones that people need most, then the rest in the parameters' order."""

COLUMNS: Final = {name: option.label for name, option in OPTIONS.items() if option.label and option.many}
_LINES: Final = ("recipe", "epochs", "seed", "gpus", "time", "system_prompt")
TRAINING: Final = {
    name: option.label
    for name in (*_LINES, *OPTIONS)
    if (option := OPTIONS[name]).label and (name not in COLUMNS or name == "seed")
}
"""The lines of Configuration. One seed is such a line; several seeds are a column."""

ONLY_LOCAL: Final = tuple(name for name in OPTIONS if name in OF_LOCAL.keys() - {"models_dir"} - TRAINING.keys())
"""The options that only claude.local.md has."""


@dataclass
class NewExperiment:
    """A new experiment from typed options: the values by parameter, the resulting runs, and the problems.

    `local` is an existing claude.local.md, or None if one will be written; `fields` are its texts.
    """

    directory: Path
    control: bool
    local: Document | None = None
    fields: dict[str, SourceText] = field(default_factory=dict)
    values: dict[str, list[Scalar]] = field(default_factory=dict)
    problems: Collector = field(default_factory=Collector)

    def one(self, name: str) -> Scalar:
        """Return the first value of a parameter; None if it has none."""
        return self.values[name][0] if name in self.values else None

    def is_full(self) -> bool:
        """Return whether all weights will be trained."""
        return method_of(str(self.one("recipe"))) == FULL

    def below(self, name: str) -> str:
        """Return an absolute path: a relative path is resolved against the experiment directory."""
        return posixpath.normpath(posixpath.join(str(self.directory), str(self.one(name))))

    def context(self) -> PlanContext:
        """Return the context in which the experiment will be planned."""
        folder = self.local.path.parent if self.local else self.directory
        return PlanContext(str(self.directory), str(folder), str(TEMPLATES), is_file, train_rows=DataSets().train_rows)

    @property
    def columns(self) -> list[str]:
        """Return the columns of the runs table next to the model. One seed is a line of Configuration."""
        given = {name: len(self.values.get(name, ())) for name in COLUMNS}
        return [name for name, count in given.items() if count > 1 or (count and name != "seed")]

    def rows(self) -> list[tuple[str, dict[str, Scalar]]]:
        """Return every fine-tuned run: the name that `plan` gives it, and its parameters."""
        names = ["model", *self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(self.values[n] for n in names))]
        varying = naming.varying_parameters(names, rows)
        if varying:
            return list(zip(naming.names_by_varying(varying, rows).names, rows, strict=True))
        usual = {name: PARAMETERS[name].default for name in ("lora_rank", "lr")}
        if self.is_full():
            usual = {"lr": usual["lr"], "recipe": FULL}
        return [(naming.single_name("", usual | rows[0]), rows[0])]


_MARKUP: Final = re.compile(r"[\\`*\[\]<>&|]|(?<![^\W_])_|_(?![^\W_])")


def quoted(text: str) -> str:
    """Return the text in quotes that it does not contain; unchanged if it contains all of them."""
    pairs = (('"', '"'), ("'", "'"), ("“", "”"))
    opening, closing = next((pair for pair in pairs if not any(quote in text for quote in pair)), ("", ""))
    return f"{opening}{text}{closing}"


def _prose(text: str) -> str:
    """Return text as Markdown that is read back unchanged."""
    return _MARKUP.sub(r"\\\g<0>", text).replace("\n", "&#10;").replace("\t", "&#9;")


def number_text(value: Scalar) -> str:
    """Return a number in its shortest form, a boolean as yes or no, and other values unchanged."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shortest_number(value) if isinstance(value, float) else str(value)


def summary_text(asked: NewExperiment, request: Request) -> str:
    """Return the text of experiment_summary.md."""
    columns, rows, models = asked.columns, asked.rows(), [str(model) for model in asked.values["model"]]
    controls = models if asked.control else []
    count = f"{len(rows)} fine-tuned"
    if controls:
        count += f" + {len(controls)} control = {len(rows) + len(controls)} total"
    cells = [[_prose(n), str(row["model"]), *(number_text(row[c]) for c in columns), "Fine-tuned"] for n, row in rows]
    cells += [[f"{model}_base", model, *("-" for _ in columns), "Control"] for model in controls]
    labels = {"model": "Model"} | {column: COLUMNS[column] for column in columns}
    several = {label: asked.values[name] for name, label in labels.items() if len(asked.values[name]) > 1}
    factors = [(label, ", ".join(map(number_text, values))) for label, values in several.items()]
    training = [
        (label, _prose(quoted(str(asked.one(name)))) if name == "system_prompt" else number_text(asked.one(name)))
        for name, label in TRAINING.items()
        if name in asked.values and name not in columns
    ]
    base = asked.one("models_dir")
    lacking = asked.local is not None and "output_dir_base" not in asked.fields
    context = {
        "name": _prose(str(asked.one("experiment_name"))),
        "created": request.now().date().isoformat(),
        "count": count,
        "variables": table_lines(("Factor", "Levels"), factors) if factors else [],
        "runs": table_lines(["Run Name", *labels.values(), "Type"], cells),
        # Names and paths are in code spans: none contains a backtick.
        "models": [(m, f"`{posixpath.join(str(base), m)}`") for m in models] if base else [],
        "dataset": f"`{asked.one('dataset')}`",
        "training": training,
        "output": f"`{asked.one('output_dir_base')}`" if lacking else None,
    }
    return templating.render("new_summary.md.j2", context, [TEMPLATES])


def local_text(asked: NewExperiment) -> str:
    """Return the text of claude.local.md."""
    names = ("models_dir", *(name for name in ONLY_LOCAL if name != "modules"))
    values = {name: f"`{asked.one(name)}`" if name in asked.values else "(leave empty)" for name in names}
    modules = [str(module) for module in asked.values.get("modules", ())]
    return templating.render("new_local.md.j2", {**values, "modules": modules}, [TEMPLATES])


def type_options(asked: NewExperiment, given: Mapping[str, Sequence[str]]) -> None:
    """Convert the texts of every option to typed values."""
    add = asked.problems.add
    for name, option in OPTIONS.items():
        texts = list(given.get(name, ()))
        if option.many:
            texts = [part.strip() for text in texts for part in text.split(",")]
        elif len(texts) > 1:
            add("ambiguous", f"{option.flag} is given more than once", field=name, fix=f"give {option.flag} only once")
            continue
        for text in texts:
            try:
                value = _typed(name, text)
            except NotTyped as problem:
                message, fix = (
                    f"{option.flag}: {shown(text)} {problem.described}",
                    f"use {problem.allowed}{problem.example}",
                )
                add("invalid-value", message, field=name, fix=fix, actual=escape(text), expected=problem.allowed)
                continue
            values = asked.values.setdefault(name, [])
            if value in values:
                message = f"{option.flag} has the value {shown(value)} more than once"
                add("ambiguous", message, field=name, fix="give each value only once")
            values.append(value)


def _typed(name: str, text: str) -> Scalar:
    """Return the value of an option, exactly as it is read from a document.

    Raises:
        NotTyped: the text is not a value of the parameter.
    """
    parameter, flag = PARAMETERS[name], OPTIONS[name].flag
    if parameter.name == "system_prompt":
        value = values.typed(parameter, SourceText(quoted(text), 1, flag)).value
        if value != text or any("\ud800" <= c <= "\udfff" for c in text):
            raise NotTyped("text that a document can contain, without surrounding white space or quotes")
        return value
    if values.is_unset(text):
        raise NotTyped("a value (omit the option if there is none)")
    if values.unquoted(values.without_remark(text)) != text:
        raise NotTyped("only the value", "has quotes, white space or a remark around the value")
    return values.typed(parameter, SourceText(text, 1, flag)).value


def find_local(asked: NewExperiment, request: Request) -> None:
    """Find an existing claude.local.md that the experiment will use."""
    path = local_document(request, asked.directory)
    if path is None:
        return
    asked.local = Document(path, path.name, "", "")
    try:
        asked.local = read_document(path, path.name, follow=True)
    except Refused as refused:
        asked.problems.findings += refused.problems
    draft = local.read_local(asked.local.text, asked.local.name)
    asked.problems.findings += draft.findings
    asked.fields = draft.settings


def complete_options(asked: NewExperiment) -> None:
    """Fill in defaults, and add a problem for each missing option."""
    wrong = {problem.field for problem in asked.problems.findings}
    if "experiment_name" not in wrong | asked.values.keys():
        name = asked.directory.name
        try:
            asked.values["experiment_name"] = [_typed("experiment_name", name)]
        except NotTyped as problem:
            message = f"the directory name {shown(name)} cannot be the experiment's name (expected {problem.allowed})"
            fix = "specify a different name with `--name NAME`"
            asked.problems.add("invalid-value", message, field="experiment_name", fix=fix, actual=escape(name))
    needed, defaults = ["model", "batch_size", "epochs", "dataset"], {}
    if asked.local is None:
        needed.append("conda_env")
        defaults["my_wandb_project"] = asked.one("experiment_name")
    if "models_dir" not in asked.fields:
        needed.append("models_dir")
    if "output_dir_base" not in asked.fields:
        defaults["output_dir_base"] = "outputs"
    for name, value in defaults.items():
        if value is not None and name not in wrong:
            asked.values.setdefault(name, [value])
    for name in needed:
        if name not in wrong | asked.values.keys():
            flag, metavar = OPTIONS[name].flag, OPTIONS[name].metavar
            asked.problems.add("missing-field", f"{flag} is missing", field=name, fix=f"add {flag} {metavar}")


def check_options(asked: NewExperiment) -> None:
    """Add a problem for each option that cannot be scaffolded or contradicts claude.local.md, or existing document."""
    add = asked.problems.add
    for model in asked.values.get("model", ()):
        if find_model(str(model)) is None:
            message = did_you_mean(str(model), known_models(), f"{shown(model)} is not a known model.")
            add("unknown-model", message, field="model", fix=f"use {supported_models()}", actual=model)
    runs = math.prod(len(values) for name, values in asked.values.items() if name in {"model", *COLUMNS})
    if runs > _MOST_RUNS:
        message = f"the options result in {runs} runs, more than the limit of {_MOST_RUNS}"
        fix = "specify fewer values, or create several experiments"
        add("unsupported-setting", message, field="runs", fix=fix)
    for lora in [name for name in OF_LORA if asked.is_full() and name in asked.values]:
        message = f"{OPTIONS[lora].flag} applies only to LoRA, but --recipe selects full fine-tuning"
        add("unsupported-setting", message, field=lora, fix=f"omit `{OPTIONS[lora].flag}` or `--recipe`")
    if "dataset" in asked.values:
        data = Setting(value=asked.one("dataset"), source=Source(kind=SourceKind.RESOURCES))
        asked.problems.findings += checks.data_problems([data], Options(), asked.context())
    if asked.local is not None:
        _against_local(asked, asked.local)
    for name in (layout.SUMMARY, layout.SUMMARY_YAML, *([] if asked.local else [layout.LOCAL])):
        if os.path.lexists(asked.directory / name):
            message = f"{escape(str(asked.directory))} already has {name}, which is never overwritten"
            add("edited-output", message, file=name, fix=f"use a different directory, or move {name} away")


def _against_local(asked: NewExperiment, found: Document) -> None:
    """Add a problem for each option that differs from the existing claude.local.md, which is used."""
    for name in ONLY_LOCAL:
        text = asked.fields.get(name)
        if name not in asked.values or (text is None and name == "output_dir_base"):
            continue
        value: Scalar = ",".join(map(str, asked.values[name]))
        try:
            there = values.typed(PARAMETERS[name], text).value if text else None
        except NotTyped:
            continue  # reported when the documents are read
        if name == "output_dir_base":
            value = asked.below(name)
            there = posixpath.normpath(posixpath.join(str(found.path.parent), str(there)))
        if value != there:
            says = f"has {shown(there)} (line {text.line})" if text else "does not set it"
            flag, of_file = OPTIONS[name].flag, "correct that file" if text else f"set {name} in that file"
            message = (
                f"{flag} is {shown(value)}, but the new experiment reads this setting from {escape(str(found.path))},"
                f" which {says}; options do not change that file"
            )
            fix = f"omit {flag}, {of_file}, or create a separate {layout.LOCAL} in the directory of the new experiment"
            asked.problems.add("ambiguous", message, field=name, fix=fix)


class NewResult(CommandResult):
    """The created files, the experiment's name, its number of fine-tuned runs, and the claude.local.md that it uses."""

    created: tuple[str, ...]
    experiment: str
    runs: int
    local: str
    warnings: tuple[Finding, ...] = ()

    @property
    def summary(self) -> str:
        """Return the number of runs and files."""
        written = f"{counted(len(self.created), 'file')} written"
        return f"{self.experiment}: {counted(self.runs, 'run')}, {written}; {counted(len(self.warnings), 'warning')}."


def create(request: Request, given: Mapping[str, Sequence[str]], *, control: bool = False) -> NewResult:
    """Write the documents of a new experiment into `request.experiment`.

    `given` are the typed texts of the options, by parameter. `control` adds a control for each model.

    Raises:
        Refused: an option is missing, invalid or cannot be scaffolded, or a file exists already; contains every
            problem, and nothing was written.
    """
    asked = NewExperiment(_directory(request), control)
    type_options(asked, given)
    find_local(asked, request)
    complete_options(asked)
    check_options(asked)
    if problems := asked.problems.findings:
        raise Refused(f"{counted(len(problems), 'problem')} with the options", problems)
    documents = {layout.SUMMARY: summary_text(asked, request)}
    if asked.local is None:
        documents[layout.LOCAL] = local_text(asked)
    warnings = _read_back(asked, documents)
    created = _write(asked.directory, documents)
    path = asked.local.path if asked.local else asked.directory / layout.LOCAL
    return NewResult(
        created=tuple(str(file) for file in created),
        experiment=str(asked.one("experiment_name")),
        runs=len(asked.rows()),
        local=str(path),
        warnings=(*warnings, *_absent_data(asked), *_logs(asked)),
    )


def _directory(request: Request) -> Path:
    """Return the real path of the directory, which may not exist yet."""
    given = expanded(request.experiment)
    fix = "use a different directory"
    check_can_be_seen(given)
    real = real_path(given)
    taken = is_taken(real) and not is_directory(real)
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} contains a non-printable character"
        raise refuse("unsafe-path", message, field="experiment", fix=fix)
    check_roots(real, request)
    if taken or real.name.lower() in layout.RESERVED:
        message = f"{shown(str(given))} is not a directory"
        if not taken:
            message = f"{shown(real.name)} cannot be the name of an experiment directory: a file in it has this name"
        raise refuse("not-a-directory", message, field="experiment", fix=fix)
    return real


def _write(directory: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write the documents: each appears whole, and either all of them or none."""
    files = {directory / name: text.encode() for name, text in documents.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        publish(files)
    except OSError as error:
        message, place = f"cannot write into this directory: {error.strerror}", escape(str(directory))
        fix = "free disk space, get write permission, or use a different directory"
        problem = finding("write-failed", message, file=place, fix=fix)
        raise Refused(f"cannot write into {place}", [problem]) from error
    return list(files)


def _read_back(asked: NewExperiment, documents: Mapping[str, str]) -> list[Finding]:
    """Read the documents back and plan them: the plan must match the options. Returns its warnings.

    Raises:
        Refused: the documents cannot be scaffolded, or the plan does not match; contains every problem.
    """
    found = asked.local
    surroundings = (found.name, found.text) if found else (layout.LOCAL, documents[layout.LOCAL])
    try:
        experiment = parse_experiment((layout.SUMMARY, documents[layout.SUMMARY]), surroundings, lambda _: True)
        plan = make_plan(experiment, Options(), asked.context())
        outcomes = [run_bundled(run, render_run(plan, run, [layout.TEMPLATES]).document) for run in plan.runs]
    except Refused as refused:
        message = "the experiment cannot be scaffolded"
        raise Refused(message, [_unplaced(p, found) for p in refused.problems]) from refused
    problems = list({p.message: p for outcome in outcomes for p in outcome.problems}.values())
    if problems:
        raise Refused("setup_finetune would refuse the experiment", [_unplaced(p, found) for p in problems])
    if differing := _differences(asked, plan, experiment):
        raise Refused("the options cannot be represented in a summary", differing)
    warnings = {p.message: p for p in (*plan.warnings, *(w for outcome in outcomes for w in outcome.warnings))}
    return [_unplaced(p, found) for p in warnings.values()]


def _unplaced(problem: Finding, found: Document | None) -> Finding:
    """Return the problem without its place if that is in a file that is not written yet."""
    there = found is not None and problem.file == found.name
    return problem if there else problem.model_copy(update={"file": None, "line": None})


def _differences(asked: NewExperiment, plan: Plan, experiment: Experiment) -> list[Finding]:
    """Return the differences between the plan and the options; any difference is a fault of this module."""
    rows = asked.rows()
    controls = [f"{model}_base" for model in asked.values["model"]] if asked.control else []
    planned = [run.directory for run in plan.runs], [row.name for row in plan.excluded]
    if planned != ([name for name, _ in rows], controls):
        return [_mismatch("runs", None, None)]
    excused = {SourceKind.DEFAULT, SourceKind.DERIVED, *([SourceKind.LOCAL] if asked.local else [])}
    problems = {}
    for (name, row), run in zip(rows, plan.runs, strict=True):
        wanted = _wanted(asked, name, row)
        if asked.is_full():
            gpus = run.settings["gpus"].integer
            wanted["custom_recipe"] = recipe_for_gpus(str(asked.one("recipe")), gpus)
        of_plan = run.settings
        if "warmup_ratio" in wanted:  # the plan has it as steps
            of_plan = {k: s for k, s in of_plan.items() if k != "num_warmup_steps"}
            of_plan |= {k: s for k, s in experiment.config.items() if k == "warmup_ratio"}
        found = {k: s.value for k, s in of_plan.items() if k in wanted or s.source.kind not in excused}
        for key in sorted(wanted.keys() | found.keys()):
            one, other = wanted.get(key), found.get(key)
            if (type(one), one) != (type(other), other):
                problems[key] = _mismatch(key, one, other)
    return list(problems.values())


def _mismatch(key: str, wanted: Scalar, found: Scalar) -> Finding:
    message = f"{key} would be read back as {shown(found)} (expected {shown(wanted)})"
    fix = "report this bug in `new`; until it is fixed, write the summary yourself, using the bundled example"
    expected, actual = (escape(v) if isinstance(v, str) else v for v in (wanted, found))
    return finding("render-mismatch", message, field=key, expected=expected, actual=actual, fix=fix)


def _wanted(asked: NewExperiment, name: str, row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return every given setting of a run, as it must be in the plan."""
    converted = {"model", "dataset", "models_dir", "output_dir_base", "modules", "recipe"}
    data = asked.below("dataset")
    label, extension = layout.data_label(data)
    wanted = {n: v[0] for n, v in asked.values.items() if n not in converted}
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


def _logs(asked: NewExperiment) -> list[Finding]:
    """Return a warning if SLURM cannot write logs in the directory."""
    found = log_path_problem(str(asked.directory))
    return [found.model_copy(update={"severity": Severity.WARNING})] if found else []


def _absent_data(asked: NewExperiment) -> list[Finding]:
    """Return a warning if the data set does not exist yet."""
    path = asked.below("dataset")
    if is_file(path):
        return []
    message = f"the data set {escape(path)} does not exist yet"
    fix = "create it before you submit the runs, or correct the path in the summary"
    return [finding("missing-file", message, field="dataset", fix=fix, severity=Severity.WARNING)]
