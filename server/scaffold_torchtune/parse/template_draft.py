"""What the operator's plain YAML template gives, before it is known which of it is needed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models.base import Setting


@dataclass
class TemplateDraft:
    """What a template gives, by key: `settings` of those that are known, `others` as YAML has them.

    `doubtful` holds what is wrong with a value that a document may make unneeded; such a setting has its text as its
    value. `problems` are those of the file. Where it cannot be read, nobody knows what it gives.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    others: dict[str, Setting] = field(default_factory=dict)
    doubtful: dict[str, Finding] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    readable: bool = True

    def gives(self, name: str) -> bool:
        """Whether a setting is given, or may be."""
        return name in self.settings or not self.readable

    def unusable(self, is_given: Callable[[str], bool]) -> list[Finding]:
        """The problems of the file, and of those values that are needed: `is_given` tells what documents give."""
        needed = [problem for name, problem in self.doubtful.items() if not is_given(name)]
        return [*self.problems, *needed]
