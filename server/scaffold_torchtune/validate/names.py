"""The directory's name as a second check: what it says must be what finetune.yaml holds.

`rank8_lr1e-5` says that lora_rank is 8 and lr is 1e-5. This is the check that the directory's name was made for; it
knows nothing of the plan.
"""

import posixpath
import re
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.settings.kinds import read_float
from scaffold_torchtune.validate.arrivals import DIRECT
from scaffold_torchtune.validate.finetune import at
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.values import compare, dotted, quoted

SHORT: Final = {"rank": "lora_rank", "bs": "batch_size", "ep": "epochs"}
_PLACES: Final = {name: path for name, (path, _) in DIRECT.items()} | {"lora_alpha": ("model", "lora_alpha")}
_LABELS: Final = SHORT | {name: name for name in _PLACES}


def claims(directory: str) -> list[tuple[str, str, float]]:
    """What a directory's name says: for each part that is a label and a number, the part, the setting, the number.

    The parts are split at underscores; a label may itself have underscores (`lora_dropout0.1`).
    """
    found, tokens = [], directory.split("_")
    while tokens:
        longest = next((n for n in range(len(tokens), 0, -1) if _claim("_".join(tokens[:n]))), 1)
        part = "_".join(tokens[:longest])
        claim = _claim(part)
        if claim is not None:
            found.append((part, *claim))
        tokens = tokens[longest:]
    return found


def _claim(part: str) -> tuple[str, float] | None:
    for label, setting in _LABELS.items():
        number = read_float(part.removeprefix(label)) if part.startswith(label) else None
        if number is not None:
            return setting, number
    return None


def _without_names(run: PlannedRun) -> str:
    """The directory's name without the model's and the data set's, which may hold anything (`words_seed1`)."""
    folder, file = posixpath.split(run.data_path)
    names = {run.model, posixpath.splitext(file)[0], posixpath.basename(folder)} - {""}
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?:^|(?<=_))(?:{alternatives})(?=_|$)", "", run.directory)


def check(report: Report, data: dict[str, Any]) -> None:
    """Compare the directory's name with finetune.yaml, resolved.

    Where the run's own name was taken as it stands and finetune.yaml holds what is planned, a name that says otherwise
    is the author's choice and only a warning.
    """
    run = report.run
    for part, setting, number in claims(_without_names(run)):
        path = _PLACES[setting]
        actual = at(data, path)
        if type(actual) in {int, float} and actual == number:
            continue
        planned = run.settings.get(setting)
        chosen = run.directory == run.name and planned is not None and compare(planned.value, actual) is None
        report.add(
            "name-mismatch",
            f"the directory's name says {quoted(part)}, but {dotted(path)} is {quoted(actual)}",
            field=setting,
            expected=number,
            actual=actual,
            path=path,
            severity=Severity.WARNING if chosen else Severity.ERROR,
        )
    name = report.planned("my_wandb_run_name")
    if name is not None and name != run.directory:
        report.add(
            "name-mismatch",
            f"the directory is named {quoted(run.directory)}, but the run's planned name is {quoted(name)}",
            field="my_wandb_run_name",
            expected=run.directory,
            actual=name,
            path=("metric_logger", "name"),
        )
