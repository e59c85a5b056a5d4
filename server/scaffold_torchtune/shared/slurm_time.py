"""SLURM's time limits, as sbatch(1) defines them for `--time`."""

import re

_FORMS = [
    re.compile(r"(?P<d>[0-9]{1,4})-(?P<h>[0-9]{1,4})(?::(?P<m>[0-9]{1,4})(?::(?P<s>[0-9]{1,4}))?)?", re.ASCII),
    re.compile(r"(?P<h>[0-9]{1,4}):(?P<m>[0-9]{1,4}):(?P<s>[0-9]{1,4})", re.ASCII),
    re.compile(r"(?P<m>[0-9]{1,6})(?::(?P<s>[0-9]{1,4}))?", re.ASCII),
]
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def seconds(text: str) -> int | None:
    """How long a SLURM time limit is, in seconds, or None where SLURM would not take the text.

    The forms are `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
    `days-hours:minutes:seconds`; a bare number is minutes. 0 asks for no limit at all.
    """
    for form in _FORMS:
        match = form.fullmatch(text)
        if match:
            return sum(int(value) * _UNITS[unit] for unit, value in match.groupdict().items() if value)
    return None
