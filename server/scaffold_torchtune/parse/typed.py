"""What becomes of a text: a value with what stood beside it."""

from typing import NamedTuple

from scaffold_torchtune.findings import Scalar


class Typed(NamedTuple):
    """A value, and what stood beside it in the document and is not part of it."""

    value: Scalar
    remark: str = ""
