"""Variances of log importance weights (Wu & Goodman 2018): how well q(z | x) covers the exact posterior.

With x_1 the first modality, x_2 the second, z drawn from the q that is named:

    marginal           var log [ p(x_1 | z) p(z) / q(z | x_1) ]                 z ~ q(z | x_1)
    joint              var log [ p(x_1 | z) p(x_2 | z) p(z) / q(z | x_1, x_2) ]  z ~ q(z | x_1, x_2)
    joint from first   var log [ p(x_1 | z) p(x_2 | z) p(z) / q(z | x_1) ]       z ~ q(z | x_1)
    conditional        var log [ p(x_1 | z) q(z | x_2) / q(z | x_1) ]            z ~ q(z | x_1)

The last stands for p(x_1, z | x_2) / q(z | x_1) with the exact p(z | x_2) replaced by q(z | x_2). With the
exact one it would be the third, p(x_2) being no function of z. An exact posterior has variance 0 in the first
two. The variance is over draws, within one example; the mean of that over examples is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import mudata
import numpy as np
import torch
from torch import Tensor

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.registration import read
from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.module import MultimodalModule

BATCH_SIZE = 64


@dataclass(frozen=True)
class WeightVariances:
    """Means over examples; None where there is no second modality."""

    marginal: float
    joint: float | None = None
    joint_from_first: float | None = None
    conditional: float | None = None


def weight_variances(model: MultiVAE, mdata: mudata.MuData, n_samples: int) -> WeightVariances:
    """Variances of the log importance weights of examples that have every modality.

    Parameters
    ----------
    model
        Fitted, of one or two modalities.
    mdata
        The examples.
    n_samples
        Draws an example.
    """
    return variances_of(model.module, read(mdata, model.schema), n_samples)


def variances_of(module: MultimodalModule, data: MultimodalData, n_samples: int) -> WeightVariances:
    """`weight_variances` of a module, on registered examples."""
    if not data.present.all() or len(data.modalities) > 2:
        raise ValueError("weight_variances wants examples of one or two modalities, all of them measured.")
    starts = range(0, data.n_cells, BATCH_SIZE)
    batches = [np.arange(start, min(start + BATCH_SIZE, data.n_cells)) for start in starts]
    means = np.concatenate([_of_batch(module, data, cells, n_samples) for cells in batches], axis=1).mean(
        axis=1
    )
    return WeightVariances(*(float(mean) for mean in means))


def _of_batch(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, n_samples: int
) -> np.ndarray:
    """Variances of every example, ``(1, B)`` or ``(4, B)``."""
    module.eval()
    minibatch = make_minibatch(data, cells)
    noise = CellNoise(data.cell_names[cells], seed=0)
    with torch.inference_mode():
        evidence, prior = module.encode(minibatch), module.prior_mixture()

        def posterior(*given: int) -> GaussianMixture:
            available = torch.zeros_like(minibatch.present)
            available[:, list(given)] = True
            return module.fuse(evidence, available).posterior

        def log_likelihood(m: int, z: Tensor) -> Tensor:
            found = module.log_likelihood(m, minibatch.modalities[m], z, minibatch.covariates)
            return found.per_cell.double()  # (S, B)

        def drawn(q: GaussianMixture) -> Tensor:
            return q.sample(noise.normal(n_samples, module.n_latent), noise.choice(n_samples))  # (S, B, K)

        first = posterior(0)
        z = drawn(first)
        own = log_likelihood(0, z) - first.log_prob(z)
        marginal = own + prior.log_prob(z)
        if len(data.modalities) == 1:
            return marginal.var(0, keepdim=True).numpy()
        from_first = marginal + log_likelihood(1, z)
        conditional = own + posterior(1).log_prob(z)
        both = posterior(0, 1)
        z = drawn(both)
        joint = log_likelihood(0, z) + log_likelihood(1, z) + prior.log_prob(z) - both.log_prob(z)
        return torch.stack([each.var(0) for each in (marginal, joint, from_first, conditional)]).numpy()
