import pytest

from fuzz_documents import MAX_MEGABYTES, megabytes, tried
from support.sampling import EVERY

# Coverage and parallel tests slow down parsing; `make fuzz` enforces the real limit.
PATIENCE = 5.0


@pytest.mark.long
@pytest.mark.parametrize("count", [100, pytest.param(1500 if EVERY else 500, marks=pytest.mark.long)])
def test_mutated_documents_give_a_plan_or_a_refusal(count: int) -> None:
    before = megabytes()
    outcomes = [tried(seed) for seed in range(count)]
    slow = [one.seed for one in outcomes if one.seconds > PATIENCE]
    failed = [(one.seed, one.failure) for one in outcomes if one.failure and not one.failure.endswith(" s")]
    assert (failed, slow) == ([], [])
    planned = sum(one.planned for one in outcomes)
    assert count / 10 < planned < count * 9 / 10, "mutations neither break everything nor nothing"
    assert megabytes() - before < MAX_MEGABYTES
