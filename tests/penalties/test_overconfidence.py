"""The hinge on entropies in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from penalty_inputs import leaves_of, make_penalty, mosaic, random_input, with_leaves
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from multiomics_vae.distributions import Gaussian, GaussianMixture


def with_entropies(joint, singles, present):
    """One latent dimension, log variances as given."""
    n_modalities, n_cells = len(singles), len(joint)
    found = random_input(torch.tensor(present), n_latent=1)
    of_joint = torch.tensor(joint, dtype=torch.float64).reshape(1, n_cells, 1)
    of_singles = torch.tensor(singles, dtype=torch.float64).reshape(n_modalities, n_cells, 1)
    return replace(
        found,
        joint=GaussianMixture.single(Gaussian(torch.zeros_like(of_joint[0]), of_joint[0])),
        singles=Gaussian(torch.zeros_like(of_singles), of_singles),
    )


def test_the_hinge_in_closed_form():
    """H(joint) − H(single) is half the difference of the log variances."""
    found = with_entropies(
        joint=[-1.0, -1.0, -1.0, -1.0],
        singles=[[-3.0, 2.0, -3.0, -9.0], [-2.0, -4.0, 5.0, 0.0]],
        present=[[True, True], [True, True], [True, True], [True, False]],
    )
    value = make_penalty("overconfidence", n_latent=1)(found)
    # Averages over two modalities: (1 + ½)/2, (0 + 3/2)/2, (1 + 0)/2; the last cell has one modality.
    assert value.mean.item() == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert value.n_counted == 3


def test_wider_singles_cost_nothing():
    found = with_entropies([-1.0, -2.0], [[0.0, -1.9], [-0.9, 3.0]], [[True, True]] * 2)
    assert make_penalty("overconfidence", n_latent=1)(found).mean == 0


def test_entropies_are_those_of_torch():
    found = random_input(mosaic(12, 3))
    joint, singles = found.joint.gaussian, found.singles
    of_joint = Normal(joint.mean, joint.variance.sqrt()).entropy().sum(-1)
    of_singles = Normal(singles.mean, singles.variance.sqrt()).entropy().sum(-1)
    each = [
        (of_joint[i] - of_singles[found.present[i], i]).clamp(min=0).mean()
        for i in range(12)
        if found.present[i].sum() > 1
    ]
    value = make_penalty("overconfidence", n_modalities=3)(found)
    torch.testing.assert_close(value.mean, torch.stack(each).mean())
    assert value.mean > 0


def test_only_the_singles_learn():
    found = random_input(mosaic())
    leaves = [leaf.clone().requires_grad_() for leaf in leaves_of(found)]
    make_penalty("overconfidence")(with_leaves(found, leaves)).mean.backward()
    *joint, mean, log_variance, z = leaves
    assert all(leaf.grad is None or not leaf.grad.any() for leaf in (*joint, mean, z))
    several = found.present.sum(1) > 1
    assert (log_variance.grad <= 0).all()  # descending widens them
    assert log_variance.grad[:, several].any()
    assert not log_variance.grad[:, ~several].any()


def test_the_entropy_of_a_mixture_is_estimated_without_bias():
    n_cells = 40_000
    present = torch.ones(n_cells, 2, dtype=torch.bool)
    found = random_input(present, n_latent=1, n_components=2)
    means = torch.tensor([-2.0, 1.5], dtype=torch.float64).reshape(2, 1, 1).expand(2, n_cells, 1)
    log_variances = torch.tensor([0.0, -1.0], dtype=torch.float64).reshape(2, 1, 1).expand(2, n_cells, 1)
    log_weights = torch.tensor([0.3, 0.7], dtype=torch.float64).log()[:, None].expand(2, n_cells)
    components = Gaussian(means, log_variances)
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    singles = Gaussian(torch.zeros(2, n_cells, 1).double(), torch.full((2, n_cells, 1), -20.0).double())
    found = replace(
        found, joint=GaussianMixture(components, log_weights), z=components.at(noise), singles=singles
    )
    estimate = make_penalty("overconfidence", n_latent=1)(found).mean + singles.entropy().mean()
    mixture = MixtureSameFamily(
        Categorical(logits=log_weights[:, 0]),
        Independent(Normal(means[:, 0], (0.5 * log_variances[:, 0]).exp()), 1),
    )
    grid = torch.linspace(-12.0, 12.0, 20_001, dtype=torch.float64).unsqueeze(-1)
    log_density = mixture.log_prob(grid)
    exact = -torch.trapezoid(log_density.exp() * log_density, grid.squeeze(-1))
    assert estimate.item() == pytest.approx(exact.item(), abs=0.02)
