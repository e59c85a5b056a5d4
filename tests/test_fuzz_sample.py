from fuzz_documents import MAX_MEGABYTES, megabytes, tried

# Under coverage and beside other tests a document takes longer; `make fuzz` holds the limit itself.
PATIENCE = 5.0


def test_mutated_documents_give_a_plan_or_a_refusal() -> None:
    before = megabytes()
    outcomes = [tried(seed) for seed in range(1500)]
    slow = [one.seed for one in outcomes if one.seconds > PATIENCE]
    failed = [(one.seed, one.failure) for one in outcomes if one.failure and not one.failure.endswith(" s")]
    assert (failed, slow) == ([], [])
    assert 150 < sum(one.planned for one in outcomes) < 1350, "mutations neither break everything nor nothing"
    assert megabytes() - before < MAX_MEGABYTES
