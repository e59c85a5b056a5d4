"""Makes the configs that torchtune is asked about."""

from good_files import GOOD_CONFIG, replaced
from scaffold_torchtune.shared.yamlio import read
from scaffold_torchtune.validate.resolve import resolve
from scaffold_torchtune.with_torchtune import Config


def config(*changes: str, directory: str = "rank8") -> Config:
    """A run's good finetune.yaml with some texts replaced."""
    document = read(replaced(GOOD_CONFIG, *changes))
    data, problems = resolve(document.data)
    return Config(directory, document, data, frozenset(str(path[0]) for path in problems))
