"""What documents say of several settings together must be what the runs are: nodes, effective batch, warm-up, W&B."""

from collections.abc import Iterator, Mapping, Sequence

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import Experiment, Run, Setting
from scaffold_torchtune.plan.run_settings import number, own_value, warmup_ratio
from scaffold_torchtune.settings.fixes import line_of
from scaffold_torchtune.system.text import shown


def problems(tuned: Sequence[Run], settings: Sequence[Mapping[str, Setting]], experiment: Experiment) -> list[Finding]:
    """Return what the documents ask for and the runs would not be, once for each place that asks for it.

    Args:
        tuned: the fine-tuned runs.
        settings: what is planned of each.
        experiment: the experiment.
    """
    found: dict[tuple[str, str], Finding] = {}
    for run, planned in zip(tuned, settings, strict=True):
        for each in _of_run(run, planned, experiment):
            found.setdefault((each.code, each.location()), each)
    return list(found.values())


def _of_run(run: Run, planned: Mapping[str, Setting], experiment: Experiment) -> Iterator[Finding]:
    yield from _nodes(_said("nodes", run, experiment))
    yield from _effective_batch(_said("effective_batch_size", run, experiment), run, planned, experiment)
    yield from _warmup(run, planned, experiment)
    yield from _mode(planned)


def _said(name: str, run: Run, experiment: Experiment) -> Setting | None:
    """What the documents or the template say of what is no setting of a run."""
    return own_value(name, run, experiment) or experiment.template.get(name)


def _nodes(nodes: Setting | None) -> Iterator[Finding]:
    if nodes is not None and nodes.value != 1:
        message = f"{nodes.value} nodes are asked for, and a run gets the GPUs of one"
        fix = "write 1 and the GPUs of one node, if that is enough; else do not scaffold this experiment with this tool"
        yield finding(
            "unsupported-setting", message, field="nodes", expected=1, actual=nodes.value, at=nodes.source, fix=fix
        )


def _effective_batch(
    said: Setting | None, run: Run, planned: Mapping[str, Setting], experiment: Experiment
) -> Iterator[Finding]:
    """An effective batch size that is not batch size x accumulation x GPUs, and the accumulation that would make it."""
    if said is None:
        return
    batch, accumulation, gpus = (number(planned, n) for n in ("batch_size", "gradient_accumulation_steps", "gpus"))
    actual = batch * accumulation * gpus
    if said.value == actual:
        return
    message = (
        f"the effective batch size is {said.value}, but in the run at line {run.line} a step takes {actual} samples:"
        f" batch size {batch} x accumulation {accumulation} x {gpus} GPU(s)"
    )
    each, rest = divmod(said.integer, batch * gpus)
    fix = "correct the effective batch size, or what makes it"
    if each and not rest:
        line = line_of("gradient_accumulation_steps", each, yaml=experiment.form == "yaml")
        fix = f"add {line}, or correct the effective batch size"
    yield finding(
        "ambiguous", message, field="effective_batch_size", expected=said.value, actual=actual, at=said.source, fix=fix
    )


def _warmup(run: Run, planned: Mapping[str, Setting], experiment: Experiment) -> Iterator[Finding]:
    """A warm-up ratio beside a number of steps, or whose steps are not known."""
    ratio, steps = warmup_ratio(run, experiment), own_value("num_warmup_steps", run, experiment)
    if ratio is None:
        return
    if steps is not None:
        message = f"the warm-up is {shown(ratio.value)} of the steps here, and {steps.value} steps at {steps.source}"
        fix = "keep one of the two"
        yield finding("ambiguous", message, field="warmup_ratio", actual=ratio.value, at=ratio.source, fix=fix)
        return
    made = planned.get("num_warmup_steps")
    if made is None or (made.source.file, made.source.line) != (ratio.source.file, ratio.source.line):
        packed = planned.get("packed")
        why = "the data set cannot be seen from here"
        if packed is not None and packed.value is True:
            why = "samples are packed by their length in tokens"
        message = f"the warm-up is {shown(ratio.value)} of the steps, which are not known: {why}"
        line = line_of("num_warmup_steps", "NUMBER", yaml=experiment.form == "yaml")
        fix = f"add {line} in its place: {shown(ratio.value)} of the optimizer steps of all epochs"
        yield finding(
            "unsupported-setting", message, field="warmup_ratio", actual=ratio.value, at=ratio.source, fix=fix
        )


def _mode(planned: Mapping[str, Setting]) -> Iterator[Finding]:
    """Runs that report to Weights & Biases while they train, on nodes without internet."""
    offline, mode = planned.get("offline"), planned.get("wandb_mode")
    if offline is not None and offline.value is True and mode is not None and mode.value == "online":
        message = f"W&B is online here, but the compute nodes are offline ({offline.source}), where it waits for ever"
        fix = (
            "write offline, and send the runs with `wandb sync` afterwards; or correct what says that nodes are offline"
        )
        yield finding(
            "ambiguous", message, field="wandb_mode", expected="offline", actual="online", at=mode.source, fix=fix
        )
