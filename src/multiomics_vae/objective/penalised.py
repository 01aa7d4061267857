"""From what a step has inferred to the terms of the penalties."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.distributions import Gaussian
from multiomics_vae.fusion import Evidence
from multiomics_vae.loss_terms import LossTerm
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective.config import PenaltyWeight
from multiomics_vae.objective.views import View
from multiomics_vae.penalties import PENALTIES, Penalty, PenaltyInput


def build_penalties(
    weights: tuple[PenaltyWeight, ...], n_latent: int, n_modalities: int, n_batches: int, seed: int
) -> dict[str, Penalty]:
    """Make the penalties of a training, by name; the global random state stays as it was.

    Parameters
    ----------
    weights
        Which ones.
    n_latent, n_modalities, n_batches
        K, M and the number of batches.
    seed
        Of start weights, of those that have any.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {each.name: PENALTIES[each.name](n_latent, n_modalities, n_batches) for each in weights}


def penalty_input(
    module: MultimodalModule, minibatch: Minibatch, evidence: Evidence, joint: View, noise: StepNoise
) -> PenaltyInput:
    """What the penalties of a step see.

    Parameters
    ----------
    module, minibatch, evidence
        The model, the cells, and what their encoders found.
    joint
        The view given all that the cells have.
    noise
        Of the step; the draws of the single modalities are the next ones.
    """
    singles = _singles(module, evidence, minibatch.present)  # (M, B, K)
    return PenaltyInput(
        joint=joint.posterior,
        z=joint.z,
        singles=singles,
        single_z=singles.at(noise.like(singles.mean)),  # (M, B, K)
        present=minibatch.present,
        covariates=minibatch.covariates,
        noise=noise,
    )


def penalty_terms(
    weights: tuple[PenaltyWeight, ...], penalties: Mapping[str, Penalty], found: PenaltyInput
) -> list[LossTerm]:
    """One term a penalty, named as it is: its average over the cells of the minibatch."""
    terms = []
    for each in weights:
        value = penalties[each.name](found)
        share = value.n_counted / len(found.present)
        terms.append(LossTerm(each.name, value.mean * share, each.weight, n_counted=value.n_counted))
    return terms


def _singles(module: MultimodalModule, evidence: Evidence, present: Tensor) -> Gaussian:
    """q(z | x_m) of every modality by the fusion rule, ``(M, B, K)``; N(0, I) where a cell lacks it."""
    found = []
    for own in torch.eye(module.n_modalities, dtype=torch.bool, device=present.device):  # (M,)
        found.append(module.fuse(evidence, present & own).posterior.gaussian)
    return Gaussian(torch.stack([q.mean for q in found]), torch.stack([q.log_variance for q in found]))
