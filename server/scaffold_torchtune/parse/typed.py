"""What becomes of a text: a value with what stood beside it, or the reason why it is none."""

from typing import NamedTuple

from scaffold_torchtune.findings import Scalar


class Typed(NamedTuple):
    """A value, and what stood beside it in the document and is not part of it."""

    value: Scalar
    remark: str = ""


class NotTyped(ValueError):
    """The text is not what the parameter holds: what is allowed, or `choices`, where it gives several values."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.choices: tuple[str, ...] = ()
