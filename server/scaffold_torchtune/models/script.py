"""What an external setup_finetune.py takes."""

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models.base import Model


class Option(Model):
    """One option of a script, which is a key of its setup_finetune.yaml too."""

    default: Scalar = None
    required: bool = False
    choices: tuple[str, ...] = ()


class Interface(Model):
    """What a script says that it takes, when it is asked.

    `options` is None where it could not be asked, as it reads its arguments without argparse. `modules` are those that
    its SLURM template loads. `drops_conda`: where modules are planned, it deletes the activation of the conda
    environment.
    """

    options: dict[str, Option] | None = None
    modules: tuple[str, ...] = ()
    drops_conda: bool = False

    @property
    def of_cruijff_kit(self) -> bool:
        """Whether it is a version of cruijff_kit's setup_finetune.py: its keys are those of all of them."""
        return self.options is not None and self.options.keys() >= _OF_ALL_VERSIONS

    @property
    def generation(self) -> str:
        """Which generation of cruijff_kit's script it is, by the options that came and went; else empty."""
        options = self.options or {}
        if not self.of_cruijff_kit:
            return ""
        if "torchtune_model_name" not in options:
            return "2025-11"
        return "2025-12" if "output_dir_base" in options else "v0.3.4"


_OF_ALL_VERSIONS = frozenset({"my_wandb_run_name", "input_formatting", "dataset_label", "dataset_ext", "lora_rank"})
