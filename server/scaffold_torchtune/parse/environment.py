"""What the surroundings give: claude.local.md, and what a summary says of project and output itself."""

import posixpath

from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.parse.local_labels import parameter
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.shared.text import escape, shown

_REQUIRED_LOCAL = {
    "conda_env": ("SLURM Defaults", "- **Default conda environment**: `NAME`"),
    "my_wandb_project": ("Weights & Biases", "- **Default project**: `NAME`"),
}


def read(reading: Reading) -> dict[str, Setting]:
    """The typed settings of the surroundings by name. What is required and missing is noted."""
    environment: dict[str, Setting] = {}
    for name, text in reading.local.settings.items():
        setting = reading.value(parameter(name), text, SourceKind.LOCAL, reading.local.file)
        if setting is not None:
            environment[name] = setting
    _project(reading, environment)
    for name, (section, line) in _REQUIRED_LOCAL.items():
        given = name in reading.local.settings or name in environment or reading.template.gives(name)
        if not given and not (name == "conda_env" and reading.template.gives("venv")):
            reading.missing(name, section, line, file=reading.local.file)
    # Without one, the YAML form keeps each run's output in its own artifacts/.
    if "output_dir_base" not in reading.local.settings and reading.form == "markdown":
        if not reading.summary.output_dirs and reading.template.gives("output_dir_base"):
            return environment
        if not reading.summary.output_dirs:
            line = "- **Output base directory**: `/path/to/outputs`"
            reading.missing("output_dir_base", "Common Paths", line, file=reading.local.file)
        else:
            text = reading.summary.output_dirs[0]
            setting = reading.value(PARAMETERS["output_dir_base"], text, SourceKind.CONFIGURATION, reading.summary.file)
            if setting is not None:
                environment["output_dir_base"] = setting
    if "output_dir_base" in environment:
        _checkpoints(reading, environment["output_dir_base"])
    return environment


def _checkpoints(reading: Reading, base: Setting) -> None:
    """Note where the summary has the checkpoints elsewhere than claude.local.md: that one wins."""
    folder = posixpath.normpath(str(base.value))
    name = reading.summary.name.text if reading.summary.name else ""
    for text in reading.summary.output_dirs:
        said = _normal(text)
        if base.source.kind is not SourceKind.LOCAL or said in {folder, posixpath.join(folder, name)}:
            continue
        message = (
            f"{text.note} is {shown(said)}, but the output base directory is {shown(folder)} in {base.source.file}"
            f" (line {base.source.line}); {base.source.file} wins"
        )
        reading.add(
            "overridden",
            message,
            field="output_dir_base",
            expected=folder,
            actual=escape(said),
            line=text.line,
            fix=f"nothing, if {base.source.file} is right; else remove its output base directory",
        )


def _normal(text: Field) -> str:
    """A path as it is compared; a text that is no path, as it is."""
    try:
        return posixpath.normpath(str(clean.typed(PARAMETERS["output_dir_base"], text).value))
    except NotTyped:
        return text.text


def _project(reading: Reading, environment: dict[str, Setting]) -> None:
    """The summary's own Weights & Biases project wins over the default of claude.local.md."""
    text = reading.summary.wandb_project
    if text is None:
        return
    project = PARAMETERS["my_wandb_project"]
    setting = reading.value(project, text, SourceKind.CONFIGURATION, reading.summary.file)
    default = environment.get(project.name)
    if setting is None:
        return
    environment[project.name] = setting
    if default is not None and default.value != setting.value:
        message = (
            f"the project is {shown(setting.value)} here, but {shown(default.value)} in {reading.local.file}"
            f" (line {default.source.line}); the summary wins"
        )
        reading.add(
            "overridden",
            message,
            field=project.name,
            expected=default.value,
            actual=setting.value,
            line=text.line,
            fix="nothing, if the summary is right",
        )
