"""What stands where no settings are read, and says of the runs what they are not: lines, notes beside runs, sentences.

A line that names a setting and a note or sentence that names a method are refused where the runs would be others than
it says; what only mentions something is left alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Run, Setting
from scaffold_torchtune.parse import compound, free_text, headings, values
from scaffold_torchtune.parse.drafts import RowDraft, SourceText
from scaffold_torchtune.parse.methods import NotHonoured
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings import kinds, recipes
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label
from scaffold_torchtune.settings.unsupported import asked_otherwise
from scaffold_torchtune.system.text import shown

_OF_ANOTHER: Final = "take it out if the runs do without it; else do not scaffold this experiment with this tool"
_METHODS: Final = {recipes.LORA: "LoRA", recipes.FULL: "full fine-tuning"}
_TO_CONFIGURATION: Final = (
    "write it as a line '- **Name:** value' under '## Configuration', if the runs are to have it; else take it out"
)


def note_unread(reading: Reading, config: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    """Note what the summary says of the runs where no settings are read, and is not so."""
    _lines(reading, config, runs)
    tuned = {run.line: run for run in runs if run.type == "fine-tuned"}
    for row in reading.summary.rows:
        if row.line in tuned:
            _notes(reading, row, tuned[row.line], config)
    if tuned:
        _notes_about_all(reading, config, list(tuned.values()))
        _sentences(reading, config, list(tuned.values()))


def _value(parameter: Parameter, text: SourceText) -> Scalar:
    """Return the value that a line, or its first word, gives for a parameter; None where it gives none."""
    words = [word.rstrip(".,;") for word in text.text.split()[:1]] if parameter.kind not in {"text", "name"} else []
    found = (values.value_of(parameter, replace(text, text=word, full=word)) for word in (text.text, *words))
    return next((value for value in found if value is not None), None)


def _lines(reading: Reading, config: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    by_run = {name for run in runs for name in run.parameters}
    for name, text in reading.summary.unread_lines:
        if values.is_open(text.text):
            continue
        if name in compound.OF_OTHER_RUNS:
            _of_other_runs(reading, name, text, config, is_by_run=name in by_run)
            continue
        if name in headings.OF_JOBS:
            _of_jobs(reading, name, text, config, by_run)
            continue
        value, planned = _value(PARAMETERS[name], text), config.get(name)
        # a line without a value is prose
        if value is None or name in by_run or (planned is not None and planned.value == value):
            continue
        taken = f"line {planned.source.line} is read" if planned else "no other line sets it"
        message = f"{name} is {shown(value)} here (under {shown(text.note)}), where no settings are read; {taken}"
        reading.add("unused-field", message, field=name, actual=value, line=text.line, fix=_TO_CONFIGURATION)


def _of_jobs(reading: Reading, name: str, text: SourceText, config: Mapping[str, Setting], by_run: set[str]) -> None:
    """Refuse a line that asks for other jobs than are planned, where it is plainly a request: an account, 4 GPUs."""
    value, planned = values.value_of(PARAMETERS[name], text), config.get(name)
    has = planned.value if planned else PARAMETERS[name].default
    if value is None or name in by_run or has == value or _is_same_time(name, has, value):
        return
    message = f"{name} is {shown(value)} here (under {shown(text.note)}), where no settings are read"
    code, fix = "misspelt-field", _TO_CONFIGURATION
    is_estimate = name == "mem" or (name == "time" and ":" not in text.text)  # how long all of it takes
    if headings.is_about_machines(text.note) or is_estimate:
        code, fix = "unused-field", _TO_CONFIGURATION
    reading.add(code, message, field=name, expected=has, actual=value, line=text.line, fix=fix)


def _is_same_time(name: str, one: Scalar, other: Scalar) -> bool:
    return name == "time" and one is not None and kinds.slurm_seconds(str(one)) == kinds.slurm_seconds(str(other))


def _of_other_runs(
    reading: Reading, name: str, text: SourceText, config: Mapping[str, Setting], *, is_by_run: bool
) -> None:
    """Refuse a line that says of a method, LoRA, nodes or the like what Configuration does not say.

    Where rows say it, `is_by_run`, they count; what no scaffold can honour is refused all the same.
    """
    try:
        said = compound.parts(name, text)
    except NotHonoured as problem:
        if next(asked_otherwise(text.full or text.text), None):  # all else may be prose: `Method: a grid over ranks`
            reading.not_honoured(name, text, problem)
        return
    if is_by_run:
        return
    for part, field in said.items():
        value, planned = values.value_of(PARAMETERS[part], field), config.get(part)
        usual = {"recipe": recipes.LORA, "nodes": 1}.get(part, PARAMETERS[part].default)
        is_so = value == usual if planned is None else planned.value == value
        if part == "recipe" and planned is not None and value is not None:
            is_so = recipes.agree(str(planned.value), str(value))
        if value is not None and part in compound.OF_OTHER_RUNS and not is_so:
            message = f"{part} is {shown(value)} here (under {shown(text.note)}), where no settings are read"
            reading.add("misspelt-field", message, field=part, actual=value, line=text.line, fix=_TO_CONFIGURATION)
            return


def _method(run: Run, config: Mapping[str, Setting]) -> str | None:
    recipe = run.parameters.get("recipe") or config.get("recipe")
    return recipes.LORA if recipe is None else recipes.method_of(recipe.text)


def _notes(reading: Reading, row: RowDraft, run: Run, config: Mapping[str, Setting]) -> None:
    """Refuse notes beside a run that say it is another one."""
    for note in row.notes:
        named, planned = free_text.in_note(note.full or note.text), _method(run, config)
        if named.other is not None:
            what = f"asks for {shown(named.other)}, which is not scaffolded"
            reading.not_honoured(note.note.rpartition(".")[2], note, NotHonoured(what, _OF_ANOTHER))
        elif named.recipe is not None and planned is not None and named.recipe != planned:
            method, fix = _METHODS[named.recipe], "give the table a column Method, or correct the note"
            message = f"the run {shown(run.name)} is {_METHODS[planned]}, but its {note.note} says {method}"
            reading.add(
                "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=note.line, fix=fix
            )
        for name, text in free_text.settings_in_note(note.full or note.text):
            _setting_beside(reading, name, text, note, run, config)


def _setting_beside(
    reading: Reading, name: str, text: str, note: SourceText, run: Run, config: Mapping[str, Setting]
) -> None:
    parameter = PARAMETERS[name]
    value = values.value_of(parameter, replace(note, text=text, full=None, source=None))
    planned = run.parameters.get(name) or config.get(name)
    rank = run.parameters.get("lora_rank") or config.get("lora_rank")
    usual = {"nodes": 1, "lora_alpha": 2 * rank.integer if rank else None}  # the rule of lora_alpha
    has = planned.value if planned else usual.get(name, parameter.default)
    if value is None or has == value or name == "effective_batch_size" or (has is None and planned is None):
        return
    message = f"{name} of the run {shown(run.name)} is {shown(has)}, but its {note.note} says {shown(value)}"
    fix = f"write the one that is meant in a column of {name}, and the note without it"
    reading.add("ambiguous", message, field=name, expected=has, actual=value, line=note.line, fix=fix)


def _notes_about_all(reading: Reading, config: Mapping[str, Setting], tuned: Sequence[Run]) -> None:
    """Refuse notes in Configuration that say that all runs are others."""
    for note in reading.summary.notes:
        written = note.full or note.text
        _named(reading, free_text.in_note(written), note, config, tuned)
        for name, text in free_text.settings_in_note(written):
            _level(reading, name, text, note, config, tuned, code="ambiguous")


def _sentences(reading: Reading, config: Mapping[str, Setting], tuned: Sequence[Run]) -> None:
    """Refuse sentences that say that the runs are trained by a method that none has; tell other values of settings."""
    for text in reading.summary.prose:
        written = text.full or text.text
        _named(reading, free_text.in_sentences(written), text, config, tuned)
        for label, stated in free_text.settings_in_sentences(written):
            _level(reading, label, stated, text, config, tuned)


def _named(
    reading: Reading, named: free_text.Named, text: SourceText, config: Mapping[str, Setting], tuned: Sequence[Run]
) -> None:
    """Refuse what a text says of all runs, where none of them is trained so."""
    methods = {_method(run, config) for run in tuned}
    if named.other is not None:
        message = f"{text.note} says that the runs are trained with {shown(named.other)}, which is not scaffolded"
        reading.add("unsupported-setting", message, field="recipe", actual=named.other, line=text.line, fix=_OF_ANOTHER)
    elif named.recipe is not None and named.recipe not in methods and None not in methods:
        (planned, *_) = sorted(filter(None, methods))
        said = _METHODS[named.recipe]
        message = f"{text.note} says that the runs are trained by {said}, and all are {_METHODS[planned]}"
        fix = f"write '- **Method:** {said}' in Configuration, or correct the text"
        reading.add(
            "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=text.line, fix=fix
        )


def _level(
    reading: Reading,
    label: str,
    written: str,
    text: SourceText,
    config: Mapping[str, Setting],
    tuned: Sequence[Run],
    *,
    code: str = "levels-differ",
) -> None:
    parameter = by_label(label)
    value = None if parameter is None else values.value_of(parameter, replace(text, text=written, full=None))
    if parameter is None or value is None:
        return
    name = parameter.name
    given = [setting for run in tuned if (setting := run.parameters.get(name) or config.get(name)) is not None]
    levels = {setting.value for setting in given} or {parameter.default}
    if value not in levels and None not in levels:
        message = f"{text.note} says that {name} is {shown(value)}, and no run has it"
        reading.add(
            code, message, field=name, actual=value, line=text.line,
            fix="correct the one that is wrong; the runs count",
        )  # fmt: skip
