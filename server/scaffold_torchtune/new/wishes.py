"""From the texts of the options to what was asked for: typed, completed by defaults, checked."""

import math
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from scaffold_torchtune.findings import Refused, Scalar, finding
from scaffold_torchtune.models.base import Setting, Source, SourceKind
from scaffold_torchtune.models.plan import Options
from scaffold_torchtune.new.asked import COLUMNS, MOST_RUNS, ONLY_LOCAL, OPTIONS, Asked
from scaffold_torchtune.new.documents import quoted
from scaffold_torchtune.parse import clean, local
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.pipeline import Request
from scaffold_torchtune.pipeline.locate import Document, local_document, read_document
from scaffold_torchtune.plan import checks
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.setup_finetune.registry import find_model, known_models
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.text import did_you_mean, escape, shown


def type_wishes(asked: Asked, wishes: Mapping[str, Sequence[str]]) -> None:
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
        value = clean.typed(parameter, Field(quoted(text), 1, flag)).value
        if value != text or any("\ud800" <= c <= "\udfff" for c in text):
            raise NotTyped("text that a document can hold: put no white space and no quotes around it")
        return value
    if clean.is_unset(text):
        raise NotTyped("a value (where there is none, leave the option out)")
    if clean.unquoted(clean.without_remark(text)) != text:
        raise NotTyped("a value alone, without quotes, white space or a remark around it")
    return clean.typed(parameter, Field(text, 1, flag)).value


def find_local(asked: Asked, request: Request) -> None:
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
    asked.problems += draft.findings
    asked.said = draft.settings


def complete(asked: Asked) -> None:
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


def _default(asked: Asked, name: str, value: Scalar, given: Iterable[str | None]) -> None:
    if value is not None and name not in given:
        asked.values.setdefault(name, [value])


def _default_name(asked: Asked) -> None:
    """The directory's name is the experiment's, where it can be."""
    name = asked.directory.name
    try:
        asked.values["experiment_name"] = [_typed("experiment_name", name)]
    except NotTyped as problem:
        message = f"the directory's name {shown(name)} cannot be the experiment's: it is not {problem.allowed}"
        asked.problem("invalid-value", "experiment_name", message, "add --name NAME", actual=escape(name))


def check(asked: Asked) -> None:
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
        asked.problems += checks.data_problems(data, Options(), asked.place())
    if asked.local is not None:
        _against_local(asked, asked.local)
    names = (layout.SUMMARY, layout.SUMMARY_YAML, *([] if asked.local else [layout.LOCAL]))
    for name in names:
        if os.path.lexists(asked.directory / name):
            message = f"{name} is in {escape(str(asked.directory))} already, and is never overwritten"
            fix = "give another directory, or move the file away"
            asked.problems.append(finding("edited-output", message, file=name, fix=fix))


def _against_local(asked: Asked, found: Document) -> None:
    """What is asked for of the surroundings must be what the found claude.local.md says: that is what is used."""
    for name in ONLY_LOCAL:
        text = asked.said.get(name)
        if name not in asked.values or (text is None and name == "output_dir_base"):
            continue
        value: Scalar = ",".join(map(str, asked.values[name]))
        try:
            there = clean.typed(PARAMETERS[name], text).value if text else None
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
