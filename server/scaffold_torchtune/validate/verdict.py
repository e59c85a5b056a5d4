"""The verdict over all runs."""

from collections.abc import Iterable, Mapping

from scaffold_torchtune.findings import Finding, errors_in, finding
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.results import ValidatedRun, ValidateResult


def verdict(plan: Plan, checked: Mapping[str, tuple[Finding, ...]], extra: Iterable[Finding] = ()) -> ValidateResult:
    """Whether the scaffold is proven.

    Args:
        plan: the plan.
        checked: what was found in each run that was checked, by the run's directory.
        extra: findings about the whole experiment.

    Returns:
        The result, `passed` only when there are planned runs, all of them were checked and nothing is an error. Runs
        stand in the plan's order. Directories that are not planned do not count as checked.
    """
    directories = list(dict.fromkeys(run.directory for run in plan.runs))
    runs = tuple(
        ValidatedRun(directory=name, passed=not errors_in(checked[name]), findings=checked[name])
        for name in directories
        if name in checked
    )
    findings, planned = list(extra), len(plan.runs)
    if planned == 0 or len(runs) != planned:
        message = f"{len(runs)} of {planned} planned runs were checked" if planned else "no run is planned"
        findings.append(
            finding(
                "nothing-checked",
                message,
                expected=planned,
                actual=len(runs),
                fix="Run setup again, then validate.",
            )
        )
    passed = not errors_in(findings) and all(run.passed for run in runs)
    return ValidateResult(passed=passed, checked=len(runs), planned=planned, runs=runs, findings=tuple(findings))
