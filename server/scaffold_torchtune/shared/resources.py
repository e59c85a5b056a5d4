"""Where the files that ship with the package lie: templates, workflows, examples, SKILL.md.

In a wheel they are package data; in an editable install they are the folders of the checkout.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED = _PACKAGE / "data"
_CHECKOUT = _PACKAGE.parent.parent


def shipped(*parts: str) -> Path:
    """The path of something that ships with the package, e.g. `shipped("templates", "finetune.yaml.j2")`."""
    base = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return base.joinpath(*parts)


TEMPLATES = shipped("templates")
EXAMPLES = shipped("examples")
