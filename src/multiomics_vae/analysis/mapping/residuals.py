"""By how much hidden features differ from what the shown half of a cell makes the model expect."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.mapping.hidden_halves import halves_of, showing_features, with_modality
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.gaps import FeatureNorms
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.minibatch import Covariates, ModalityBatch
from multiomics_vae.kernels import FeatureSample, SparseRows, softmax_normaliser
from multiomics_vae.likelihoods import CellContext, FeaturePart
from multiomics_vae.module import MultimodalModule

LOWEST, HIGHEST = -5.0, 8.0
N_SPLITS = 2


def hidden_residuals(
    module: MultimodalModule,
    data: MultimodalData,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    norms: FeatureNorms | None,
) -> np.ndarray:
    """(x − E[x]) / sd[x] of every feature, given the half of them that it is not in.

    Parameters
    ----------
    module, data, batch_size
        The model, and cells in memory, all of which have the modality.
    modality, norms
        As for `hidden_log_likelihood`.
    features
        Positions wanted, ``(G,)``.

    Returns
    -------
    ndarray
        ``(N, G)``, float32, held to −5 … 8; averaged over two cuts; 0 where nothing was measured.
    """
    part, counted = data.modalities[modality], data.schema.modalities[modality].depth_from_values
    found = np.zeros((data.n_cells, len(features)), dtype=np.float32)
    device = next(module.parameters()).device
    likelihood = module.likelihoods[modality]
    for shown in halves_of(likelihood.n_features, N_SPLITS):
        seen, target = (showing_features(part, mask, norms, counted) for mask in (shown, ~shown))
        evidence, wanted = with_modality(data, modality, seen), with_modality(data, modality, target)
        columns = np.flatnonzero(~shown[features])
        chosen = torch.from_numpy(features[columns]).to(device)
        for inferred in infer(module, evidence, np.arange(data.n_cells), batch_size):
            cells = inferred.minibatch.cells.cpu().numpy()
            batch = make_minibatch(wanted, cells).modalities[modality].to(device)
            own = inferred.minibatch.covariates
            with torch.no_grad():
                away = _away(module, modality, batch, inferred.fused.posterior.mean, own, chosen)  # (B, G)
            found[np.ix_(cells, columns)] += away.cpu().numpy() / N_SPLITS
    return found


def _away(
    module: MultimodalModule,
    modality: int,
    batch: ModalityBatch,
    z: Tensor,
    covariates: Covariates,
    features: Tensor,
) -> Tensor:
    """Standardised residuals of some features: ``(B, G)``."""
    decoder, likelihood = module.parts[modality].decoder, module.likelihoods[modality]
    hidden = decoder.last_hidden(z, module.covariates(covariates))  # (B, H)
    normaliser = None
    if likelihood.normalised_over_features:
        layer = decoder.last_layers[0]
        normaliser = softmax_normaliser(hidden, layer.weight, layer.bias)
    part = FeaturePart(features, normaliser)
    outputs = decoder.read_out(hidden, likelihood.output_columns(features))
    context = CellContext(batch.depth, covariates.batch, batch.coverage)
    mean = likelihood.mean(outputs, context, part)
    variance = likelihood.variance(outputs, context, part)
    away = (_columns(batch.values, features) - mean) / variance.clamp(min=1e-12).sqrt()  # (B, G)
    if batch.observed is not None:
        away = away.masked_fill(~batch.observed[:, features], 0.0)
    if batch.gaps is not None:
        away = away.masked_fill(~batch.gaps.measured[features], 0.0)
    if batch.coverage is not None:
        away = away.masked_fill(batch.coverage[:, features] <= 0, 0.0)
    return away.clamp(LOWEST, HIGHEST)


def _columns(values: Tensor | SparseRows, features: Tensor) -> Tensor:
    if not isinstance(values, SparseRows):
        return values[:, features]
    return FeatureSample(features, values.n_features).entries(values).to_dense()  # (B, G)
