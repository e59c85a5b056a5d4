"""Which checkpoint files a finetune.yaml names."""

from typing import Any

from scaffold_torchtune.shared.yamlio import YamlError, read
from scaffold_torchtune.validate.resolve import resolve

_MAX_FILES = 1000


def checkpoint_files(text: str) -> tuple[str, ...] | None:
    """The names in `checkpointer.checkpoint_files`, relative to its checkpoint_dir.

    Either they are listed, or there is a format and the last number, as FormattedCheckpointFiles of torchtune 0.6.1
    takes them: `{filename_format: model-{}-of-{}.safetensors, max_filename: "00030"}`.

    Returns:
        The names; None where the text is no such file or names none.
    """
    try:
        data = read(text).data
    except (YamlError, RecursionError):
        return None
    node = data.get("checkpointer") if isinstance(data, dict) else None
    named = resolve(data)[0]["checkpointer"].get("checkpoint_files") if isinstance(node, dict) else None
    return tuple(_names(named)) or None


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
