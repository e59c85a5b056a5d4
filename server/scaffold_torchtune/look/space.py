"""How much room there is."""

import contextlib
import os
from pathlib import Path


def free_bytes(directory: str) -> int | None:
    """What an unprivileged user may still write below a directory, which need not exist yet.

    Returns:
        Free bytes of the file system of the nearest directory that exists, the root aside: what exists of a path only
        as `/` is not the file system that a compute node will write to. None where nothing of it exists. Quotas are
        not known here.
    """
    for folder in (Path(directory), *Path(directory).parents):
        if folder == Path(folder.anchor):
            break
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
    return None
