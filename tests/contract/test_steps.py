"""Optimizer steps counted by preflight equal those of the classes that torchtune's recipes use."""

import itertools

import pytest

from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch
from support import needs

pytestmark = needs.TORCHTUNE


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_steps_are_those_of_the_sampler_and_loader_of_the_recipes(processes: int) -> None:
    """Combine them like `_setup_data` and `_steps_per_epoch` of lora_finetune_distributed (torchtune 0.6.1)."""
    import torch
    from torch.utils.data import TensorDataset
    from torchdata.stateful_dataloader import StatefulDataLoader
    from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

    for rows, batch, accumulation in itertools.product((1, 2, 7, 8, 9, 64, 100), (1, 2, 3, 8), (1, 2, 5)):
        samples = TensorDataset(torch.arange(rows))
        sampler = StatefulDistributedSampler(samples, num_replicas=processes, rank=0, shuffle=True, seed=0)
        loader = StatefulDataLoader(samples, batch_size=batch, sampler=sampler, drop_last=True)
        ours = steps_per_epoch(rows, batch_size=batch, accumulation=accumulation, processes=processes)
        assert ours == len(loader) // accumulation, (rows, batch, accumulation)
        assert len(list(loader)) == len(loader)
