"""Each prior against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion import FUSION_RULES, Evidence
from multiomics_vae.priors import PRIORS

Z = 2 * torch.randn(11, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def never(features):
    raise AssertionError("this prior must not ask the model")


def test_standard_normal():
    mixture = PRIORS["standard_normal"](3, 2, 4, 50).double()(never)
    torch.testing.assert_close(mixture.log_prob(Z), Normal(0.0, 1.0).log_prob(Z).sum(-1))
    assert mixture.n_components == 1


def test_gaussian_mixture_against_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        prior = PRIORS["gaussian_mixture"](3, 2, 4, 5).double()
    for parameter in prior.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    parts = Independent(Normal(prior.means, (0.5 * prior.log_variances).exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=prior.logits), parts)
    torch.testing.assert_close(prior(never).log_prob(Z), expected.log_prob(Z))
    torch.testing.assert_close(prior(never).mean[0], expected.mean)
    torch.testing.assert_close(prior(never).variance[0], expected.variance)


@pytest.mark.parametrize("n_components", [1, 50, 400])
def test_gaussian_mixture_starts_near_the_standard_normal(n_components):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixture = PRIORS["gaussian_mixture"](8, 2, 4, n_components).double()(never)
    torch.testing.assert_close(mixture.mean, torch.zeros(1, 8).double(), atol=1e-6, rtol=0)
    expected = 0.5 + 0.5 * (n_components - 1) / n_components
    assert mixture.variance.mean().item() == pytest.approx(expected, rel=0.15)


def test_vamp_is_the_average_of_the_posteriors_of_its_pseudo_inputs():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = PRIORS["vamp"](3, 2, 4, 6).double()
        network = torch.nn.Linear(8, 6).double()

    def infer(features):  # (2, C, 4)
        mean, log_variance = network(torch.cat([*features], dim=1)).chunk(2, dim=1)
        return GaussianMixture.single(Gaussian(mean, log_variance))

    density = torch.zeros(11, dtype=torch.float64)
    for imagined in prior.pseudo_features.unbind(1):  # (2, 4) each
        mean, log_variance = network(imagined.flatten()).chunk(2)
        density += Normal(mean, (0.5 * log_variance).exp()).log_prob(Z).sum(-1).exp() / 6
    torch.testing.assert_close(prior(infer).log_prob(Z), density.log())


@pytest.mark.parametrize("rule_name", list(FUSION_RULES))
def test_vamp_with_every_fusion_rule(rule_name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = PRIORS["vamp"](3, 2, 4, 6).double()
        rule = FUSION_RULES[rule_name](2, 3, 4).double()
        heads = torch.nn.ModuleList(torch.nn.Linear(4, 6) for _ in range(2)).double()

    def infer(features):  # (2, C, 4)
        means, log_variances = zip(
            *(h(f).chunk(2, dim=1) for h, f in zip(heads, features, strict=True)), strict=True
        )
        available = torch.ones(features.shape[1], 2, dtype=torch.bool)
        return rule(
            Evidence(Gaussian(torch.stack(means), torch.stack(log_variances)), features, available)
        ).posterior

    posteriors = infer(prior.pseudo_features)
    each = posteriors.log_prob(Z[:, None].expand(11, 6, 3))  # (11, 6)
    mixture = prior(infer)
    assert mixture.n_components == 6 * posteriors.n_components
    torch.testing.assert_close(mixture.log_prob(Z), each.exp().mean(1).log())
    (-mixture.log_prob(Z).mean()).backward()
    assert prior.pseudo_features.grad.abs().sum() > 0
