"""What is found alike in every run is told once, of the whole experiment: a sweep has the same script in each run."""

from collections.abc import Mapping, Sequence

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding

_RUN = "RUN"
_UNREAD = frozenset({"missing-file", "unreadable-file"})
"""The codes of runs of which not everything could be looked at."""


def told_once(checked: Mapping[str, Sequence[Finding]]) -> tuple[dict[str, tuple[Finding, ...]], list[Finding]]:
    """Set apart what is no error and is found in every run.

    Args:
        checked: the findings of each run by its directory.

    Returns:
        The findings that each run has of its own, and those that all have whose files are there, once each: at its
        place in the first of them, with `RUN` in the message for the run's directory. Where there is one run, it keeps
        all of its findings.
    """
    if len(checked) < 2:  # noqa: PLR2004 - more than one
        return {name: tuple(found) for name, found in checked.items()}, []
    whole = [name for name, found in checked.items() if not _UNREAD & {one.code for one in found}]
    if len(whole) < 2:  # noqa: PLR2004 - as above
        whole = list(checked)
    shared = set.intersection(*({_alike(one, name) for one in checked[name]} for name in whole))
    own = {name: tuple(one for one in found if _alike(one, name) not in shared) for name, found in checked.items()}
    common = {_alike(one, whole[0]): one for one in checked[whole[0]]}
    runs = f"all {len(checked)} runs" if len(whole) == len(checked) else f"all {len(whole)} runs whose files are there"
    return own, [_of_all(one, whole[0], runs) for alike, one in common.items() if alike in shared]


def _alike(found: Finding, directory: str) -> object:
    """What makes findings of several runs one; an error is that of its run alone."""
    if found.severity is Severity.ERROR:
        return found, directory
    file = (found.file or "").removeprefix(f"{directory}/")
    texts = (_without(found.message, directory), _without(found.fix, directory), _without(found.actual, directory))
    return found.code, found.severity, found.field, file, texts


def _without(text: object, directory: str) -> object:
    """A text without the name of its run."""
    return text.replace(directory, _RUN) if isinstance(text, str) else text


def _of_all(found: Finding, directory: str, runs: str) -> Finding:
    message = f"in {runs}: {_without(found.message, directory)}"
    return found.model_copy(update={"message": message, "actual": _without(found.actual, directory)})
