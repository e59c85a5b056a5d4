"""What is found alike in every run is told once, of the whole experiment: a sweep has the same script in each run."""

from collections.abc import Mapping, Sequence

from scaffold_torchtune.errors import Finding, Severity

_RUN = "RUN"


def told_once(checked: Mapping[str, Sequence[Finding]]) -> tuple[dict[str, tuple[Finding, ...]], list[Finding]]:
    """Set apart what is no error and is found in every run.

    Args:
        checked: the findings of each run by its directory.

    Returns:
        The findings that each run has of its own, and those that all have, once each: at its place in the first run,
        with `RUN` in the message for the run's directory. Where there is one run, it keeps all of its findings.
    """
    if len(checked) < 2:  # noqa: PLR2004 - more than one
        return {name: tuple(found) for name, found in checked.items()}, []
    each = [{_alike(one, name) for one in found} for name, found in checked.items()]
    shared = set.intersection(*each)
    own = {name: tuple(one for one in found if _alike(one, name) not in shared) for name, found in checked.items()}
    first = next(iter(checked))
    common = {_alike(one, first): one for one in checked[first]}
    return own, [_of_all(one, first, len(checked)) for alike, one in common.items() if alike in shared]


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


def _of_all(found: Finding, directory: str, runs: int) -> Finding:
    message = f"in all {runs} runs: {_without(found.message, directory)}"
    return found.model_copy(update={"message": message, "actual": _without(found.actual, directory)})
