"""How far the amortised posterior of a few cells is from the exact one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.nuts import (
    MAX_CELLS,
    N_CHAINS,
    N_SAMPLES,
    N_WARMUP,
    NutsPosterior,
    nuts_posterior,
)
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.distributions import LOG_2PI, Gaussian, GaussianMixture
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True)
class PosteriorReference:
    """q(z | x_A) beside draws from p(z | x_A), of N cells and K latent dimensions.

    Parameters
    ----------
    mean_difference
        (mean of q − exact mean) / exact sd, ``(N, K)``.
    sd_ratio
        sd of q / exact sd, ``(N, K)``; below 1 q is too sure.
    kl
        KL(N(m, S) ‖ q), nats, ``(N,)``, with m and S mean and covariance of the draws; where q is a mixture,
        E log q is taken over the draws themselves. A diagonal q cannot reach 0 where the exact posterior is
        correlated.
    kl_noise
        What ``kl`` would come to if q were the exact posterior, because m and S are of finitely many draws:
        K (K + 3) / (4 · ESS) to first order, for a Gaussian posterior, ``(N,)``. A ``kl`` near it is no
        evidence against q.
    nuts
        The draws and their diagnostics.
    """

    mean_difference: np.ndarray
    sd_ratio: np.ndarray
    kl: np.ndarray
    kl_noise: np.ndarray
    nuts: NutsPosterior

    def to_frame(self) -> pd.DataFrame:
        """One row a cell.

        Returns
        -------
        DataFrame
            ``mean_distance`` (root mean square of the standardised differences over dimensions),
            ``sd_ratio`` (geometric mean over dimensions), ``kl``, ``kl_noise``, ``r_hat`` (largest), ``ess``
            (smallest), ``n_divergent``.
        """
        return pd.DataFrame(
            {
                "mean_distance": np.sqrt((self.mean_difference**2).mean(axis=1)),
                "sd_ratio": np.exp(np.log(self.sd_ratio).mean(axis=1)),
                "kl": self.kl,
                "kl_noise": self.kl_noise,
                "r_hat": self.nuts.r_hat.max(axis=1),
                "ess": self.nuts.ess.min(axis=1),
                "n_divergent": self.nuts.n_divergent,
            },
            index=self.nuts.cell_names,
        )


def posterior_reference(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    given: tuple[int, ...] | None = None,
    *,
    n_warmup: int = N_WARMUP,
    n_samples: int = N_SAMPLES,
    n_chains: int = N_CHAINS,
    seed: int = 0,
    max_cells: int = MAX_CELLS,
) -> PosteriorReference:
    """Compare the amortised posterior of some cells with NUTS; arguments as in `nuts_posterior`.

    Raises
    ------
    InputError
        As in `nuts_posterior`, and for fewer draws than a covariance of K dimensions needs.
    """
    n_draws = n_chains * n_samples
    if n_draws <= 2 * module.n_latent:
        raise InputError(
            f"{n_draws} draws are too few for the covariance of {module.n_latent} latent dimensions: "
            f"n_samples={max(N_SAMPLES, 10 * module.n_latent)}"
        )
    exact = nuts_posterior(
        module,
        data,
        cells,
        given,
        n_warmup=n_warmup,
        n_samples=n_samples,
        n_chains=n_chains,
        seed=seed,
        max_cells=max_cells,
    )
    (posterior,) = [each.fused.posterior for each in infer(module, data, cells, len(cells), given, seed)]
    return hold_against(posterior, exact)


def hold_against(posterior: GaussianMixture, exact: NutsPosterior) -> PosteriorReference:
    """Compare the posteriors q of N cells with draws from the exact ones."""
    n_draws, _, n_latent = exact.draws.shape
    with torch.inference_mode():
        q = GaussianMixture(
            Gaussian(
                posterior.components.mean.double().cpu(), posterior.components.log_variance.double().cpu()
            ),
            posterior.log_weights.double().cpu(),
        )
        mean, sd_of_q = q.mean.numpy(), q.variance.sqrt().numpy()  # (N, K)
        cross_entropy = -q.log_prob(torch.from_numpy(exact.draws)).mean(0).numpy()  # (N,)
    covariance = exact.covariance  # (N, K, K)
    sd = np.sqrt(np.einsum("nkk->nk", covariance))  # (N, K)
    entropy = 0.5 * (np.linalg.slogdet(covariance)[1] + n_latent * (1.0 + LOG_2PI))  # (N,)
    ess = np.minimum(exact.ess, n_draws).mean(axis=1)  # (N,)
    return PosteriorReference(
        mean_difference=(mean - exact.mean) / sd,
        sd_ratio=sd_of_q / sd,
        # log q of a Gaussian is quadratic in z: its mean is the same under N(m, S) and under the draws.
        kl=cross_entropy - entropy,
        kl_noise=n_latent * (n_latent + 3) / (4.0 * ess),
        nuts=exact,
    )
