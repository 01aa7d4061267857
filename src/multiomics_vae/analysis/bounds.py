"""Lower bounds on the log likelihood, cell by cell, always with every weight λ = β = 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.distributions import kl_gaussian
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True)
class Bounds:
    """Terms of the evidence lower bound of N cells.

    Parameters
    ----------
    log_likelihood
        E_q log p(x_m | z), ``(N, M)``; NaN where a cell lacks the modality.
    kl
        KL(q(z | x) ‖ p(z)), ``(N,)``.
    importance_weighted
        log (1/S) Σ_s p(x, z_s) / q(z_s | x), a tighter bound that rises with S, ``(N,)``
        (Burda et al. 2016).
    """

    log_likelihood: np.ndarray
    kl: np.ndarray
    importance_weighted: np.ndarray

    @property
    def elbo(self) -> np.ndarray:
        """Σ_m E_q log p(x_m | z) − KL: ``(N,)``."""
        elbo: np.ndarray = np.nansum(self.log_likelihood, axis=1) - self.kl
        return elbo


def evidence_bounds(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    n_samples: int,
    given: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Bounds:
    """Estimate the bounds of some cells with S draws a cell.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    n_samples
        S; memory grows as S · batch_size · F.
    given
        Positions of the modalities that q conditions on; None for all that a cell has. The log
        likelihood is always that of all observed modalities.
    seed
        Of the cells' noise.
    """
    n, n_modalities = len(cells), module.n_modalities
    log_likelihood = np.full((n, n_modalities), np.nan)
    kl, weighted = np.empty(n), np.empty(n)
    start = 0
    with memory_for(batch_size):
        for inferred in infer(module, data, cells, batch_size, given, seed):
            minibatch, posterior = inferred.minibatch, inferred.fused.posterior
            here = slice(start, start + minibatch.n_cells)
            z = inferred.sample(n_samples)  # (S, B, K)
            prior = module.prior_mixture()
            log_ratio = (posterior.log_prob(z) - prior.log_prob(z)).double()  # (S, B)
            log_weight = -log_ratio
            for m, batch in enumerate(minibatch.modalities):
                if len(batch.rows):
                    found = module.log_likelihood(m, batch, z, minibatch.covariates)
                    each = found.per_cell.double()  # (S, B_m)
                    log_likelihood[start + batch.rows.cpu().numpy(), m] = each.mean(0).cpu().numpy()
                    log_weight = log_weight.index_add(1, batch.rows, each)
            if posterior.n_components == 1 and prior.n_components == 1:
                kl[here] = kl_gaussian(posterior.gaussian, prior.gaussian).sum(-1).cpu().numpy()
            else:
                kl[here] = log_ratio.mean(0).cpu().numpy()
            weighted[here] = (log_weight.logsumexp(0) - np.log(n_samples)).cpu().numpy()
            start = here.stop
    return Bounds(log_likelihood, kl, weighted)
