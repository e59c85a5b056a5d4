"""What is left to learn from: chats that torchtune refuses, samples that are cut off, losses that are NaN.

The loss of a batch is a sum divided by the labels in it (modules/loss/ce_chunked_output_loss.py of torchtune 0.6.1).
Where no sample of a batch has a label, it is 0 / 0: one such batch makes every weight that is trained NaN, the recipe
goes on, and ends well.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import DiskState, Plan, PlannedRun, SampleCounts
from scaffold_torchtune.preflight.optimizer_steps import TRAIN, part_of
from scaffold_torchtune.preflight.run_groups import at, concerning, full, grouped, row
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, counts_of, form_of
from scaffold_torchtune.system.text import shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model

_RARE = 0.01


class _Batches(NamedTuple):
    """How a run makes batches of samples."""

    size: int
    accumulation: int
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
        for batches, some in grouped(runs, _batches).items() if counts.likely_empty.count else ():
            yield _empty(plan, some, counts, batches, severity)
        if counts.likely_cut.count:
            yield _cut(plan, runs, counts)
    yield from _headers(plan)


def _batches(run: PlannedRun) -> _Batches:
    return _Batches(
        size=run.integer("batch_size", 1),
        accumulation=run.integer("gradient_accumulation_steps", 1),
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


def _longer(counts: SampleCounts) -> str:
    """How to keep what is cut off: the next power of two that holds the longest sample."""
    size = 2 ** math.ceil(math.log2(max(counts.longest, 2)))
    return f"write '- **Max sequence length:** {size}' in Configuration, shorten these rows, or leave them out"


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
    actual = likely.count
    return finding(
        "samples-cut", message, field="max_seq_len", expected=counts.longest, actual=actual, fix=_longer(counts),
        at=place,
    )  # fmt: skip


def _basis(counts: SampleCounts) -> str:
    if counts.exact:
        return ""
    return "; lengths are estimated, as the model's tokenizer was not at hand"


def _empty(
    plan: Plan, runs: list[PlannedRun], counts: SampleCounts, batches: _Batches, severity: Severity | None
) -> Finding:
    """Samples without a label: refused where a batch of nothing else is certain to come."""
    certain, chance = _certain(counts, batches), _chance(counts, batches)
    size, rows = counts.form.max_seq_len, counts.likely_empty
    what = (
        f"{_amount(counts.empty.count, rows.count)} of {counts.rows} samples of"
        f" {shown(runs[0].value('dataset_label'))} have no label left within {size} tokens (first row {rows.first})"
    )
    if counts.form.dataset_type == TEXT and not counts.likely_cut.count:
        what = f"{rows.count} of {counts.rows} samples are shorter than two tokens (first row {rows.first})"
    so_what = (
        f"in {concerning(runs, plan)} a batch of {batches.size} without a label makes the loss NaN, and with it"
        f" {'every weight' if full(runs[0]) else 'all of the adapter'}; torchtune goes on and ends well"
    )
    if not certain and counts.form.packed:
        so_what = f"they teach nothing, and a pack of nothing else makes the loss NaN in {concerning(runs, plan)}"
    elif not certain and chance < _RARE:
        so_what = f"they teach nothing in {concerning(runs, plan)}"
    elif not certain:
        so_what = f"{so_what}; the chance of such a batch is {chance:.0%}"
    fix = _longer(counts) if counts.likely_cut.count else "leave these rows out, or fill them"
    level = (severity or Severity.ERROR) if certain else Severity.WARNING
    place = at(runs[0], "max_seq_len", "dataset_label")
    return finding(
        "no-labels", f"{what}: {so_what}{_basis(counts)}", field="max_seq_len", expected=0, actual=rows.count, fix=fix,
        severity=level, at=place,
    )  # fmt: skip


def _certain(counts: SampleCounts, batches: _Batches) -> bool:
    """Whether a batch without a label is certain to be trained on."""
    empty, rows = counts.empty.count, counts.rows
    if not rows:
        return False
    if empty == rows:
        return True
    if counts.form.packed:
        return counts.filling > 0 and batches.size == 1 and not batches.limited
    dealt = math.ceil(rows / batches.processes)
    each = dealt // batches.size
    # what does not fill a step at the end of an epoch is added to the first step of the next one
    all_used = not batches.limited and (batches.epochs > 1 or each % batches.accumulation == 0)
    left = rows - empty + (dealt * batches.processes - rows)  # the sampler fills up with samples that come twice
    if batches.size == 1:
        return all_used and each >= batches.accumulation and empty > 0
    return all_used and each >= batches.accumulation and left < each * batches.processes


def _chance(counts: SampleCounts, batches: _Batches) -> float:
    """How likely a batch without a label is in training, as samples are shuffled."""
    empty, rows, size = counts.likely_empty.count, counts.rows, batches.size
    if empty < size or not rows:
        return 0.0
    number = math.ceil(rows / batches.processes) // size * batches.processes * batches.epochs
    of_one = math.prod((empty - n) / (rows - n) for n in range(min(size, 1000)))
    return 1 - math.exp(-number * of_one)


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
