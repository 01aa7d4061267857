"""Denoised values of a modality: the likelihood's mean with the cell's depth taken out."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.expected_depth import visible_depth
from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.errors import DeviceError, InputError
from multiomics_vae.kernels import softmax_normaliser
from multiomics_vae.likelihoods import CellContext, FeaturePart
from multiomics_vae.module import MultimodalModule

PREDICTED = "predicted"


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
    depth: DepthModel | None = None,
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
        Positions of the modalities to condition on; None conditions on all that a cell has.
    depth
        Gives what would be measured, the likelihood's mean: at the cell's own depth where the modality is
        given, else at the one that this expects. None takes depth out.

    Returns
    -------
    ndarray
        ``(N, G)``, float32.

    Raises
    ------
    DeviceError
        If memory runs out.
    """
    try:
        result = np.empty((len(cells), len(features)), dtype=np.float32)
    except MemoryError as error:
        raise DeviceError(
            f"{len(cells)} cells by {len(features)} features do not fit the memory. Ask for fewer (indices=, "
            "features=), or write them to a file: model.write_normalized('denoised.h5ad', modality)"
        ) from error
    start = 0
    for block in normalized_blocks(
        module, data, cells, batch_size, modality, features, batches, n_samples, library_size, given, depth
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
    depth: DepthModel | None = None,
) -> Generator[np.ndarray]:
    """`normalized_values` of one minibatch of cells after the other: ``(B, G)`` each."""
    likelihood = module.likelihoods[modality]
    chosen = torch.from_numpy(features).to(next(module.parameters()).device)  # (G,)
    wanted = chosen if len(chosen) < likelihood.n_features else None
    with memory_for(batch_size):
        for inferred in infer(module, showing_only(data, given), cells, batch_size):
            middle = inferred.fused.posterior.mean.unsqueeze(0)  # (1, B, K)
            z = middle if n_samples is None else inferred.sample(n_samples)  # (S, B, K)
            own = inferred.minibatch.covariates
            views: list[Covariates] = [own] if batches is None else [own.with_batch(code) for code in batches]
            total = z.new_zeros(z.shape[1], likelihood.n_features if wanted is None else len(wanted))
            for view in views:
                one = z.new_ones(z.shape[1])  # (B,)
                at = one if depth is None else visible_depth(module, inferred, view, depth, modality)
                context = CellContext(at, view.batch)
                for draw in z:
                    total += decoded_features(
                        module, modality, draw, view, context, wanted, as_measured=depth is not None
                    )
            values = (total if wanted is not None else total[:, chosen]) / (len(views) * len(z))  # (B, G)
            if library_size is not None and likelihood.normalised_over_features:
                values = values * library_size
            yield values.cpu().numpy()


def decoded_features(
    module: MultimodalModule,
    modality: int,
    z: Tensor,
    covariates: Covariates,
    cells: CellContext,
    features: Tensor | None,
    as_measured: bool = False,
) -> Tensor:
    """Normalised values of some features, which are chosen before the last product.

    A softmax over features still needs the logits of all, but never at once.

    Parameters
    ----------
    module, modality
        The model, and the position of the modality.
    z
        ``(B, K)``.
    covariates, cells
        Of the B cells.
    features
        Positions, ``(G,)``; None for all.
    as_measured
        The likelihood's mean at the cells' depth, with nothing taken out.

    Returns
    -------
    Tensor
        ``(B, G)``.
    """
    likelihood, decoder = module.likelihoods[modality], module.parts[modality].decoder
    hidden = decoder.last_hidden(z, module.covariates(covariates))  # (B, H)
    read = likelihood.mean if as_measured else likelihood.normalized
    if features is None:
        return read(decoder.read_out(hidden), cells)  # (B, F)
    normaliser = None
    if likelihood.normalised_over_features:
        layer = decoder.last_layers[0]
        normaliser = softmax_normaliser(hidden, layer.weight, layer.bias)
    outputs = decoder.read_out(hidden, likelihood.output_columns(features))
    return read(outputs, cells, FeaturePart(features, normaliser))


def check_library_size(library_size: float | str) -> None:
    """Refuse what no mean can be multiplied with."""
    if library_size == PREDICTED:
        return
    if isinstance(library_size, str) or not library_size > 0:
        raise InputError(
            f"library_size must be a number above 0 or {PREDICTED!r}, not {library_size!r}: library_size=1e4"
        )
