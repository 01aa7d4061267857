"""Steps shared by several processes: nobody's cells are another's, and the noise is that of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multiomics_vae.data.share import ALONE, Process, Share, StepNoise


@pytest.mark.parametrize("n_processes", [1, 2, 3, 7])
@pytest.mark.parametrize("n_total", [1, 2, 3, 6, 7, 100])
def test_shares_cover_every_cell_once_and_are_about_equal(n_processes: int, n_total: int) -> None:
    crew = [Process(rank, n_processes) for rank in range(n_processes)]
    shares = [process.share(n_total) for process in crew]
    own = [np.arange(n_total)[share.rows] for share in shares if share.n_own]
    np.testing.assert_array_equal(np.concatenate(own), np.arange(n_total))
    sizes = [share.n_own for share in shares]
    assert max(sizes) - min(sizes) <= 1
    # The mean over processes of each one's scaled average is the average over the step.
    values = np.random.default_rng(0).normal(size=n_total)
    scaled = [p.loss_scale(s) * values[s.rows].mean() for p, s in zip(crew, shares, strict=True)]
    assert np.mean(scaled) == pytest.approx(values.mean())


def test_a_process_without_cells_holds_a_spare_one_that_counts_for_nothing() -> None:
    share = Process(0, 3).share(2)
    assert (share.n_own, share.rows) == (0, slice(0, 1))
    assert Process(0, 3).loss_scale(share) == 0.0


def test_noise_of_the_parts_is_the_noise_of_the_whole() -> None:
    mean = torch.zeros(2, 7, 3)

    def noise(share: Share) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        step = StepNoise(torch.Generator().manual_seed(3), share)
        return step.like(mean[:, share.rows]), step.uniform(4), step.uniform()

    whole = noise(ALONE.share(7))
    parts = [noise(Process(rank, 3).share(7)) for rank in range(3)]
    for i, axis in enumerate((1, 0, 0)):
        assert torch.equal(torch.cat([part[i] for part in parts], axis), whole[i])


def test_noise_follows_the_generator_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    one, same, other = (
        StepNoise(torch.Generator().manual_seed(seed), ALONE.share(5)).like(torch.zeros(1, 5, 2).double())
        for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float64
