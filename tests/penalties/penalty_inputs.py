"""What penalties see, with random, reproducible content."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.share import Share, StepNoise
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.penalties import PENALTIES, Penalty, PenaltyInput

BATCHES = 3


def make_penalty(name: str, n_latent: int = 3, n_modalities: int = 2, dtype=torch.float64) -> Penalty:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PENALTIES[name](n_latent, n_modalities, BATCHES).to(dtype)


def mosaic(n_cells: int = 12, n_modalities: int = 2) -> Tensor:
    """Cells with everything, with each modality alone, and one with nothing: ``(B, M)``."""
    present = torch.ones(n_cells, n_modalities, dtype=torch.bool)
    for m in range(n_modalities):
        present[2 * m : 2 * m + 2] = False
        present[2 * m : 2 * m + 2, m] = True
    present[-1] = False
    return present


def random_input(
    present: Tensor, n_latent: int = 3, n_components: int = 1, seed: int = 0, dtype=torch.float64
) -> PenaltyInput:
    generator = torch.Generator().manual_seed(seed)
    n_cells, n_modalities = present.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    components = Gaussian(normal(n_components, n_cells, n_latent), normal(n_components, n_cells, n_latent))
    log_weights = normal(n_components, n_cells).log_softmax(0)
    singles = Gaussian(
        2 * normal(n_modalities, n_cells, n_latent), normal(n_modalities, n_cells, n_latent) - 1
    )
    batch = torch.randint(BATCHES, (n_cells,), generator=generator)
    return PenaltyInput(
        joint=GaussianMixture(components, log_weights),
        z=components.at(normal(n_components, n_cells, n_latent)),
        singles=singles,
        single_z=singles.at(normal(n_modalities, n_cells, n_latent)),
        present=present,
        covariates=Covariates(batch, torch.zeros(n_cells, 0, dtype=torch.int64), torch.zeros(n_cells, 0)),
        noise=StepNoise(torch.Generator().manual_seed(seed), Share(0, n_cells, n_cells)),
    )


def leaves_of(found: PenaltyInput) -> list[Tensor]:
    """Every tensor that the encoders have a hand in."""
    joint, singles = found.joint, found.singles
    parts = (joint.components.mean, joint.components.log_variance, joint.log_weights, found.z)
    return [*parts, singles.mean, singles.log_variance, found.single_z]


def with_leaves(found: PenaltyInput, leaves: list[Tensor]) -> PenaltyInput:
    mean, log_variance, log_weights, z, single_mean, single_log_variance, single_z = leaves
    return replace(
        found,
        joint=GaussianMixture(Gaussian(mean, log_variance), log_weights),
        z=z,
        singles=Gaussian(single_mean, single_log_variance),
        single_z=single_z,
    )


def with_gradients(found: PenaltyInput) -> PenaltyInput:
    return with_leaves(found, [leaf.clone().requires_grad_() for leaf in leaves_of(found)])


def spoil_absent(found: PenaltyInput, value: float) -> PenaltyInput:
    """Write ``value`` wherever a single modality is absent."""
    absent = ~found.present.T.unsqueeze(-1)  # (M, B, 1)
    *joint, mean, log_variance, z = leaves_of(found)
    return with_leaves(
        found, [*joint, *(leaf.masked_fill(absent, value) for leaf in (mean, log_variance, z))]
    )


def cells_of(found: PenaltyInput, order: Tensor) -> PenaltyInput:
    """Some of the cells, in some order."""
    mean, log_variance, log_weights, z, *singles = leaves_of(found)
    parts = [mean[:, order], log_variance[:, order], log_weights[:, order], z[:, order]]
    kept = with_leaves(found, [*parts, *(leaf[:, order] for leaf in singles)])
    share = Share(0, len(order), len(order))
    return replace(
        kept,
        present=found.present[order],
        covariates=found.covariates.rows(order),
        noise=StepNoise(torch.Generator().manual_seed(0), share),
    )
