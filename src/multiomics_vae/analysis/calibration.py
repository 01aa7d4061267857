"""Recalibrated intervals: which level of the model's distribution a stated level really is.

Split-conformal: the levels (randomised PIT) of held-out values are collected; the model's level that a
share α of them lies below takes the place of α (Kuleshov et al. 2018; the rank is that of Vovk et al.
2005, so that a new value falls below with probability α whatever the model). One map serves all cells
and features of a modality, so coverage is right on their average and not for each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from multiomics_vae.analysis.decoding import stream_of
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.levels import levels_of
from multiomics_vae.analysis.measured import measured_values
from multiomics_vae.analysis.predictive import predicted_cells
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule

# Half a per cent apart: finer than the levels of any interval in use.
LEVELS = np.arange(1, 200) / 200
SCORES = ndtri(LEVELS)


@dataclass(frozen=True, eq=False)
class LevelMap:
    """From stated levels to the model's.

    Parameters
    ----------
    scores
        Normal score of the model's level for each of `LEVELS`, rising, ``(L,)``.
    """

    scores: np.ndarray

    @classmethod
    def from_held_out(cls, scores: np.ndarray) -> LevelMap:
        """From the normal scores of held-out values, ``(n,)``."""
        n, ranked = len(scores), np.sort(scores)
        # The k-th of n values is above a new one with probability at most k/(n + 1).
        rank = np.where(LEVELS < 0.5, np.floor((n + 1) * LEVELS), np.ceil((n + 1) * LEVELS))
        return cls(ranked[np.clip(rank.astype(np.int64), 1, n) - 1])

    def model_score(self, score: float) -> float:
        """The model's score of a stated one; beyond `LEVELS` the outermost shift goes on."""
        inside = float(min(max(score, SCORES[0]), SCORES[-1]))
        return float(np.interp(inside, SCORES, self.scores)) + (score - inside)

    def stated_score(self, scores: np.ndarray) -> np.ndarray:
        """The inverse of `model_score`, of any shape."""
        inside = np.clip(scores, self.scores[0], self.scores[-1])
        return np.asarray(np.interp(inside, self.scores, SCORES) + (scores - inside))


@dataclass(frozen=True, eq=False)
class Calibration:
    """The level maps of a model, one a direction."""

    maps: Mapping[Direction, LevelMap] = field(default_factory=dict)

    def to_tensors(self) -> dict[str, Tensor]:
        """Every map under a name such as ``0/1+2`` (0 from 1 and 2) or ``0/denoise``, float64 ``(L,)``."""
        return {direction.name: torch.from_numpy(each.scores) for direction, each in self.maps.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Calibration:
        """The inverse of `to_tensors`."""
        return cls({Direction.from_name(name): LevelMap(tensor.numpy()) for name, tensor in tensors.items()})


def held_out_scores(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    direction: Direction,
    features: np.ndarray,
    n_samples: int,
    depth: DepthModel | None,
    seed: int = 0,
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Normal scores of the levels of observed values in their predictive distributions.

    Parameters
    ----------
    module, data, batch_size
        The model and the cells.
    cells
        Positions of cells that have the target, and something of what is given, ``(n,)``.
    direction
        What is predicted from what.
    features
        Positions, ``(G,)``.
    n_samples
        Draws a cell.
    depth
        Of the target in this direction; None for its own, as in denoising.
    seed
        Of the cells' noise.

    Yields
    ------
    tuple
        Scores ``(B, G)``, and which entries were observed ``(B, G)``, a block of cells after the other.
    """
    part = data.modalities[direction.modality]
    blocks = predicted_cells(
        module,
        data,
        cells,
        batch_size,
        direction.modality,
        features,
        None,
        n_samples,
        depth,
        direction.given,
        seed,
        part,
    )
    with closing(blocks):
        for block in blocks:
            x = measured_values(part, block.cells, features)  # (B, G)
            observed = ~np.isnan(x)
            stream = stream_of(direction.modality) + 2
            uniform = block.noise.uniform(1, part.values.shape[1], stream, features)[0]  # (B, G)
            yield levels_of(block).score(np.where(observed, x, 0.0), uniform), observed


def central_coverage(scores: np.ndarray, level: float) -> float:
    """Share of values in the central interval of a nominal level, from their normal scores."""
    return float((np.abs(ndtr(scores) - 0.5) <= 0.5 * level).mean())
