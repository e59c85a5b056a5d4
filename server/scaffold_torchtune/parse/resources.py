"""The summary's Resources: the data set, and where the base models lie."""

import posixpath

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Dataset, ModelPath, Run
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter
from scaffold_torchtune.setup_finetune.registry import find_model, known_models
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.text import close_matches, escape, shown

_LIKELY_MISSPELT = 0.9
_ORGANISATIONS = frozenset({"meta-llama", "qwen", "mistralai", "google", "microsoft", "unsloth"})


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
        if not _same_file(reading, str(other.value), str(found[0].value)):
            fix = "name one data set; where it differs by run, give the runs table a column Dataset"
            reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(str(found[0].value))
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits)


def by_name(runs: tuple[Run, ...], dataset: Dataset | None) -> tuple[Run, ...]:
    """The runs, where a row that names the summary's data set (`words` for `/data/words.json`) has its path."""
    if dataset is None:
        return runs
    resolved = []
    for run in runs:
        own = run.parameters.get("dataset")
        if own is not None and own.value == dataset.label:
            parameters = run.parameters | {"dataset": Setting(value=dataset.path.value, source=own.source)}
            run = run.model_copy(update={"parameters": parameters})  # noqa: PLW2901 - the same run, with its path
        resolved.append(run)
    return tuple(resolved)


def _same_file(reading: Reading, one: str, other: str) -> bool:
    """Whether two paths are one: spelt otherwise, or one of them taken from the experiment directory."""
    short, long = sorted((posixpath.normpath(one), posixpath.normpath(other)), key=len)
    folder = long.removesuffix(f"/{short}")
    return short == long or (not short.startswith("/") and folder != long and reading.is_experiment_dir(folder))


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
        if _on_hugging_face(str(setting.value)):
            reading.findings.append(_no_directory(reading, path.name, setting))
        first = found.setdefault(name, setting)
        if first.value != setting.value:
            reading.contradiction(path.name, setting, first)
    bases = _model_folders(reading, environment)
    base = bases[0] if bases else environment.get("models_dir") or reading.template.settings.get("models_dir")
    listed = {name for name, _ in reading.summary.models}
    tuned = [run for run in runs if run.type == "fine-tuned"]
    lacking = {run.model: run for run in tuned if run.model and run.model not in listed}
    for other in bases[1:] if lacking else ():
        if other.value != bases[0].value:
            reading.contradiction("models_dir", other, bases[0])
    for name, run in lacking.items():
        near = [] if name in known_models() else _meant(name, listed)
        if near:
            _misspelt_model(reading, run, near[0])
        elif base:
            folder = str(base.value)
            path_of = folder if posixpath.basename(folder) == name else posixpath.join(folder, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif reading.template.readable and not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"path of model {name}", "Resources > Models", f"- **{name}**: `/path/to/{name}`")
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _no_directory(reading: Reading, field: str, setting: Setting) -> Finding:
    return finding(
        "invalid-value",
        f"{shown(setting.value)} is the name of a model on Hugging Face, not the directory that holds it",
        field=field,
        expected="the path of a directory",
        actual=setting.value,
        file=reading.summary.file,
        line=setting.source.line,
        fix="write the path of the downloaded model; for a directory of that name below the experiment, begin with ./",
    )


def _meant(name: str, listed: set[str]) -> list[str]:
    """The listed model that a row means: nearly its name, or a part of one name alone (`1B`)."""
    parts = [other for other in sorted(listed) if name.casefold() in other.casefold()]
    return close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT) or (parts if len(parts) == 1 else [])


def _on_hugging_face(path: str) -> bool:
    """Whether a path is the name of a model on Hugging Face: `meta-llama/Llama-3.2-1B-Instruct`."""
    organisation, _, name = path.partition("/")
    return organisation.casefold() in _ORGANISATIONS and find_model(name) is not None


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
    message = f"{shown(run.model)} is not one of the listed models; did you mean {near!r}?"
    fix = f"write {near!r}, or list the path of {escape(run.model)} too"
    reading.add("misspelt-field", message, field="model", actual=escape(run.model), line=run.line, fix=fix)
