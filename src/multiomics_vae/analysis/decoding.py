"""From draws of z to everything that a decoder says of the cells: outputs, depth, coverage, noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.depth import DepthModel, log_depths
from multiomics_vae.analysis.inference import Inferred
from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.analysis.predicted_cells import PredictedCells
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.matrices import dense
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.stored import take_rows
from multiomics_vae.errors import InputError
from multiomics_vae.kernels import softmax_normaliser
from multiomics_vae.likelihoods import CellContext, FeaturePart
from multiomics_vae.module import MultimodalModule

FIRST_STREAM, STREAMS_A_MODALITY = 2, 3  # after those of z


def decode_cells(
    module: MultimodalModule,
    data: MultimodalData,
    inferred: Inferred,
    z: Tensor,
    rows: Tensor,
    modality: int,
    features: np.ndarray,
    batches: tuple[int, ...] | None,
    depth: DepthModel | None,
    seed: int,
    trials: ModalityData | None,
) -> PredictedCells:
    """Decode some cells of a minibatch at all their draws of z.

    Parameters
    ----------
    module, data
        The model and the cells.
    inferred, z
        A minibatch, and draws of z for all its cells, ``(S, B, K)``.
    rows
        Which of its cells, positions, rising.
    modality, features, batches, depth, seed, trials
        As in `predictive.predicted_cells`.
    """
    minibatch, n_samples, device = inferred.minibatch, len(z), z.device
    likelihood, decoder = module.likelihoods[modality], module.parts[modality].decoder
    positions = minibatch.cells.cpu().numpy()[rows.numpy()]
    noise = CellNoise(data.cell_names[positions], seed)
    covariates = _views(minibatch.covariates.rows(rows.to(device)), n_samples, batches)  # S · B cells
    flat = z[:, rows.to(device)].flatten(0, 1)  # (S · B, K)
    hidden = decoder.last_hidden(flat, module.covariates(covariates))  # (S · B, H)
    part = None
    if len(features) < likelihood.n_features or (features[1:] < features[:-1]).any():
        chosen = torch.from_numpy(features).to(device)
        normaliser = None
        if likelihood.normalised_over_features:
            layer = decoder.last_layers[0]
            normaliser = softmax_normaliser(hidden, layer.weight, layer.bias)
        part = FeaturePart(chosen, normaliser)
    outputs = decoder.read_out(hidden, None if part is None else likelihood.output_columns(part.features))
    coverage = None if trials is None else _coverage(trials, positions, n_samples, device)
    first = stream_of(modality)
    if depth is None:
        own = _own_depth(data.modalities[modality], positions, device).repeat(n_samples)  # (S · B,)
        expected = drawn = CellContext(own, covariates.batch, coverage)
    elif not likelihood.reads_depth:
        expected = drawn = CellContext(flat.new_ones(len(flat)), covariates.batch, coverage)
    else:
        mean_log = _mean_log(module, inferred, rows.to(device), covariates, depth, n_samples)  # (S · B,)
        standard = noise.normal(n_samples, 1, first).flatten().to(flat)  # (S · B,)
        expected = CellContext(depth.expected(mean_log), covariates.batch, coverage)
        drawn = CellContext(depth.at(mean_log, standard), covariates.batch, coverage)
    posterior = inferred.fused.posterior
    return PredictedCells(
        cells=positions,
        latent_sd=posterior.variance.sqrt().mean(-1)[rows.to(device)].cpu().numpy(),
        latent_entropy=posterior.entropy_bound()[rows.to(device)].cpu().numpy(),
        likelihood=likelihood,
        outputs=outputs,
        expected=expected,
        drawn=drawn,
        part=part,
        noise=noise,
        stream=first + 1,
        features=features,
        n_samples=n_samples,
    )


def _mean_log(
    module: MultimodalModule,
    inferred: Inferred,
    rows: Tensor,
    covariates: Covariates,
    depth: DepthModel,
    n_samples: int,
) -> Tensor:
    """E[log depth] of some cells of a minibatch, as they are decoded, once for every sample: ``(S · B,)``."""
    middle = inferred.fused.posterior.mean[rows].repeat(n_samples, 1)  # (S · B, K)
    depths = log_depths(inferred.minibatch, depth.given)[rows].repeat(n_samples, 1)  # (S · B, |A|)
    return depth.mean_log(module, middle, covariates, depths)


def stream_of(modality: int) -> int:
    """First of the three streams of noise of a modality: depth, draws, and the ranks among draws."""
    return FIRST_STREAM + STREAMS_A_MODALITY * modality


def _views(own: Covariates, n_samples: int, batches: tuple[int, ...] | None) -> Covariates:
    """Covariates of the cells once for every sample, sample by sample."""
    n_cells = len(own.batch)
    repeated = own.rows(torch.arange(n_cells, device=own.batch.device).repeat(n_samples))
    if batches is None:
        return repeated
    codes = torch.tensor(batches, device=own.batch.device)[torch.arange(n_samples) % len(batches)]  # (S,)
    return Covariates(codes.repeat_interleave(n_cells), repeated.categorical, repeated.continuous)


def _own_depth(part: ModalityData, positions: np.ndarray, device: torch.device) -> Tensor:
    """Depth of the cells as it was measured: ``(B,)``."""
    rows = part.row_of_cell[positions]
    if (rows < 0).any():
        raise InputError(
            f"{int((rows < 0).sum())} of {len(rows)} cells were not measured in the modality, so their depth "
            "is not known. Predict it: depth=fit_depth(module, data, cells, batch_size, direction)"
        )
    return torch.from_numpy(part.depth[rows]).to(device)


def _coverage(
    trials: ModalityData, positions: np.ndarray, n_samples: int, device: torch.device
) -> Tensor | None:
    if trials.coverage is None:
        return None
    taken = dense(take_rows(trials.coverage, trials.row_of_cell[positions])).astype(np.float32)
    return torch.from_numpy(taken).to(device).repeat(n_samples, 1)  # (S · B, F)
