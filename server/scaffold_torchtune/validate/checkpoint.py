"""Whether the checkpoint files in finetune.yaml are a whole checkpoint, as far as their names tell.

The rules are those of torchtune 0.6.1, torchtune/training/checkpointing/_utils.py (`FormattedCheckpointFiles`), and the
numbers that Hugging Face gives the files of one checkpoint: `model-00001-of-00004.safetensors`.
"""

import re
from typing import Any, Final

from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.values import quoted

PATH: Final[Path] = ("checkpointer", "checkpoint_files")
_FIELD: Final = "checkpoint_files"
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})-of-([0-9]{1,9})(\D*)", re.ASCII)


def check(report: Report, data: dict[str, Any]) -> None:
    """Check `checkpointer.checkpoint_files` of finetune.yaml, resolved, where nothing is said of it yet."""
    node = data.get("checkpointer")
    given = node.get("checkpoint_files") if isinstance(node, dict) else None
    if PATH in report.paths:
        return
    if isinstance(given, dict):
        _format(report, given)
    elif isinstance(given, list) and all(isinstance(name, str) for name in given):
        _list(report, given)
    else:
        message = f"checkpointer.checkpoint_files is {quoted(given)}, not a list of file names"
        report.add("wrong-type", message, field=_FIELD, actual=given, path=PATH)


def _format(report: Report, given: dict[str, Any]) -> None:
    """`filename_format` with two places for numbers, and `max_filename`, which must be text for its zeros."""
    form, last = given.get("filename_format"), given.get("max_filename")
    if not isinstance(form, str) or form.count("{}") != 2:  # noqa: PLR2004 - the file's number and how many there are
        message = f"checkpoint_files.filename_format is {quoted(form)}; torchtune needs a name with two {{}}"
        path = (*PATH, "filename_format")
        report.add(
            "value-mismatch", message, field=_FIELD, expected="model-{}-of-{}.safetensors", actual=form, path=path
        )
    if not isinstance(last, str) or not re.fullmatch(r"0*[1-9][0-9]*", last, re.ASCII):
        message = f"checkpoint_files.max_filename is {quoted(last)}; torchtune needs a number in quotes, as '00004'"
        path = (*PATH, "max_filename")
        report.add("wrong-type", message, field=_FIELD, expected="'00004'", actual=last, path=path)


def _list(report: Report, names: list[str]) -> None:
    """Each file once, and of numbered files all: the weights in the others would be absent."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        message = f"checkpointer.checkpoint_files names {quoted(twice[0])} twice"
        report.add("value-mismatch", message, field=_FIELD, actual=twice[0], path=PATH)
    numbers: dict[tuple[str, int, str], set[int]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, names)):
        numbers.setdefault((match[1], int(match[3]), match[4]), set()).add(int(match[2]))
    for (begin, total, end), there in numbers.items():
        if len(there) != total or max(there) != total:
            files = quoted(f"{begin}*-of-{total}{end}")
            message = f"checkpointer.checkpoint_files names {len(there)} of the {total} files {files}"
            report.add("value-mismatch", message, field=_FIELD, expected=total, actual=len(there), path=PATH)
