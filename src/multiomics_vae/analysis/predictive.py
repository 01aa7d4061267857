"""The posterior predictive p(x_m | x_A) = ∫ p(x_m | z) q(z | x_A) dz, by draws that belong to cells.

z is drawn from the posterior given the modalities A, then x from the likelihood at z. All noise is a
function of the cell's name, the seed, the sample number and the feature: a draw is the same whatever
cells and features stand beside it, in whatever batch size, and however many more samples are drawn.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from multiomics_vae.analysis.decoding import decode_cells
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.evidence import showing_only
from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.analysis.predicted_cells import PredictedCells
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

ENTRIES_AT_ONCE = 1 << 22


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
) -> Generator[PredictiveBlock]:
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
        Predicts a depth that was not measured from what is given, drawn anew for every sample; None reads
        each cell's own, and then every cell must have the modality.
    given
        Positions of the modalities to condition on, others are not read; None for all that a cell has.
    seed
        Of the cells' noise.

    Yields
    ------
    PredictiveBlock

    Raises
    ------
    InputError
        If a depth is predicted from other modalities than are given.
    DeviceError
        If memory runs out.
    """
    found = predicted_cells(
        module, data, cells, batch_size, modality, features, batches, n_samples, depth, given, seed
    )
    with closing(found):
        for block in found:
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
) -> Generator[PredictedCells]:
    """`predictive_blocks` before anything is drawn, with what is known of the posteriors.

    ``trials`` says where the coverage of methylated counts is read; without it, and without each cell's
    own depth, draws are of the methylated fraction.
    """
    visible = showing_only(data, given)
    if depth is not None and module.likelihoods[modality].reads_depth and depth.given != given:
        raise InputError(
            f"The depth was learned from the modalities {depth.given}, and {given} are given. Learn it for "
            f"these: depth=fit_depth(module, data, cells, batch_size, Direction({modality}, {given}))"
        )
    if depth is None:
        trials = data.modalities[modality]
    width = len(features)
    if trials is not None and trials.coverage is not None:
        width = module.likelihoods[modality].n_features  # a coverage comes whole
    rows_at_once = max(1, ENTRIES_AT_ONCE // max(1, n_samples * width))
    with memory_for(batch_size):
        for inferred in infer(module, visible, cells, batch_size, None, seed):
            z = inferred.sample(n_samples)  # (S, B, K)
            for start in range(0, inferred.minibatch.n_cells, rows_at_once):
                rows = torch.arange(start, min(start + rows_at_once, z.shape[1]))
                yield decode_cells(
                    module, data, inferred, z, rows, modality, features, batches, depth, seed, trials
                )
