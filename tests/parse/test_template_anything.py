"""Any text as a plain YAML template: its values are accepted or refused, and no value is invented."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import PlannedRun, SourceKind
from scaffold_torchtune.settings import parameters
from scaffold_torchtune.system.serialization import yaml_scalar
from support.examples import some_of
from support.mutated import mutated
from support.templates import JSON, NAME, planned_with

KEYS = sorted(parameters.KEYS)
VALUES = st.one_of(st.text(max_size=30), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


def check(template: str) -> None:
    """Plan with a template; if it is refused, every problem must have a place."""
    problems: tuple[Finding, ...] = ()
    runs: tuple[PlannedRun, ...] = ()
    try:
        runs = planned_with(template).runs
    except Refused as refused:
        problems = refused.problems
    assert runs or problems
    assert all(problem.file for problem in problems)
    for run in runs:
        for name, setting in run.settings.items():
            assert name in KEYS
            if setting.source.kind is SourceKind.TEMPLATE:
                assert setting.source.file == NAME
                assert setting.source.line


@pytest.mark.examples
@settings(max_examples=some_of(100), deadline=60_000)
@given(st.text(max_size=300))
def test_any_text_is_accepted_or_refused(template: str) -> None:
    check(template)


@pytest.mark.examples
@settings(deadline=60_000, max_examples=some_of(200), suppress_health_check=[HealthCheck.too_slow])
@given(mutated(JSON))
def test_any_mutation_of_a_template_is_accepted_or_refused(template: str) -> None:
    check(template)


@pytest.mark.examples
@settings(deadline=60_000, max_examples=some_of(200))
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_value_of_any_key_is_accepted_or_refused(values: dict[str, str | int | float | bool]) -> None:
    check("".join(f"{key}: {yaml_scalar(value)}\n" for key, value in values.items()))
