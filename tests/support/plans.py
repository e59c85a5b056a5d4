"""Frozen plans without documents: each run has the settings of support/good_files.py, with some changes.

Every setting has its own line in experiment_summary.md, so that tests can check the place of a finding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Options, Plan, PlannedRun, Setting, Source, SourceKind
from support.good_files import VALUES

SUMMARY = "experiment_summary.md"
DATA = "/scratch/me/data/words.json"
MODELS = "/scratch/me/models"
LINES = {
    name: 10 + number
    for number, name in enumerate(
        [*VALUES, "constraint", "training_samples", "custom_recipe", "input_key", "output_key"]
    )
}
"""The line of each setting, unless it is a default."""

USUAL = {"batch_size": 4, "gradient_accumulation_steps": 1, "num_warmup_steps": 10, "epochs": 2}

Changes = Mapping[str, Scalar]


def run_of(changes: Changes, number: int = 0, *, data: str = DATA, defaults: Sequence[str] = ()) -> PlannedRun:
    """Return a run. A setting that is changed to None is not planned."""
    values = {**VALUES, **USUAL, **changes}
    settings = {
        name: Setting(value=value, source=_source(name, default=name in defaults))
        for name, value in values.items()
        if value is not None
    }
    parameters = {"model": values["torchtune_model_name"]} | {k: v for k, v in values.items() if k in changes}
    return PlannedRun(
        directory=f"run{number}",
        name=f"run {number}",
        line=number + 3,
        model=str(values["torchtune_model_name"]),
        data_path=data,
        parameters=parameters,
        settings=settings,
    )


def _source(name: str, *, default: bool) -> Source:
    if default:
        return Source(kind=SourceKind.DEFAULT)
    return Source(kind=SourceKind.CONFIGURATION, file=SUMMARY, line=LINES.get(name, 99))


def plan_of(*runs: PlannedRun | Changes, varying: Sequence[str] = (), script: str = "bundled", **more: Any) -> Plan:
    """Return a plan of some runs, each given as a run or by its changes."""
    made = tuple(run if isinstance(run, PlannedRun) else run_of(run, n) for n, run in enumerate(runs or ({},)))
    return Plan(
        id="1",
        version="0",
        experiment="capitals",
        experiment_dir="/e",
        options=Options(setup_script=script),
        inputs={},
        varying=tuple(varying),
        pattern="",
        template="",
        legend={},
        runs=made,
        excluded=(),
        **more,
    )


def plan_of_directories(*directories: str) -> Plan:
    """Return a plan of runs with given directories, and nothing else."""
    runs = tuple(
        PlannedRun(directory=d, name=d, line=1, model="m", data_path="/d", parameters={}, settings={})
        for d in directories
    )
    return Plan(
        id="",
        version="",
        experiment="",
        experiment_dir="",
        options=Options(),
        inputs={},
        varying=(),
        pattern="",
        template="",
        legend={},
        runs=runs,
        excluded=(),
    )
