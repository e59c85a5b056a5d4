"""Finds the template that the operator names, and reads it where it is plain YAML."""

from pathlib import Path

from scaffold_torchtune.findings import refuse
from scaffold_torchtune.pipeline.locate import Document, expanded, read_document
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.text import shown


def template_path(request: Request) -> str | None:
    """The real path of the template that was named, there or not; None where none was."""
    return str(expanded(request.template).resolve()) if request.template else None


def plain_template(request: Request) -> Document | None:
    """The template, where it is plain YAML: its values are read with the documents.

    Raises:
        Refused: it is not there, or cannot be read.
    """
    path = template_path(request)
    if path is None or not layout.is_plain_template(path):
        return None
    named = Path(path)
    if not named.is_file():
        message = f"the template is expected at {shown(path)}, and is not there"
        raise refuse("missing-template", message, file=path, field="template", fix="correct --template")
    return read_document(named, named.name, follow=True)
