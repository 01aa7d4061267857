"""Denoised values of a modality: the likelihood's mean with the cell's depth taken out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from multiomics_vae.analysis.inference import infer
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.module import MultimodalModule


def normalized_values(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    batches: tuple[int, ...] | None,
    n_samples: int | None,
    library_size: float | None,
    given: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Decode the cells' posteriors, as if sequenced to a common depth.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    modality, features
        Position of the modality, and of its features, ``(G,)``.
    batches
        Batch codes to decode as, averaged; None decodes each cell as its own batch.
    n_samples
        Draws of z to average over; None decodes the posterior mean.
    library_size
        Multiplies a mean that is a share of a library.
    given
        Positions of the modalities to condition on.

    Returns
    -------
    ndarray
        ``(N, G)``, float32.
    """
    result = np.empty((len(cells), len(features)), dtype=np.float32)
    start = 0
    for block in normalized_blocks(
        module, data, cells, batch_size, modality, features, batches, n_samples, library_size, given
    ):
        result[start : start + len(block)] = block
        start += len(block)
    return result


def normalized_blocks(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    batches: tuple[int, ...] | None,
    n_samples: int | None,
    library_size: float | None,
    given: tuple[int, ...] | None = None,
) -> Iterator[np.ndarray]:
    """`normalized_values` of one minibatch of cells after the other: ``(B, G)`` each."""
    likelihood = module.likelihoods[modality]
    wanted = torch.from_numpy(features).to(next(module.parameters()).device)
    for inferred in infer(module, data, cells, batch_size, given):
        middle = inferred.fused.posterior.mean.unsqueeze(0)  # (1, B, K)
        z = middle if n_samples is None else inferred.sample(n_samples)  # (S, B, K)
        own = inferred.minibatch.covariates
        views: list[Covariates] = [own] if batches is None else [own.with_batch(code) for code in batches]
        total = torch.zeros(z.shape[1], len(wanted), device=z.device)
        for view in views:
            context = CellContext(z.new_ones(z.shape[1]), view.batch)
            for draw in z:
                outputs = module.decode(modality, draw, view)
                total += likelihood.normalized(outputs, context)[:, wanted]
        values = total / (len(views) * len(z))
        if library_size is not None and likelihood.normalised_over_features:
            values = values * library_size
        yield values.cpu().numpy()


def check_library_size(library_size: float) -> None:
    """Refuse what no mean can be multiplied with."""
    if isinstance(library_size, str) or not library_size > 0:
        raise InputError(f"library_size must be a number above 0, not {library_size!r}: library_size=1e4")
