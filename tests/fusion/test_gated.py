"""The gate and the joint experts of the gated rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fusion_evidence import HIDDEN, every_mask, random_evidence, random_rule

from multiomics_vae.fusion import FUSION_RULES


def fix_gate(rule, expert):
    """Give all of the weight to one expert, where it is usable."""
    rule.gate[-1].weight.data.zero_()
    rule.gate[-1].bias.data.fill_(-1e4)
    rule.gate[-1].bias.data[rule.experts.index(expert) - 1] = 1e4


@pytest.mark.parametrize(
    ("n_modalities", "joint"),
    [
        (1, ()),
        (2, ((0, 1),)),
        (3, ((0, 1), (0, 2), (1, 2), (0, 1, 2))),
        (4, ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (0, 1, 2, 3))),
    ],
)
def test_joint_subsets(n_modalities, joint):
    rule = FUSION_RULES["gated"](n_modalities, 3, HIDDEN)
    assert rule.experts == ((), *((m,) for m in range(n_modalities)), *joint)
    assert len(rule.joint_experts) == len(joint)


@pytest.mark.parametrize("expert", [(0,), (1,), (2,)])
def test_a_gate_fixed_at_a_single_expert_gives_that_expert(expert):
    rule = random_rule("gated", 3)
    fix_gate(rule, expert)
    evidence = random_evidence(torch.ones(5, 3, dtype=torch.bool))
    posterior = rule(evidence).posterior.gaussian
    torch.testing.assert_close(posterior.mean, evidence.experts.mean[expert[0]])
    torch.testing.assert_close(posterior.log_variance, evidence.experts.log_variance[expert[0]])


@pytest.mark.parametrize("expert", [(0, 1), (1, 2), (0, 1, 2)])
def test_a_gate_fixed_at_a_joint_expert_gives_what_its_network_reads_from_its_subset(expert):
    rule = random_rule("gated", 3)
    fix_gate(rule, expert)
    evidence = random_evidence(torch.ones(5, 3, dtype=torch.bool))
    network = rule.joint_experts[rule.experts.index(expert) - 4]
    expected = network(torch.cat([evidence.features[m] for m in expert], dim=1))
    posterior = rule(evidence).posterior.gaussian
    torch.testing.assert_close(posterior.mean, expected.mean)
    torch.testing.assert_close(posterior.log_variance, expected.log_variance)
    outside = [m for m in range(3) if m not in expert]
    features = evidence.features.clone()
    features[outside] += 1.0
    assert torch.equal(
        rule(replace(evidence, features=features)).posterior.mean, rule(evidence).posterior.mean
    )


def test_never_narrower_than_the_sharpest_expert_nor_wider_than_the_widest():
    evidence = random_evidence(torch.ones(200, 2, dtype=torch.bool), seed=5)
    rule = random_rule("gated", 2)
    joint = rule.joint_experts[0](torch.cat([*evidence.features], dim=1))
    all_variances = torch.stack([*evidence.experts.variance, joint.variance])
    variance = rule(evidence).posterior.variance
    assert (variance >= all_variances.amin(0) * (1 - 1e-12)).all()
    assert (variance <= all_variances.amax(0) * (1 + 1e-12)).all()


def test_weights_are_equal_over_the_usable_experts_at_the_start():
    available = every_mask(3)
    rule = FUSION_RULES["gated"](3, 3, HIDDEN).double()
    weights = rule(random_evidence(available)).weights
    n_usable = (2 ** available.sum(1) - 1).clamp(min=1)
    used = weights[1:, 1:]
    torch.testing.assert_close(used.amax(0), 1 / n_usable[1:].double())
    torch.testing.assert_close((used > 0).sum(0), n_usable[1:])


def test_the_gate_reads_features_and_mask():
    rule = random_rule("gated", 3)
    evidence = random_evidence(torch.ones(4, 3, dtype=torch.bool))
    other = replace(evidence, features=evidence.features + 1)
    assert not torch.allclose(rule(evidence).weights, rule(other).weights)
    silent = replace(evidence, features=torch.zeros_like(evidence.features))
    hidden = replace(silent, available=torch.tensor([[True, True, False]] * 4))
    ratio = [rule(e).weights[1] / rule(e).weights[2] for e in (silent, hidden)]
    assert not torch.allclose(*ratio)


def test_the_gate_learns_which_modality_to_trust():
    generator = torch.Generator().manual_seed(0)
    rule = random_rule("gated", 2, n_latent=1, dtype=torch.float64)
    evidence = random_evidence(torch.ones(256, 2, dtype=torch.bool), n_latent=1)
    truth = torch.randn(256, 1, generator=generator, dtype=torch.float64)
    reliable = (evidence.features[0, :, 0] > 0).long()  # the first feature says which expert is right
    evidence.experts.mean.copy_(3 * torch.randn(2, 256, 1, generator=generator, dtype=torch.float64))
    evidence.experts.mean[reliable, torch.arange(256)] = truth
    evidence.experts.log_variance.fill_(-2.0)
    optimiser = torch.optim.Adam(rule.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        (-rule(evidence).posterior.log_prob(truth).mean()).backward()
        optimiser.step()
    weights = rule(evidence).weights[1:3]
    trusted = weights[reliable, torch.arange(256)] > weights[1 - reliable, torch.arange(256)]
    assert trusted.double().mean() > 0.9


def test_joint_log_variances_are_bounded_and_keep_a_gradient():
    rule = random_rule("gated", 2)
    network = rule.joint_experts[0]
    network.log_variance.bias.data.copy_(torch.tensor([-30.0, 0.1, 30.0]))
    network.log_variance.weight.data.zero_()
    log_variance = network(torch.zeros(1, 2 * HIDDEN, dtype=torch.float64)).log_variance
    assert (log_variance.abs() < 10).all()
    assert log_variance[0, 1].item() == pytest.approx(0.1, rel=1e-4)
    log_variance.sum().backward()
    assert (network.log_variance.bias.grad > 0).all()
