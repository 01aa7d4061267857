"""Posteriors against numerical integration on a grid, closed forms and finite differences."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from fusion_evidence import HIDDEN, RULES, every_mask, random_evidence, random_rule, with_gradients
from torch.distributions import Normal

from multiomics_vae.distributions import Gaussian, kl_gaussian
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES, Evidence

GRID = torch.linspace(-60.0, 60.0, 24_001, dtype=torch.float64)  # (G,)


def normalised(log_density):
    """Density on the grid from an unnormalised log density, by the trapezoidal rule."""
    density = (log_density - log_density.max()).exp()
    return density / torch.trapezoid(density, GRID)


def expert_log_density(evidence, modality, cell):
    experts = evidence.experts
    scale = (0.5 * experts.log_variance[modality, cell, 0]).exp()
    return Normal(experts.mean[modality, cell, 0], scale).log_prob(GRID)


def product_on_grid(evidence, subset, cell):
    return normalised(
        Normal(0.0, 1.0).log_prob(GRID) + sum(expert_log_density(evidence, m, cell) for m in subset)
    )


def plain_product(n_modalities, n_latent=3):
    """The product rule as it starts, every power 1."""
    return FUSION_RULES["product"](n_modalities, n_latent, HIDDEN).double()


def fused_on_grid(rule, evidence):
    z = GRID[:, None, None].expand(-1, evidence.available.shape[0], 1)
    return rule(evidence).posterior.log_prob(z).exp()  # (G, B)


def present_in(evidence, cell):
    return [m for m in range(evidence.available.shape[1]) if evidence.available[cell, m]]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_every_posterior_integrates_to_one(name, n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1, seed=3)
    density = fused_on_grid(random_rule(name, n_modalities, n_latent=1), evidence)
    mass = torch.trapezoid(density, GRID, dim=0)
    torch.testing.assert_close(mass, torch.ones_like(mass))


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_product_starts_as_the_normalised_product_with_the_prior(n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1)
    density = fused_on_grid(plain_product(n_modalities, n_latent=1), evidence)
    for cell in range(2**n_modalities):
        torch.testing.assert_close(
            density[:, cell], product_on_grid(evidence, present_in(evidence, cell), cell)
        )


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_product_raises_experts_that_have_company_to_their_powers(n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1)
    rule = random_rule("product", n_modalities, n_latent=1)
    assert rule.log_powers.abs().min() > 0.01
    density = fused_on_grid(rule, evidence)
    for cell in range(2**n_modalities):
        log_density = Normal(0.0, 1.0).log_prob(GRID)
        present = present_in(evidence, cell)
        for m in present:
            power = math.exp(sum(rule.log_powers[m, n, 0].item() for n in present if n != m))
            log_density = log_density + power * expert_log_density(evidence, m, cell)
        torch.testing.assert_close(density[:, cell], normalised(log_density))


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_mixture_is_the_average_density(n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1)
    density = fused_on_grid(random_rule("mixture", n_modalities, n_latent=1), evidence)
    for cell in range(1, 2**n_modalities):
        each = [expert_log_density(evidence, m, cell).exp() for m in present_in(evidence, cell)]
        torch.testing.assert_close(density[:, cell], torch.stack(each).mean(0))


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_mixture_of_products_averages_the_products_of_all_subsets(n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1)
    rule = random_rule("mixture_of_products", n_modalities, n_latent=1)
    density = fused_on_grid(rule, evidence)
    for cell in range(1, 2**n_modalities):
        present = present_in(evidence, cell)
        subsets = [s for size in range(1, len(present) + 1) for s in combinations(present, size)]
        assert len(subsets) == 2 ** len(present) - 1
        each = torch.stack([product_on_grid(evidence, subset, cell) for subset in subsets])
        torch.testing.assert_close(density[:, cell], each.mean(0))


def test_components_of_the_mixture_of_products_stand_in_the_order_of_its_experts():
    evidence = random_evidence(torch.ones(5, 4, dtype=torch.bool))
    rule = random_rule("mixture_of_products", 4)
    components = rule(evidence).posterior.components
    product = plain_product(4)
    for subset, mean, log_variance in zip(
        rule.experts[1:], components.mean, components.log_variance, strict=True
    ):
        available = torch.zeros(5, 4, dtype=torch.bool)
        available[:, list(subset)] = True
        expected = product(Evidence(evidence.experts, evidence.features, available)).posterior.gaussian
        torch.testing.assert_close(mean, expected.mean)
        torch.testing.assert_close(log_variance, expected.log_variance)


@pytest.mark.parametrize("n_modalities", [1, 2, 3, 4])
def test_gated_is_the_weighted_geometric_mean_relative_to_the_prior(n_modalities):
    evidence = random_evidence(every_mask(n_modalities), n_latent=1)
    rule = random_rule("gated", n_modalities, n_latent=1)
    fused = rule(evidence)
    density = fused_on_grid(rule, evidence)
    prior = Normal(0.0, 1.0).log_prob(GRID)
    for cell in range(1, 2**n_modalities):
        log_density = prior.clone()
        for subset, weight in zip(rule.experts[1:], fused.weights[1:, cell], strict=True):
            if not evidence.available[cell, list(subset)].all():
                continue
            if len(subset) == 1:
                expert = expert_log_density(evidence, subset[0], cell)
            else:
                network = rule.joint_experts[rule.experts.index(subset) - 1 - n_modalities]
                joint = network(torch.cat([evidence.features[m, cell] for m in subset]).unsqueeze(0))
                expert = Normal(joint.mean[0, 0], (0.5 * joint.log_variance[0, 0]).exp()).log_prob(GRID)
            log_density = log_density + weight * (expert - prior)
        torch.testing.assert_close(density[:, cell], normalised(log_density))


def test_product_of_one_expert_and_the_prior_in_closed_form():
    evidence = random_evidence(torch.ones(4, 1, dtype=torch.bool))
    fused = random_rule("product", 1)(evidence)
    variance = evidence.experts.variance[0]
    torch.testing.assert_close(fused.posterior.gaussian.mean, evidence.experts.mean[0] / (1 + variance))
    torch.testing.assert_close(fused.posterior.gaussian.variance, variance / (1 + variance))
    torch.testing.assert_close(fused.weights[1], (1 / (1 + variance)).mean(-1))
    torch.testing.assert_close(fused.weights[0], (variance / (1 + variance)).mean(-1))


@pytest.mark.parametrize("name", ["gated", "attention", "mixture"])
def test_one_available_modality_gives_its_expert(name):
    evidence = random_evidence(torch.eye(3, dtype=torch.bool))
    posterior = random_rule(name, 3)(evidence).posterior
    own = torch.arange(3)
    torch.testing.assert_close(posterior.mean, evidence.experts.mean[own, own])
    torch.testing.assert_close(posterior.variance, evidence.experts.variance[own, own])


def test_attention_averages_means_and_log_variances_with_its_weights():
    evidence = random_evidence(torch.ones(5, 3, dtype=torch.bool))
    fused = random_rule("attention", 3)(evidence)
    weights = fused.weights[1:, :, None]
    assert weights.std() > 0.01
    torch.testing.assert_close(fused.posterior.gaussian.mean, (weights * evidence.experts.mean).sum(0))
    expected = (weights * evidence.experts.log_variance).sum(0)
    torch.testing.assert_close(fused.posterior.gaussian.log_variance, expected)


def test_attention_weights_are_additive_attention_scores():
    evidence = random_evidence(torch.tensor([[True, True, False]]))
    rule = random_rule("attention", 3)
    scores = [
        rule.query @ (evidence.features[m, 0] @ rule.key_weight[m] + rule.key_bias[m, 0]).tanh()
        for m in (0, 1)
    ]
    torch.testing.assert_close(rule(evidence).weights[1:3, 0], torch.stack(scores).softmax(0))


def two_experts(distance, variance=0.5):
    means = torch.tensor([-distance / 2, distance / 2], dtype=torch.float64).reshape(2, 1, 1)
    experts = Gaussian(means, torch.full_like(means, variance).log())
    features = random_evidence(torch.ones(1, 2, dtype=torch.bool)).features
    return Evidence(experts, features, torch.ones(1, 2, dtype=torch.bool))


def test_conflict_widens_the_mixture_and_leaves_the_product_narrow():
    rules = {name: random_rule(name, 2, n_latent=1) for name in ("mixture", "mixture_of_products")}
    rules["product"] = plain_product(2, n_latent=1)
    variance = {
        name: [rule(two_experts(distance)).posterior.variance.item() for distance in (0, 6)]
        for name, rule in rules.items()
    }
    assert variance["product"] == pytest.approx([1 / (1 + 2 + 2)] * 2)  # τ = 1 + Σ τ_m, whatever the means
    assert variance["mixture"] == pytest.approx([0.5, 0.5 + 3.0**2])  # law of total variance
    assert variance["mixture_of_products"][1] > variance["mixture_of_products"][0]


def copies_of(one, n_copies):
    """The same modality several times: all that the others say was said by the first."""
    return Evidence(
        Gaussian(one.experts.mean.repeat(n_copies, 1, 1), one.experts.log_variance.repeat(n_copies, 1, 1)),
        one.features.repeat(n_copies, 1, 1),
        torch.ones(len(one.available), n_copies, dtype=torch.bool),
    )


def test_dependent_experts_collapse_the_product_but_not_the_gated_posterior():
    one = random_evidence(torch.ones(6, 1, dtype=torch.bool))
    copies = copies_of(one, 4)
    product = plain_product(4)(copies).posterior.variance
    torch.testing.assert_close(product, 1 / (1 + 4 / one.experts.variance[0]))
    gated = random_rule("gated", 4)
    gated.gate[-1].weight.data.zero_()
    gated.gate[-1].bias.data.copy_(torch.tensor([0.0] * 4 + [-1e4] * 7))  # the single experts alone
    torch.testing.assert_close(gated(copies).posterior.variance, one.experts.variance[0])


def test_learned_powers_count_copies_of_an_expert_once():
    one = random_evidence(torch.ones(6, 1, dtype=torch.bool))
    with torch.no_grad():
        truth = plain_product(1)(one).posterior.gaussian
    rule, copies = plain_product(3), copies_of(one, 3)
    assert kl_gaussian(truth, rule(copies).posterior.gaussian).mean() > 0.1
    optimiser = torch.optim.Adam(rule.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        kl_gaussian(truth, rule(copies).posterior.gaussian).mean().backward()
        optimiser.step()
    found = rule(copies).posterior.gaussian
    torch.testing.assert_close(found.mean, truth.mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.variance, truth.variance, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["product", "mixture", "mixture_of_products"])
def test_order_of_the_modalities_does_not_matter(name):
    evidence = random_evidence(every_mask(4))
    order = torch.tensor([2, 0, 3, 1])
    permuted = Evidence(
        Gaussian(evidence.experts.mean[order], evidence.experts.log_variance[order]),
        evidence.features[order],
        evidence.available[:, order],
    )
    rule, reordered = random_rule(name, 4), random_rule(name, 4)
    with torch.no_grad():
        for parameter in reordered.parameters():  # one row and one column a modality
            parameter.copy_(parameter[order][:, order])
    z = torch.randn(20, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = rule(evidence), reordered(permuted)
    torch.testing.assert_close(first.posterior.log_prob(z), second.posterior.log_prob(z))
    rows = {subset: row for subset, row in zip(rule.experts, first.weights, strict=True)}
    for subset, row in zip(rule.experts, second.weights, strict=True):
        torch.testing.assert_close(row, rows[tuple(sorted(order[list(subset)].tolist()))])


@pytest.mark.parametrize("name", RULES)
def test_gradient_of_the_log_density_against_finite_differences(name):
    evidence = with_gradients(random_evidence(every_mask(3), n_latent=2))
    rule = random_rule(name, 3, n_latent=2)
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def log_density(mean, log_variance, features):
        fused = rule(Evidence(Gaussian(mean, log_variance), features, evidence.available))
        return fused.posterior.log_prob(z), fused.weights

    leaves = (evidence.experts.mean, evidence.experts.log_variance, evidence.features)
    assert torch.autograd.gradcheck(log_density, leaves, fast_mode=True)


def test_more_than_eight_modalities_are_refused_by_the_mixture_of_products():
    assert len(FUSION_RULES["mixture_of_products"](8, 2, 2).experts) == 256
    with pytest.raises(InputError, match=r"511 components.*M = 9.*fusion='mixture'"):
        FUSION_RULES["mixture_of_products"](9, 2, 2)
