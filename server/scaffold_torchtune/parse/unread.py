"""Unread lines, notes of runs and sentences of the documents that contradict the runs.

A line that names a setting, and a note or sentence that names a method, are problems if they contradict the runs. Mere
mentions are ignored.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from scaffold_torchtune.findings import Scalar, counted, few, shown
from scaffold_torchtune.models import Run, Setting, Source, SourceKind
from scaffold_torchtune.parse import compound, free_text, headings, values
from scaffold_torchtune.parse.drafts import RowDraft, SourceText, UnreadLine
from scaffold_torchtune.parse.free_text import SEVERAL, Stated
from scaffold_torchtune.parse.notations import REMOVE_UNSUPPORTED, NotHonoured
from scaffold_torchtune.parse.reading import UNTIL_THEN, Reading, labelled
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asked_otherwise, is_refused
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, method_of, model_by_spelling, recipes_agree

_METHODS: Final = {LORA: "LoRA", FULL: "full fine-tuning"}
_TO_CONFIGURATION: Final = (
    "if it applies to the runs, write it as a line `- **Name:** value` under '## Configuration'; otherwise remove it"
)
_CORRECT: Final = "correct the text or the runs, whichever is wrong"
_FEW: Final = 6
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


@dataclass(frozen=True)
class _Tuned:
    """The fine-tuned runs of the documents: their rows, and the settings that all share.

    `models` are the models of all rows, `data` the data sets that the summary lists.
    """

    runs: Sequence[Run]
    config: Mapping[str, Setting]
    models: frozenset[str] = frozenset()
    data: Sequence[SourceText] = ()
    counted: dict[str, dict[Scalar, int]] = field(default_factory=dict, repr=False)

    def of(self, name: str, run: Run) -> Scalar:
        """Return a run's value of a parameter: its own, the shared one, the default or a derived one."""
        if name in OF_LORA and self.method(run) == FULL:
            return None
        planned = run.parameters.get(name) or self.config.get(name)
        if planned is not None and name != "effective_batch_size":
            return planned.value
        match name:
            case "nodes":
                return 1
            case "model":
                return run.model
            case "dataset":
                return self.data[0].text if self.has_one_data_set() else None
            case "lora_alpha":
                rank = self.of("lora_rank", run)
                return 2 * rank if isinstance(rank, int) else None
            case "effective_batch_size":
                batch, steps, gpus = (self.of(n, run) for n in ("batch_size", "gradient_accumulation_steps", "gpus"))
                is_known = isinstance(batch, int) and isinstance(steps, int) and isinstance(gpus, int)
                return batch * steps * gpus if is_known else None  # type: ignore[operator]
        return PARAMETERS[name].default

    def levels(self, name: str) -> dict[Scalar, int]:
        """Return the runs' values of a parameter, each with its number of runs."""
        if name not in self.counted:
            self.counted[name] = Counter(self.of(name, run) for run in self.runs)
        return self.counted[name]

    def steps(self, name: str) -> dict[Scalar, int]:
        """Return the steps of all epochs of runs with a limit per epoch, because documents may give either number."""
        found = Counter[Scalar]()
        for run in self.runs if name == "max_steps_per_epoch" else ():
            limit, epochs = self.of(name, run), self.of("epochs", run)
            if isinstance(limit, int) and isinstance(epochs, int):
                found[limit * epochs] += 1
        return found

    def method(self, run: Run) -> str | None:
        """Return the method of a run; None if it is unknown."""
        recipe = run.parameters.get("recipe") or self.config.get("recipe")
        return LORA if recipe is None else method_of(recipe.text)

    def has_one_data_set(self) -> bool:
        """Return whether the summary lists one data set, perhaps in several places."""
        return len({posixpath.basename(text.text) for text in self.data}) == 1

    def uses_model(self, name: str, *, exact: bool) -> bool:
        """Return whether a run may use a model; unless `exact`, `Llama-3.2-1B` may mean its instruct version."""
        meant = model_by_spelling(name)
        used = [model_by_spelling(model) for model in self.models]
        if meant is None or None in used or meant in used:
            return True
        return not exact and any(each and each.name.startswith(meant.name) for each in used)

    def uses_file(self, path: str, runs: Sequence[Run]) -> bool:
        """Return whether one of some runs may use a data set, or its data set is unknown."""
        return any(_is_same_file(path, self.of("dataset", run), self.data) for run in runs)

    def replicates(self) -> set[int]:
        """Return the numbers of runs per condition, which is everything except the seed."""
        names = {name for run in self.runs for name in run.parameters} - {"seed"}
        conditions = Counter(
            (run.model, *(str(self.of(name, run)) for name in sorted(names - {"model"}))) for run in self.runs
        )
        return set(conditions.values())

    def has_count(self, stated: Stated, name: str) -> bool:
        """Return whether the runs have the stated number of values of a parameter, or of runs per condition."""
        counts = {len(self.levels(name))} if not stated.replicates else set[int]()
        counts |= self.replicates() if name == "seed" else set()
        return (max(counts) > 1) if stated.number == SEVERAL else stated.number in counts


def _is_same_file(path: str, used: Scalar, listed: Sequence[SourceText]) -> bool:
    """Return whether a data set may be the one that a run uses: a path, or the name of a listed one."""
    if used is None:
        return True
    named = [text.text for text in listed if text.note.rpartition(" > ")[2] == used]
    names = {posixpath.basename(str(each)) for each in (used, *named)}
    return posixpath.basename(path) in names or (data_label(str(used))[1] == "" and data_label(path)[0] == used)


def note_unread(reading: Reading, config: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    """Report statements in unread parts of the documents that contradict the runs."""
    fine_tuned = [run for run in runs if run.type == "fine-tuned"]
    tuned = _Tuned(fine_tuned, config, frozenset(run.model for run in runs), reading.summary.datasets)
    if not tuned.runs:
        return
    before = len(reading.findings)
    for line in reading.summary.unread_lines:
        _line(reading, line, tuned)
    reported = {found.line for found in reading.findings[before:]}
    by_line = {run.line: run for run in tuned.runs}
    for row in reading.summary.rows:
        if row.line in by_line:
            _notes(reading, row, by_line[row.line], tuned)
    for note in reading.summary.notes:
        _about_all(reading, note, tuned)
    for text in reading.summary.prose:
        if text.line not in reported:
            _sentences(reading, text, tuned)
    _numbers(reading, tuned)
    for text in reading.local.prose:
        _local_sentence(reading, text, tuned)


def _numbers(reading: Reading, tuned: _Tuned) -> None:
    """Report numbers of levels instead of levels (`Seed: 3 seeds`), and numbers of samples beside the data set."""
    for name, text in reading.summary.levels:
        if (count := free_text.count_of_levels(text.full or text.text)) is not None:
            _state(reading, Stated(name, number=count), text, tuned, is_labelled=True)
    for text in reading.summary.samples:
        # the numbers of a single data set are compared with its file
        if not tuned.has_one_data_set() or not text.note.endswith(("Split", "Splits")):
            _depends_on_data(reading, "training_samples", values.value_of(_SAMPLES, text), text, tuned)


# --- lines that look like settings


def _line(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
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


def _hyperparameter(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
    """Report a line that clearly gives a hyperparameter a value that no run has.

    It is a warning if its label may be another word, if its section is about the data or costs, or if words follow the
    value, so that it may be prose.
    """
    name, text = line.name, line.text
    parameter, levels = PARAMETERS[name], tuned.levels(name)
    listed = free_text.of_levels(name, line.label, text.full or text.text)
    if listed is not None and len(listed.values) > 1 and _are_values(parameter, listed, text):
        _state(reading, listed, replace(text, note=labelled(text, line.label)), tuned)
        return
    if tail := _IN_ALL.search(text.text):
        text = replace(text, text=text.text[: tail.start()], full=None, source=None)
    value = values.value_of(parameter, text)
    is_word = normalize(line.label) in parameter.words
    code = "levels-differ" if is_word else "unused-field" if line.vague else "ambiguous"
    if value is None and parameter.kind not in {"text", "name"}:
        word = next((word.rstrip(".,;`") for word in text.text.split()[:1]), "")
        value, code = values.value_of(parameter, replace(text, text=word, full=word)), "unused-field"
    if value is not None and value not in levels:
        _other_value(reading, name, text, value, levels, code)


def _model(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
    """Report a line with a model that no run uses."""
    whole = line.text.full or line.text.text
    name = whole if model_by_spelling(whole) else values.without_remark(whole)
    if not tuned.uses_model(name, exact=True):
        _state(reading, Stated("model", (name,)), replace(line.text, note=labelled(line.text, line.label)), tuned)


def _are_values(parameter: Parameter, stated: Stated, text: SourceText) -> bool:
    return parameter.kind in {"int", "float"} and None not in _typed(parameter, stated, text)


def _typed(parameter: Parameter, stated: Stated, text: SourceText) -> list[Scalar]:
    return [values.value_of(parameter, replace(text, text=one, full=None, source=None)) for one in stated.values]


def _other_value(
    reading: Reading, name: str, text: SourceText, value: Scalar, levels: Mapping[Scalar, int], code: str
) -> None:
    has = _listed(levels)
    message = f"{name} is {shown(value)} under {shown(text.note)}, where settings are not read; {_used(levels)}"
    reading.add(code, message, field=name, expected=has, actual=value, line=text.line, fix=_TO_CONFIGURATION)


def _listed(levels: Mapping[Scalar, int]) -> str:
    return few([kinds.written(level) if level is not None else "none" for level in levels], _FEW)


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
    message = (
        f"{shown(label)} is {shown(text.text)} under {shown(text.note)}, but no run uses that: {NOT_PLANNED[words]}"
    )
    reading.add("unused-field", message, field=words, actual=text.text, line=text.line, fix=REMOVE_UNSUPPORTED)


def _levels_of(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
    """Report a line with levels, or a number of levels, that the runs do not have: `Seeds: 3`, `Ranks: 8, 16`."""
    name, text, levels = line.name, line.text, tuned.levels(line.name)
    stated = free_text.of_levels(name, line.label, text.full or text.text)
    is_the_one = len(levels) == 1 and values.value_of(PARAMETERS[name], text) in levels  # `Seeds: 42`
    if stated is not None and not is_the_one:
        is_plain = (bool(stated.number) or line.is_read) and not line.vague
        text = replace(text, note=labelled(text, line.label))
        _state(reading, stated, text, tuned, is_labelled=is_plain)


def _of_jobs(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
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


def _of_other_runs(reading: Reading, line: UnreadLine, tuned: _Tuned) -> None:
    """Report a line about the method, LoRA, nodes, W&B or the effective batch size that contradicts all runs."""
    text = line.text
    try:
        parts = compound.parts(line.label, text)
    except NotHonoured as problem:
        written = text.full or text.text
        if next(asked_otherwise(written), None):  # other texts may be prose: `Method: a grid over ranks`
            reading.not_honoured(line.label, text, problem)
        elif line.name == "wandb_mode" and _OTHER_LOGGER.match(written.strip("`* ")):
            message = f"according to {text.note}, the runs log to {shown(written)}, but they log to Weights & Biases"
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


def _notes(reading: Reading, row: RowDraft, run: Run, tuned: _Tuned) -> None:
    """Report notes of a run that contradict it."""
    for note in row.notes:
        named, planned = free_text.in_note(note.full or note.text), tuned.method(run)
        if named.other is not None and not (
            free_text.is_of_places(named.other) and tuned.of("apply_lora_to_mlp", run) is False
        ):
            what = f"requests {shown(named.other)}, which is not supported"
            reading.not_honoured(note.note.rpartition(".")[2], note, NotHonoured(what, REMOVE_UNSUPPORTED))
        elif named.recipe is not None and planned is not None and named.recipe != planned:
            method, fix = _METHODS[named.recipe], "add a column `Method` to the table, or correct the note"
            message = f"the run {shown(run.name)} uses {_METHODS[planned]}, but {note.note} says {method}"
            reading.add(
                "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=note.line, fix=fix
            )
        for name, text in free_text.settings_in_note(note.full or note.text):
            _setting_beside(reading, name, text, note, run, tuned)
        _named_beside(reading, note, run, tuned)


def _named_beside(reading: Reading, note: SourceText, run: Run, tuned: _Tuned) -> None:
    """Report a note that names another model or data set than its row."""
    written, of_run = note.full or note.text, replace(tuned, models=frozenset({run.model}), counted={})
    for name in free_text.models_in_note(written):
        is_size = model_by_spelling(name) is None
        size = re.search(rf"(?<![0-9.]){re.escape(name.casefold())}(?![a-z0-9])", run.model.casefold())
        if (size is None) if is_size else not of_run.uses_model(name, exact=False):
            _setting_beside(reading, "model", name, note, run, tuned)
    for path in free_text.data_in_text(written, of_note=True):
        if not tuned.uses_file(path, [run]):
            _setting_beside(reading, "dataset", path, note, run, tuned)


def _setting_beside(reading: Reading, name: str, text: str, note: SourceText, run: Run, tuned: _Tuned) -> None:
    value = values.value_of(PARAMETERS[name], replace(note, text=text, full=None, source=None))
    has = tuned.of(name, run)
    if _depends_on_data(reading, name, value, note, tuned):
        return
    if value is None or has == value or (has is None and name in OF_LORA):
        return
    message = f"{name} of the run {shown(run.name)} is {shown(has)}, but {note.note} says {shown(value)}"
    fix = f"write the intended value in a column `{name}`, and remove the value from the note"
    reading.add("ambiguous", message, field=name, expected=has, actual=value, line=note.line, fix=fix)


def _about_all(reading: Reading, note: SourceText, tuned: _Tuned) -> None:
    """Report a note in Configuration that contradicts all runs."""
    written = note.full or note.text
    _named(reading, free_text.in_note(written), note, tuned)
    for name, text in free_text.settings_in_note(written):
        _state(reading, Stated(name, (text,)), note, tuned, is_labelled=True)
    for stated in free_text.levels_in_sentences(written):
        _state(reading, stated, note, tuned)
    _mode(reading, note, tuned)


# --- sentences


def _sentences(reading: Reading, text: SourceText, tuned: _Tuned) -> None:
    """Report sentences with a method or with values of settings that no run has.

    Text after a label is a clear statement: `Schedule: 9 epochs` is an error.
    """
    written = text.full or text.text
    _named(reading, free_text.in_sentences(written), text, tuned)
    label, rest = free_text.of_a_label(written)
    seen = set[tuple[str, ...]]()
    is_plain = bool(label) and not headings.is_about_machines(label)
    for name, value in free_text.settings_in_note(rest) if label else free_text.settings_alone(written):
        seen.add((name, value))
        _state(reading, Stated(name, (value,)), text, tuned, is_labelled=is_plain)
    in_sentences = (free_text.settings_in_sentences, free_text.settings_in_words, free_text.levels_in_sentences)
    for stated in [each for read in in_sentences for each in read(written)]:
        parameter = by_label(stated.label)
        if parameter is not None and (parameter.name, *stated.values) not in seen:
            seen.add((parameter.name, *stated.values))
            _state(reading, stated, text, tuned, is_labelled=is_plain and bool(stated.number))
    _mode(reading, text, tuned, is_labelled=is_plain)
    _adapter(reading, text, tuned)
    for each in _names_in(written, tuned):
        _state(reading, each, text, tuned)


def _names_in(written: str, tuned: _Tuned) -> Iterator[Stated]:
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
    for duration, is_bound in free_text.times_in_sentences(written):
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


def _adapter(reading: Reading, text: SourceText, tuned: _Tuned) -> None:
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
            message = f"according to {text.note}, lora_alpha is {factor:g} x lora_rank, but {_differ(len(others))}"
            fix = _CORRECT + UNTIL_THEN
            reading.add("levels-differ", message, field="lora_alpha", line=text.line, fix=fix)


def _local_sentence(reading: Reading, text: SourceText, tuned: _Tuned) -> None:
    """Report a sentence of claude.local.md about GPUs or W&B that contradicts the runs."""
    file, written = reading.local.file, text.full or text.text
    stated = [each for each in free_text.settings_in_sentences(written) if by_label(each.label) is PARAMETERS["gpus"]]
    stated += [Stated("wandb_mode", (mode,)) for mode in free_text.modes_in_sentences(written)]
    for each in stated:
        _state(reading, each, text, tuned, file=file)


def _mode(reading: Reading, text: SourceText, tuned: _Tuned, *, is_labelled: bool = False) -> None:
    """Report a mode of Weights & Biases in a text that no run has."""
    for mode in free_text.modes_in_sentences(text.full or text.text):
        _state(reading, Stated("wandb_mode", (mode,)), text, tuned, is_labelled=is_labelled)


def _named(reading: Reading, named: free_text.Named, text: SourceText, tuned: _Tuned) -> None:
    """Report a method or technique in a text that no run uses."""
    methods = {tuned.method(run) for run in tuned.runs}
    if named.other is not None:
        message = f"according to {text.note}, the runs are trained with {shown(named.other)}, which is not supported"
        reading.add(
            "unsupported-setting", message, field="recipe", actual=named.other, line=text.line, fix=REMOVE_UNSUPPORTED
        )
    elif named.recipe is not None and named.recipe not in methods and None not in methods:
        (planned, *_) = sorted(filter(None, methods))
        method = _METHODS[named.recipe]
        message = (
            f"according to {text.note}, the runs are trained with {method}, but all of them use {_METHODS[planned]}"
        )
        fix = f"add `- **Method:** {method}` to Configuration, or correct the text"
        reading.add(
            "ambiguous", message, field="recipe", expected=planned, actual=named.recipe, line=text.line, fix=fix
        )


def _state(
    reading: Reading, stated: Stated, text: SourceText, tuned: _Tuned, *, is_labelled: bool = False, file: str = ""
) -> None:
    """Report a statement of a text that contradicts the runs; as an error if it is labelled.

    The effective batch size is an error in sentences, too, because nothing else in a document gives it.
    """
    parameter = by_label(stated.label)
    if parameter is None or not tuned.runs:
        return
    levels, code = (
        tuned.levels(parameter.name) | tuned.steps(parameter.name),
        "ambiguous" if is_labelled else "levels-differ",
    )
    given = _typed(parameter, stated, text)
    at_most = stated.at_most
    if len(given) == 1 and _depends_on_data(reading, parameter.name, given[0], text, tuned, at_most=at_most):
        return
    actual = given[0] if len(given) == 1 else ", ".join(stated.values) or stated.number
    if stated.number:
        what = _miscounted(stated, parameter.name, tuned)
    else:
        what = _missing(stated, given, levels) if None not in given else None
        code = "ambiguous" if parameter.name == "effective_batch_size" and not set(given) <= levels.keys() else code
    if what is not None:
        message = f"according to {text.note}, {parameter.name} {what}"
        has, document, fix = _listed(levels), file or reading.summary.file, _CORRECT
        if len(levels) == len(stated.values) == 1 and _is_once(stated.values[0], text.full or text.text):
            as_runs = f"replace {stated.values[0]} with {kinds.written(next(iter(levels)))} in {document}:{text.line}"
            fix = f"{as_runs}, or correct the runs"
            if levels.keys() == {None} and given[0] is not None:  # there is nothing to write instead
                line = kinds.line_of(parameter.name, given[0], yaml=reading.form == "yaml")
                fix = f"add {line} if the text is correct; otherwise remove this value from {document}:{text.line}"
        fix += UNTIL_THEN if code == "levels-differ" else ""
        reading.add(
            code, message, field=parameter.name, expected=has, actual=actual, line=text.line, fix=fix, file=document
        )


def _is_once(value: str, text: str) -> bool:
    """Return whether a text contains a value exactly once, so that it can be replaced."""
    return len(re.findall(rf"(?<![\w.]){re.escape(value)}(?!\w|[.-]\w)", text)) == 1


def _depends_on_data(
    reading: Reading, name: str, value: Scalar, text: SourceText, tuned: _Tuned, *, at_most: bool = False
) -> bool:
    """Leave a number to the plan, which knows the samples and steps of each run; return whether it depends on them."""
    is_given = name != "training_samples" and tuned.levels(name).keys() != {None}
    if name not in _OF_THE_DATA or value is None or is_given:
        return False
    what = "most_steps" if at_most else "steps" if name == "max_steps_per_epoch" else name
    source = Source(kind=SourceKind.SUMMARY, file=reading.summary.file, line=text.line, note=text.note)
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


def _miscounted(stated: Stated, name: str, tuned: _Tuned) -> str | None:
    """Return the contradiction between a number of levels and the runs, or None."""
    if tuned.has_count(stated, name):
        return None
    levels = tuned.levels(name)
    number = "several" if stated.number == SEVERAL else stated.number
    return f"has {number} values, but the runs use {counted(len(levels), 'value')}: {_listed(levels)}"


def _differ(number: int) -> str:
    return f"{counted(number, 'run')} {'has' if number == 1 else 'have'} a different value"
