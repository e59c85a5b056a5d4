"""The numbers of examples of property tests: some in `make test`, all in `make test-long` and `make explore`."""

import os
from typing import Final

from hypothesis import settings

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "some")

# The same examples on every machine and in every run; the profile `default` searches for new ones (make explore).
for _name in ("some", "all"):
    settings.register_profile(_name, derandomize=True)
settings.load_profile(PROFILE)


def some_of(most: int) -> int:
    """Return the number of examples to try, of at most `most`; tests with the mark `examples` try all of them later."""
    return max(5, most // 10) if PROFILE == "some" else most
