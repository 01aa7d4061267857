"""Imputed and denoised values with their uncertainty, a block of cells after the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from multiomics_vae.analysis.calibration import LevelMap
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.levels import levels_of
from multiomics_vae.analysis.predicted_cells import PredictedCells
from multiomics_vae.analysis.predictive import predicted_cells
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True, eq=False)
class Prediction:
    """All that decides what is predicted of which cells.

    Parameters
    ----------
    module, data
        The model and the cells.
    cells, features
        Positions wanted, ``(N,)`` and ``(G,)``.
    batch_size
        Cells at a time.
    direction
        What is predicted from what.
    batches
        Batch codes to decode as; None for each cell's own.
    depth
        Of the target in this direction; None for each cell's own, as in denoising.
    n_samples, seed
        Draws a cell, and the seed of its noise.
    quantiles
        Levels of the intervals' ends, in (0, 1).
    level_map
        Recalibrates them; None leaves them as the model has them.
    """

    module: MultimodalModule
    data: MultimodalData
    cells: np.ndarray
    features: np.ndarray
    batch_size: int
    direction: Direction
    batches: tuple[int, ...] | None
    depth: DepthModel | None
    n_samples: int
    seed: int
    quantiles: tuple[float, ...] = ()
    level_map: LevelMap | None = None

    @property
    def is_of_codes(self) -> bool:
        """True if the values are categories, which have neither spread nor quantiles."""
        return self.module.likelihoods[self.direction.modality].support == "codes"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers of uncertainty."""
        if self.is_of_codes:
            return ("probability",)
        return ("sd", *(layer_of(level) for level in self.quantiles))

    @property
    def feature_names(self) -> np.ndarray:
        names = np.asarray(self.data.schema.modalities[self.direction.modality].features)
        return np.asarray(names[self.features])

    @property
    def is_measured(self) -> np.ndarray:
        """Which cells were measured in the target, ``(N,)``."""
        return np.asarray(self.data.modalities[self.direction.modality].row_of_cell[self.cells] >= 0)


@dataclass(frozen=True, eq=False)
class ImputedBlock:
    """What is said of B cells.

    Parameters
    ----------
    mean
        ``(B, G)``, float32.
    layers
        In the order of `Prediction.layers`, ``(B, G)`` each.
    latent_sd, latent_entropy
        As in `PredictedCells`, ``(B,)``.
    """

    mean: np.ndarray
    layers: tuple[np.ndarray, ...]
    latent_sd: np.ndarray
    latent_entropy: np.ndarray


def imputed_blocks(asked: Prediction) -> Generator[ImputedBlock]:
    """Mean, standard deviation and quantiles of the posterior predictive, block by block of cells."""
    scores = [float(ndtri(level)) for level in asked.quantiles]
    if asked.level_map is not None:
        scores = [asked.level_map.model_score(score) for score in scores]
    with closing(_cells_of(asked)) as blocks:
        for block in blocks:
            layers = [1.0 - block.sd if asked.is_of_codes else block.sd]
            if scores and not asked.is_of_codes:
                levels = levels_of(block)
                layers += [levels.value(score) for score in scores]
            yield ImputedBlock(block.mean, tuple(layers), block.latent_sd, block.latent_entropy)


def draws_of(asked: Prediction) -> np.ndarray:
    """Draws of the posterior predictive, ``(S, N, G)``, float32."""
    result = np.empty((asked.n_samples, len(asked.cells), len(asked.features)), dtype=np.float32)
    start = 0
    with closing(_cells_of(asked)) as blocks:
        for block in blocks:
            result[:, start : start + len(block.cells)] = block.draws()
            start += len(block.cells)
    return result


def gathered(blocks: Iterator[ImputedBlock], asked: Prediction) -> ImputedBlock:
    """All blocks as one, ``(N, G)``."""
    n, g = len(asked.cells), len(asked.features)
    mean, latent = np.empty((n, g), np.float32), np.empty((2, n), np.float32)
    layers = tuple(np.empty((n, g), np.float32) for _ in asked.layers)
    start = 0
    for block in blocks:
        here = slice(start, start + len(block.mean))
        mean[here] = block.mean
        for layer, values in zip(layers, block.layers, strict=True):
            layer[here] = values
        latent[:, here] = block.latent_sd, block.latent_entropy
        start = here.stop
    return ImputedBlock(mean, layers, latent[0], latent[1])


def layer_of(level: float) -> str:
    """Name of the layer of a quantile: ``"q05"`` of 0.05, ``"q97.5"`` of 0.975."""
    return f"q{100 * level:04.1f}".removesuffix(".0")


def check_quantiles(quantiles: object) -> tuple[float, ...]:
    """Levels in (0, 1), as given.

    Raises
    ------
    InputError
        If they are none.
    """
    mend = "quantiles=(0.05, 0.95)"
    if isinstance(quantiles, str) or not hasattr(quantiles, "__iter__"):
        raise InputError(f"quantiles must be a list of numbers between 0 and 1, not {quantiles!r}: {mend}")
    found = tuple(quantiles)
    for level in found:
        if isinstance(level, bool | str) or not 0.0 < level < 1.0:
            raise InputError(f"quantiles must lie between 0 and 1, and {level!r} does not: {mend}")
    names = [layer_of(level) for level in found]
    if len(set(names)) < len(names):
        raise InputError(f"quantiles name a level twice (layers {names}): {mend}")
    return tuple(float(level) for level in found)


def _cells_of(asked: Prediction) -> Generator[PredictedCells]:
    return predicted_cells(
        asked.module,
        asked.data,
        asked.cells,
        asked.batch_size,
        asked.direction.modality,
        asked.features,
        asked.batches,
        asked.n_samples,
        asked.depth,
        asked.direction.given,
        asked.seed,
    )
