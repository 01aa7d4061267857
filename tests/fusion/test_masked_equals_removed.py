"""A rule with a modality masked answers as a rule built without that modality."""

from __future__ import annotations

import pytest
import torch
from fusion_evidence import HIDDEN, RULES, random_evidence, random_rule

from multiomics_vae.distributions import Gaussian
from multiomics_vae.fusion import FUSION_RULES, Evidence

Z = torch.randn(30, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def copy_parameters(big, small):
    """Give the rule for modalities 0 and 1 what the rule for 0, 1, 2 knows of them."""
    name = big.name
    if name == "product":
        small.log_powers.data.copy_(big.log_powers[:2, :2])
    if name == "attention":
        small.key_weight.data.copy_(big.key_weight[:2])
        small.key_bias.data.copy_(big.key_bias[:2])
        small.query.data.copy_(big.query)
    if name == "gated":
        small.joint_experts[0].load_state_dict(big.joint_experts[0].state_dict())
        inputs = [*range(2 * HIDDEN), 3 * HIDDEN, 3 * HIDDEN + 1]  # features, then the mask
        outputs = [big.experts.index(subset) - 1 for subset in small.experts[1:]]
        small.gate[0].weight.data.copy_(big.gate[0].weight[:, inputs])
        small.gate[0].bias.data.copy_(big.gate[0].bias)
        small.gate[-1].weight.data.copy_(big.gate[-1].weight[outputs])
        small.gate[-1].bias.data.copy_(big.gate[-1].bias[outputs])


@pytest.mark.parametrize("name", [name for name in RULES if random_rule(name, 2).robust_to_missing])
def test_masked_equals_removed(name):
    available = torch.tensor([[True, True, False]] * 4 + [[True, False, False], [False, False, False]])
    evidence = random_evidence(available)
    removed = Evidence(
        Gaussian(evidence.experts.mean[:2], evidence.experts.log_variance[:2]),
        evidence.features[:2],
        available[:, :2],
    )
    big, small = random_rule(name, 3, seed=1), random_rule(name, 2, seed=2)
    copy_parameters(big, small)
    masked, without = big(evidence), small(removed)
    torch.testing.assert_close(masked.posterior.log_prob(Z), without.posterior.log_prob(Z))
    torch.testing.assert_close(masked.posterior.mean, without.posterior.mean)
    torch.testing.assert_close(masked.posterior.variance, without.posterior.variance)
    rows = [big.experts.index(subset) for subset in small.experts]
    torch.testing.assert_close(masked.weights[rows], without.weights)


def test_concatenation_says_that_it_was_not_meant_for_missing_modalities():
    assert not FUSION_RULES["concatenation"].robust_to_missing
    assert sum(FUSION_RULES[name].robust_to_missing for name in FUSION_RULES) == len(FUSION_RULES) - 1


def test_concatenation_reads_the_mask():
    evidence = random_evidence(torch.tensor([[True, True]]))
    silent = Evidence(evidence.experts, torch.zeros_like(evidence.features), evidence.available)
    partial = Evidence(silent.experts, silent.features, torch.tensor([[True, False]]))
    rule = random_rule("concatenation", 2)
    assert not torch.allclose(rule(silent).posterior.mean, rule(partial).posterior.mean)
