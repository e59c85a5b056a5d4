"""The verdict on all runs: success with no runs checked, or with too few, is a failure."""

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import finding
from scaffold_torchtune.validate import verdict
from support.plans import plan_of_directories


def test_the_verdict_requires_every_run_and_no_error() -> None:
    warning, error = finding("default-differs", "w"), finding("value-mismatch", "e")
    good = verdict(plan_of_directories("a", "b"), {"b": (warning,), "a": ()})
    assert (good.passed, good.checked, good.planned, good.findings) == (True, 2, 2, ())
    assert [run.directory for run in good.runs] == ["a", "b"]
    bad = verdict(plan_of_directories("a", "b"), {"a": (), "b": (error,)})
    assert (bad.passed, [run.passed for run in bad.runs]) == (False, [True, False])
    assert not verdict(plan_of_directories("a"), {"a": ()}, [error]).passed
    assert verdict(plan_of_directories("a"), {"a": ()}, [warning]).passed


@pytest.mark.parametrize(
    ("planned", "checked"), [([], []), (["a"], []), (["a", "b"], ["a"]), (["a"], ["c"]), (["a", "a"], ["a"])]
)
def test_success_with_too_few_runs_checked_is_a_failure(planned: list[str], checked: list[str]) -> None:
    result = verdict(plan_of_directories(*planned), dict.fromkeys(checked, ()))
    assert not result.passed
    assert [(f.code, f.severity) for f in result.findings] == [("nothing-checked", Severity.ERROR)]
