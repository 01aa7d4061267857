"""Evidence and rules with random, reproducible content for the tests of fusion."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian
from multiomics_vae.fusion import FUSION_RULES, Evidence, FusionRule
from multiomics_vae.fusion.disagreement import DisagreementGate

HIDDEN = 6
GATE = " with gate"
# Every rule, and once more with a disagreement gate those that can have one.
RULES = [*FUSION_RULES, *(name + GATE for name in FUSION_RULES if FUSION_RULES[name].can_gate_disagreement)]
# Far below what is used: experts at random disagree enough for it in most cells.
TEST_LEVEL = 0.01


def every_mask(n_modalities: int) -> Tensor:
    """All 2^M patterns of availability, (2^M, M); the first has nothing, the last everything."""
    return torch.tensor(list(itertools.product([False, True], repeat=n_modalities)))


def random_evidence(available: Tensor, n_latent: int = 3, seed: int = 0, dtype=torch.float64) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    n_cells, n_modalities = available.shape
    draw = [
        torch.randn(n_modalities, n_cells, width, generator=generator, dtype=dtype)
        for width in (n_latent, n_latent, HIDDEN)
    ]
    return Evidence(Gaussian(2 * draw[0], draw[1]), draw[2], available)


def random_rule(
    name: str, n_modalities: int, n_latent: int = 3, seed: int = 0, dtype=torch.float64
) -> FusionRule:
    """One of `RULES` whose parameters are all random, unlike at the start of training."""
    kind = FUSION_RULES[name.removesuffix(GATE)]
    with torch.random.fork_rng():
        rule = kind(n_modalities=n_modalities, n_latent=n_latent, n_hidden=HIDDEN).to(dtype)
    if name.endswith(GATE):
        rule.with_disagreement_gate().disagreement_gate = DisagreementGate(n_latent, TEST_LEVEL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return rule


def spoil_masked(evidence: Evidence, value: float) -> Evidence:
    """Write ``value`` wherever a modality is masked."""
    masked = ~evidence.available.T.unsqueeze(-1)
    return replace(
        evidence,
        experts=Gaussian(
            evidence.experts.mean.masked_fill(masked, value),
            evidence.experts.log_variance.masked_fill(masked, value),
        ),
        features=evidence.features.masked_fill(masked, value),
    )


def with_gradients(evidence: Evidence) -> Evidence:
    leaves = (evidence.experts.mean, evidence.experts.log_variance, evidence.features)
    mean, log_variance, features = (leaf.clone().requires_grad_() for leaf in leaves)
    return replace(evidence, experts=Gaussian(mean, log_variance), features=features)
