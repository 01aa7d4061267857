"""The posterior predictive p(x_m | x_A) = ∫ p(x_m | z) q(z | x_A) dz, by draws that belong to cells.

z is drawn from the posterior given the modalities A, then x from the likelihood at z. All noise is a
function of the cell's name, the seed, the sample number and the feature: a draw is the same whatever
cells and features stand beside it, in whatever batch size, and however many more samples are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.inference import Inferred, infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.analysis.predicted_cells import PredictedCells
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.minibatch import Covariates, Minibatch
from multiomics_vae.kernels import softmax_normaliser
from multiomics_vae.likelihoods import CellContext, FeaturePart
from multiomics_vae.module import MultimodalModule

ENTRIES_AT_ONCE = 1 << 22
FIRST_STREAM, STREAMS_A_MODALITY = 2, 3  # after those of z


@dataclass(frozen=True, eq=False)
class PredictiveBlock:
    """Draws for B cells and G features.

    Parameters
    ----------
    draws
        Of x, ``(S, B, G)``, float32.
    means
        Of the likelihood at each z, ``(S, B, G)``, float32; at the expected depth where depth is predicted.
    cells
        Positions, ``(B,)``.
    """

    draws: np.ndarray
    means: np.ndarray
    cells: np.ndarray


def predictive_blocks(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    batches: tuple[int, ...] | None,
    n_samples: int,
    depth: DepthModel | None,
    given: tuple[int, ...] | None,
    seed: int,
) -> Iterator[PredictiveBlock]:
    """Draw from the posterior predictive of some cells, a block of them after the other.

    Parameters
    ----------
    module, data, cells
        The model, the registered cells, the positions wanted, ``(N,)``; blocks follow their order.
    batch_size
        Cells at a time in the encoders; blocks hold at most so many, and fewer where S · G is large.
    modality, features
        Position of the modality, and of its features, ``(G,)``.
    batches
        Batch codes to decode as; of several, sample s takes number s modulo their number, so that draws
        are of their mixture. None decodes each cell as its own batch.
    n_samples
        S.
    depth
        Predicts a depth that was not measured, drawn anew for every sample; None reads each cell's own,
        and then every cell must have the modality.
    given
        Positions of the modalities to condition on, others are not read; None for all that a cell has.
    seed
        Of the cells' noise.

    Yields
    ------
    PredictiveBlock

    Raises
    ------
    DeviceError
        If memory runs out.
    """
    for block in predicted_cells(
        module, data, cells, batch_size, modality, features, batches, n_samples, depth, given, seed
    ):
        yield PredictiveBlock(block.draws(), block.means.cpu().numpy(), block.cells)


def predicted_cells(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    batches: tuple[int, ...] | None,
    n_samples: int,
    depth: DepthModel | None,
    given: tuple[int, ...] | None,
    seed: int,
    trials: ModalityData | None = None,
) -> Iterator[PredictedCells]:
    """`predictive_blocks` before anything is drawn, with what is known of the posteriors.

    ``trials`` says where the coverage of methylated counts is read; without it, and without each cell's
    own depth, draws are of the methylated fraction.
    """
    visible = showing_only(data, given)
    rows_at_once = max(1, ENTRIES_AT_ONCE // max(1, n_samples * len(features)))
    if depth is None:
        trials = data.modalities[modality]
    with memory_for(batch_size):
        for inferred in infer(module, visible, cells, batch_size, None, seed):
            z = inferred.sample(n_samples)  # (S, B, K)
            for start in range(0, inferred.minibatch.n_cells, rows_at_once):
                rows = torch.arange(start, min(start + rows_at_once, z.shape[1]))
                yield _decode(
                    module, data, inferred, z, rows, modality, features, batches, depth, seed, trials
                )


def _decode(
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
    minibatch, n_samples, device = inferred.minibatch, len(z), z.device
    likelihood, decoder = module.likelihoods[modality], module.parts[modality].decoder
    positions = minibatch.cells.cpu().numpy()[rows]
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
        own = _own_depth(minibatch, modality, rows).repeat(n_samples)  # (S · B,)
        expected = drawn = CellContext(own, covariates.batch, coverage)
    elif not likelihood.reads_depth:
        expected = drawn = CellContext(flat.new_ones(len(flat)), covariates.batch, coverage)
    else:
        mean_log = depth.mean_log(module, flat, covariates)  # (S · B,)
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


def _own_depth(minibatch: Minibatch, modality: int, rows: Tensor) -> Tensor:
    """Depth of the cells as it was measured: ``(B,)``."""
    batch = minibatch.modalities[modality]
    depth = batch.depth.new_full((minibatch.n_cells,), torch.nan)
    depth[batch.rows] = batch.depth
    return depth[rows.to(depth.device)]


def _coverage(
    trials: ModalityData, positions: np.ndarray, n_samples: int, device: torch.device
) -> Tensor | None:
    if trials.coverage is None:
        return None
    loaded = trials.loaded(positions).coverage
    dense = np.asarray(loaded if isinstance(loaded, np.ndarray) else loaded.toarray(), dtype=np.float32)
    return torch.from_numpy(dense).to(device).repeat(n_samples, 1)  # (S · B, F)
