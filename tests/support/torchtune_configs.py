"""Create configs for checks by torchtune."""

from scaffold_torchtune.external_checks.ask_torchtune import Config
from scaffold_torchtune.system.serialization import read_yaml
from scaffold_torchtune.validate.report import resolve
from scaffold_torchtune.validate.run_files import ResolvedConfig
from support.good_files import GOOD_CONFIG, replaced


def config(*changes: str, directory: str = "rank8") -> Config:
    """Return a run's correct finetune.yaml with some texts replaced."""
    document = read_yaml(replaced(GOOD_CONFIG, *changes))
    return Config(directory, ResolvedConfig(document, *resolve(document.data)))
