"""The files of one run as all who judge them read them: each is parsed once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scaffold_torchtune.shared.layout import FINETUNE_SLURM, FINETUNE_YAML
from scaffold_torchtune.shared.yamlio import YamlDocument, YamlError, read
from scaffold_torchtune.validate.resolve import Problems, resolve
from scaffold_torchtune.validate.script import Script, parse


@dataclass(frozen=True)
class ResolvedConfig:
    """A finetune.yaml as read, and its data with interpolations resolved: empty where it holds no mapping.

    `problems` has what could not be resolved, by its path.
    """

    document: YamlDocument
    data: dict[str, Any]
    problems: Problems


class RunFiles:
    """The files of a run; `texts` has the text of each by its name, None where it is missing or cannot be read."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = texts

    def document(self, name: str) -> YamlDocument | None:
        """Read a YAML file.

        Raises:
            YamlError: it is no YAML that we take.
        """
        text = self.texts.get(name)
        return None if text is None else read(text)

    @cached_property
    def script(self) -> Script | None:
        """finetune.slurm."""
        text = self.texts.get(FINETUNE_SLURM)
        return None if text is None else parse(text)

    @cached_property
    def config(self) -> ResolvedConfig | None:
        """finetune.yaml.

        Raises:
            YamlError: it is no YAML that we take.
        """
        document = self.document(FINETUNE_YAML)
        if document is None:
            return None
        data, problems = resolve(document.data) if isinstance(document.data, dict) else ({}, {})
        return ResolvedConfig(document, data, problems)

    @property
    def readable_config(self) -> ResolvedConfig | None:
        """finetune.yaml, where it can be read."""
        try:
            return self.config
        except (YamlError, RecursionError):
            return None
