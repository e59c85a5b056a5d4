"""The bundled setup_finetune: the text of one setup_finetune.yaml in, finetune.yaml and finetune.slurm out.

Built on the real configuration structure of torchtune 0.6.1's recipes for LoRA and for full fine-tuning. It takes the
keys of cruijff_kit's setup_finetune.py, of 2025 and of v0.3.4, and refuses what it cannot honour and does not drop it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaffold_torchtune.findings import Finding, Refused, Scalar
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.setup.bundled import batch_script, config, keys, rules
from scaffold_torchtune.system import templating, yamlio
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.text import counted


@dataclass(frozen=True)
class Outputs:
    """The texts of the two files, and what deserves a warning."""

    finetune_yaml: str
    finetune_slurm: str
    warnings: tuple[Finding, ...]


def build(content: str | yamlio.YamlDocument, *, file: str = "setup_finetune.yaml") -> Outputs:
    """Turn the text of one setup_finetune.yaml, or what was read of it, into those of finetune.yaml and finetune.slurm.

    Reads nothing but its argument and the shipped templates, and writes nothing. `file` is the name that findings give.

    Raises:
        Refused: something in the file cannot be honoured; it carries every problem.
        AssertionError: a template rendered something else than was meant; nothing may be written then.
    """
    settings, report = keys.read_keys(content, file)
    entry = rules.check_rules(settings, report)
    if report.errors or entry is None:
        raise Refused(f"{file} cannot be set up: {counted(len(report.errors), 'problem')}", report.errors)
    if settings.recipe in recipes.NAMES:
        config.warn_unread(settings, report)
    meant = config.finetune_config(settings, entry)
    kind = "full fine-tuning" if settings.is_full else "LoRA"
    finetune_yaml = templating.render("finetune.yaml.j2", {"config": meant, "kind": kind}, [TEMPLATES])
    _check_yaml(finetune_yaml, meant)
    finetune_slurm = templating.render("finetune.slurm.j2", batch_script.values(settings, entry), [TEMPLATES])
    _check_slurm(finetune_slurm, batch_script.directives(settings, entry), batch_script.command(settings))
    return Outputs(finetune_yaml, finetune_slurm, tuple(report.findings))


def check_values(values: Mapping[str, Scalar]) -> None:
    """Judge typed settings as `build` judges those of a file.

    Raises:
        Refused: something in them cannot be honoured; it carries every problem.
    """
    plain: dict[yamlio.KeyPath, str] = {(name,): str(value) for name, value in values.items()}
    settings, report = keys.read_keys(yamlio.YamlDocument(dict(values), {}, plain), "setup_finetune.yaml")
    rules.check_rules(settings, report)
    if report.errors:
        raise Refused(f"settings that cannot be set up: {counted(len(report.errors), 'problem')}", report.errors)


def _check_yaml(text: str, meant: dict[str, Any]) -> None:
    """Raise AssertionError where the text is not what was meant (JSON writes 1, 1.0, true and "1" apart)."""
    if json.dumps(yamlio.read(text).data, sort_keys=True) != json.dumps(meant, sort_keys=True):
        raise AssertionError("finetune.yaml.j2 rendered something else than the configuration")


def _check_slurm(text: str, directives: list[tuple[str, str]], command: list[str]) -> None:
    """Raise AssertionError where sbatch and the shell would read something else than was meant."""
    if batch_script.read_back(text) != (directives, command):
        raise AssertionError("finetune.slurm.j2 rendered something else than the job")
