"""The numbers of examples of property tests: a tenth in `make test`, a third in `make test-long`, else all."""

import os
from typing import Final

from hypothesis import settings

from support.sampling import distance

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "some")

# The same examples on every machine and in every run; the profile `default` searches for new ones (make explore).
for _name in ("some", "all"):
    settings.register_profile(_name, derandomize=True)
settings.load_profile(PROFILE)


def some_of(most: int) -> int:
    """Return the number of examples to try, of at most `most`; `make test-long` tries more for the mark `examples`."""
    parts = {"some": 10, "all": distance(3)}
    return max(5, most // parts.get(PROFILE, 1))
