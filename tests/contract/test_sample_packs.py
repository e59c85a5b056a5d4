"""Packs counted by preflight equal those of torchtune's own packing, for random lengths."""

import random

import pytest

from scaffold_torchtune.preflight.samples import Packing
from support import needs

pytestmark = needs.TORCHTUNE


@pytest.mark.parametrize("splits", [True, False])
def test_the_number_of_packs_is_that_of_torchtune(splits: bool) -> None:
    from torchtune.datasets import PackedDataset

    drawn = random.Random(splits)  # noqa: S311 - a fixed seed
    for _ in range(200):
        size = drawn.randrange(2, 30)
        lengths = [drawn.randrange(1, size + 1) for _ in range(drawn.randrange(1, 40))]
        samples = [{"tokens": [1] * length, "labels": [1] * length} for length in lengths]
        packed = PackedDataset(samples, max_seq_len=size, split_across_pack=splits)
        packing = Packing(size, splits)
        for length in lengths:
            packing.add(length)
        assert packing.all() == len(packed), lengths
        shorter = Packing(size, splits)
        for length in lengths:
            shorter.add(drawn.randrange(1, length + 1))
        assert shorter.all() <= packing.all()


@pytest.mark.parametrize("splits", [True, False])
def test_the_number_of_packs_without_a_label_is_that_of_torchtune(splits: bool) -> None:
    from torchtune.data import CROSS_ENTROPY_IGNORE_IDX
    from torchtune.datasets import PackedDataset

    drawn = random.Random(splits)  # noqa: S311 - a fixed seed
    for _ in range(200):
        size = drawn.randrange(2, 30)
        lengths = [drawn.randrange(1, size + 1) for _ in range(drawn.randrange(1, 40))]
        labelled = [drawn.random() < 0.3 for _ in lengths]
        labels = [1 if has else CROSS_ENTROPY_IGNORE_IDX for has in labelled]
        samples = [{"tokens": [1] * n, "labels": [label] * n} for n, label in zip(lengths, labels, strict=True)]
        packed = PackedDataset(samples, max_seq_len=size, split_across_pack=splits)
        bare = sum(bool((pack["labels"] == CROSS_ENTROPY_IGNORE_IDX).all()) for pack in packed)
        packing = Packing(size, splits)
        for length, has in zip(lengths, labelled, strict=True):
            packing.add(length, labelled=has)
        assert packing.all_bare() == bare, (lengths, labelled)
