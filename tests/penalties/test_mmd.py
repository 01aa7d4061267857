"""The discrepancy against its definition and its closed form for Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from penalty_inputs import make_penalty, mosaic, random_input

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def kernel(z, w):
    squared = sum((a - b) ** 2 for a, b in zip(z, w, strict=True))
    return sum(math.exp(-squared / (2 * s * len(z))) for s in SCALES) / len(SCALES)


def by_hand(z, w):
    """The double loop; both map the cells that have the modality to their draws."""

    def mean_kernel(one, other):
        values = [kernel(a, b) for i, a in one.items() for j, b in other.items() if i != j]
        return sum(values) / len(values)

    return mean_kernel(z, z) + mean_kernel(w, w) - 2 * mean_kernel(z, w)


def draws(found, modality):
    present = found.present[:, modality].tolist()
    return {i: z for i, z in enumerate(found.single_z[modality].tolist()) if present[i]}


def test_it_is_the_double_loop_over_different_cells():
    found = random_input(mosaic(12, 3))
    value = make_penalty("mmd", n_modalities=3)(found)
    z = [draws(found, m) for m in range(3)]
    expected = (by_hand(z[0], z[1]) + by_hand(z[0], z[2]) + by_hand(z[1], z[2])) / 3
    assert value.mean.item() == pytest.approx(expected)
    assert value.n_counted == 11  # the last cell has nothing


def test_unpaired_cells_are_compared():
    present = torch.tensor([[True, False]] * 5 + [[False, True]] * 6)
    found = random_input(present)
    value = make_penalty("mmd")(found)
    assert value.mean.item() == pytest.approx(by_hand(draws(found, 0), draws(found, 1)))
    assert value.n_counted == 11


def samples(n_repeats, n_cells, shift, paired, seed=0):
    """Estimates for draws of N(0, I) and N(shift, I), of the same cells if ``paired``."""
    n = n_cells if paired else 2 * n_cells
    present = torch.ones(n, 2, dtype=torch.bool)
    if not paired:
        present[:n_cells, 1] = False
        present[n_cells:, 0] = False
    template, penalty = random_input(present), make_penalty("mmd")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n_repeats):
        common = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        own = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
        z = (common + own) / math.sqrt(2)  # the two draws of a cell are alike
        z[1] += shift
        found.append(penalty(replace(template, single_z=z)).mean.item())
    return np.array(found)


def closed_form(shift, n_latent=3):
    """MMD² of N(0, I) and N(shift · 1, I): a Gaussian kernel integrates to a Gaussian."""

    def expected(distance):
        each = []
        for s in SCALES:
            h = s * n_latent
            scale = (h / (h + 2)) ** (n_latent / 2)
            each.append(scale * math.exp(-n_latent * distance**2 / (2 * (h + 2))))
        return sum(each) / len(each)

    return 2 * expected(0.0) - 2 * expected(shift)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_it_is_unbiased_also_where_cells_have_both(paired, shift):
    found = samples(600, 8, shift, paired)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - closed_form(shift)) < 4 * error
    assert error < 0.01


def test_equal_distributions_are_near_zero_and_the_shift_is_seen():
    assert closed_form(0.0) == 0
    equal, apart = samples(1, 1500, 0.0, True)[0], samples(1, 1500, 0.8, True)[0]
    assert abs(equal) < 0.003
    assert apart == pytest.approx(closed_form(0.8), abs=0.02)
    assert closed_form(0.8) > 0.1
