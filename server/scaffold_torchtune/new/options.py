"""The options of `new`, completed by defaults and checked, and the texts that are made from them."""

import itertools
import math
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, Scalar, finding
from scaffold_torchtune.models import Options, Setting, Source, SourceKind
from scaffold_torchtune.parse import local, values
from scaffold_torchtune.parse.drafts import Field
from scaffold_torchtune.pipeline.locate import Document, local_document, read_document
from scaffold_torchtune.plan import checks, naming
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings import kinds, recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import OF_LOCAL, PARAMETERS
from scaffold_torchtune.system import layout, templating
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.text import did_you_mean, escape, shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model, known_models

# What may be asked for, and what was: the options of `new`, and their values.

MOST_RUNS: Final = 2_000


_ORDER: Final = (
    "experiment_name", "model", "recipe", "lora_rank", "lr", "batch_size", "epochs", "seed", "dataset",
    "system_prompt", "models_dir", "conda_env", "my_wandb_project", "output_dir_base", "account", "partition",
    "constraint", "qos", "gpu_type", "mail_user", "mail_type", "wandb_entity", "time", "gpus", "modules",
)  # fmt: skip
_FOUND: Final = {name: p.option for name, p in PARAMETERS.items() if p.option is not None}

OPTIONS: Final = {name: _FOUND[name] for name in sorted(_FOUND, key=(*_ORDER, *_FOUND).index)}
"""What may be asked for, by parameter: what people need first stands first, the rest in the parameters' order."""

COLUMNS: Final = {name: option.label for name, option in OPTIONS.items() if option.label and option.many}
_LINES: Final = ("recipe", "epochs", "seed", "gpus", "time", "system_prompt")
TRAINING: Final = {
    name: option.label
    for name in (*_LINES, *OPTIONS)
    if (option := OPTIONS[name]).label and (name not in COLUMNS or name == "seed")
}
"""The lines of Configuration. One seed is such a line, several are a column."""

ONLY_LOCAL: Final = tuple(name for name in OPTIONS if name in OF_LOCAL.keys() - {"models_dir"} - TRAINING.keys())
"""What only claude.local.md says."""

# What a run's settings do not hold as it was given.
PLACED: Final = frozenset({"model", "dataset", "models_dir", "output_dir_base", "modules", "recipe"})


@dataclass
class Wanted:
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

    def is_full(self) -> bool:
        """Whether all weights are to be trained."""
        return recipes.method_of(str(self.one("recipe"))) == recipes.FULL

    def problem(self, code: str, name: str, message: str, fix: str, **found: Scalar) -> None:
        """Note what is wrong with an option."""
        self.problems.append(finding(code, message, field=name, fix=fix, **found))  # type: ignore[arg-type]

    def below(self, name: str) -> str:
        """An absolute path: a relative one is taken from the experiment directory."""
        return posixpath.normpath(posixpath.join(str(self.directory), str(self.one(name))))

    def context(self) -> PlanContext:
        """Where the experiment will be planned."""
        folder = self.local.path.parent if self.local else self.directory
        return PlanContext(str(self.directory), str(folder), str(TEMPLATES), lambda path: Path(path).is_file())

    @property
    def columns(self) -> list[str]:
        """The parameters that are columns of the runs table beside the model. One seed is a line of Configuration."""
        given = {name: len(self.values.get(name, ())) for name in COLUMNS}
        return [name for name, count in given.items() if count > 1 or (count and name != "seed")]

    def rows(self) -> list[tuple[str, dict[str, Scalar]]]:
        """Every fine-tuned run: its name, as `plan` names it, and its parameters."""
        names = ["model", *self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(self.values[n] for n in names))]
        varying = naming.varying_parameters(names, rows)
        if varying:
            return list(zip(naming.names_by_varying(varying, rows).names, rows, strict=True))
        usual = {name: PARAMETERS[name].default for name in ("lora_rank", "lr")}
        if self.is_full():
            usual = {"lr": usual["lr"], "recipe": recipes.FULL}
        return [(naming.single_name("", usual | rows[0]), rows[0])]


# The texts of experiment_summary.md and claude.local.md.

_MARKUP: Final = re.compile(r"[\\`*\[\]<>&|]|(?<![^\W_])_|_(?![^\W_])")


def quoted(text: str) -> str:
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
    return kinds.shortest_number(value) if isinstance(value, float) else str(value)


def summary_text(asked: Wanted, request: Request) -> str:
    """The text of experiment_summary.md."""
    columns, rows, models = asked.columns, asked.rows(), [str(model) for model in asked.values["model"]]
    controls = models if asked.control else []
    count = f"{len(rows)} fine-tuned"
    if controls:
        count += f" + {len(controls)} control = {len(rows) + len(controls)} total"
    cells = [[_prose(n), str(row["model"]), *(_number(row[c]) for c in columns), "Fine-tuned"] for n, row in rows]
    cells += [[f"{model}_base", model, *("-" for _ in columns), "Control"] for model in controls]
    labels = {"model": "Model"} | {column: COLUMNS[column] for column in columns}
    several = {label: asked.values[name] for name, label in labels.items() if len(asked.values[name]) > 1}
    training = [
        (label, _prose(quoted(str(asked.one(name)))) if name == "system_prompt" else _number(asked.one(name)))
        for name, label in TRAINING.items()
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


def local_text(asked: Wanted) -> str:
    """The text of claude.local.md."""
    names = ("models_dir", *(name for name in ONLY_LOCAL if name != "modules"))
    values = {name: _code(asked.one(name)) if name in asked.values else "(leave empty)" for name in names}
    modules = [str(module) for module in asked.values.get("modules", ())]
    return templating.render("new_local.md.j2", {**values, "modules": modules}, [TEMPLATES])


# From the texts of the options to what was asked for: typed, completed by defaults, checked.


def type_wishes(asked: Wanted, wishes: Mapping[str, Sequence[str]]) -> None:
    """Type what every option says."""
    for name, option in OPTIONS.items():
        texts = list(wishes.get(name, ()))
        if option.many:
            texts = [part.strip() for text in texts for part in text.split(",")]
        elif len(texts) > 1:
            asked.problem("ambiguous", name, f"{option.flag} is given twice", "give it once")
            continue
        for text in texts:
            try:
                value = _typed(name, text)
            except NotTyped as problem:
                message = f"{option.flag}: {shown(text)} is not {problem.allowed}"
                fix, actual = f"give {problem.allowed}", escape(text)
                asked.problem("invalid-value", name, message, fix, actual=actual, expected=problem.allowed)
                continue
            values = asked.values.setdefault(name, [])
            if value in values:
                message = f"{option.flag} gives {shown(value)} twice"
                asked.problem("ambiguous", name, message, "give each value once")
            values.append(value)


def _typed(name: str, text: str) -> Scalar:
    """The value of an option, exactly as a document that holds it is read.

    Raises:
        NotTyped: the text is not such a value.
    """
    parameter, flag = PARAMETERS[name], OPTIONS[name].flag
    if parameter.name == "system_prompt":
        value = values.typed(parameter, Field(quoted(text), 1, flag)).value
        if value != text or any("\ud800" <= c <= "\udfff" for c in text):
            raise NotTyped("text that a document can hold: put no white space and no quotes around it")
        return value
    if values.is_unset(text):
        raise NotTyped("a value (where there is none, leave the option out)")
    if values.unquoted(values.without_remark(text)) != text:
        raise NotTyped("a value alone, without quotes, white space or a remark around it")
    return values.typed(parameter, Field(text, 1, flag)).value


def find_local(asked: Wanted, request: Request) -> None:
    """The claude.local.md that the experiment will use, if there is one already."""
    path = local_document(request, asked.directory)
    if path is None:
        return
    asked.local = Document(path, path.name, "", "")
    try:
        asked.local = read_document(path, path.name, follow=True)
    except Refused as refused:
        asked.problems += refused.problems
    draft = local.read_local(asked.local.text, asked.local.name)
    asked.problems += draft.findings
    asked.said = draft.settings


def complete(asked: Wanted) -> None:
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
            option = OPTIONS[name]
            asked.problem("missing-field", name, f"{option.flag} is missing", f"add {option.flag} {option.metavar}")


def _default(asked: Wanted, name: str, value: Scalar, given: Iterable[str | None]) -> None:
    if value is not None and name not in given:
        asked.values.setdefault(name, [value])


def _default_name(asked: Wanted) -> None:
    """The directory's name is the experiment's, where it can be."""
    name = asked.directory.name
    try:
        asked.values["experiment_name"] = [_typed("experiment_name", name)]
    except NotTyped as problem:
        message = f"the directory's name {shown(name)} cannot be the experiment's: it is not {problem.allowed}"
        asked.problem("invalid-value", "experiment_name", message, "add --name NAME", actual=escape(name))


def check(asked: Wanted) -> None:
    """Note what cannot be scaffolded, contradicts the claude.local.md that was found, or is in the way."""
    for model in asked.values.get("model", ()):
        if find_model(str(model)) is None:
            message = f"{shown(model)} is not a known model. {did_you_mean(str(model), known_models())}".strip()
            asked.problem("unknown-model", "model", message, f"give one of {', '.join(known_models())}", actual=model)
    runs = math.prod(len(values) for name, values in asked.values.items() if name in {"model", *COLUMNS})
    if runs > MOST_RUNS:
        message = f"that makes {runs} runs, more than {MOST_RUNS}"
        asked.problem("unsupported-setting", "runs", message, "give fewer values, or several experiments")
    if asked.is_full() and "lora_rank" in asked.values:
        message = "--rank is of LoRA, and --recipe asks for full fine-tuning"
        asked.problem("unsupported-setting", "lora_rank", message, "leave one of the two out")
    if "dataset" in asked.values:
        source = Source(kind=SourceKind.RESOURCES)
        data = [Setting(value=asked.one("dataset"), source=source)]
        asked.problems += checks.data_problems(data, Options(), asked.context())
    if asked.local is not None:
        _against_local(asked, asked.local)
    names = (layout.SUMMARY, layout.SUMMARY_YAML, *([] if asked.local else [layout.LOCAL]))
    for name in names:
        if os.path.lexists(asked.directory / name):
            message = f"{name} is in {escape(str(asked.directory))} already, and is never overwritten"
            fix = "give another directory, or move the file away"
            asked.problems.append(finding("edited-output", message, file=name, fix=fix))


def _against_local(asked: Wanted, found: Document) -> None:
    """What is asked for of the surroundings must be what the found claude.local.md says: that is what is used."""
    for name in ONLY_LOCAL:
        text = asked.said.get(name)
        if name not in asked.values or (text is None and name == "output_dir_base"):
            continue
        value: Scalar = ",".join(map(str, asked.values[name]))
        try:
            there = values.typed(PARAMETERS[name], text).value if text else None
        except NotTyped:
            continue  # which is told when the documents are read
        if name == "output_dir_base":
            value = asked.below(name)
            there = posixpath.normpath(posixpath.join(str(found.path.parent), str(there)))
        if value != there:
            says = f"says {shown(there)} (line {text.line})" if text else "does not give it"
            flag = OPTIONS[name].flag
            message = f"{flag} is {shown(value)}, but {escape(str(found.path))}, which is used here, {says}"
            fix = f"leave {flag} out, or correct that file, or put a {layout.LOCAL} of its own into the directory"
            asked.problem("ambiguous", name, message, fix)
