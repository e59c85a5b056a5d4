"""Names that say otherwise than is planned: `llama_rank8_lr1e-5` of a row whose rank is 64, the directory of a model.

What the files in a model's directory hold is for `foresee/checkpoint.py`. A base model and its instruct version have
the same shapes, so that the name may be all that tells them apart.
"""

import posixpath
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.foresee.places import at, concerning, full, grouped, row
from scaffold_torchtune.foresee.steps import effective_batch
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.settings.kinds import read_float
from scaffold_torchtune.setup_finetune.registry import find_model
from scaffold_torchtune.shared.layout import data_label
from scaffold_torchtune.shared.text import shown

_LABELS: Final = {
    "lora_rank": "lora_rank", "rank": "lora_rank", "r": "lora_rank", "lora_alpha": "lora_alpha", "alpha": "lora_alpha",
    "lr": "lr", "batch_size": "batch_size", "bs": "batch_size", "epochs": "epochs", "epoch": "epochs", "ep": "epochs",
    "seed": "seed", "weight_decay": "weight_decay", "wd": "weight_decay", "lora_dropout": "lora_dropout",
}  # fmt: skip
"""What a name may call a setting before its number; in small letters, as `R1` and the like are names of models."""

_LONGEST: Final = 300
_CLAIM: Final = re.compile(
    rf"(?<![A-Za-z0-9])({'|'.join(_LABELS)})[=_-]?"
    r"([0-9]{1,12}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,3})?)(?![A-Za-z0-9.])"
)


class _Claim(NamedTuple):
    """What a run's name says: `rank8`, that lora_rank is 8."""

    said: str
    setting: str
    number: float


def findings(plan: Plan) -> Iterator[Finding]:
    """One warning for each setting of which names say another number; runs that train all weights are told apart."""
    yield from _models(plan)
    told: dict[tuple[str, bool], list[tuple[PlannedRun, _Claim]]] = {}
    for run in plan.runs:
        for claim in _claims(run):
            if not _holds(run, claim):
                told.setdefault((claim.setting, full(run)), []).append((run, claim))
    for cases in told.values():
        yield _finding(*cases[0], len(cases))


def _models(plan: Plan) -> Iterator[Finding]:
    """Directories of models that are named as another model is."""
    models = grouped(plan.runs, lambda run: (str(run.checkpoint_dir), run.text("torchtune_model_name")))
    for (directory, model), runs in models.items():
        named, meant = find_model(posixpath.basename(directory)), find_model(model)
        if named and meant and named != meant:
            yield finding(
                "name-mismatch",
                f"the directory of the model {shown(model)} of {concerning(runs, len(plan.runs))} is named as another"
                f" model: {shown(directory)}",
                field="model_checkpoint",
                expected=meant.name,
                actual=named.name,
                fix="correct the model or its path in the summary; nothing if the directory holds what is meant",
                severity=Severity.WARNING,
                at=at(runs[0], "model_checkpoint", "models_dir"),
            )


def _claims(run: PlannedRun) -> Iterator[_Claim]:
    name = run.name[:_LONGEST]
    for other in (run.model, data_label(run.data_path)[0]):  # which may hold anything: `words_seed1`
        name = name.replace(other, "")
    matches = list(_CLAIM.finditer(name))
    is_index = {match[1] for match in matches} == {"r"}  # r1, r2, ...: runs that are numbered
    for match in matches if not is_index else ():
        said = read_float(match[2])
        # lr5e5 is how some write 5e-5 where no minus may stand
        if said is not None and not (match[1] == "lr" and said >= 1):
            yield _Claim(match[0], _LABELS[match[1]], said)


def _holds(run: PlannedRun, claim: _Claim) -> bool:
    """Whether it is so; of what is not planned, nothing can be said, but that all weights have no LoRA."""
    planned = run.value(claim.setting)
    if planned is None:
        return not (claim.setting in {"lora_rank", "lora_alpha"} and full(run))
    batches = {effective_batch(run), run.integer("batch_size", 1) * run.integer("gradient_accumulation_steps", 1)}
    return claim.number == planned or (claim.setting == "batch_size" and claim.number in batches)


def _finding(run: PlannedRun, claim: _Claim, count: int) -> Finding:
    planned = run.value(claim.setting)
    source = run.settings[claim.setting].source if planned is not None else None
    chosen = ", a default that nobody chose" if source and source.kind == "default" else ""
    but = f"{claim.setting} is {shown(planned)}{chosen}" if planned is not None else "all of its weights are trained"
    more = f"; {count} runs have such a name" if count > 1 else ""
    return finding(
        "name-mismatch",
        f"the name {shown(run.name)} says {shown(claim.said)}, but {but}{more}",
        field=claim.setting,
        expected=claim.number,
        actual=planned,
        at=row(run),
        fix="give the value that is meant, or correct the name",
        severity=Severity.WARNING,
    )
