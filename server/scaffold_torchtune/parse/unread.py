"""Unread lines, notes of runs and sentences of the documents that contradict the runs.

A line that names a setting, and a note or sentence that names a method, are problems if they contradict the runs. Mere
mentions are ignored.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Scalar, counted, escape, few, lines_text, shown
from scaffold_torchtune.models import Run, Setting, Source, SourceKind
from scaffold_torchtune.parse import compound, document_lines, free_text, headings, values
from scaffold_torchtune.parse.drafts import RowDraft, SourceText, TunedRuns, UnreadLine
from scaffold_torchtune.parse.free_text import SEVERAL, Stated
from scaffold_torchtune.parse.marked_rows import full_in_name, of_some_runs
from scaffold_torchtune.parse.notations import NotHonoured, not_supported, remove_unsupported
from scaffold_torchtune.parse.reading import UNTIL_THEN, Reading
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asked_otherwise, is_refused
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, model_by_spelling, recipes_agree

_METHODS: Final = {LORA: "LoRA", FULL: "full fine-tuning"}
_CORRECT: Final = "correct the text or the runs, whichever is wrong"
_FEW: Final = 6
_LONGEST_NOTE: Final = 2_000
_IN_ALL: Final = re.compile(
    r" (?:(?:for|in) (?:all|each|every)(?: of the)?(?: runs?| models?| conditions?)?|throughout|everywhere)\.?$"
)
_OF_WHOLES: Final = {"attention": {"apply_lora_to_mlp": "no"}, "attention and mlp": {"apply_lora_to_mlp": "yes"}}
"""Settings for LoRA in whole parts of a layer, without the modules in attention."""
_OF_THE_DATA: Final = frozenset({"training_samples", "max_steps_per_epoch", "warmup_ratio"})
"""Numbers that follow from the data set if no document sets them: the plan compares them with the runs."""
_SAMPLES: Final = PARAMETERS["training_samples"]
_OTHER_LOGGER: Final = re.compile(
    r"(?:tensorboard|ml-?flow|neptune|comet|clearml|aim|csv|stdout|disk)(?!\w)", re.IGNORECASE
)
_LINE_BREAK: Final = re.compile(r"\\n")


def note_unread(reading: Reading, config: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    """Report statements in unread parts of the documents that contradict the runs."""
    fine_tuned = [run for run in runs if run.type == "fine-tuned"]
    tuned = TunedRuns(fine_tuned, config, frozenset(run.model for run in runs), reading.summary.datasets)
    if not tuned.runs:
        return
    before = len(reading.findings)
    for line in reading.summary.unread_lines:
        _line(reading, line, tuned)
    reported = {found.line for found in reading.findings[before:]}
    by_line = {run.line: run for run in tuned.runs}
    of_groups = set[tuple[int, str]]()
    for row in reading.summary.rows:
        if row.line in by_line:
            _notes(reading, row, by_line[row.line], tuned, of_groups)
    _names(reading, tuned)
    _estimates(reading, [(row, by_line[row.line]) for row in reading.summary.rows if row.line in by_line], tuned)
    for note in reading.summary.notes:
        _about_all(reading, note, tuned)
    for text in reading.summary.prose:
        if text.line not in reported:
            _sentences(reading, text, tuned)
    _numbers(reading, tuned)
    for text in reading.local.prose:
        _local_sentence(reading, text, tuned)


def _numbers(reading: Reading, tuned: TunedRuns) -> None:
    """Report numbers of levels instead of levels (`Seed: 3 seeds`), and numbers of samples beside the data set."""
    for name, text in reading.summary.levels:
        if (count := free_text.count_of_levels(text.full or text.text)) is not None:
            _state(reading, Stated(name, number=count), text, tuned, is_labelled=True)
    for text in reading.summary.samples:
        # the numbers of a single data set are compared with its file
        if not tuned.has_one_data_set() or not text.note.endswith(("Split", "Splits")):
            _depends_on_data(reading, "training_samples", values.value_of(_SAMPLES, text), text, tuned)


# --- lines that look like settings


def _line(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    name, text = line.name, line.text
    if values.is_open(text.text) and not compound.says_none(line.label, text.text):
        return
    if not name:
        _not_planned(reading, line)
    elif name == "model":
        _model(reading, line, tuned)
    elif line.plural:
        _levels_of(reading, line, tuned)
    elif name in compound.OF_OTHER_RUNS:
        _of_other_runs(reading, line, tuned)
    elif name in headings.OF_JOBS:
        _of_jobs(reading, line, tuned)
    else:
        _hyperparameter(reading, line, tuned)


def _hyperparameter(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    """Report a line that clearly gives a hyperparameter a value that no run has.

    It is a warning if its label may be another word, if its section is about the data or costs, or if words follow the
    value, so that it may be prose.
    """
    name, text = line.name, line.text
    parameter, levels = PARAMETERS[name], tuned.levels(name)
    if parameter.kind == "text":
        _free_text(reading, line, levels)
        return
    listed = free_text.of_levels(name, line.label, text.full or text.text)
    if listed is not None and len(listed.values) > 1 and _are_values(parameter, listed, text):
        _state(reading, listed, replace(text, label=line.label), tuned)
        return
    if tail := _IN_ALL.search(text.text):
        text = replace(text, text=text.text[: tail.start()], full=None, source=None)
    value = values.value_of(parameter, text)
    is_word = normalize(line.label) in parameter.words
    code = "levels-differ" if is_word else "unused-field" if line.vague else "ambiguous"
    if value is None and parameter.kind != "name":
        word = next((word.rstrip(".,;`") for word in text.text.split()[:1]), "")
        value, code = values.value_of(parameter, replace(text, text=word, full=word)), "unused-field"
    if value is not None and value not in levels:
        _other_value(reading, name, text, value, levels, code)


def _model(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    """Report a line with a model that no run uses."""
    whole = line.text.full or line.text.text
    name = whole if model_by_spelling(whole) else values.without_remark(whole)
    if not tuned.uses_model(name, exact=True):
        _state(reading, Stated("model", (name,)), replace(line.text, label=line.label), tuned)


def _free_text(reading: Reading, line: UnreadLine, levels: Mapping[Scalar, int]) -> None:
    r"""Report a prompt that no run has, even one that Configuration could not give, such as one with a `\n`."""
    text = line.text
    written = (text.source or text.full or text.text).strip()
    if values.stands_for_text(written):
        return
    value = "" if values.says_none(written) else values.value_of(PARAMETERS[line.name], text)
    shown_as = values.unquoted(written.strip("`")) if value is None else value
    known = {str(level or "") for level in levels}
    if shown_as not in known and _LINE_BREAK.sub("\n", str(shown_as)) not in known:
        _other_value(reading, line.name, text, shown_as, levels, "unused-field" if line.vague else "ambiguous")


def _are_values(parameter: Parameter, stated: Stated, text: SourceText) -> bool:
    return parameter.kind in {"int", "float"} and None not in _typed(parameter, stated, text)


def _typed(parameter: Parameter, stated: Stated, text: SourceText) -> list[Scalar]:
    return [values.value_of(parameter, replace(text, text=one, full=None, source=None)) for one in stated.values]


def _other_value(
    reading: Reading, name: str, text: SourceText, value: Scalar, levels: Mapping[Scalar, int], code: str
) -> None:
    is_code = reading.form != "yaml" and document_lines.is_in_code(reading.summary.text, text.line)
    under = f"under {shown(text.note)}, where settings are not read"
    under = f"in a block of code under {shown(text.note)}, which is not read" if is_code else under
    message = f"{name} is {shown(value)} {under}; {_used(levels)}"
    section = "in 'controls'" if reading.form == "yaml" else f"under '## Configuration'{' outside the block' * is_code}"
    to = f"the runs, write {kinds.as_line(name, value, yaml=reading.form == 'yaml')} {section}"
    if of_some_runs(text.note, reading.summary):
        to = f"these runs, write `{kinds.written(value)}` in {reading.own_place(name)}"
    elif any(mark in str(value) for mark in ("\n", "\\n", "`")):
        to = f"the runs, write it {section}"
    fix = f"if it applies to {to}; otherwise remove it"
    reading.add(code, message, field=name, expected=_listed(levels, ""), actual=value, line=text.line, fix=fix)


def _listed(levels: Mapping[Scalar, int], last: str = "and") -> str:
    return few([kinds.written(level) if level is not None else "none" for level in levels], _FEW, last=last)


def _used(levels: Mapping[Scalar, int]) -> str:
    return "no run has a value for it" if levels.keys() == {None} else f"the runs use {_listed(levels)}"


def _not_planned(reading: Reading, line: UnreadLine) -> None:
    """Report a line that asks for something unsupported; as a warning if it may mean something else."""
    text, label = line.text, line.label
    written = f"{label}: {text.full or text.text}"
    words = normalize(label)
    if not is_refused(words, text.full or text.text):
        return
    if next(asked_otherwise(written), None) and not line.vague:
        reading.not_planned(label, text)
        return
    message = f"{shown(label)} under {shown(text.note)} is {shown(text.text)}, which no run uses: {NOT_PLANNED[words]}"
    fix = "no action if it is not a setting of the runs; if it is, this tool cannot scaffold them"
    reading.add("unused-field", message, field=words, actual=text.text, line=text.line, fix=fix)


def _levels_of(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    """Report a line with levels, or a number of levels, that the runs do not have: `Seeds: 3`, `Ranks: 8, 16`."""
    name, text, levels = line.name, line.text, tuned.levels(line.name)
    stated = free_text.of_levels(name, line.label, text.full or text.text)
    is_the_one = len(levels) == 1 and values.value_of(PARAMETERS[name], text) in levels  # `Seeds: 42`
    if stated is not None and not is_the_one:
        is_plain = (bool(stated.number) or line.is_read) and not line.vague
        _state(reading, stated, replace(text, label=line.label), tuned, is_labelled=is_plain)


def _of_jobs(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    """Report a line that clearly asks for other jobs than planned: an account, 4 GPUs."""
    name, text = line.name, line.text
    if name == "gpus":
        text = values.requested_gpus(text)["gpus"]
    value, levels = values.value_of(PARAMETERS[name], text), tuned.levels(name)
    if value is None or any(has == value or _is_same_time(name, has, value) for has in levels):
        return
    is_estimate = name == "mem" or (name == "time" and ":" not in text.text)  # perhaps of all runs
    is_vague = headings.is_about_machines(text.note) or is_estimate or line.vague
    _other_value(reading, name, text, value, levels, "unused-field" if is_vague else "misspelt-field")


def _is_same_time(name: str, one: Scalar, other: Scalar) -> bool:
    return name == "time" and one is not None and kinds.slurm_seconds(str(one)) == kinds.slurm_seconds(str(other))


def _of_other_runs(reading: Reading, line: UnreadLine, tuned: TunedRuns) -> None:
    """Report a line about the method, LoRA, nodes, W&B or the effective batch size that contradicts all runs."""
    text = line.text
    try:
        parts = compound.parts(line.label, text)
    except NotHonoured as problem:
        written = text.full or text.text
        if next(asked_otherwise(written), None):  # other texts may be prose: `Method: a grid over ranks`
            reading.not_honoured(line.label, text, problem)
        elif line.name == "wandb_mode" and _OTHER_LOGGER.match(written.strip("`* ")):
            message = f"according to {text.place()}, the runs log to {shown(written)}, but W&B is configured"
            reading.add(
                "levels-differ", message, field="wandb_mode", actual=written, line=text.line, fix=_CORRECT + UNTIL_THEN
            )
        return
    for part, each in parts.items():
        value, levels = values.value_of(PARAMETERS[part], each), tuned.levels(part)
        if part == "recipe" and value is not None:
            is_so = any(recipes_agree(str(has or LORA), str(value)) for has in levels)
        else:
            is_so = value in levels or (part in OF_LORA and levels.keys() == {None})
        if value is not None and not is_so and not line.vague:
            _other_value(reading, part, text, value, levels, "misspelt-field")
            return


# --- notes of runs


_CHANGED: Final = re.compile(
    r"(?P<before>^|[;,.] )(?:(?:[\w-]{1,20} ){0,2}"
    r"(?:changed?|updated?|fixed|new|now|longer|shorter|larger|smaller|higher|lower)(?: [\w-]{1,20}){0,2}: "
    r"|(?:(?:=|as|like) )?[\w.-]{1,60} \+ |(?:oom|failed|crashed|diverged)[\w. -]{0,40} ?(?:->|→|=>) )",
    re.IGNORECASE,
)
_SHORT: Final = re.compile(
    r"(?P<before>^|[;,.] )(?:(?P<epochs>[0-9]{1,4}) ?eps?|(?P<packed>packed)|(?P<all>trains? on inputs?))"
    r"(?=$|[;,.])",
    re.IGNORECASE,
)
_LONG: Final = {"epochs": "{} epochs", "packed": "samples are packed", "all": "train on inputs too"}
_DECIMAL_COMMA: Final = re.compile(r"(?<![0-9,.])([0-9]),(?=[0-9]{1,4}e-[0-9])", re.IGNORECASE)


def _in_full(note: str) -> str:
    """Return a note with its settings in full: `longer: 3 ep` as `3 epochs`, `= A + packed` as `samples are packed`."""
    note = _CHANGED.sub(r"\g<before>", _DECIMAL_COMMA.sub(r"\1.", note[:_LONGEST_NOTE]))
    return _SHORT.sub(lambda found: found["before"] + _LONG[found.lastgroup or ""].format(found["epochs"]), note)


def _notes(reading: Reading, row: RowDraft, run: Run, tuned: TunedRuns, reported: set[tuple[int, str]]) -> None:
    """Report notes of a run that contradict it. The note of a group of runs is `reported` once for each setting."""
    for note in row.notes:
        named, planned = free_text.in_note(note.full or note.text), tuned.method(run)
        if named.other is not None and not (
            free_text.is_of_places(named.other) and tuned.of("apply_lora_to_mlp", run) is False
        ):
            what, fix = not_supported(named.other, note.full or note.text), remove_unsupported(shown(named.other))
            reading.not_honoured(note.note.rpartition(".")[2], note, NotHonoured(what, fix))
        elif named.recipe is not None and planned is not None and named.recipe != planned:
            method, place = _METHODS[named.recipe], reading.own_place("recipe")
            fix = f"if {method} is intended, write `{method}` for this run in {place}; otherwise correct the note"
            message = f"the run {shown(run.name)} uses {_METHODS[planned]}, but {note.note} says {method}"
            reading.add(
                "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=note.line, fix=fix
            )
        for name, text in free_text.settings_in_note(_in_full(note.full or note.text)):
            before = len(reading.findings)
            if (note.line, name) not in reported:
                _setting_beside(reading, name, text, note, run, tuned)
            reported |= {(note.line, name)} if len(reading.findings) > before else set()
        rank = tuned.of("lora_rank", run)
        for factor in free_text.alphas_in_sentences(note.full or note.text):
            if isinstance(rank, int):
                _setting_beside(reading, "lora_alpha", f"{factor * rank:g}", note, run, tuned)
        _named_beside(reading, note, run, tuned)


def _named_beside(reading: Reading, note: SourceText, run: Run, tuned: TunedRuns) -> None:
    """Report a note that names another model or data set than its row."""
    written, of_run = note.full or note.text, replace(tuned, models=frozenset({run.model}), counted={})
    for name in free_text.models_in_note(written):
        is_size = model_by_spelling(name) is None
        has_size = name.casefold() in re.split(r"[^a-z0-9.]+", run.model.casefold())
        if not has_size if is_size else not of_run.uses_model(name, exact=False):
            _setting_beside(reading, "model", name, note, run, tuned)
    for path in free_text.data_in_text(written, of_note=True):
        if not tuned.uses_file(path, [run]):
            _setting_beside(reading, "dataset", path, note, run, tuned)


def _names(reading: Reading, tuned: TunedRuns) -> None:
    """Report runs that use LoRA, but are named after full fine-tuning.

    The name is a problem if no cell of the row gives a setting of LoRA, and else a warning.
    """
    of_method = {*OF_LORA, "recipe"}
    has_ranks = any(of_method & run.parameters.keys() for run in tuned.runs)
    reported = {each.line for each in reading.findings if each.code == "unsupported-setting"}
    column = next(
        (i for i, each in enumerate(reading.summary.columns) if by_label(each.text) is PARAMETERS["model"]), -1
    )
    models = {row.line: row.cells[column].text for row in reading.summary.rows if column in row.cells}
    found: list[Run] = []
    for run in (run for run in tuned.runs if run.line not in reported):
        if tuned.method(run) != LORA:
            continue
        named = full_in_name(run.name) or full_in_name(models.get(run.line, ""))
        if named and not of_method & run.parameters.keys() and (named == FULL or has_ranks):
            found.append(run)
        elif named == FULL and of_method & run.parameters.keys():
            message = f"the name of the run {shown(run.name)} says full fine-tuning, but the run uses LoRA"
            fix = "change the name, or the method in the row"
            reading.add(
                "name-mismatch", message, field="recipe", expected=FULL, actual=LORA, line=run.line, fix=fix,
                severity=Severity.WARNING,
            )  # fmt: skip
    title = reading.summary.name
    if title and tuned.methods == {LORA} and not found and full_in_name(title.text.replace(" ", "_")) == FULL:
        message = f"the title {shown(title.text)} says full fine-tuning, but all runs use LoRA"
        fix = "add `- **Method:** full fine-tuning` to Configuration if intended; otherwise change the title"
        reading.add(
            "name-mismatch", message, field="recipe", expected=FULL, actual=LORA, line=title.line, fix=fix,
            severity=Severity.WARNING,
        )  # fmt: skip
    if found:
        names = few([shown(run.name) for run in found], _FEW)
        message = f"the run {names} is named after full fine-tuning, but its row gives no method, so it uses LoRA"
        if len(found) > 1:
            what = "are named after full fine-tuning, but their rows give no method, so they use LoRA"
            message = f"{len(found)} runs ({names}) {what}"
        these = "the runs" if len(found) > 1 else "the run"
        fix = f"{_to_give_method(reading, found, tuned)}; if LoRA is intended, rename {these}"
        reading.add("ambiguous", message, field="recipe", expected=LORA, actual=FULL, line=found[0].line, fix=fix)
        reading.unasked.append(reading.findings[-1])


def _to_give_method(reading: Reading, found: Sequence[Run], tuned: TunedRuns) -> str:
    """Return the fix that makes some runs use full fine-tuning."""
    names = few([escape(run.name) for run in found], _FEW)
    column = next((each.text for each in reading.summary.columns if by_label(each.text) is PARAMETERS["recipe"]), None)
    if reading.form == "yaml":
        return f"write `recipe: {FULL}` in the parameters of {names}"
    if column:
        return f"write `{FULL}` in {kinds.in_column(column, (run.line for run in found))}"
    if len(found) == len(tuned.runs):
        return "add `- **Method:** full fine-tuning` to Configuration"
    return f"add a column `Method` to the table of runs, with `{FULL}` for {names} and `LoRA` for the others"


def _setting_beside(reading: Reading, name: str, text: str, note: SourceText, run: Run, tuned: TunedRuns) -> None:
    value = values.value_of(PARAMETERS[name], replace(note, text=text, full=None, source=None))
    has = tuned.of(name, run)
    if _depends_on_data(reading, name, value, note, tuned):
        return
    if value is None or has == value or (has is None and name in OF_LORA):
        return
    message = f"{name} of the run {shown(run.name)} is {shown(has)}, but {note.note} says {shown(value)}"
    fix = f"write the intended value in {reading.own_place(name)}, and remove the value from the note"
    reading.add("ambiguous", message, field=name, expected=has, actual=value, line=note.line, fix=fix)


_ABOUT: Final = re.compile(r"(?:[~≈<≤]|about|approx(?:imately|\.)?|ca\.?|around|circa)\s*", re.IGNORECASE)


def _time_unless_known(label: str) -> Parameter | None:
    return PARAMETERS["time"] if by_label(label) is None else None


def _estimated(row: RowDraft) -> int:
    """Return the estimated seconds of a row, with the unit of the column; 0 if it has none, or several."""
    if row.estimate is None:
        return 0
    time = PARAMETERS["time"]
    label, unit, _ = values.split_unit(row.estimate.note, _time_unless_known)
    if normalize(label) not in headings.ESTIMATES:  # `Estimated time per epoch`
        return 0
    field = replace(row.estimate, text=_ABOUT.sub("", row.estimate.text.strip(), count=1), full=None, source=None)
    value = values.value_of(time, values.in_unit(time, unit, field) if unit else field)
    return (kinds.slurm_seconds(str(value)) or 0) if value is not None else 0


def _estimates(reading: Reading, rows: Sequence[tuple[RowDraft, Run]], tuned: TunedRuns) -> None:
    """Report time limits that are shorter than the estimated times of runs."""
    limits = [(row, run, str(tuned.of("time", run)), _estimated(row)) for row, run in rows if row.estimate is not None]
    short = [each for each in limits if (kinds.slurm_seconds(each[2]) or each[3]) < each[3]]
    if not short:
        return
    row, run, limit, _ = short[0]
    most = max(seconds for *_, seconds in short)
    names = ("the run " if len(short) == 1 else "") + few([shown(run.name) for _, run, _, _ in short], _FEW)
    enough, planned = kinds.slurm_time(2 * most), run.parameters.get("time") or tuned.config.get("time")
    if "time" in run.parameters:
        lines = lines_text((each.line for each, _, _, _ in short), len(short))
        place = f"the column {shown(run.parameters['time'].source.note)} ({lines})"
        fix = f"replace `{limit}` with `{enough}` in {place}"
    elif planned is not None and planned.source.line is not None:
        fix = f"replace `{limit}` with `{enough}` in {planned.source.file}:{planned.source.line}"
    else:
        fix = f"add {kinds.line_of('time', enough, yaml=reading.form == 'yaml')}"
    message = (
        f"the table estimates up to {kinds.slurm_time(most)} for {names}, but the time limit is {limit}, after which"
        " SLURM ends the job"
    )
    fix = f"{fix}, or correct the estimate; {enough} is twice the estimate"
    expected, line = f"at least {kinds.slurm_time(most)}", row.line
    reading.add("time-limit", message, field="time", expected=expected, actual=limit, line=line, fix=fix)


def _about_all(reading: Reading, note: SourceText, tuned: TunedRuns) -> None:
    """Report a note in Configuration that contradicts all runs."""
    written = note.full or note.text
    _named(reading, free_text.in_note(written), note, tuned)
    for name, text in free_text.settings_in_note(written):
        _state(reading, Stated(name, (text,)), note, tuned, is_labelled=True)
    for stated in free_text.levels_in_sentences(written):
        _state(reading, stated, note, tuned)
    _mode(reading, note, tuned)


# --- sentences


def _sentences(reading: Reading, text: SourceText, tuned: TunedRuns) -> None:
    """Report sentences with a method or with values of settings that no run has.

    Text after a label is a clear statement: `Schedule: 9 epochs` is an error.
    """
    written = text.full or text.text
    _named(reading, free_text.in_sentences(written), text, tuned)
    label, rest = free_text.of_a_label(written)
    seen = set[tuple[str, ...]]()
    is_plain = bool(label) and not headings.is_about_machines(label)
    listed = document_lines.listed(rest or written) if text.alone else []
    alone = free_text.settings_in_note(rest) if label else free_text.settings_alone(written)
    for name, value in dict.fromkeys((*alone, *listed)):
        seen.add((name, value))
        is_of_machine = name == "gpus" and bool(label) and not is_plain
        if name == "time" or is_of_machine or headings.is_elsewhere(label):
            continue  # `Evaluation: batch size 8`, `Cluster: 8 A100`
        if name == "epochs" and headings.is_of_intervals(label):
            continue  # `Checkpoint every: 1 epoch`
        _state(reading, Stated(name, (value,)), text, tuned, is_labelled=is_plain)
    in_sentences = (free_text.settings_in_sentences, free_text.settings_in_words, free_text.levels_in_sentences)
    for stated in [each for read in in_sentences for each in read(written)]:
        parameter = by_label(stated.label)
        if parameter is not None and (parameter.name, *stated.values) not in seen:
            seen.add((parameter.name, *stated.values))
            _state(reading, stated, text, tuned, is_labelled=is_plain and bool(stated.number))
    _mode(reading, text, tuned, is_labelled=is_plain)
    _adapter(reading, text, tuned)
    for each in _names_in(written, tuned, [value for name, value in listed if name == "time"]):
        _state(reading, each, text, tuned)


def _names_in(written: str, tuned: TunedRuns, times: Sequence[str]) -> Iterator[Stated]:
    """Yield the models, data sets, system prompts and time limits in sentences that no run has."""
    for name, is_base in free_text.models_in_sentences(written):
        if not tuned.uses_model(name, exact=is_base):
            yield Stated("model", (name,))
    for path in free_text.data_in_text(written, of_note=False):
        if not tuned.uses_file(path, tuned.runs):
            yield Stated("dataset", (path,))
    for prompt in free_text.prompts_in_sentences(written):
        if _plainly(prompt) not in {_plainly(str(has or "")) for has in tuned.levels("system_prompt")}:
            yield Stated("system_prompt", (prompt,))
    for duration, is_bound in {**dict.fromkeys(times, False), **dict(free_text.times_in_sentences(written))}.items():
        seconds = _seconds(values.value_of(PARAMETERS["time"], SourceText(duration, 0, "")))
        limits = [_seconds(has) for has in tuned.levels("time")]
        if seconds is not None and None not in limits:
            is_so = any(seconds <= limit if is_bound else seconds == limit for limit in limits if limit is not None)
            yield from () if is_so else (Stated("time", (duration,)),)


def _plainly(prompt: str) -> str:
    """Return a prompt for comparison with one that a sentence quotes."""
    return " ".join(prompt.split()).rstrip(".").casefold()


def _seconds(time: Scalar) -> int | None:
    return None if time is None else kinds.slurm_seconds(str(time))


def _adapter(reading: Reading, text: SourceText, tuned: TunedRuns) -> None:
    """Report sentences about LoRA's modules and about alpha that contradict the runs."""
    written = text.full or text.text
    for places in free_text.places_in_sentences(written):
        try:
            placed = _OF_WHOLES.get(places) or compound.places_of(places)
        except NotHonoured as problem:
            reading.not_honoured("LoRA", replace(text, text=places, full=None), problem)
            continue
        for name, value in placed.items():
            of_lora = replace(tuned, counted={}, runs=[run for run in tuned.runs if tuned.of(name, run) is not None])
            _state(reading, Stated(name, (value,)), text, of_lora, is_labelled=True)
    for factor in free_text.alphas_in_sentences(written):
        pairs = [(tuned.of("lora_alpha", run), tuned.of("lora_rank", run)) for run in tuned.runs]
        others = [one for one, rank in pairs if isinstance(one, int) and isinstance(rank, int) and one != factor * rank]
        if others:
            message = f"according to {text.place()}, lora_alpha is {factor:g} x lora_rank, but {_differ(len(others))}"
            fix = _CORRECT + UNTIL_THEN
            reading.add("levels-differ", message, field="lora_alpha", line=text.line, fix=fix)


def _local_sentence(reading: Reading, text: SourceText, tuned: TunedRuns) -> None:
    """Report a sentence of claude.local.md about GPUs or W&B that contradicts the runs."""
    file, written = reading.local.file, text.full or text.text
    stated = [each for each in free_text.settings_in_sentences(written) if by_label(each.label) is PARAMETERS["gpus"]]
    stated += [Stated("wandb_mode", (mode,)) for mode in free_text.modes_in_sentences(written)]
    for each in stated:
        _state(reading, each, text, tuned, file=file)


def _mode(reading: Reading, text: SourceText, tuned: TunedRuns, *, is_labelled: bool = False) -> None:
    """Report a mode of Weights & Biases in a text that no run has."""
    for mode in free_text.modes_in_sentences(text.full or text.text):
        _state(reading, Stated("wandb_mode", (mode,)), text, tuned, is_labelled=is_labelled)


def _named(reading: Reading, named: free_text.Named, text: SourceText, tuned: TunedRuns) -> None:
    """Report a method or technique in a text that no run uses."""
    methods = tuned.methods
    if named.other is not None:
        message = f"according to {text.place()}, the runs are trained with {shown(named.other)}, which is not supported"
        fix = remove_unsupported(shown(named.other))
        reading.add("unsupported-setting", message, field="recipe", actual=named.other, line=text.line, fix=fix)
    elif named.recipe is not None and named.recipe not in methods and None not in methods:
        (planned, *_) = sorted(filter(None, methods))
        method, used = _METHODS[named.recipe], _METHODS[planned]
        message = f"according to {text.place()}, the runs are trained with {method}, but all of them use {used}"
        fix = f"add {kinds.line_of('recipe', method, yaml=reading.form == 'yaml')}, or correct the text"
        reading.add(
            "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=text.line, fix=fix
        )


def _state(
    reading: Reading, stated: Stated, text: SourceText, tuned: TunedRuns, *, is_labelled: bool = False, file: str = ""
) -> None:
    """Report a statement of a text that contradicts the runs; as an error if it is labelled.

    The effective batch size is an error in sentences, too, because nothing else in a document gives it.
    """
    parameter = by_label(stated.label)
    if parameter is None or not tuned.runs:
        return
    levels = tuned.levels(parameter.name) | tuned.steps(parameter.name)
    code = "ambiguous" if is_labelled else "levels-differ"
    given = _typed(parameter, stated, text)
    if len(given) == 1 and _depends_on_data(reading, parameter.name, given[0], text, tuned, at_most=stated.at_most):
        return
    actual = given[0] if len(given) == 1 else ", ".join(stated.values) or stated.number
    if stated.number:
        what = _miscounted(stated, parameter.name, tuned)
    else:
        what = _missing(stated, given, levels) if None not in given else None
        code = "ambiguous" if parameter.name == "effective_batch_size" and not set(given) <= levels.keys() else code
    if what is not None:
        message = f"according to {text.place()}, {parameter.name} {what}"
        has, document, fix = _listed(levels, ""), file or reading.summary.file, _CORRECT
        if len(levels) == len(stated.values) == 1 and _is_once(stated.values[0], text.full or text.text):
            new, place = kinds.written(next(iter(levels))), f"{document}:{text.line}"
            as_runs = f"replace `{stated.values[0]}` with `{new}` in {place}"
            fix = f"{as_runs}, or correct the runs"
            if levels.keys() == {None} and given[0] is not None:  # there is nothing to write instead
                line = kinds.line_of(parameter.name, given[0], yaml=reading.form == "yaml")
                fix = f"add {line} as a line of its own if the text is correct; otherwise remove the value from {place}"
        if stated.number > len(tuned.runs) and parameter.kind == "int":
            line = kinds.as_line(parameter.name, stated.number, yaml=reading.form == "yaml")
            fix = f"if {stated.number} is the value, not the number of values, write {line} instead; otherwise {fix}"
        if text.label and parameter.kind == "int" and len(given) == 1:  # `Seeds: 5`
            fix += f" ({stated.values[0]} is read as a value, not as a number of values)"
        fix += UNTIL_THEN if code == "levels-differ" and levels.keys() != {None} else ""
        reading.add(
            code, message, field=parameter.name, expected=has, actual=actual, line=text.line, fix=fix, file=document
        )


def _is_once(value: str, text: str) -> bool:
    """Return whether a text contains a value exactly once, so that it can be replaced."""
    return len(re.findall(rf"(?<![\w.]){re.escape(value)}(?!\w|[.-]\w)", text)) == 1


def _depends_on_data(
    reading: Reading, name: str, value: Scalar, text: SourceText, tuned: TunedRuns, *, at_most: bool = False
) -> bool:
    """Leave a number to the plan, which knows the samples and steps of each run; return whether it depends on them."""
    is_given = name != "training_samples" and tuned.levels(name).keys() != {None}
    if name not in _OF_THE_DATA or value is None or is_given:
        return False
    what = "most_steps" if at_most else "steps" if name == "max_steps_per_epoch" else name
    source = Source(kind=SourceKind.SUMMARY, file=reading.summary.file, line=text.line, note=text.place())
    reading.stated.append((what, Setting(value=value, source=source)))
    return True


def _missing(stated: Stated, given: Sequence[Scalar], levels: Mapping[Scalar, int]) -> str | None:
    """Return the contradiction between values in a text and the runs, or None."""
    others = [value for value in given if value not in levels]
    if others:
        return f"is {few([kinds.written(value) for value in others], _FEW)}, but {_used(levels)}"
    if stated.of_all and len(levels) > 1:
        number = sum(count for level, count in levels.items() if level not in given)
        return f"is {kinds.written(given[0])} in all runs, but {_differ(number)}"
    return None


def _miscounted(stated: Stated, name: str, tuned: TunedRuns) -> str | None:
    """Return the contradiction between a number of levels and the runs, or None."""
    if _has_count(tuned, stated, name):
        return None
    levels = tuned.levels(name)
    number = "several" if stated.number == SEVERAL else stated.number
    return f"has {number} values, but the runs use {counted(len(levels), 'value')}: {_listed(levels)}"


def _differ(number: int) -> str:
    return f"{counted(number, 'run')} {'has' if number == 1 else 'have'} a different value"


def _has_count(tuned: TunedRuns, stated: Stated, name: str) -> bool:
    """Return whether the runs have the stated number of values of a parameter, or of runs per condition."""
    counts = {len(tuned.levels(name))} if not stated.replicates else set[int]()
    counts |= tuned.replicates() if name == "seed" else set()
    return (max(counts) > 1) if stated.number == SEVERAL else stated.number in counts
