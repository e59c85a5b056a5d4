"""How many examples property tests try: some in `make test`, all of them in `make test-long` and `make explore`."""

import os
from typing import Final

from hypothesis import settings

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "some")

# The same examples on every machine and in every run; the profile `default` looks for new ones (make explore).
for _name in ("some", "all"):
    settings.register_profile(_name, derandomize=True)
settings.load_profile(PROFILE)


def some_of(most: int) -> int:
    """How many of at most so many examples are tried; the test has the mark `examples`, so that all are tried, too."""
    return max(5, most // 10) if PROFILE == "some" else most
