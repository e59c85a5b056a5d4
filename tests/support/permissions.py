"""Apply file modes to root as to every other user."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VERSION = 0x20080522
"""The version of the structure in which Linux reads and sets the capabilities of a thread."""

DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
"""The capabilities with which root reads and writes files, and lists directories, of any mode."""


@contextmanager
def held_to_modes() -> Iterator[None]:
    """Restrict this thread, and those that it starts, to the permissions of file modes."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "capset"):
        pytest.skip("root may write everywhere, and only Linux can take that from it: run the tests as another user")
    this_thread = (ctypes.c_uint32 * 2)(VERSION, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable capabilities, each a set of bits, twice
    assert libc.capget(this_thread, rights) == 0
    before = rights[0]
    rights[0] = before & ~(DAC_OVERRIDE | DAC_READ_SEARCH)
    assert libc.capset(this_thread, rights) == 0
    try:
        yield
    finally:
        rights[0] = before
        assert libc.capset(this_thread, rights) == 0
