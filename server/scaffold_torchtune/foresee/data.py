"""Whether the data sets hold what the runs will ask of them, and what the summary says of them."""

from collections.abc import Iterator

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, finding
from scaffold_torchtune.foresee.places import Subject, at, concerning, grouped
from scaffold_torchtune.foresee.steps import TRAIN, VALIDATION
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.seen import CellKind, DataSeen, PartSeen, Seen
from scaffold_torchtune.shared.text import did_you_mean, shown

_LISTED = 8
_MESSAGES = "messages"


def findings(plan: Plan, seen: Seen) -> Iterator[Finding]:
    """What stands against each data set, for each way in which runs use it."""
    for path, runs in grouped(plan.runs, lambda run: run.data_path).items():
        found = seen.data.get(path)
        if found is None:
            continue
        who = concerning(runs, len(plan.runs))
        place = at(runs[0], "dataset_label", "input_dir_base")
        # a script of the user's own may read data in a way of its own
        severity = None if plan.options.setup_script == "bundled" else Severity.WARNING
        failure = f"the data set {shown(path)} of {who} will not train"
        about = Subject(path, "dataset", place, "data-mismatch", failure, severity)
        if found.absent or found.unread:
            what = f"the data set {shown(path)} of {who} {found.unread or 'cannot be seen from here'}"
            yield about.not_seen(what, unchecked="rows and columns", near=found.near)
        elif found.problem:
            yield about.mismatch(f"it {found.problem}", fix="correct the file, or the path in the summary")
        else:
            yield from _parts(about, runs, found)
            yield from _splits(about, plan, found)
            yield from _samples(about, plan, runs, found)


def _parts(about: Subject, runs: list[PlannedRun], found: DataSeen) -> Iterator[Finding]:
    needed = {TRAIN: runs}
    validated = [run for run in runs if run.integer("run_val_every_n_steps", 0)]
    if validated:
        needed[VALIDATION] = validated
    for name, some in needed.items():
        part = found.parts.get(name)
        if part is None:
            yield _no_part(about, found, name)
        elif part.rows == 0:
            yield about.mismatch(f"its part {name} has no rows", fix=f"give {name} rows, or another data set")
        else:
            yield from _columns(about, some, name, part)


def _no_part(about: Subject, found: DataSeen, name: str) -> Finding:
    there = ", ".join(shown(part) for part in list(found.parts)[:_LISTED])
    return about.mismatch(
        did_you_mean(name, found.parts, f"it has no part {name}."),
        expected=f"a list of rows under {name!r}",
        actual=there or "no part",
        fix=f"name the part {name} in the file" if there else f'give the rows as {{"{name}": [...]}}',
    )


def _wanted(run: PlannedRun) -> dict[str, tuple[CellKind, str]]:
    """The columns that the run's type of data set reads: what each must hold, and the setting that names it.

    torchtune/datasets/_instruct.py, _chat.py, _text_completion.py of 0.6.1; cruijff_kit's two read the same columns as
    instruct_dataset.
    """
    kind = run.value("dataset_type")  # instruct_dataset where none is planned
    if kind == "chat_dataset":
        return {_MESSAGES: ("list", "dataset_type")}
    usual = {"input_key": "input", "output_key": "output"}
    if kind == "text_completion_dataset":
        usual = {"input_key": "text"}
    return {run.text(key) or name: ("text", key) for key, name in usual.items()}


def _columns(about: Subject, runs: list[PlannedRun], name: str, part: PartSeen) -> Iterator[Finding]:
    told: dict[tuple[str, CellKind], Location | None] = {}
    for run in runs:
        for column, (kind, key) in _wanted(run).items():
            told.setdefault((column, kind), at(run, key) if at(run, key).line else None)
    for (column, kind), place in told.items():
        kinds = part.columns.get(column)
        if kinds is None:
            there = ", ".join(shown(each) for each in list(part.columns)[:_LISTED])
            yield about.mismatch(
                did_you_mean(column, part.columns, f"its part {name} has no column {shown(column)}."),
                expected=f"a column {column}",
                actual=there or "no columns",
                fix="correct Input key or Output key in the summary, give the Dataset type, or rename the column",
                place=place,
            )
            continue
        for other, row in kinds.items():
            if other != kind:
                yield _wrong_cell(about, f"row {row} of {name}", column, kind, other)
    if any(column == _MESSAGES for column, _ in told):
        for fault, row in part.messages.items():
            yield about.mismatch(f"row {row} of {name}: {fault}", fix="correct the row")


def _wrong_cell(about: Subject, where: str, column: str, kind: CellKind, other: CellKind) -> Finding:
    is_what = f"has no {shown(column)}" if other == "absent" else f"has {other} in {shown(column)}, not {kind}"
    return about.mismatch(
        f"{where} {is_what}", expected=kind, actual=other, fix=f"give every row {kind} in {shown(column)}"
    )


def _splits(about: Subject, plan: Plan, found: DataSeen) -> Iterator[Finding]:
    """Where the file and the summary count differently."""
    for name, said in plan.splits.get(about.name, {}).items():
        part = found.parts.get(name)
        if part is not None and part.rows != said:
            message = f"the summary says {said} samples for {name}, but {shown(about.name)} has {part.rows} rows there"
            fix = "correct the summary, or use the data set that it describes"
            yield finding(
                "split-differs", message, field="dataset", expected=said, actual=part.rows, fix=fix, at=about.place
            )


def _samples(about: Subject, plan: Plan, runs: list[PlannedRun], found: DataSeen) -> Iterator[Finding]:
    """More training samples asked for than there are: the datasets library takes what there is and says nothing."""
    part = found.parts.get(TRAIN)
    for asked, some in grouped(runs, lambda run: run.integer("training_samples", 0)).items():
        if part is not None and asked > part.rows > 0:
            yield finding(
                "split-differs",
                f"{concerning(some, len(plan.runs))}: {asked} training samples are asked for, but"
                f" {shown(about.name)} has {part.rows} rows in {TRAIN}, and all of them would be used",
                field="training_samples",
                expected=asked,
                actual=part.rows,
                fix="ask for fewer samples, or use a larger data set",
                at=at(some[0], "training_samples"),
            )
