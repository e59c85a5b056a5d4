"""What is left to learn from: chats that torchtune refuses, samples that are cut off, losses that are NaN.

The recipes of torchtune 0.6.1 divide the gradients of an optimizer step by the labels in it (training.scale_grads).
Where no sample of a step has a label, that is 0 / 0: every weight that is trained becomes NaN, the recipe goes on, and
ends well. Where a batch of a step has none and another has, its loss is NaN in the log alone, as its gradients are 0
(modules/loss/ce_chunked_output_loss.py; tests/contract/test_training_of_data.py shows both).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import DiskState, Plan, PlannedRun, SampleCounts
from scaffold_torchtune.preflight.optimizer_steps import TRAIN, effective_batch, part_of
from scaffold_torchtune.preflight.run_groups import at, concerning, full, grouped, row
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, counts_of, form_of
from scaffold_torchtune.settings.fixes import to_give
from scaffold_torchtune.system.text import shown
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch
from scaffold_torchtune.torchtune_facts.model_registry import find_model

_RARE = 0.01


class _Steps(NamedTuple):
    """How a run takes samples: those of a batch and of an optimizer step, and whether each epoch may end early."""

    batch: int
    step: int
    processes: int
    epochs: int
    limited: bool


def label_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield chats that torchtune refuses, samples that are cut, and samples that leave a batch without a label."""
    severity = None if plan.options.setup_script == "bundled" else Severity.WARNING
    told: dict[tuple[str, str], None] = {}
    for (path, _), runs in grouped(plan.runs, lambda run: (run.data_path, form_of(run))).items():
        counts = counts_of(runs[0], part_of(runs[0], disk))
        if counts is None:
            continue
        yield from _turns(plan, path, counts, severity, told)
        for how, some in grouped(runs, _steps).items() if counts.likely_empty.count else ():
            yield _empty(plan, some, counts, how, severity)
        if counts.likely_cut.count:
            yield _cut(plan, runs, counts)
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
    """Each fault of the conversations of a data set, once for all runs that have it."""
    for fault, rows in counts.faults.items():
        if (path, fault) in told:
            continue
        told[path, fault] = None
        concerned = [run for run in plan.runs if run.data_path == path and run.text("dataset_type") == CHAT]
        more = f" (and {rows.count - 1} more rows)" if rows.count > 1 else ""
        message = (
            f"the data set {shown(path)} of {concerning(concerned, plan)} will not train: row {rows.first} of"
            f" {TRAIN}{more}: {fault}"
        )
        fix = f"correct {'these rows' if rows.count > 1 else 'the row'}, or leave them out"
        place = at(concerned[0], "dataset_label", "input_dir_base")
        yield finding("data-mismatch", message, field="dataset", actual=fault, fix=fix, severity=severity, at=place)


def _amount(certain: int, likely: int) -> str:
    """A number that is counted, or estimated."""
    return str(certain) if certain == likely else f"about {likely}"


def _longer(plan: Plan, runs: list[PlannedRun], counts: SampleCounts) -> str:
    """How to keep what is cut off: the next power of two that holds the longest sample."""
    size = 2 ** math.ceil(math.log2(max(counts.longest, 2)))
    return f"{to_give('max_seq_len', size, runs, plan.runs)}, shorten these rows, or leave them out"


def _cut(plan: Plan, runs: list[PlannedRun], counts: SampleCounts) -> Finding:
    size, likely, empty = counts.form.max_seq_len, counts.likely_cut, counts.likely_empty
    lost = ""
    if empty.count:
        lost = f"; of {_amount(counts.empty.count, empty.count)} nothing of the answer is left"
    where = runs[0].value("dataset_label")
    message = (
        f"{_amount(counts.cut.count, likely.count)} of {counts.rows} samples of {shown(where)} are longer than {size}"
        f" tokens for {concerning(runs, plan)}, and are cut off there (first row {likely.first}{lost}){_basis(counts)}"
    )
    place = at(runs[0], "max_seq_len", "dataset_label")
    actual, fix = likely.count, _longer(plan, runs, counts)
    return finding(
        "samples-cut", message, field="max_seq_len", expected=counts.longest, actual=actual, fix=fix, at=place
    )


def _basis(counts: SampleCounts) -> str:
    if counts.exact:
        return ""
    return "; lengths are estimated, as the model's tokenizer was not at hand"


def _empty(plan: Plan, runs: list[PlannedRun], counts: SampleCounts, how: _Steps, severity: Severity | None) -> Finding:
    """Samples without a label: refused where a step of nothing else is certain to come."""
    certain, rows, name = _certain(counts, how), counts.likely_empty, shown(runs[0].value("dataset_label"))
    what = (
        f"{_amount(counts.empty.count, rows.count)} of {counts.rows} samples of {name} have no label left within"
        f" {counts.form.max_seq_len} tokens (first row {rows.first})"
    )
    if counts.form.dataset_type == TEXT and not counts.likely_cut.count:
        what = f"{rows.count} of {counts.rows} texts of {name} are empty (first row {rows.first})"
    fix = _longer(plan, runs, counts) if counts.likely_cut.count else "leave these rows out, or fill them"
    level = (severity or Severity.ERROR) if certain else Severity.WARNING
    message = f"{what}: {_consequence(plan, runs, counts, how, certain=certain)}{_basis(counts)}"
    field, place = "max_seq_len", at(runs[0], "max_seq_len", "dataset_label")
    return finding("no-labels", message, field=field, expected=0, actual=rows.count, fix=fix, severity=level, at=place)


def _consequence(plan: Plan, runs: list[PlannedRun], counts: SampleCounts, how: _Steps, *, certain: bool) -> str:
    who = concerning(runs, plan)
    if counts.form.dataset_type == TEXT:
        return f"nothing is learnt from them in {who}"
    ruined = f"makes {'every weight' if full(runs[0]) else 'all of the adapter'} NaN, and torchtune ends well"
    if certain:
        return f"in {who} an optimizer step in which no sample has a label {ruined}"
    taken, packs = _taken(counts), ""
    if counts.form.packed:
        about = "" if _is_counted(counts) else "about "
        packs = f"in {about}{taken.bare} of {about}{taken.all} packs no sample has a label, and "
    chance = _chance(taken, how, how.step)
    if chance >= _RARE:
        return f"{packs}in {who} an optimizer step of nothing else, for which the chance is {chance:.0%}, {ruined}"
    if _chance(taken, how, how.batch) >= _RARE:
        return f"{packs}they teach nothing in {who}, and the loss of a batch of nothing else is NaN in the log"
    return f"{packs}they teach nothing in {who}"


def _certain(counts: SampleCounts, how: _Steps) -> bool:
    """Whether it is certain that a step without a label is trained on, or that nothing else is."""
    empty, rows, packs = counts.empty.count, counts.rows, counts.packs
    if empty == rows:
        return rows > 0
    if counts.form.dataset_type == TEXT or how.limited:
        return False
    labelled = rows - empty
    if counts.form.packed:
        if packs is None or how.step == 1:
            return how.step == 1 and counts.filling + (packs.bare if packs and _is_counted(counts) else 0) > 0
        # a sample lies in one pack, so that no more packs than samples have labels
        rows, labelled = packs.least, packs.likely - packs.bare if _is_counted(counts) else labelled
    # the sampler fills up with samples that come twice
    left = labelled + (math.ceil(rows / how.processes) * how.processes - rows)
    accumulation = how.step // how.batch // how.processes
    steps = steps_per_epoch(rows, batch_size=how.batch, accumulation=accumulation, processes=how.processes)
    return empty > 0 if how.step == 1 else left < steps


class _Taken(NamedTuple):
    """What batches are made of, samples or packs: how many there are likely, and how many of them without a label."""

    all: int
    bare: int


def _taken(counts: SampleCounts) -> _Taken:
    if counts.form.packed:
        packs = counts.packs
        return _Taken(packs.likely, packs.bare) if packs else _Taken(0, 0)
    return _Taken(counts.rows, counts.likely_empty.count)


def _is_counted(counts: SampleCounts) -> bool:
    """Whether the packs were counted, and their labels: every length and label that matters is known."""
    packs = counts.packs
    same = counts.empty.count == counts.likely_empty.count
    return packs is not None and packs.least == packs.most and counts.exact and same


def _chance(taken: _Taken, how: _Steps, size: int) -> float:
    """How likely so many of them that are taken together have no label, once in training, as they are shuffled."""
    if taken.bare < size or not taken.all:
        return 0.0
    of_one = math.prod((taken.bare - n) / (taken.all - n) for n in range(min(size, 1000)))
    return 1 - math.exp(-(taken.all // size) * how.epochs * of_one)


def _headers(plan: Plan) -> Iterator[Finding]:
    """Base models that are given a chat format of which they have never seen the tokens."""
    for model, runs in grouped(plan.runs, lambda run: run.text("torchtune_model_name")).items():
        entry = find_model(model)
        some = [run for run in runs if (run.text("dataset_type") or INSTRUCT) in {INSTRUCT, CHAT} and not full(run)]
        if entry is None or not entry.untrained_headers or not some:
            continue
        message = (
            f"{entry.name} of {concerning(some, plan)} is a base model: torchtune puts special tokens around each"
            " message (<|start_header_id|> and the like) whose embeddings nothing has trained, and LoRA does not either"
        )
        fix = f"use {entry.name}-Instruct, or the Dataset type {TEXT} with prompt and answer in one text"
        yield finding("untrained-tokens", message, field="model", actual=entry.name, fix=fix, at=row(some[0]))
