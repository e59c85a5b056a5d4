"""What OmegaConf itself makes of `${...}`, where that is more than putting one value in the place of another."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.validate.values import BROKEN, interpolates


def can_read(text: str) -> bool:
    """Whether the interpolations in a text are such that OmegaConf can read them."""
    try:
        OmegaConf.create([text])
    except (OmegaConfBaseException, RecursionError):
        return False
    return True


def resolved(data: Any, whole: dict[str, Any], problems: dict[Path, str]) -> Any:
    """Data with what still has an interpolation resolved, and what could not be, by path in `problems`.

    `whole` is the same data as it was written, for what interpolations refer to.
    """
    return _values(data, OmegaConf.create(whole), (), problems)


def _values(data: Any, config: Any, path: Path, problems: dict[Path, str]) -> Any:
    if isinstance(data, dict):
        return {key: _value(value, config, key, (*path, key), problems) for key, value in data.items()}
    return [_value(value, config, index, (*path, index), problems) for index, value in enumerate(data)]


def _value(data: Any, config: Any, key: str | int, path: Path, problems: dict[Path, str]) -> Any:
    if not interpolates(data):
        return data
    try:
        found = config[key]
        if isinstance(data, dict | list):
            return _values(data, found, path, problems)
        if isinstance(found, DictConfig | ListConfig):
            return OmegaConf.to_container(found, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason, _, _ = str(error).partition("\n")
        problems[path] = f"it cannot be resolved ({reason})"
        return BROKEN
    return found
