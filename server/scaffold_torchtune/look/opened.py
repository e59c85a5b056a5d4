"""Opening what a document names: regular files alone, without waiting for anybody."""

from pathlib import Path
from typing import BinaryIO

from scaffold_torchtune.shared.files import NotRegular, open_regular
from scaffold_torchtune.shared.text import close_matches


class Unfit(Exception):
    """What lies there cannot be read; the message says why, to follow the path in a sentence."""


def regular_file(path: str) -> BinaryIO:
    """A regular file opened for reading.

    Raises:
        FileNotFoundError: nothing lies there, or not where we may look.
        Unfit: something else than a readable regular file lies there.
    """
    try:
        return open_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except NotRegular as error:
        is_directory = Path(path).is_dir()
        raise Unfit("is a directory, not a file" if is_directory else "is not a regular file") from error
    except (OSError, ValueError) as error:
        raise Unfit(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def near(path: str) -> tuple[str, ...]:
    """What lies beside a path that does not exist, with nearly its name."""
    try:
        beside = [entry.name for entry in Path(path).parent.iterdir()]
    except OSError:
        return ()
    return tuple(close_matches(Path(path).name, beside, cutoff=0.75))
