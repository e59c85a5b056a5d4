"""The bundled example, put where it can be scaffolded."""

from pathlib import Path

from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.shared.files import publish
from scaffold_torchtune.shared.resources import EXAMPLES

NAME = "capitalization_lora_sweep"


def prepare_demo(directory: Path) -> Path:
    """Copy the bundled example into `directory`, leaving what is already there, and return the experiment directory.

    Raises:
        Refused: a file of the example cannot be written.
    """
    source = EXAMPLES / NAME
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = directory / file.relative_to(source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                publish({target: file.read_bytes()})
        except OSError as error:
            message = f"cannot write {target}: {error.strerror}"
            problem = finding("write-failed", message, file=str(target), fix="give another directory")
            raise Refused(message, [problem]) from error
    return directory
