"""Requirements of a training: groups of equal runs, optimizer steps, GPU memory, disk and time.

Runs are grouped by location and outputs, so that one finding covers a group. Optimizer steps follow torchtune 0.6.1.
Each estimate names its basis.
"""

import math
import posixpath
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, counted, few, finding, shown
from scaffold_torchtune.models import DataPart, DiskState, Packs, Plan, PlannedRun, SourceKind
from scaffold_torchtune.preflight.samples import counts_of
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import for_each, to_give
from scaffold_torchtune.torchtune_facts import FULL, default_resources, find_model, method_of
from scaffold_torchtune.torchtune_facts.facts import ModelFacts, load, steps_per_epoch

_Key = TypeVar("_Key", bound=Hashable)


def at(run: PlannedRun, *names: str) -> Location:
    """Return the location of the first of some settings that is in a document, else its file alone."""
    sources = [run.settings[name].source for name in names if name in run.settings]
    source = next((s for s in sources if s.line is not None), sources[0] if sources else Location())
    return Location(source.file, source.line)


def row_of(run: PlannedRun) -> Location:
    """Return the location of the run's row in the table of runs."""
    return Location(at(run, "torchtune_model_name").file, run.line)


def grouped(runs: Iterable[PlannedRun], key: Callable[[PlannedRun], _Key]) -> dict[_Key, list[PlannedRun]]:
    """Return the runs by a common property, in order."""
    found: dict[_Key, list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def concerning(runs: Sequence[PlannedRun], plan: Plan) -> str:
    """Return the runs of a finding as text: `all 4 runs`, `the run 'rank8'`, `2 of 4 runs ('rank8' and 'rank16')`."""
    total = len(plan.runs)
    if len(runs) == 1:
        return f"the run {shown(runs[0].directory)}"
    if len(runs) == total:
        return "both runs" if total == 2 else f"all {total} runs"  # noqa: PLR2004
    return f"{len(runs)} of {total} runs ({few([shown(run.directory) for run in runs], 3, more='...')})"


_SINGULAR: Final = {"are": "is", "have": "has"}


def verb(count: int, plural: str) -> str:
    """Return the form of a verb that agrees with a count: `is` or `are`, `trains` or `train`."""
    return plural if count != 1 else _SINGULAR.get(plural, f"{plural}s")


def who_do(runs: Sequence[PlannedRun], plan: Plan, do: str) -> str:
    """Return the runs of a finding and what they do: `all 4 runs train`, `the run 'rank8' trains`."""
    return f"{concerning(runs, plan)} {verb(len(runs), do)}"


@dataclass(frozen=True)
class Subject:
    """A data set or a model's directory that runs use, which makes findings located at the line that names it.

    `name` is the path of the data set, or the model's. `code` is the code of a mismatch, and `failure` begins its
    message; `severity` is None for the usual one.
    """

    name: str
    field: str
    at: Location
    code: str
    failure: str
    severity: Severity | None = None

    def mismatch(
        self, what: str, *, fix: str, expected: str | None = None, actual: str | None = None, at: Location | None = None
    ) -> Finding:
        """Return the finding that it does not fit the runs; `at` is the location of the requirement, if different."""
        field, severity, message, at = self.field, self.severity, f"{self.failure}: {what}", at or self.at
        return finding(
            self.code, message, field=field, expected=expected, actual=actual, fix=fix, severity=severity, at=at
        )

    def not_seen(self, what: str, *, unchecked: str, near: Sequence[str], exists: bool = False) -> Finding:
        """Return the finding that it was not found, or not inspected if it `exists`; `near` are similar names there."""
        similar = f"; did you mean {shown(near[0])} in the same directory?" if near else ""
        message = f"{what}, so its {unchecked} were not checked{similar}"
        fix = "correct the path if it is wrong; no action if it exists on the compute nodes"
        fix = f"check its {unchecked} yourself" if exists else fix
        return finding("not-seen", message, field=self.field, actual=near[0] if near else None, fix=fix, at=self.at)


def full(run: PlannedRun) -> bool:
    """Return whether the whole model is trained, not an adapter."""
    return method_of(run.text("custom_recipe")) == FULL


def output_dir(run: PlannedRun) -> str | None:
    """Return the directory of the run's outputs, from `output_dir_base` or `project_dir`; None without either."""
    base = run.value("output_dir_base") or run.value("project_dir")
    return posixpath.normpath(posixpath.join(str(base), run.text("experiment_name"))) if base else None


def output_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield output directories that cannot be created, and those inside the base model's directory.

    The second check is check_outdir_not_in_ckptdir of training/checkpointing.
    """
    for path, several in grouped(plan.runs, lambda run: disk.in_the_way.get(output_dir(run) or "")).items():
        if path is not None:
            message = (
                f"the outputs of {concerning(several, plan)} would be written below {shown(path)}, which is not a"
                " directory"
            )
            where = at(several[0], "output_dir_base", "project_dir")
            fix = f"choose a different output directory, or move {shown(path)} away"
            yield finding(
                "output-not-directory",
                message,
                field="output_dir_base",
                expected="a directory",
                actual=path,
                fix=fix,
                at=where,
            )
    for (outputs, model), runs in grouped(plan.runs, lambda run: (output_dir(run), run.checkpoint_dir)).items():
        if model and f"{outputs}/".startswith(f"{model}/"):
            message = (
                f"the outputs of {concerning(runs, plan)} would be written to the directory of the base model,"
                f" {shown(model)}; torchtune rejects this"
            )
            field, expected, fix = (
                "output_dir_base",
                f"a directory outside {model}",
                ("choose a different output directory"),
            )
            where = at(runs[0], field, "project_dir")
            yield finding(
                "output-in-checkpoint", message, field=field, expected=expected, actual=outputs, fix=fix, at=where
            )


TRAIN = "train"
VALIDATION = "validation"


@dataclass(frozen=True)
class Rows:
    """The number of samples of a run in an epoch, and its basis."""

    count: int
    basis: str


def part_of(run: PlannedRun, disk: DiskState, name: str = TRAIN) -> DataPart | None:
    """Return a part of the run's data set, if it was inspected."""
    found = disk.data.get(run.data_path)
    return None if found is None else found.parts.get(name)


def rows_of(run: PlannedRun, plan: Plan, disk: DiskState) -> Rows | None:
    """Return the samples of a training epoch: the inspected number, else the number of the summary, else None."""
    part, declared = part_of(run, disk), plan.splits.get(run.data_path, {}).get(TRAIN)
    if part is not None:
        label = f"{run.value('dataset_label')}{run.value('dataset_ext')}"
        rows = Rows(part.rows, f"{label} has {counted(part.rows, 'row')}")
    elif declared is not None:
        rows = Rows(declared, f"the summary states {counted(declared, 'sample')}")
    else:
        return None
    asked = run.integer("training_samples", rows.count)
    return Rows(asked, f"the plan uses {counted(asked, 'training sample')}") if asked < rows.count else rows


def effective_batch(run: PlannedRun) -> int:
    """Return the samples in an optimizer step: batch size x accumulation x GPUs."""
    return run.integer("batch_size", 1) * run.integer("gradient_accumulation_steps", 1) * run.integer("gpus", 1)


def steps_of(run: PlannedRun, rows: int) -> int:
    """Return the number of optimizer steps in an epoch of the run."""
    limit, batch_size = run.value("max_steps_per_epoch"), run.integer("batch_size", 1)
    limit = limit if isinstance(limit, int) else None
    accumulation, processes = run.integer("gradient_accumulation_steps", 1), run.integer("gpus", 1)
    return steps_per_epoch(rows, batch_size=batch_size, accumulation=accumulation, processes=processes, limit=limit)


class _Case(NamedTuple):
    """The basis of a number of samples or packs, the rows of the data set, and the steps of an epoch.

    `steps` is the maximum, `likely` the estimate.
    """

    basis: str
    what: str
    rows: int
    samples: int
    steps: int
    likely: int
    epochs: int
    warmup: int


def step_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield runs without a step, and runs that reach the planned learning rate late or never.

    Packed samples are combined by their length in tokens: the number of packs has bounds, and is never larger than the
    number of samples.
    """
    cases = grouped(plan.runs, lambda run: _case(run, plan, disk))
    known = [(runs, case) for case, runs in cases.items() if case is not None]
    empty = [(each, case) for runs, case in known if case.likely == 0 for each in _alike(runs, case)]
    smaller = {run.directory: _smaller(run, case.samples) for runs, case in empty for run in runs}
    for runs, case in empty:
        yield _no_steps(plan, runs, case, smaller)
    long = [(runs, case) for runs, case in known if case.likely and 2 * case.warmup > case.likely * case.epochs]
    shorter = {run.directory: case.likely * case.epochs // 10 for runs, case in long for run in runs}
    for runs, case in long:
        yield _long_warmup(plan, runs, case, shorter)


def _case(run: PlannedRun, plan: Plan, disk: DiskState) -> _Case | None:
    rows = rows_of(run, plan, disk)
    if rows is None:
        return None
    basis, what, most, likely = rows.basis, "sample", rows.count, rows.count
    if run.value("packed") and rows.count:
        size = run.value("max_seq_len")  # unknown if an external script chooses it
        counts = None if size is None else counts_of(run, part_of(run, disk))
        packs = counts.packs if counts and counts.packs else Packs(least=1, likely=rows.count, most=rows.count)
        number = "at most " if packs.least < packs.most else ""
        number += counted(packs.most, "pack") + ("" if size is None else f" of {size} tokens")
        about = f", probably about {packs.likely}" if packs.likely < packs.most else ""
        basis = f"{rows.basis}, which make {number}{about}"
        what, most, likely = "pack", packs.most, packs.likely
    return _Case(
        basis=basis,
        what=what,
        rows=rows.count,
        samples=likely,
        steps=steps_of(run, most),
        likely=steps_of(run, likely),
        epochs=run.integer("epochs", 1),
        warmup=run.integer("num_warmup_steps", 0),
    )


def _factors(run: PlannedRun) -> tuple[int, int, int]:
    """Return batch size, gradient accumulation and GPUs of a run."""
    return run.integer("batch_size", 1), run.integer("gradient_accumulation_steps", 1), run.integer("gpus", 1)


def _alike(runs: list[PlannedRun], case: _Case) -> Iterable[list[PlannedRun]]:
    """Return the runs by the number of samples in a step, its factors, and the factors that would fit."""
    return grouped(runs, lambda run: (_factors(run), *_smaller(run, case.samples).items())).values()


def _smaller(run: PlannedRun, samples: int) -> dict[str, int]:
    """Return the settings with which a step of a run needs at most so many samples; empty if only GPUs are too many.

    A batch size of a row distinguishes runs, so less accumulation is preferred.
    """
    batch, accumulation, gpus = _factors(run)
    size, of_row = run.settings.get("batch_size"), SourceKind.ROW
    if size and size.source.kind is of_row and accumulation > 1 and (times := samples // (batch * gpus)):
        return {"gradient_accumulation_steps": times}
    if fitting := samples // (accumulation * gpus):
        return {"batch_size": fitting}
    return {"gradient_accumulation_steps": 1, "batch_size": fitting} if (fitting := samples // gpus) else {}


def _no_steps(plan: Plan, runs: list[PlannedRun], case: _Case, smaller: Mapping[str, Mapping[str, int]]) -> Finding:
    would, severity = ("would", None) if case.steps == 0 else ("would probably", Severity.WARNING)
    message = (
        f"{concerning(runs, plan)} {would} train for 0 optimizer steps: {case.basis}, but a step needs"
        f" {counted(effective_batch(runs[0]), case.what)} (batch size x gradient accumulation x GPUs); torchtune drops"
        " an incomplete step and exits without an error"
    )
    expected, place = "at least one step per epoch", at(runs[0], "batch_size", "gradient_accumulation_steps")
    unpack = ", remove `Packed`" if case.what == "pack" and steps_of(runs[0], case.rows) else ""
    changes = [
        to_give(name, {run: values[name] for run, values in smaller.items() if name in values}, runs, plan.runs)
        for name in smaller[runs[0].directory]
    ]
    fix = f"{' and '.join(changes) or 'use fewer GPUs'}{unpack}, or add data"
    return finding(
        "no-steps", message, field="batch_size", expected=expected, actual=0, fix=fix, severity=severity, at=place
    )


def _long_warmup(plan: Plan, runs: list[PlannedRun], case: _Case, shorter: Mapping[str, int]) -> Finding:
    total, field, warmup = case.likely * case.epochs, "num_warmup_steps", case.warmup
    chosen = "" if at(runs[0], field).line else " (the default)"
    long, so_what = (
        ("takes at least as long as", "the planned learning rate is never reached")
        if warmup >= total
        else ("covers more than half of", "the learning rate is below the planned value in most steps")
    )
    message = (
        f"in {concerning(runs, plan)}, the warm-up of {counted(warmup, 'step')}{chosen} {long} the"
        f" {'estimated ' if case.steps > case.likely else ''}{counted(total, 'training step')} ({case.likely} per epoch"
        f" for {counted(case.epochs, 'epoch')}; {case.basis}), so {so_what}"
    )
    expected, place = f"at most {total // 2}", at(runs[0], field, "epochs")
    why = ", or use a different number; a tenth of the training steps is usual"
    why = why if shorter[runs[0].directory] else ": the training is too short for a warm-up"
    fix = f"{to_give(field, shorter, runs, plan.runs)}{why}"
    if ratio := kinds.ratio_of(runs[0].settings[field].source):
        lines = dict.fromkeys(str(run.settings[field].source.line) for run in runs)
        where = f"{place.file}:{few([*lines], 3, last='')}"
        fix = f"write `0.1` instead of `{ratio}` as the warm-up ratio in {where}, or a different ratio"
    return finding("long-warmup", message, field=field, expected=expected, actual=warmup, fix=fix, at=place)


_GIB = 1024**3
_SMALLEST = _GIB / 20  # smaller sizes are not printed as a number
_BF16 = 2
_CHARACTERS = 4  # characters per token, roughly, of English text with the tokenizers of these models
_NAMES_GPUS = ("gpu_type", "constraint")
_COMMON = 80  # GiB of the largest common GPUs: A100 and H100
_BEST_USE = 0.5  # the best fraction of its peak that a GPU reaches in training, as published runs report it


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: its memory in GiB, and its dense bf16 rate in 1e12 operations per second; 0 if unknown."""

    memory: int
    teraflops: int = 0


# Memory and dense bf16 tensor-core rates from the makers' data sheets.
_GPUS: Final = {
    "b200": Gpu(180, 2250), "h200": Gpu(141, 989), "h100": Gpu(80, 989), "gh200": Gpu(96, 989),
    "a100": Gpu(80, 312), "l40s": Gpu(48, 362), "l40": Gpu(48, 181), "a40": Gpu(48, 150), "a6000": Gpu(48, 155),
    "a30": Gpu(24, 165), "a10": Gpu(24, 125), "l4": Gpu(24, 121), "rtx4090": Gpu(24, 165), "rtx3090": Gpu(24, 71),
    "v100": Gpu(32), "p100": Gpu(16), "t4": Gpu(16), "mi250": Gpu(64, 181), "mi300": Gpu(192, 1307),
}  # fmt: skip
_WORD: Final = re.compile(r"[a-z0-9]+")
_SIZE: Final = re.compile(r"(?!\d+$)(?:gpu|vram|mem)?(?P<size>[0-9]{2,3})(?:g|gb)?")


def gpu_of(constraint: str) -> Gpu | None:
    """Return the smallest GPU that a SLURM constraint may give; None if it names none.

    `gpu80` and `80gb` give only the memory; `a100&gpu40` is the A100 of 40 GB. Of alternatives (`a100|h100`), use the
    smallest memory and, if all rates are known, the best rate: the job may get either GPU.
    """
    found = [gpu for part in constraint.lower().split("|") if (gpu := _named(part)) is not None]
    if not found:
        return None
    rates = [gpu.teraflops for gpu in found]
    return Gpu(min(gpu.memory for gpu in found), max(rates) if all(rates) else 0)


def _named(part: str) -> Gpu | None:
    words = _WORD.findall(part)
    known = next((_GPUS[word] for word in words if word in _GPUS), None)
    sizes = [int(match["size"]) for match in map(_SIZE.fullmatch, words) if match]
    return Gpu(sizes[0], known.teraflops if known else 0) if sizes else known


@dataclass(frozen=True)
class Need:
    """The needs of one run, in bytes. `held` is the need on each GPU, without activations."""

    model: int
    trained: int
    held: int
    logits: int
    saved: int
    saved_adapter: int


def need_of(run: PlannedRun, facts: ModelFacts) -> Need:
    """Return the minimum needs of a run.

    Everything is in bf16: the weights, and for the trained weights the gradients and AdamW's two moments, which torch
    keeps in the type of the weights; FSDP shards all of it across the GPUs. With fsdp_cpu_offload, which the bundled
    setup_finetune sets for some models, only one layer at a time is on the GPUs. Each epoch saves the whole model,
    merged with the adapter, unless only the adapter is requested. Every epoch but the last also saves the two moments,
    in one file that the next epoch replaces (FullModelHFCheckpointer.save_checkpoint of torchtune 0.6.1).
    """
    model = facts.parameters * _BF16
    trained = model if full(run) else _adapter(run, facts) * _BF16
    weights = model if full(run) else model + trained
    vocabulary = dict(facts.tensors())["model.embed_tokens.weight"][0]
    adapter = 0 if full(run) else trained
    epoch = adapter if run.value("save_adapter_weights_only") is True else model + adapter
    gpus, epochs = run.integer("gpus", 1), run.integer("epochs", 1)
    return Need(
        model=model,
        trained=trained,
        held=model // facts.layers if _offloaded(run, gpus) else (weights + 3 * trained) // gpus,
        logits=run.integer("batch_size", 1) * run.integer("max_seq_len", 2048) * vocabulary * _BF16,
        saved=epoch * epochs + (2 * trained if epochs > 1 else 0),
        saved_adapter=(model if full(run) else adapter) * epochs + (2 * trained if epochs > 1 else 0),
    )


def _adapter(run: PlannedRun, facts: ModelFacts) -> int:
    """Return the number of the adapter's parameters; unplanned modules are those of the bundled setup_finetune."""
    attention = (run.text("lora_attn_modules") or "q_proj,v_proj,output_proj").split(",")
    mlp, output = run.value("apply_lora_to_mlp") is not False, run.value("apply_lora_to_output") is True
    return (facts.lora_parameters(attention, mlp=mlp, output=output) or 0) * run.integer("lora_rank", 0)


def _offloaded(run: PlannedRun, gpus: int) -> bool:
    entry = find_model(run.text("torchtune_model_name"))
    return entry is not None and entry.full_offload and full(run) and gpus > 1


def cost_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield the estimates, and warnings if they exceed the available resources."""
    facts = [(run, load().model(run.text("torchtune_model_name"))) for run in plan.runs]
    runs = [(run, need_of(run, known)) for run, known in facts if known is not None]
    if runs:
        yield _estimate(plan, disk, runs)
    yield from _memory(plan, runs)
    yield from _node_memory(plan, runs)
    yield from _disk(plan, disk, runs)
    yield from _time(plan, disk, runs)


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _SMALLEST else "less than 0.1 GiB"


def _size(size: float) -> str:
    """Return an amount of disk space in a unit that shows small amounts."""
    return _gib(size) if size >= _GIB else f"{size / 1024**2:.1f} MiB"


def _span(first: object, last: object) -> str:
    """Return one of two texts, or both if they differ."""
    return str(first) if first == last else f"{first} to {last}"


def _sizes(first: float, last: float) -> str:
    """Return one or two sizes, of which the first may be too small to print as a number."""
    return f"up to {_gib(last)}" if first < _SMALLEST <= last else _span(_gib(first), _gib(last))


def _span_of(first: int, last: int, unit: str) -> str:
    """Return one or two numbers with their unit: `1 step`, `1 to 2 steps`."""
    return counted(first, unit) if first == last else f"{first} to {last} {unit}s"


def _with_unit(memory: Scalar) -> str:
    """Return an amount of memory with its unit; without one, it is in megabytes (sbatch(1), --mem)."""
    return f"{memory} MB" if str(memory).isdecimal() else str(memory)


def _node(plan: Plan, runs: list[PlannedRun]) -> list[str]:
    """Return the requests of the bundled setup_finetune for a node, if not planned."""
    asked = []
    for run in runs if plan.options.setup_script == "bundled" else ():
        entry, epochs = find_model(run.text("torchtune_model_name")), run.integer("epochs", 1)
        if entry and not (run.value("mem") and run.value("cpus_per_task")):
            made = default_resources(entry, run.integer("gpus", 1), full=full(run), epochs=epochs)
            cpus = counted(run.integer("cpus_per_task", made.cpus), "CPU")
            asked.append(f"{_with_unit(run.value('mem') or made.mem)} of memory and {cpus}")
    each = [*dict.fromkeys(asked)]
    if len(each) == 1:
        return [f"each job requests {each[0]} on its node"]
    return [f"depending on the run, each job requests {', or '.join(each)}, on its node"] if each else []


def _estimate(plan: Plan, disk: DiskState, runs: list[tuple[PlannedRun, Need]]) -> Finding:
    held = sorted(need.held for _, need in runs)
    logits = max(need.logits for _, need in runs)
    parts = [
        (
            f"each GPU holds {_sizes(held[0], held[-1])} of weights, gradients and optimizer states in bf16,"
            f" plus activations (including up to {_gib(logits)} of logits, if samples fill max_seq_len)"
        ),
        f"the checkpoints of all runs and epochs together need {_gib(sum(need.saved for _, need in runs))}",
    ]
    counts = [(run, rows.count) for run, _ in runs if (rows := rows_of(run, plan, disk)) is not None]
    steps = [steps_of(run, count) * run.integer("epochs", 1) for run, count in counts if not run.value("packed")]
    if len(steps) == len(runs):
        samples = sorted(effective_batch(run) for run, _ in runs)
        each = _span_of(samples[0], samples[-1], "sample")
        every = sorted(count for _, count in counts)
        parts.append(
            f"each run has {_span_of(min(steps), max(steps), 'optimizer step')} of {each},"
            f" and {_span_of(every[0], every[-1], 'training sample')} per epoch"
        )
    parts += _node(plan, [run for run, _ in runs])
    return finding("estimate", f"estimates for {concerning([r for r, _ in runs], plan)}: {'; '.join(parts)}")


def _gpu(run: PlannedRun) -> Gpu | None:
    return gpu_of("&".join(run.text(name) for name in _NAMES_GPUS))


def _names(run: PlannedRun) -> str:
    """Return the settings that select the run's GPUs, as text: `the GPU type 'a100' and the constraint 'gpu40'`."""
    labels = {"gpu_type": "GPU type", "constraint": "constraint"}
    return " and ".join(f"the {labels[name]} {shown(run.value(name))}" for name in _NAMES_GPUS if run.value(name))


def _memory(plan: Plan, runs: list[tuple[PlannedRun, Need]]) -> Iterator[Finding]:
    """Yield runs that cannot fit on the named GPU or on a common one, even without activations."""
    large: dict[tuple[int, int], list[PlannedRun]] = {}
    for run, need in runs:
        gpu = _gpu(run)
        if gpu is not None and need.held > gpu.memory * _GIB:
            large.setdefault((need.held, gpu.memory), []).append(run)
    for (held, memory), some in large.items():
        message = (
            f"weights, gradients and optimizer states alone need {_gib(held)} on each GPU of {concerning(some, plan)},"
            f" but each GPU selected by {_names(some[0])} has only {memory} GiB"
        )
        fix = "use more or larger GPUs or a smaller model; if the GPU type or constraint is wrong, correct it"
        expected, place = f"at most {memory} GiB", at(some[0], "gpus", *_NAMES_GPUS)
        yield finding("gpu-memory", message, field="gpus", expected=expected, actual=_gib(held), fix=fix, at=place)

    nameless: dict[int, list[PlannedRun]] = {}
    for run, need in runs:
        if _gpu(run) is None and need.held > _COMMON * _GIB:
            nameless.setdefault(need.held, []).append(run)
    for held, some in nameless.items():
        message = (
            f"weights, gradients and optimizer states alone need {_gib(held)} on each GPU of {concerning(some, plan)},"
            f" more than the {_COMMON} GiB of an A100 or H100, and no GPU type is specified"
        )
        fix = "use more GPUs or a smaller model; if the cluster's GPUs have more memory, specify the GPU type"
        expected, place = f"at most {_COMMON} GiB", at(some[0], "gpus", "torchtune_model_name")
        yield finding("gpu-memory", message, field="gpus", expected=expected, actual=_gib(held), fix=fix, at=place)


_BYTES: Final = {"K": 1024, "M": 1024**2, "G": _GIB, "T": 1024 * _GIB}


def _bytes(memory: str) -> int:
    """Return a number of bytes in the format of `--mem`, which is in megabytes without a unit."""
    return int(memory[:-1]) * _BYTES[memory[-1]] if memory[-1] in _BYTES else int(memory) * _BYTES["M"]


def _node_memory(plan: Plan, runs: list[tuple[PlannedRun, Need]]) -> Iterator[Finding]:
    """Yield runs that request too little memory of their node to save the weights, with the default that is enough.

    A run that saves only its adapter copies no weights.
    """
    short: list[tuple[PlannedRun, float, int]] = []
    for run, _ in runs:
        entry, asked = find_model(run.text("torchtune_model_name")), run.text("mem")
        if entry is None or not asked or (run.value("save_adapter_weights_only") is True and not full(run)):
            continue
        made = default_resources(entry, run.integer("gpus", 1), full=full(run), epochs=run.integer("epochs", 1))
        if _bytes(asked) < made.least * _GIB:
            short.append((run, made.least, _bytes(made.mem)))
    if short:
        some, least = [run for run, _, _ in short], max(least for _, least, _ in short)
        asked = few(list(dict.fromkeys(_with_unit(run.text("mem")) for run in some)), 3)
        message = (
            f"{who_do(some, plan, 'request')} {asked} of memory on the node, but saving the weights needs at least"
            f" {least:.1f} GiB"
        )
        enough = f"{max(default for _, _, default in short) // _GIB}G"
        wanted = some if some[0].settings["mem"].source.kind is SourceKind.ROW else plan.runs
        fix = f"{to_give('mem', for_each(wanted, enough), wanted, plan.runs)}; {enough} is the default"
        expected, place = f"at least {least:.1f} GiB", at(some[0], "mem")
        yield finding(
            "node-memory", message, field="mem", expected=expected, actual=some[0].text("mem"), fix=fix, at=place
        )


def _disk(plan: Plan, disk: DiskState, runs: list[tuple[PlannedRun, Need]]) -> Iterator[Finding]:
    """Yield outputs that are larger than the free space of their directory."""
    needs = {run.directory: need.saved for run, need in runs}
    adapters = {run.directory: need.saved_adapter for run, need in runs}
    for outputs, some in grouped([run for run, _ in runs], output_dir).items():
        free, needed = disk.free.get(str(outputs)), sum(needs[run.directory] for run in some)
        if free is not None and needed > free:
            sizes = [_size(each) for each in (needed, free)]
            need, has = sizes if sizes[0] != sizes[1] else (f"{each:,} bytes" for each in (int(needed), int(free)))
            message = (
                f"the checkpoints of {concerning(some, plan)} need {need} in total, but only {has} is free on the file"
                f" system of {outputs}"
            )
            fix = f"free disk space, or choose a different output directory{_less(plan, some, needs, adapters)}"
            expected, place = f"{_gib(needed)} free", at(some[0], "output_dir_base", "project_dir")
            yield finding("disk-space", message, field="output_dir_base", expected=expected, fix=fix, at=place)


def _less(plan: Plan, runs: list[PlannedRun], needs: Mapping[str, int], adapters: Mapping[str, int]) -> str:
    """Return the fix that saves only the adapter, with sizes; empty if no run can save less."""
    able = [run for run in runs if adapters[run.directory] < needs[run.directory]]
    if not able:
        return ""
    saved = sum(min(adapters[run.directory], needs[run.directory]) for run in runs)
    line = to_give("save_adapter_weights_only", for_each(able, "yes"), able, plan.runs)
    return f"; or, in the summary, {line} (reduces {_gib(sum(needs[run.directory] for run in runs))} to {_gib(saved)})"


def _time(plan: Plan, disk: DiskState, runs: list[tuple[PlannedRun, Need]]) -> Iterator[Finding]:
    """Yield runs that cannot finish in time even on a GPU at the best known rate of training."""
    least = {run.directory: _least_seconds(run, need, plan, disk) for run, need in runs}
    short = [run for run, _ in runs if least[run.directory] > _limit(run)]
    if short:
        run, seconds = short[0], max(least[run.directory] for run in short)
        computed = _clock(seconds)
        limits = " or ".join(dict.fromkeys(run.text("time") for run in short))
        message = (
            f"in {concerning(short, plan)}, computation alone takes at least"
            f" {_span(_clock(min(least[run.directory] for run in short)), computed)} on the GPUs selected by"
            f" {_names(run)}, but the time limit is {limits}"
        )
        enough = kinds.slurm_time(math.ceil(2 * seconds / 3600) * 3600)
        expected = f"more than {computed}"
        twice = f"{enough} is twice the computed minimum, rounded up to a full hour"
        fix = f"{to_give('time', for_each(short, enough), short, plan.runs)}, use more GPUs, or reduce epochs; {twice}"
        yield finding(
            "time-limit", message, field="time", expected=expected, actual=run.text("time"), fix=fix, at=at(run, "time")
        )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"


def _limit(run: PlannedRun) -> float:
    found = kinds.slurm_seconds(run.text("time"))
    return math.inf if found is None else found


def _least_seconds(run: PlannedRun, need: Need, plan: Plan, disk: DiskState) -> float:
    """Return the minimum seconds of arithmetic of a run; 0 if unknown.

    A token takes two operations for each weight forward and two backward, and two more for each trained weight
    (Kaplan et al., 2020, section 2.1). Tokens are estimated from the characters of the samples, without the prompt or
    chat template.
    """
    part, rows, gpu = part_of(run, disk), rows_of(run, plan, disk), _gpu(run)
    if part is None or rows is None or not part.rows or gpu is None or not gpu.teraflops:
        return 0.0
    tokens = sum(part.characters.values()) / _CHARACTERS * rows.count / part.rows * run.integer("epochs", 1)
    operations = tokens * (4 * need.model + 2 * need.trained) / _BF16
    return operations / (gpu.teraflops * 1e12 * _BEST_USE * run.integer("gpus", 1))
