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
from multiomics_vae.penalties import PENALTIES, NuisancePenalty, Penalty, PenaltyInput, Surroundings


def build_penalties(
    weights: tuple[PenaltyWeight, ...],
    n_latent: int,
    n_modalities: int,
    n_batches: int,
    seed: int,
    surroundings: Surroundings | None = None,
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
    surroundings
        Covariates that are to leave z; None for the batch alone.
    """
    sizes = (n_latent, n_modalities, n_batches)
    found: dict[str, Penalty] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for each in weights:
            kind = PENALTIES[each.name]
            if issubclass(kind, NuisancePenalty):
                found[each.name] = kind(*sizes, surroundings)
            else:
                found[each.name] = kind(*sizes)
    return found


def penalty_input(
    module: MultimodalModule,
    minibatch: Minibatch,
    evidence: Evidence,
    joint: View,
    noise: StepNoise,
    strata: Tensor | None = None,
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
    strata
        Group of every cell of the data set, ``(N,)``; None where there are none.
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
        strata=None if strata is None else strata.to(minibatch.cells.device)[minibatch.cells],
    )


def penalty_terms(
    weights: tuple[PenaltyWeight, ...],
    penalties: Mapping[str, Penalty],
    found: PenaltyInput,
    ramp: float = 1.0,
) -> list[LossTerm]:
    """One term a penalty, named as it is: its average over the cells of the minibatch.

    Parameters
    ----------
    weights, penalties
        Which ones, and the penalties themselves.
    found
        What was inferred.
    ramp
        Share of their weight that ramped penalties have by now.
    """
    terms = []
    for each in weights:
        penalty = penalties[each.name]
        value = penalty(found)
        share = value.n_counted / len(found.present)
        weight = each.weight * ramp if penalty.ramped else each.weight
        terms.append(LossTerm(each.name, value.mean * share, weight, n_counted=value.n_counted))
    return terms


def _singles(module: MultimodalModule, evidence: Evidence, present: Tensor) -> Gaussian:
    """q(z | x_m) of every modality by the fusion rule, ``(M, B, K)``; N(0, I) where a cell lacks it."""
    found = []
    for own in torch.eye(module.n_modalities, dtype=torch.bool, device=present.device):  # (M,)
        found.append(module.fuse(evidence, present & own).posterior.gaussian)
    return Gaussian(torch.stack([q.mean for q in found]), torch.stack([q.log_variance for q in found]))
