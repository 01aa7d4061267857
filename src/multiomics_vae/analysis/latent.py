"""Where cells lie in the latent space, how surely, and which experts put them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True)
class LatentTable:
    """Posterior of N cells.

    Parameters
    ----------
    mean, variance
        Of q(z | x_A), ``(N, K)``, float32.
    weights
        How much each expert counted, ``(N, E)``.
    entropy
        Of q(z | x_A) (for a mixture, of the Gaussian with its moments), nats, ``(N,)``.
    """

    mean: np.ndarray
    variance: np.ndarray
    weights: np.ndarray
    entropy: np.ndarray


def latent_table(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    given: tuple[int, ...] | None = None,
) -> LatentTable:
    """Infer the latent posteriors of some cells from some of their modalities."""
    n, k = len(cells), module.n_latent
    table = LatentTable(
        mean=np.empty((n, k), dtype=np.float32),
        variance=np.empty((n, k), dtype=np.float32),
        weights=np.empty((n, len(module.fusion.experts)), dtype=np.float32),
        entropy=np.empty(n, dtype=np.float32),
    )
    start = 0
    with memory_for(batch_size):
        for inferred in infer(module, data, cells, batch_size, given):
            posterior = inferred.fused.posterior
            here = slice(start, start + inferred.minibatch.n_cells)
            table.mean[here] = posterior.mean.cpu().numpy()
            table.variance[here] = posterior.variance.cpu().numpy()
            table.weights[here] = inferred.fused.weights.T.cpu().numpy()
            table.entropy[here] = posterior.entropy_bound().cpu().numpy()
            start = here.stop
    return table


def latent_samples(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    n_samples: int,
    given: tuple[int, ...] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draws from the latent posteriors: ``(S, N, K)``, float32."""
    with memory_for(batch_size):
        minibatches = infer(module, data, cells, batch_size, given, seed)
        draws = [inferred.sample(n_samples).cpu().numpy() for inferred in minibatches]
    return np.concatenate(draws, axis=1) if draws else np.empty((n_samples, 0, module.n_latent), np.float32)
