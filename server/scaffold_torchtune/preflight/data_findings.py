"""Checks of data sets on disk: whether the runs can read them, and what they can learn from them.

The checks find chats that torchtune refuses, truncated samples, and NaN losses. The recipes of torchtune 0.6.1
divide the gradients of an optimizer step by its number of labels (training.scale_grads). If no sample of a step has a
label, that is 0 / 0: every trained weight becomes NaN, and the recipe continues and exits with 0. If one batch of a
step has no label and another one has some, the loss is NaN only in the log, because the gradients of that batch are 0
(modules/loss/ce_chunked_output_loss.py; tests/contract/test_training_of_data.py shows both).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Location,
    Scalar,
    close_matches,
    counted,
    few,
    finding,
    shown,
)
from scaffold_torchtune.models import CellKind, DataFile, DataPart, DiskState, Plan, PlannedRun, RowCount, SampleCounts
from scaffold_torchtune.preflight.data_files import AS_NOUN
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, counts_of, form_of
from scaffold_torchtune.preflight.training import (
    TRAIN,
    VALIDATION,
    Subject,
    at,
    concerning,
    effective_batch,
    full,
    grouped,
    part_of,
    row_of,
    verb,
    who_do,
)
from scaffold_torchtune.settings.kinds import for_each, to_give
from scaffold_torchtune.torchtune_facts import find_model
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch

_Keys = dict[str, dict[str, Scalar]]
_LISTED = 8  # parts or columns
_MESSAGES = "messages"


def data_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield the problems of each data set, for the runs that use it."""
    data_sets = grouped(plan.runs, lambda run: run.data_path)
    keys = _keys(data_sets.values(), disk)
    for path, runs in data_sets.items():
        found = disk.data.get(path)
        if found is None:
            continue
        who = concerning(runs, plan)
        # the user's own script may read data in its own way
        severity = None if plan.options.setup_script == "bundled" else Severity.WARNING
        name, place = f"the data set {shown(path)} of {who}", at(runs[0], "dataset_label", "input_dir_base")
        about = Subject(path, "dataset", place, "data-mismatch", f"{name} is not suitable for training", severity)
        if found.absent or found.unread:
            what = f"{name} {found.unread or 'was not found on this machine'}"
            yield about.not_seen(what, unchecked="rows and columns", near=found.near, exists=not found.absent)
        elif found.problem:
            yield about.mismatch(f"the file {found.problem}", fix="correct the file, or its path in the summary")
        else:
            yield from _parts(about, runs, found, plan.runs, keys)
            yield from _unread(about, plan, runs, found)
            yield from _blank(about, plan, runs, found)
            yield from _splits(about, plan, found)
            yield from _samples(about, plan, runs, disk)


def _parts(
    about: Subject, runs: list[PlannedRun], found: DataFile, all_runs: Sequence[PlannedRun], keys: _Keys
) -> Iterator[Finding]:
    for fault, row in found.parts[TRAIN].faults.items() if TRAIN in found.parts else ():
        yield about.mismatch(
            f"in row {row} of the split {TRAIN!r}, {fault}", fix="correct the row, or remove the column"
        )
    validated = [run for run in runs if run.integer("run_val_every_n_steps", 0)]
    for name, some in ((TRAIN, runs), (VALIDATION, validated)):
        part = found.parts.get(name)
        if not some:
            continue
        if part is None:
            yield _no_part(about, found, name)
        elif part.rows == 0:
            yield about.mismatch(
                f"its split {name!r} has no rows", fix=f"add rows to the split {name!r}, or use a different data set"
            )
        else:
            yield from _columns(about, some, name, part, all_runs, keys)
            yield from _mixed(about, some, name, part)


def _no_part(about: Subject, found: DataFile, name: str) -> Finding:
    there = ", ".join(shown(part) for part in list(found.parts)[:_LISTED])
    message, expected = f"it has no split {name!r}", f"a list of rows under {name!r}"
    message += f", only {there}" if there else ""
    fix = f"rename the intended split in the file to {name!r}" if there else f'put the rows in {{"{name}": [...]}}'
    return about.mismatch(message, expected=expected, actual=there or "no split", fix=fix)


def _wanted(run: PlannedRun) -> dict[str, tuple[CellKind, str]]:
    """Return the columns that the run's dataset type reads: the kinds each may hold, and the setting that names it.

    Taken from torchtune/datasets/_instruct.py, _chat.py and _text_completion.py of 0.6.1. The two dataset types of
    cruijff_kit read the same columns as instruct_dataset.
    """
    kind = run.value("dataset_type")  # instruct_dataset is the default
    if kind == "chat_dataset":
        return {_MESSAGES: ("list", "dataset_type")}
    text = kind == "text_completion_dataset"
    usual = {"input_key": "text"} if text else {"input_key": "input", "output_key": "output"}
    return {run.text(key) or name: ("text", key) for key, name in usual.items()}


def _columns(
    about: Subject, runs: list[PlannedRun], name: str, part: DataPart, all_runs: Sequence[PlannedRun], keys: _Keys
) -> Iterator[Finding]:
    places: dict[tuple[str, CellKind], Location | None] = {}
    for run in runs:
        for column, (kind, key) in _wanted(run).items():
            places.setdefault((column, kind), at(run, key) if at(run, key).line else None)
    for (column, kind), place in places.items():
        kinds = part.columns.get(column)
        if kinds is None:
            columns = [shown(each) for each in part.columns]
            message = f"its split {name!r} has no column {shown(column)}, only {few(columns, _LISTED)}"
            fix = _other_column(runs, all_runs, column, (name, part), keys)
            if not part.columns:
                message = f"its split {name!r} has no columns"
                fix = "correct the path of the data set, or add rows with the columns that the runs read"
            there = few(columns, _LISTED, last="") or "no columns"
            yield about.mismatch(message, expected=f"a column {shown(column)}", actual=there, fix=fix, at=place)
            continue
        for other, row in kinds.items():
            if other != kind:
                where = f"row {row} of the split {name!r}"
                wrong = f"has {AS_NOUN[other]} instead of {AS_NOUN[kind]} in {shown(column)}"
                is_what = f"has no {shown(column)}" if other == "absent" else wrong
                fix = f"make {shown(column)} {AS_NOUN[kind]} in every row"
                yield about.mismatch(f"{where} {is_what}", expected=kind, actual=other, fix=fix)
    if any(column == _MESSAGES for column, _ in places):
        for fault, row in part.messages.items():
            yield about.mismatch(f"in row {row} of the split {name!r}, {fault}", fix="correct the row")


def _keys(data_sets: Iterable[Sequence[PlannedRun]], disk: DiskState) -> _Keys:
    """Return the columns that runs could read instead of missing ones: by setting, of each run by its directory."""
    found: _Keys = {}
    for runs in data_sets:
        part = part_of(runs[0], disk)
        if part is None or not part.rows:
            continue
        for run in runs:
            for column in _wanted(run):
                if column not in part.columns and (other := _instead(run, column, part)):
                    found.setdefault(_wanted(run)[column][1], {})[run.directory] = other
    return found


def _instead(run: PlannedRun, column: str, part: DataPart) -> str:
    """Return the column to read instead of a missing one: that with the most similar name, else the first unused text.

    It is empty if there is none, or if the dataset type names the column.
    """
    wanted = _wanted(run)
    texts = [name for name, kinds in part.columns.items() if {*kinds} <= {"text", "null"} and name not in wanted]
    near = close_matches(column, texts, limit=1)
    missing = [name for name in wanted if name not in part.columns]
    first = texts[missing.index(column) : missing.index(column) + 1] if len(texts) >= len(missing) else texts[:1]
    return "" if wanted[column][1] == "dataset_type" else next(iter(near or first), "")


def _other_column(
    runs: list[PlannedRun], all_runs: Sequence[PlannedRun], column: str, named: tuple[str, DataPart], keys: _Keys
) -> str:
    """Return the fix that reads a different column than the missing one of a split."""
    name, part = named
    some = [run for run in runs if column in _wanted(run)]
    other, key = _instead(some[0], column, part), _wanted(some[0])[column][1]
    if not other:
        return (
            f"add the column {shown(column)} to the split {name!r} of the data set, or rename the column that has its"
            " content; if the data set has another format, set `Dataset type` in the summary to match it"
        )
    values = {**keys.get(key, {}), **for_each(some, other)}
    line, who = to_give(key, values, some, all_runs), "the run" if len(values) == 1 else "the runs"
    return (
        f"if {who} should read {shown(other)}, {line}; otherwise rename the intended column of the data set to"
        f" {shown(column)}"
    )


def _mixed(about: Subject, runs: list[PlannedRun], name: str, part: DataPart) -> Iterator[Finding]:
    """Yield unused columns with mixed types, which the datasets library refuses anyway."""
    read = {column for run in runs for column in _wanted(run)}
    for column, kinds in part.columns.items():
        held = [kind for kind in kinds if kind not in {"null", "absent"}]
        if len(held) > 1 and column not in read:
            what = (
                f"row {kinds[held[1]]} of the split {name!r} has {AS_NOUN[held[1]]} in {shown(column)}, but row"
                f" {kinds[held[0]]} has {AS_NOUN[held[0]]}; the datasets library rejects a column with more than one"
                " type, even if it is not used"
            )
            fix = f"make {shown(column)} {AS_NOUN[held[0]]} in every row, or remove the column"
            yield about.mismatch(what, expected=held[0], actual=held[1], fix=fix)


_CONTEXT: Final = frozenset({
    "instruction", "system", "context", "question", "query", "prompt", "input", "passage", "document", "article",
    "paragraph", "background", "history", "task", "premise", "hypothesis", "choice", "option", "hint", "evidence",
    "schema", "persona", "message", "conversation", "dialog", "dialogue", "source", "problem", "request", "preamble",
    "scenario", "knowledge", "example", "demonstration", "user", "human", "claim", "sentence", "code", "abstract",
})  # fmt: skip
"""Words, in the singular, of column names that hold the input of an answer."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


def _is_context(column: str) -> bool:
    words = {word.lower().removesuffix("s") for word in _WORD.findall(column[:100])}
    return bool(words & _CONTEXT) and not words & {"id", "length", "type", "url", "date", "name", "index"}


def _unread(about: Subject, plan: Plan, runs: list[PlannedRun], found: DataFile) -> Iterator[Finding]:
    """Yield columns whose names suggest that answers depend on them, but that no training reads."""
    part = found.parts.get(TRAIN)
    for (kind, read), some in grouped(runs, lambda run: (run.text("dataset_type") or INSTRUCT, _read(run))).items():
        names = [
            name
            for name in (part.columns if part else ())
            if name not in read and _is_context(name) and part and part.filled.get(name)
        ]
        if not part or not names or not any(part.columns.get(name) for name in read):
            continue
        listed, columns = few([shown(name) for name in names], _LISTED), few([shown(name) for name in read], _LISTED)
        filled = f"{shown(names[0])} has a value" if len(names) > 1 else "with a value"
        count = part.filled[names[0]]
        filled += f" in {count} of {counted(part.rows, 'row')}" if count < part.rows else " in every row"
        message = (
            f"the {'columns' if len(names) > 1 else 'column'} {listed} of {shown(about.name)} ({filled})"
            f" {verb(len(names), 'are')} not read by {concerning(some, plan)}, which {verb(len(some), 'train')} only on"
            f" {columns}"
        )
        field, place = "input_key", at(some[0], "dataset_type", "input_key", "dataset_label")
        fix = _unread_fix(kind, names[0], read[0], to_give(field, for_each(some, names[0]), some, plan.runs))
        yield finding(
            "unread-column", message, field=field, expected=read[0], actual=names[0], fix=fix,
            at=place,
        )  # fmt: skip


def _read(run: PlannedRun) -> tuple[str, ...]:
    """Return the columns that a run reads, and those that its prompt names."""
    return (*_wanted(run), *(name for name in _PLACEHOLDER.findall(run.text("prompt")) if name != "input"))


def _unread_fix(kind: str, unread: str, column: str, other: str) -> str:
    without = f"no action if the runs should train without {shown(unread)}; otherwise"
    if kind == CHAT:
        return f"{without} move the text of {shown(unread)} into the messages"
    named = "" if kind == TEXT else f", or, to read {shown(unread)} instead, {other}"
    return f"{without} move the text of {shown(unread)} into {shown(column)} in the file{named}"


def _blank(about: Subject, plan: Plan, runs: list[PlannedRun], found: DataFile) -> Iterator[Finding]:
    """Yield rows with an empty input or an empty answer."""
    part, cases = found.parts.get(TRAIN), dict[tuple[str, RowCount], list[PlannedRun]]()
    for run in runs:
        counts = counts_of(run, part)
        for column, rows in counts.blank.items() if counts else ():
            cases.setdefault((column, rows), []).append(run)
    for (column, rows), some in cases.items():
        total = part.rows if part else 0
        message = (
            f"{shown(column)} is empty in {rows.count} of {total} rows of {shown(about.name)} (the first is"
            f" row {rows.first}); {who_do(some, plan, 'train')} on {_these(rows.count)} anyway"
        )
        fix = f"fill in {shown(column)}, or remove {_these(rows.count)}; no action if intended"
        yield finding("empty-texts", message, field=column, expected=0, actual=rows.count, fix=fix, at=about.at)


def _splits(about: Subject, plan: Plan, found: DataFile) -> Iterator[Finding]:
    """Yield parts with a different number of rows in the file and in the summary."""
    for name, declared in plan.splits.get(about.name, {}).items():
        part = found.parts.get(name)
        if part is not None and part.rows != declared:
            message = (
                f"the summary states {counted(declared, 'sample')} for the split {name!r}, but this split of"
                f" {shown(about.name)} has {counted(part.rows, 'row')}"
            )
            fix = f"correct the number, or use a data set with {counted(declared, 'row')} in this split"
            yield _other_count(message, "dataset", declared, part.rows, fix, about.at)


def _samples(about: Subject, plan: Plan, runs: list[PlannedRun], disk: DiskState) -> Iterator[Finding]:
    """Yield runs that ask for more training samples than exist; the datasets library then silently uses all rows."""
    field = "training_samples"
    parts = [(run, part) for run in plan.runs if run.integer(field, 0) and (part := part_of(run, disk))]
    existing = {run.directory: part.rows for run, part in parts if run.integer(field, 0) > part.rows > 0}
    for asked, some in grouped(
        [run for run in runs if run.directory in existing], lambda run: run.value(field)
    ).items():
        rows = existing[some[0].directory]
        message = (
            f"{who_do(some, plan, 'request')} {asked} training samples, but {shown(about.name)} has only"
            f" {counted(rows, 'row')} in the split {TRAIN!r}, so every row is used"
        )
        fix = f"{to_give(field, existing, some, plan.runs)}, or use a larger data set"
        yield _other_count(message, field, asked, rows, fix, at(some[0], field))


def _other_count(message: str, field: str, expected: Scalar, rows: int, fix: str, place: Location) -> Finding:
    return finding("split-differs", message, field=field, expected=expected, actual=rows, fix=fix, at=place)


_RARE: Final = 0.01
_NEARLY: Final = 0.99


class _Steps(NamedTuple):
    """Samples of a batch and of an optimizer step of a run, and whether an epoch may end early."""

    batch: int
    step: int
    processes: int
    epochs: int
    limited: bool


def label_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield chats that torchtune refuses, truncated samples, and samples that leave a batch without a label."""
    severity = None if plan.options.setup_script == "bundled" else Severity.WARNING
    told: dict[tuple[str, str], None] = {}
    forms = grouped(plan.runs, lambda run: (run.data_path, form_of(run)))
    known = [(path, runs, counts_of(runs[0], part_of(runs[0], disk))) for (path, _), runs in forms.items()]
    lengths: dict[str, Scalar] = {}
    for _, runs, counts in known:
        if counts is not None and counts.likely_cut.count:
            lengths |= for_each(runs, 2 ** math.ceil(math.log2(max(counts.longest, 2))))
    for path, runs, counts in known:
        if counts is None:
            continue
        yield from _turns(plan, path, counts, severity, told)
        for how, some in grouped(runs, _steps).items() if counts.likely_empty.count else ():
            yield _empty(plan, some, counts, how, severity, lengths)
        if counts.likely_cut.count:
            yield _cut(plan, runs, counts, lengths)
    yield from _headers(plan)


def _steps(run: PlannedRun) -> _Steps:
    return _Steps(
        batch=run.integer("batch_size", 1),
        step=effective_batch(run),
        processes=run.integer("gpus", 1),
        epochs=run.integer("epochs", 1),
        limited=run.value("max_steps_per_epoch") is not None,
    )


def _turns(
    plan: Plan, path: str, counts: SampleCounts, severity: Severity | None, told: dict[tuple[str, str], None]
) -> Iterator[Finding]:
    """Yield each fault of the conversations of a data set, once for all runs that have it."""
    for fault, rows in counts.faults.items():
        if (path, fault) in told:
            continue
        told[path, fault] = None
        concerned = [run for run in plan.runs if run.data_path == path and run.text("dataset_type") == CHAT]
        more = f" (and {counted(rows.count - 1, 'more row')})" if rows.count > 1 else ""
        message = (
            f"the data set {shown(path)} of {concerning(concerned, plan)} is not suitable for training: in row"
            f" {rows.first} of the split {TRAIN!r}{more}, {fault}"
        )
        fix = f"correct or remove {_these(rows.count)}"
        place = at(concerned[0], "dataset_label", "input_dir_base")
        yield finding("data-mismatch", message, field="dataset", actual=fault, fix=fix, severity=severity, at=place)


def _these(rows: int) -> str:
    return "this row" if rows == 1 else "these rows"


def _amount(certain: int, likely: int) -> str:
    """Return a counted or estimated number as text."""
    return str(certain) if certain == likely else f"about {likely}"


def _longer(plan: Plan, runs: list[PlannedRun], counts: SampleCounts, lengths: Mapping[str, Scalar]) -> str:
    """Return the fix for truncated samples; `lengths` has the power of two that holds the longest sample, by run."""
    rows = _these(counts.likely_cut.count)
    return f"{to_give('max_seq_len', lengths, runs, plan.runs)}, or shorten or remove {rows}"


def _first(rows: RowCount) -> str:
    return f" (row {rows.first})" if rows.count == 1 else f" (the first is row {rows.first})"


def _cut(plan: Plan, runs: list[PlannedRun], counts: SampleCounts, lengths: Mapping[str, Scalar]) -> Finding:
    size, likely, empty = counts.form.max_seq_len, counts.likely_cut, counts.likely_empty
    lost = ""
    if empty.count:
        keep = verb(empty.count, "keep")
        lost = f"; {_amount(counts.empty.count, empty.count)} of them {keep} no token of the answer"
        lost = "; no token of the answer is left" if likely.count == 1 else lost
    where = runs[0].value("dataset_label")
    message = (
        f"{_amount(counts.cut.count, likely.count)} of {counts.rows} samples of {shown(where)}{_first(likely)}"
        f" {verb(likely.count, 'are')} longer than {size} tokens and will be truncated in"
        f" {concerning(runs, plan)}{lost}{_basis(counts)}"
    )
    place = at(runs[0], "max_seq_len", "dataset_label")
    actual, fix = likely.count, _longer(plan, runs, counts, lengths)
    return finding(
        "samples-cut", message, field="max_seq_len", expected=counts.longest, actual=actual, fix=fix, at=place
    )


def _basis(counts: SampleCounts) -> str:
    if counts.exact:
        return ""
    return "; the lengths are estimated because the model's tokenizer is not available"


def _empty(
    plan: Plan,
    runs: list[PlannedRun],
    counts: SampleCounts,
    how: _Steps,
    severity: Severity | None,
    lengths: Mapping[str, Scalar],
) -> Finding:
    """Yield samples without a label: an error if a step without any label is certain."""
    certain, rows, name = _certain(counts, how), counts.likely_empty, shown(runs[0].value("dataset_label"))
    within = f" within the first {counts.form.max_seq_len} tokens" if counts.likely_cut.count else ""
    what = (
        f"{_amount(counts.empty.count, rows.count)} of {counts.rows} samples of {name} {verb(rows.count, 'have')} no"
        f" label{within}{_first(rows)}"
    )
    if counts.form.dataset_type == TEXT and not counts.likely_cut.count:
        are = verb(rows.count, "are")
        what = f"{rows.count} of {counts.rows} texts of {name} {are} empty{_first(rows)}"
    fix = (
        _longer(plan, runs, counts, lengths)
        if counts.likely_cut.count
        else (
            f"fill in the missing {'texts' if counts.form.dataset_type == TEXT else 'labels'},"
            f" or remove {_these(rows.count)}"
        )
    )
    level = (severity or Severity.ERROR) if certain else Severity.WARNING
    message = f"{what}: {_consequence(plan, runs, counts, how, certain=certain)}{_basis(counts)}"
    field, place = "max_seq_len", at(runs[0], "max_seq_len", "dataset_label")
    return finding("no-labels", message, field=field, expected=0, actual=rows.count, fix=fix, severity=level, at=place)


def _consequence(plan: Plan, runs: list[PlannedRun], counts: SampleCounts, how: _Steps, *, certain: bool) -> str:
    them = "this sample" if counts.likely_empty.count == 1 else "these samples"
    if counts.form.dataset_type == TEXT:
        return f"{who_do(runs, plan, 'learn')} nothing from {them.replace('sample', 'text')}"
    ruined = f"turns {'every weight' if full(runs[0]) else 'the whole adapter'} into NaN"
    if certain:
        who = who_do(runs, plan, "are")
        return (
            f"{who} certain to have an optimizer step without any label, which {ruined}, although torchtune exits"
            " without an error"
        )
    taken, packs = _taken(counts), ""
    if counts.form.packed and taken.bare:
        about = "" if _is_counted(counts) else "an estimated "
        packs = f"{about}{taken.bare} of {taken.all} packs {verb(taken.bare, 'have')} no label, and "
    chance = _chance(taken, how, how.step)
    if chance >= _RARE:
        return (
            f"{packs}the chance that {who_do(runs, plan, 'have')} an optimizer step without any label is"
            f" {_percent(chance)}; such a step {ruined}, although torchtune exits without an error"
        )
    shows = "; the log shows a loss of NaN for each batch without any label"
    return f"{packs}{who_do(runs, plan, 'learn')} nothing from {them}" + (
        shows if _chance(taken, how, how.batch) >= _RARE else ""
    )


def _percent(chance: float) -> str:
    return "more than 99%" if chance > _NEARLY else f"{chance:.0%}"


def _certain(counts: SampleCounts, how: _Steps) -> bool:
    """Return whether a training step without any label is certain, or all steps are such."""
    empty, rows, packs = counts.empty.count, counts.rows, counts.packs
    if empty == rows:
        return rows > 0
    if counts.form.dataset_type == TEXT or how.limited:
        return False
    labelled = rows - empty
    if counts.form.packed:
        if packs is None or how.step == 1:
            return how.step == 1 and counts.filling + (packs.bare if packs and _is_counted(counts) else 0) > 0
        # a sample is in one pack, so the packs with labels are at most as many as the samples with labels
        rows, labelled = packs.least, packs.likely - packs.bare if _is_counted(counts) else labelled
    # the sampler pads by repeating samples
    left = labelled + (math.ceil(rows / how.processes) * how.processes - rows)
    accumulation = how.step // how.batch // how.processes
    steps = steps_per_epoch(rows, batch_size=how.batch, accumulation=accumulation, processes=how.processes)
    return empty > 0 if how.step == 1 else left < steps


class _Taken(NamedTuple):
    """The units of batches, samples or packs: their likely number, and how many of them have no label."""

    all: int
    bare: int


def _taken(counts: SampleCounts) -> _Taken:
    if counts.form.packed:
        packs = counts.packs
        return _Taken(packs.likely, packs.bare) if packs else _Taken(0, 0)
    return _Taken(counts.rows, counts.likely_empty.count)


def _is_counted(counts: SampleCounts) -> bool:
    """Return whether the packs and their labels were counted: every length and label that matters is known."""
    packs = counts.packs
    same = counts.empty.count == counts.likely_empty.count
    return packs is not None and packs.least == packs.most and counts.exact and same


def _chance(taken: _Taken, how: _Steps, size: int) -> float:
    """Return the probability that so many units in a row have no label at least once in training, when shuffled."""
    if taken.bare < size or not taken.all:
        return 0.0
    of_one = math.prod((taken.bare - n) / (taken.all - n) for n in range(min(size, 1000)))
    return 1 - math.exp(-(taken.all // size) * how.epochs * of_one)


def _headers(plan: Plan) -> Iterator[Finding]:
    """Yield base models with a chat format whose tokens they were never trained on."""
    for model, runs in grouped(plan.runs, lambda run: run.text("torchtune_model_name")).items():
        entry = find_model(model)
        some = [run for run in runs if (run.text("dataset_type") or INSTRUCT) in {INSTRUCT, CHAT} and not full(run)]
        if entry is None or not entry.untrained_headers or not some:
            continue
        message = (
            f"{entry.name}, which {who_do(some, plan, 'use')}, is a base model: torchtune puts special tokens (such as"
            " <|start_header_id|>) around each message, but their embeddings are untrained, and LoRA does not train"
            " them either"
        )
        fix = (
            f"use {entry.name}-Instruct, or set 'Dataset type' to `{TEXT}`, and combine prompt and answer in one column"
        )
        yield finding("untrained-tokens", message, field="model", actual=entry.name, fix=fix, at=row_of(some[0]))
