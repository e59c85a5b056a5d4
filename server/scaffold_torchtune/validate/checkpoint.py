"""Which checkpoint files a finetune.yaml names, and whether they are a whole checkpoint as far as names tell.

The rules are those of torchtune 0.6.1, torchtune/training/checkpointing/_utils.py (`FormattedCheckpointFiles`), and the
numbers that Hugging Face gives the files of one checkpoint: `model-00001-of-00004.safetensors`.
"""

import re
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.validate.files import RunFiles
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.values import quoted

PATH: Final[Path] = ("checkpointer", "checkpoint_files")
_FIELD: Final = "checkpoint_files"
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})-of-([0-9]{1,9})(\D*)", re.ASCII)
_PUBLISHED: Final = re.compile(
    r"(pytorch_)?model(-[0-9]+-of-[0-9]+)?\.(safetensors|bin)|consolidated(\.[0-9]{2})?\.(safetensors|pth)"
)
"""How Hugging Face's libraries name the files of a checkpoint, and Meta and Mistral their own beside them."""
_MAX_FILES: Final = 1000


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
    """Each file once, of numbered files all (the weights in the others would be absent), and named as published."""
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
    odd = [name for name in names if not _PUBLISHED.fullmatch(name)]
    if odd and PATH not in report.paths:
        message = f"checkpointer.checkpoint_files names {quoted(odd[0])}, and no model here is published in such a file"
        report.add(
            "value-mismatch",
            message,
            field=_FIELD,
            expected="model.safetensors, or model-00001-of-00002.safetensors",
            actual=odd[0],
            path=PATH,
            severity=None if report.bundled else Severity.WARNING,
        )


def checkpoint_files(files: RunFiles) -> tuple[str, ...] | None:
    """The names in `checkpointer.checkpoint_files` of a run's finetune.yaml, relative to its checkpoint_dir.

    Either they are listed, or there is a format and the last number, as FormattedCheckpointFiles of torchtune 0.6.1
    takes them: `{filename_format: model-{}-of-{}.safetensors, max_filename: "00030"}`.

    Returns:
        The names; None where the file cannot be read or names none.
    """
    config = files.readable_config
    node = config.data.get("checkpointer") if config else None
    return tuple(_names(node.get("checkpoint_files") if isinstance(node, dict) else None)) or None


def _names(named: Any) -> list[str]:
    if isinstance(named, list):
        return [name for name in named if isinstance(name, str)]
    if not isinstance(named, dict):
        return []
    form, last = named.get("filename_format"), named.get("max_filename")
    if not isinstance(form, str) or not isinstance(last, str) or not last.isdigit() or form.count("{}") != 2:  # noqa: PLR2004
        return []
    count = min(int(last), _MAX_FILES)
    return [form.replace("{}", f"{i:0{len(last)}}", 1).replace("{}", last, 1) for i in range(1, count + 1)]
