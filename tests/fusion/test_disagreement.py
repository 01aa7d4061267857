"""The disagreement of experts, and the gate that takes weight from the one that stands apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from fusion_evidence import GATE, HIDDEN, RULES, every_mask, random_evidence, random_rule
from scipy.stats import chi2, kstest

from multiomics_vae.distributions import Gaussian
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES, Evidence
from multiomics_vae.fusion.disagreement import DisagreementGate, disagreement, squared_distance

GATED = [name for name in RULES if name.endswith(GATE)]


def evidence_at(means, variances, available=None):
    """One latent dimension, one cell unless ``available`` has more: experts at given places."""
    mask = torch.ones(1, len(means), dtype=torch.bool) if available is None else torch.tensor(available)
    mean, variance = (
        torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1).expand(-1, len(mask), 1)
        for values in (means, variances)
    )
    template = random_evidence(mask, n_latent=1)
    return Evidence(Gaussian(mean, variance.log()), template.features, mask)


def factor(d_squared, n_latent=1):
    """What the gate leaves of a weight that bears the whole cost."""
    return 1 / (1 + max(0.0, d_squared / chi2.ppf(0.99, n_latent) - 1) ** 2)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def product_with_gate(n_modalities=2, n_latent=1):
    return FUSION_RULES["product"](n_modalities, n_latent, HIDDEN).double().with_disagreement_gate()


# --- the distance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_latent", [1, 5, 20])
def test_honest_experts_follow_chi_square_and_one_in_a_hundred_exceeds_one(n_latent):
    n_cells = 20_000
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(n_cells, n_latent, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(2, n_cells, n_latent, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, n_cells, n_latent, generator=generator, dtype=torch.float64)
    experts = Gaussian(truth + (0.5 * log_variance).exp() * noise, log_variance)
    squared = squared_distance(*(Gaussian(experts.mean[m], log_variance[m]) for m in (0, 1)))
    assert kstest(squared.numpy(), chi2(n_latent).cdf).pvalue > 0.001
    found = disagreement(experts, torch.ones(n_cells, 2, dtype=torch.bool))
    torch.testing.assert_close(found[0], squared / chi2.ppf(0.99, n_latent))
    assert (found > 1).double().mean().item() == pytest.approx(0.01, abs=0.003)


def test_pairs_stand_in_order_and_are_nan_where_one_is_absent():
    available = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    evidence = random_evidence(available)
    found = disagreement(evidence.experts, available)
    assert torch.equal(found.isnan().T, torch.tensor([[False] * 3, [True, False, True], [True] * 3]))
    pair = [Gaussian(evidence.experts.mean[m, 1], evidence.experts.log_variance[m, 1]) for m in (0, 2)]
    torch.testing.assert_close(found[1, 1], squared_distance(*pair) / chi2.ppf(0.99, 3))


# --- what agrees stays -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["product", "gated"])
def test_experts_that_agree_keep_exactly_what_they_had(name):
    evidence = random_evidence(every_mask(3).repeat(4, 1))
    near = replace(
        evidence, experts=Gaussian(0.2 * evidence.experts.mean, evidence.experts.log_variance.clamp(min=0))
    )
    assert disagreement(near.experts, near.available).nan_to_num(0).max() < 1
    plain, gated = random_rule(name, 3), random_rule(name, 3).with_disagreement_gate()
    first, second = plain(near), gated(near)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.posterior.mean, second.posterior.mean)
    assert torch.equal(first.posterior.variance, second.posterior.variance)


@pytest.mark.parametrize("name", GATED)
def test_a_modality_that_is_alone_loses_nothing(name):
    evidence = random_evidence(torch.eye(3, dtype=torch.bool))
    rule = random_rule(name, 3)
    with_gate = rule(evidence)
    rule.disagreement_gate = None
    torch.testing.assert_close(with_gate.posterior.mean, rule(evidence).posterior.mean, rtol=0, atol=0)
    torch.testing.assert_close(with_gate.weights, rule(evidence).weights, rtol=0, atol=0)


# --- closed forms ------------------------------------------------------------------------------------


def test_product_believes_the_expert_near_the_prior():
    fused = product_with_gate()(evidence_at([0.1, 8.0], [0.25, 0.5]))
    cost = -math.log(factor(7.9**2 / 0.75))
    share = sigmoid((0.1**2 / 1.25 - 8.0**2 / 1.5) / 2)  # of the first
    precisions = [4.0 * math.exp(-share * cost), 2.0 * math.exp(-(1 - share) * cost)]
    total = 1 + sum(precisions)
    assert fused.posterior.variance.item() == pytest.approx(1 / total)
    mean = (0.1 * precisions[0] + 8.0 * precisions[1]) / total
    assert fused.posterior.mean.item() == pytest.approx(mean)
    expected = [1 / total, precisions[0] / total, precisions[1] / total]
    assert fused.weights.squeeze().tolist() == pytest.approx(expected)
    assert precisions[1] < 0.02 < 3.99 < precisions[0]


def test_two_experts_as_far_from_the_prior_share_the_loss():
    fused = product_with_gate()(evidence_at([-5.0, 5.0], [0.25, 0.25]))
    left = 4.0 * math.sqrt(factor(100 / 0.5))
    assert fused.weights[1:].squeeze().tolist() == pytest.approx([left / (1 + 2 * left)] * 2)
    assert fused.weights[0].item() > 0.5  # back to the prior
    assert fused.posterior.mean.item() == pytest.approx(0.0)


def test_costs_add_over_pairs():
    """Of three, the one that stands apart from two others loses twice."""
    fused = product_with_gate(3)(evidence_at([0.0, 0.1, 9.0], [0.25, 0.25, 0.25]))
    first, second = (factor((9.0 - m) ** 2 / 0.5) for m in (0.0, 0.1))
    weights = fused.weights.squeeze()
    assert (weights[3] / weights[0]).item() == pytest.approx(4 * first * second, rel=1e-6)
    assert (weights[1] / weights[0]).item() == pytest.approx(4.0, rel=1e-6)


def test_the_outlier_loses_as_the_fourth_power_of_its_distance():
    weights = [product_with_gate()(evidence_at([0.0, far], [0.1, 0.1])).weights for far in (1e2, 1e3)]
    ratio = weights[0][2, 0] / weights[1][2, 0]
    assert ratio.item() == pytest.approx(1e4, rel=0.02)


@pytest.mark.parametrize("nearer", [0, 1])
def test_gated_believes_the_expert_near_the_joint_one(nearer):
    rule = random_rule("gated", 2, n_latent=1).with_disagreement_gate()
    evidence = evidence_at([-3.0, 3.0], [0.25, 0.25])
    network = rule.joint_experts[0]
    network.mean.weight.data.zero_()
    network.log_variance.weight.data.zero_()
    at = -2.5 if nearer == 0 else 2.5
    network.mean.bias.data.fill_(at)
    network.log_variance.bias.data.zero_()  # variance 1
    fused = rule(evidence)
    cost = -math.log(factor(36 / 0.5))
    share = sigmoid(((-3.0 - at) ** 2 / 1.25 - (3.0 - at) ** 2 / 1.25) / 2)  # of the first
    rule.disagreement_gate = None
    plain = rule(evidence).weights.squeeze()
    expected = plain * torch.tensor([1.0, math.exp(-share * cost), math.exp(-(1 - share) * cost), 1.0])
    torch.testing.assert_close(fused.weights.squeeze(), expected / expected.sum())
    assert fused.weights[1 + nearer] > 50 * fused.weights[2 - nearer] * plain[1 + nearer] / plain[2 - nearer]


# --- smoothness and faults ---------------------------------------------------------------------------


def test_the_loss_of_weight_begins_smoothly():
    gate = DisagreementGate(n_latent=1)
    edge = math.sqrt(gate.largest * 0.5)
    far = (edge + torch.tensor([-1e-4, 1e-4], dtype=torch.float64)).requires_grad_()
    mean = torch.stack([torch.zeros_like(far), far]).unsqueeze(-1)
    experts = Gaussian(mean, torch.full_like(mean, 0.25).log())
    prior = Gaussian(torch.zeros(1).double(), torch.zeros(1).double())
    factors = gate.log_factors(experts, torch.ones(2, 2, dtype=torch.bool), lambda a, b: prior)
    factors.sum().backward()
    assert (factors[:, 0] == 0).all()
    assert far.grad[0] == 0
    assert -1e-2 < far.grad[1] < 0


@pytest.mark.parametrize("name", GATED)
def test_gradients_agree_with_finite_differences(name):
    evidence = random_evidence(every_mask(3))
    rule = random_rule(name, 3)
    assert (disagreement(evidence.experts, evidence.available) > 0.5).any()

    def value(mean, log_variance):
        fused = rule(replace(evidence, experts=Gaussian(mean, log_variance)))
        return fused.posterior.mean, fused.posterior.variance, fused.weights

    leaves = (evidence.experts.mean, evidence.experts.log_variance)
    assert torch.autograd.gradcheck(value, [leaf.clone().requires_grad_() for leaf in leaves])


@pytest.mark.parametrize("name", GATED)
def test_the_gate_acts_in_the_contract_tests(name):
    """They would prove little of a gate that never acts."""
    evidence = random_evidence(every_mask(3))
    rule = random_rule(name, 3)
    with_gate = rule(evidence).posterior.mean
    rule.disagreement_gate = None
    moved = (with_gate != rule(evidence).posterior.mean).any(-1)
    assert moved[evidence.available.sum(1) > 1].all()
    assert not moved[evidence.available.sum(1) < 2].any()


@pytest.mark.parametrize("name", ["mixture", "mixture_of_products", "attention", "concatenation"])
def test_rules_without_a_gate_say_so(name):
    assert not FUSION_RULES[name].can_gate_disagreement
    with pytest.raises(InputError, match=f"'{name}' has no disagreement gate.*'product' or fusion='gated'"):
        FUSION_RULES[name](2, 3, HIDDEN).with_disagreement_gate()
