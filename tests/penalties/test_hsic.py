"""HSIC against its definition, its permutations and its relation to MMD."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from penalty_inputs import make_penalty, mosaic, random_input

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.penalties import PENALTIES, Nuisance, Surroundings

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def kernel(z, w):
    squared = sum((a - b) ** 2 for a, b in zip(z, w, strict=True))
    return sum(math.exp(-squared / (2 * s * len(z))) for s in SCALES) / len(SCALES)


def by_hand(z, codes):
    """E k l + E k E l − 2 E k_ij l_iq over all quadruples of different cells: the definition, unbiased."""
    n = len(z)
    k = [[kernel(a, b) for b in z] for a in z]
    same = [[float(a == b) for b in codes] for a in codes]
    values = [
        k[i][j] * same[i][j] + k[i][j] * same[q][r] - 2 * k[i][j] * same[i][q]
        for i, j, q, r in permutations(range(n), 4)
    ]
    return sum(values) / len(values)


def given(z, batch, categorical=None, strata=None):
    """Cells at these means, with these codes."""
    n = len(z)
    found = random_input(torch.ones(n, 2, dtype=torch.bool), n_latent=z.shape[1])
    categorical = torch.zeros(n, 0, dtype=torch.int64) if categorical is None else categorical
    return replace(
        found,
        joint=GaussianMixture.single(Gaussian(z, torch.zeros_like(z))),
        covariates=Covariates(batch, categorical, torch.zeros(n, 0)),
        strata=strata,
    )


def draw(n, seed=0, n_latent=2):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_latent, generator=generator, dtype=torch.float64)
    return z, torch.randint(3, (n,), generator=generator)


def make(name="hsic", nuisances=None):
    surroundings = Surroundings(nuisances or (Nuisance(None, 3),))
    return PENALTIES[name](2, 2, 3, surroundings).double()


def test_it_is_the_average_over_all_quadruples():
    z, batch = draw(8)
    value = make()(given(z, batch))
    assert value.mean.item() == pytest.approx(by_hand(z.tolist(), batch.tolist()))
    assert value.n_counted == 8


def test_its_mean_over_all_permutations_is_zero():
    z, _ = draw(6)
    batch = torch.tensor([0, 0, 1, 1, 2, 2])
    values = [make()(given(z, batch[list(order)])).mean.item() for order in permutations(range(6))]
    assert np.mean(values) == pytest.approx(0.0, abs=1e-15)
    assert np.std(values) > 1e-3


def test_dependence_is_seen_and_independence_is_near_zero():
    z, batch = draw(900)
    assert abs(make()(given(z, batch)).mean.item()) < 1e-3
    moved = z + 2.0 * batch.unsqueeze(1)
    assert make()(given(moved, batch)).mean.item() > 0.02


def test_of_two_batches_it_is_mmd_times_their_shares():
    """HSIC = 2 p² (1 − p)² MMD², here in the limit of many cells."""
    generator = torch.Generator().manual_seed(0)
    batch = (torch.rand(3000, generator=generator) < 0.3).long()
    z = torch.randn(3000, 2, generator=generator, dtype=torch.float64) + 1.5 * batch.unsqueeze(1)
    found, p = given(z, batch), batch.double().mean().item()
    hsic, mmd = make("hsic")(found).mean.item(), make("batch_mmd")(found).mean.item()
    assert hsic == pytest.approx(2 * (p * (1 - p)) ** 2 * mmd, rel=0.03)


def test_strata_are_averaged_by_their_cells_and_unknown_ones_are_one_more():
    z, batch = draw(20)
    strata = torch.tensor([0] * 6 + [1] * 9 + [-1] * 5)
    value = make()(given(z, batch, strata=strata))
    parts = [(by_hand(z[strata == s].tolist(), batch[strata == s].tolist()), int((strata == s).sum()))
             for s in (0, 1, -1)]  # fmt: skip
    assert value.mean.item() == pytest.approx(sum(v * n for v, n in parts) / 20)


def test_a_difference_of_composition_is_none_within_types():
    generator = torch.Generator().manual_seed(0)
    types = torch.randint(2, (1200,), generator=generator)
    batch = (torch.rand(1200, generator=generator) < torch.where(types == 0, 0.85, 0.15)).long()
    z = torch.randn(1200, 2, generator=generator, dtype=torch.float64) + 3.0 * types.unsqueeze(1)
    overall = make()(given(z, batch)).mean.item()
    within = make()(given(z, batch, strata=types)).mean.item()
    assert overall > 0.02
    assert abs(within) < 1e-3


def test_several_covariates_are_averaged():
    z, batch = draw(9)
    other = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 1])
    found = given(z, batch, other.unsqueeze(1))
    value = make(nuisances=(Nuisance(None, 3), Nuisance(0, 2)))(found).mean.item()
    expected = (by_hand(z.tolist(), batch.tolist()) + by_hand(z.tolist(), other.tolist())) / 2
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["hsic", "batch_mmd"])
def test_gradients_by_the_joint_mean_agree_with_finite_differences(name):
    z, batch = draw(7)
    strata = torch.tensor([0, 0, 0, 0, 0, -1, -1])
    for given_strata in (None, strata):
        assert torch.autograd.gradcheck(
            lambda mean, s=given_strata: make(name)(given(mean, batch, strata=s)).mean,
            z.clone().requires_grad_(),
        )


@pytest.mark.parametrize("name", ["hsic", "batch_mmd"])
def test_cells_without_anything_and_single_posteriors_are_not_read(name):
    found = random_input(mosaic())
    penalty = make_penalty(name)
    assert penalty(found).n_counted <= 11
    changed = replace(found, single_z=found.single_z + 3.0)
    assert penalty(found).mean == penalty(changed).mean
