"""The summary's Resources: the data set, and where the base models lie."""

import posixpath

from scaffold_torchtune.errors import finding
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Dataset, ModelPath, Run
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.setup_finetune.registry import find_model
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.parameters import PARAMETERS, Parameter
from scaffold_torchtune.shared.text import close_matches, escape, shown

_LIKELY_MISSPELT = 0.9


def dataset(reading: Reading) -> Dataset | None:
    """The data set that the summary names, or None where it names none. Two different ones are noted."""
    found: list[Setting] = []
    for text in reading.summary.datasets:
        setting = reading.value(PARAMETERS["dataset"], text, SourceKind.RESOURCES, reading.summary.file)
        if setting is not None:
            found.append(setting)
    if not found:
        return None
    for other in found[1:]:
        if other.value != found[0].value:
            fix = "name one data set; where it differs by run, give the runs table a column Dataset"
            reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(str(found[0].value))
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits)


def models(reading: Reading, runs: tuple[Run, ...], environment: dict[str, Setting]) -> tuple[ModelPath, ...]:
    """The path of every model that a run names: as listed, else below the models directory."""
    found: dict[str, Setting] = {}
    named = {run.model for run in runs}
    for name, text in reading.summary.models:
        if name not in named:  # remarks stand there too: Verified, Size, Source
            continue
        path = Parameter(f"path of model {name}", "path")
        setting = reading.value(path, text, SourceKind.RESOURCES, reading.summary.file)
        if setting is None:
            continue
        first = found.setdefault(name, setting)
        if first.value != setting.value:
            reading.contradiction(path.name, setting, first)
    bases = _model_folders(reading, environment)
    base = bases[0] if bases else environment.get("models_dir")
    listed = {name for name, _ in reading.summary.models}
    tuned = [run for run in runs if run.type == "fine-tuned"]
    lacking = {run.model: run for run in tuned if run.model and run.model not in listed}
    for other in bases[1:] if lacking else ():
        if other.value != bases[0].value:
            reading.contradiction("models_dir", other, bases[0])
    for name, run in lacking.items():
        near = [] if find_model(name) else close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT)
        if near:
            _misspelt_model(reading, run, near[0])
        elif base:
            folder = str(base.value)
            path_of = folder if posixpath.basename(folder) == name else posixpath.join(folder, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"path of model {name}", "Resources > Models", f"- **{name}**: `/path/to/{name}`")
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _model_folders(reading: Reading, environment: dict[str, Setting]) -> list[Setting]:
    """Where the summary says that all models lie; the environment knows it too, if nothing else said it there."""
    bases: list[Setting] = []
    for directory in reading.summary.models_dirs:
        setting = reading.value(PARAMETERS["models_dir"], directory, SourceKind.SUMMARY, reading.summary.file)
        if setting is not None:
            bases.append(setting)
            environment.setdefault("models_dir", setting)
    return bases


def _misspelt_model(reading: Reading, run: Run, near: str) -> None:
    reading.findings.append(
        finding(
            "misspelt-field",
            f"{shown(run.model)} is not one of the listed models; did you mean {near!r}?",
            field="model",
            actual=escape(run.model),
            file=reading.summary.file,
            line=run.line,
            fix=f"write {near!r}, or list the path of {escape(run.model)} too",
        )
    )
