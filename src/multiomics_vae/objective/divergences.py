"""Divergences of the loss: from the prior, and of a subset's posterior from the joint one."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian, GaussianMixture, kl_gaussian
from multiomics_vae.objective.views import View


def kl_to_prior(view: View, prior: GaussianMixture, free_bits: float) -> tuple[Tensor, Tensor]:
    """KL(q ‖ p) summed over the counted cells, as it is and as the loss charges it (free bits)."""
    counted = view.counted
    if view.posterior.n_components == 1 and prior.n_components == 1:
        each = kl_gaussian(view.posterior.gaussian, prior.gaussian)  # (B, K)
        per_dimension = (each * counted.unsqueeze(-1)).sum(0)  # (K,)
    else:
        log_ratio = view.posterior.log_prob(view.z) - prior.log_prob(view.z)  # (C, B)
        # Draws of components that a cell does not have weigh nothing, and may be far out.
        present = view.weights > 0
        expected = torch.where(present, view.weights * log_ratio, 0.0).sum(0)  # (B,)
        per_dimension = (expected * counted).sum().unsqueeze(0)  # a mixture has no value a dimension
    total = per_dimension.sum()
    if free_bits == 0.0:
        return total.detach(), total
    free = free_bits * view.z.shape[-1] / len(per_dimension) * counted.sum()
    return total.detach(), per_dimension.clamp(min=free).sum()


def kl_from_joint(joint: View, subset: View) -> Tensor:
    """KL(stopgrad q(z|x_all) ‖ q(z|x_A)), summed over the cells that the subset counts for."""
    counted = subset.counted
    if joint.posterior.n_components == 1 and subset.posterior.n_components == 1:
        found = joint.posterior.gaussian
        teacher = Gaussian(found.mean.detach(), found.log_variance.detach())
        divergence = kl_gaussian(teacher, subset.posterior.gaussian).sum(-1)  # (B,)
        return (divergence * counted).sum()
    z = joint.z.detach()  # (C, B, K)
    weights = joint.weights.detach()  # (C, B)
    log_ratio = joint.posterior.log_prob(z).detach() - subset.posterior.log_prob(z)  # (C, B)
    return (torch.where(weights > 0, weights * log_ratio, 0.0).sum(0) * counted).sum()
