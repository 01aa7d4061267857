"""Posteriors of subsets of the modalities, and the draws that the loss takes from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.fusion import Evidence, Subset
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective.config import ObjectiveConfig


@dataclass(frozen=True)
class View:
    """The posterior of one subset for all cells of a minibatch, with one draw from each component.

    Parameters
    ----------
    posterior, z
        q(z | x_A), and a draw from each of its components, ``(C, B, K)``.
    counted
        Cells that the subset counts for, ``(B,)``, bool.
    targets
        Modalities whose log likelihood is wanted.
    weight
        Of the bound of this subset in the loss.
    own
        Modalities whose log likelihood is that of draws; that of the others among ``targets`` is taken at
        the means.
    """

    posterior: GaussianMixture
    z: Tensor
    counted: Tensor
    targets: Subset
    weight: float = 1.0
    own: Subset = ()

    @property
    def weights(self) -> Tensor:
        """Weights of the draws: ``(C, B)``."""
        return self.posterior.log_weights.exp()

    def reads_draws(self, modality: int) -> bool:
        """Whether a modality's decoder reads the draws, and not the means."""
        return modality in self.own

    def read_by(self, modality: int) -> Tensor:
        """Where a modality's decoder reads the posterior: at the draws, or at the means: ``(C, B, K)``.

        What a subset has not seen says where its posterior should lie. Read at draws it would also say how
        wide it should be, and it always wants to have been seen: narrower than what is known allows.
        """
        return self.z if self.reads_draws(modality) else self.posterior.components.mean


def joint_view(module: MultimodalModule, evidence: Evidence, available: Tensor, noise: StepNoise) -> View:
    """The view of all cells that predicts every modality, given what is available, ``(B, M)``."""
    everyone = torch.ones(len(available), dtype=torch.bool, device=available.device)
    every = tuple(range(module.n_modalities))
    return _view(module, evidence, available, everyone, every, every, noise)


def subset_views(
    config: ObjectiveConfig,
    module: MultimodalModule,
    minibatch: Minibatch,
    evidence: Evidence,
    noise: StepNoise,
) -> list[View]:
    """One for every subset of the step that counts for any cell.

    A subset counts for a cell if it is neither empty nor all that the cell has.

    Parameters
    ----------
    config
        Which subsets, what they predict, and their weight.
    module, minibatch, evidence
        The model, the cells, and what their encoders found.
    noise
        Of the step.
    """
    views = []
    present = minibatch.present
    for subset in _subsets(config.n_subsets, module.n_modalities, noise):
        chosen = torch.zeros(module.n_modalities, dtype=torch.bool, device=present.device)
        chosen[list(subset)] = True
        available = present & chosen  # (B, M)
        counted = available.any(1) & (available != present).any(1)  # (B,)
        every = tuple(range(module.n_modalities))
        targets = subset if config.subset_objective == "within" else every
        own = every if config.subset_objective == "cross" else subset
        # Drawn also where no cell counts: every process must draw as often as the others.
        view = _view(module, evidence, available, counted, targets, own, noise, config.subset_weight)
        if bool(counted.any()):
            views.append(view)
    return views


def without_dropped(present: Tensor, rate: float, noise: StepNoise) -> Tensor:
    """Hide one random modality of a share of the cells that have several: ``(B, M)``."""
    if rate == 0.0:
        return present
    draws = noise.uniform(present.shape[1])  # (B, M)
    hidden = torch.where(present, draws, -1.0).argmax(1)  # (B,)
    hit = (noise.uniform() < rate) & (present.sum(1) > 1)
    kept = present.clone()
    kept[hit, hidden[hit]] = False
    return kept


def _view(
    module: MultimodalModule,
    evidence: Evidence,
    available: Tensor,
    counted: Tensor,
    targets: Subset,
    own: Subset,
    noise: StepNoise,
    weight: float = 1.0,
) -> View:
    posterior = module.fuse(evidence, available).posterior
    z = posterior.components.at(noise.like(posterior.components.mean))  # (C, B, K)
    return View(posterior, z, counted, targets, weight, own)


def _subsets(n_subsets: int | None, n_modalities: int, noise: StepNoise) -> list[Subset]:
    if n_subsets is None and n_modalities <= 3:
        return [(m,) for m in range(n_modalities)]
    return [_random_proper_subset(n_modalities, noise.generator) for _ in range(n_subsets or 2)]


def _random_proper_subset(n_modalities: int, generator: torch.Generator) -> Subset:
    """One of the 2^M − 2 non-empty proper subsets, uniformly."""
    code = int(torch.randint(1, 2**n_modalities - 1, (), generator=generator, device=generator.device))
    return tuple(m for m in range(n_modalities) if code >> m & 1)
