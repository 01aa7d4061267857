"""The adversary: which way gradients go, what it knows at its best, and what strata take from it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from penalty_inputs import BATCHES, leaves_of, make_penalty, mosaic, random_input, with_leaves
from torch.nn import functional

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.penalties import Nuisance, Surroundings
from multiomics_vae.penalties.adversarial import Adversarial, Reverse
from multiomics_vae.penalties.nuisance import log_shares


def awake(penalty):
    """With a last layer that is no longer 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for classifier in penalty.classifiers:
            shape = classifier[-1].weight.shape
            classifier[-1].weight.copy_(torch.randn(shape, generator=generator))
    return penalty


def with_means(found, mean):
    """One component, at these means."""
    return replace(found, joint=GaussianMixture.single(Gaussian(mean, torch.zeros_like(mean))))


def test_the_reversal_is_the_identity_forwards_and_minus_the_gradient_backwards():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_()
    assert torch.equal(Reverse.apply(z), z)
    (reversed_gradient,) = torch.autograd.grad(Reverse.apply(z).square().sum(), z)
    torch.testing.assert_close(reversed_gradient, -2 * z.detach())
    # Turned round twice it is an ordinary function, which finite differences agree with.
    assert torch.autograd.gradcheck(lambda x: Reverse.apply(Reverse.apply(x).pow(3)), z)


def test_z_gets_minus_the_finite_differences_and_the_classifier_the_true_ones():
    found = random_input(torch.ones(6, 2, dtype=torch.bool))
    penalty = awake(make_penalty("adversarial"))
    mean = found.joint.mean.clone().requires_grad_()
    (given,) = torch.autograd.grad(penalty(with_means(found, mean)).mean, mean)
    step, numeric = 1e-6, torch.zeros_like(mean)
    for i in range(mean.numel()):
        shift = torch.zeros(mean.numel(), dtype=mean.dtype)
        shift[i] = step
        up, down = (
            penalty(with_means(found, mean.detach() + sign * shift.view_as(mean))).mean for sign in (1, -1)
        )
        numeric.view(-1)[i] = (up - down) / (2 * step)
    torch.testing.assert_close(given, -numeric, rtol=1e-5, atol=1e-8)
    assert numeric.abs().max() > 1e-3

    last = penalty.classifiers[0][-1]
    weight = last.weight.detach().clone().requires_grad_()

    def value(w):
        parts = {"classifiers.0.4.weight": w}
        return torch.func.functional_call(penalty, parts, (found,)).mean

    assert torch.autograd.gradcheck(value, weight)


def test_it_is_the_cross_entropy_of_the_mean_of_cells_that_have_anything():
    found = random_input(mosaic(), n_components=3)
    penalty = awake(make_penalty("adversarial"))
    seen = found.present.any(1)
    logits = penalty.classifiers[0](found.joint.mean[seen])
    value = penalty(found)
    torch.testing.assert_close(value.mean, functional.cross_entropy(logits, found.covariates.batch[seen]))
    assert value.n_counted == 11


def trained(penalty, found, n_steps=300):
    optimizer = torch.optim.Adam(penalty.parameters(), lr=1e-2)
    for _ in range(n_steps):
        optimizer.zero_grad()
        value = penalty(found).mean
        value.backward()
        optimizer.step()
    return penalty(found).mean.item()


def many(n_cells=300, seed=0):
    return random_input(torch.ones(n_cells, 2, dtype=torch.bool), seed=seed)


def test_at_its_best_it_knows_what_can_be_known():
    """Where z says nothing: the entropy of the batches. Where z is the batch: nothing is left."""
    found = many()
    batch = found.covariates.batch
    shares = torch.bincount(batch) / len(batch)
    nothing = with_means(found, torch.zeros(300, 3, dtype=torch.float64))
    entropy = -(shares * shares.log()).sum().item()
    assert trained(make_penalty("adversarial"), nothing) == pytest.approx(entropy, abs=1e-3)
    told = with_means(found, 3.0 * functional.one_hot(batch, BATCHES).double())
    assert trained(make_penalty("adversarial"), told) < 0.01


def test_what_the_stratum_explains_is_not_removed():
    """Z says only the type, and the type decides the shares of the batches: moving would gain nothing."""
    generator = torch.Generator().manual_seed(0)
    strata = torch.randint(2, (400,), generator=generator)
    batch = (torch.rand(400, generator=generator) < torch.where(strata == 0, 0.9, 0.2)).long()
    found = random_input(torch.ones(400, 2, dtype=torch.bool))
    mean = (2.0 * strata - 1.0).double().unsqueeze(1).repeat(1, 3)
    covariates = Covariates(batch, torch.zeros(400, 0, dtype=torch.int64), torch.zeros(400, 0))
    found = replace(with_means(found, mean), covariates=covariates)
    gains = {}
    for n_strata in (0, 2):
        torch.manual_seed(0)
        own = strata if n_strata else None
        shares = log_shares(batch, 2, own, n_strata)
        surroundings = Surroundings((Nuisance(None, 2),), n_strata, (shares,))
        penalty = Adversarial(3, 2, 2, surroundings).double()
        given = replace(found, strata=own)
        trained(penalty, given, 200)
        elsewhere = with_means(given, -mean)  # at the other type's place
        gains[n_strata] = penalty(elsewhere).mean.item() - penalty(given).mean.item()
    assert gains[0] > 0.3
    assert abs(gains[2]) < 0.02


def test_shares_are_counted_within_strata():
    batch, strata = torch.tensor([0, 0, 1, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 1, -1])
    counts = torch.tensor([[2.5, 1.5], [0.5, 2.5], [1.5, 0.5]], dtype=torch.float64)
    expected = (counts / counts.sum(1, keepdim=True)).log()
    torch.testing.assert_close(log_shares(batch, 2, strata, 2), expected)
    alone = torch.tensor([[3.5, 3.5]], dtype=torch.float64)
    torch.testing.assert_close(log_shares(batch, 2, None, 0), (alone / 7).log())


def test_at_the_start_it_knows_the_shares_and_no_more():
    found = many()
    batch = found.covariates.batch
    shares = log_shares(batch, BATCHES, None, 0)
    penalty = Adversarial(3, 2, BATCHES, Surroundings((Nuisance(None, BATCHES),), 0, (shares,))).double()
    entropy = torch.distributions.Categorical(logits=shares[0]).entropy()
    assert penalty(found).mean.item() == pytest.approx(entropy.item(), abs=1e-3)


def test_several_covariates_have_a_classifier_each_and_add_up():
    generator = torch.Generator().manual_seed(0)
    found = random_input(mosaic())
    categorical = torch.randint(4, (12, 2), generator=generator)
    found = replace(found, covariates=replace(found.covariates, categorical=categorical))
    torch.manual_seed(0)
    nuisances = (Nuisance(None, BATCHES), Nuisance(1, 4))
    both = awake(Adversarial(3, 2, BATCHES, Surroundings(nuisances)).double())
    value = both(found).mean
    parts = []
    for nuisance, classifier in zip(nuisances, both.classifiers, strict=True):
        alone = Adversarial(3, 2, BATCHES, Surroundings((nuisance,))).double()
        alone.classifiers[0].load_state_dict(classifier.state_dict())
        parts.append(alone(found).mean)
    torch.testing.assert_close(value, parts[0] + parts[1])
    assert both.classifiers[1][-1].out_features == 4


def test_the_single_posteriors_are_not_read():
    found = random_input(mosaic())
    *joint, mean, log_variance, z = leaves_of(found)
    penalty = awake(make_penalty("adversarial"))
    assert penalty(found).mean == penalty(with_leaves(found, [*joint, 5 + mean, log_variance, 9 + z])).mean


def test_one_batch_is_nothing_to_guess():
    penalty = Adversarial(3, 2, 1)
    value = penalty(random_input(mosaic(), dtype=torch.float32))
    assert value.mean == 0
    assert value.n_counted == 0
    assert math.isfinite(value.mean)
