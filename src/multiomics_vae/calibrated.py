"""How far a model's predictions can be trusted: intervals measured, and set right, on held-out cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.calibration import Calibration, Direction, LevelMap
from multiomics_vae.analysis.coverage import (
    MOST_CELLS,
    MOST_FEATURES,
    NOMINAL,
    cells_for,
    directions,
    interval_coverage,
    pooled_scores,
    some_of,
)
from multiomics_vae.analysis.depth import DepthModel, fit_depth
from multiomics_vae.analysis.imputed import Prediction, check_quantiles
from multiomics_vae.analysis.questions import (
    calibration_cells,
    check_level_map,
    check_samples,
    source_modalities,
)
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.selection import CellSelection, select_batches, select_features, select_modality
from multiomics_vae.denoising import DenoisingModel
from multiomics_vae.training.config import check_whole

if TYPE_CHECKING:
    from mudata import MuData

N_SAMPLES = 100
Batches = str | Sequence[str] | None


@dataclass(frozen=True)
class Choices:
    """How a prediction is made, as the user asked for it; see `ImputingModel.impute`."""

    transform_batch: Batches
    n_samples: int
    quantiles: Sequence[float]
    calibrated: bool | None
    seed: int
    batch_size: int


class CalibratedModel(DenoisingModel):
    """A model that knows how often its intervals hold what they should."""

    train_indices: np.ndarray
    validation_indices: np.ndarray
    _aids: PredictionAids

    def calibrate(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        n_samples: int = N_SAMPLES,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> None:
        """Learn from held-out cells at which level of the model a stated quantile lies (split-conformal).

        For `ImputingModel.denoise` of every modality, and for `impute` of each from the others (every
        subset of them, if there are at most three modalities; else each alone and all). Kept and saved
        with the model; void after more training.

        Parameters
        ----------
        mdata
            Cells that were not trained on; None for the model's own.
        indices
            Of the model's own None takes those that training held out. At most 1 000 cells and 500
            features, drawn at random, are used for each map.
        n_samples, seed, batch_size
            As in `impute`.

        Raises
        ------
        InputError
            If no cells were held out.
        """
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        if mdata is None and indices is None:
            cells = calibration_cells(self.validation_indices)
        maps: dict[Direction, LevelMap] = {}
        for direction in directions(len(data.schema.modalities)):
            scores = self._held_out(data, cells, direction, n_samples, seed, batch_size)
            if len(scores):
                maps[direction] = LevelMap.from_held_out(scores)
        self._aids = PredictionAids(self._aids.depths, Calibration(maps))

    def interval_coverage(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        given: Iterable[str] | None = None,
        denoising: bool = False,
        features: Iterable[str] | None = None,
        levels: Sequence[float] = NOMINAL,
        n_samples: int = N_SAMPLES,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """Share of measured values inside the intervals of `impute` (or `denoise`); ask held-out cells.

        Levels of values are randomised within their steps, because plain intervals of counts that are
        mostly 0 cover more than they say.

        Parameters
        ----------
        modality, mdata, indices, given, features, n_samples, seed, batch_size
            As in `impute`; cells without the target are passed over.
        denoising
            Of `denoise`: given everything, at the observed depth.
        levels
            Nominal.

        Returns
        -------
        DataFrame
            A row a level: ``model``, ``calibrated`` where `calibrate` was called, ``n`` values.
        """
        data, asked = self._ask(mdata, indices, batch_size, n_samples)
        check_whole("seed", seed, 0, "seed=0")
        position, schema = select_modality(data.schema, modality)
        source = None if denoising else source_modalities(data.schema, position, given)
        direction = Direction(position, source)
        return interval_coverage(
            self.module,
            data,
            cells_for(data, asked, direction),
            batch_size,
            direction,
            select_features(schema, features),
            n_samples,
            self._depth_for(direction),
            seed,
            check_quantiles(levels),
            self._aids.calibration.maps.get(direction),
        )

    # --- helpers ---------------------------------------------------------------------------------

    def _prediction(
        self,
        data: MultimodalData,
        cells: np.ndarray,
        direction: Direction,
        features: Iterable[str] | None,
        choices: Choices,
    ) -> Prediction:
        check_whole("seed", choices.seed, 0, "seed=0")
        batches = select_batches(data.schema, choices.transform_batch)
        check_samples(choices.n_samples, batches)
        level_map = self._aids.calibration.maps.get(direction)
        return Prediction(
            module=self.module,
            data=data,
            cells=cells,
            features=select_features(data.schema.modalities[direction.modality], features),
            batch_size=choices.batch_size,
            direction=direction,
            batches=batches,
            depth=self._depth_for(direction),
            n_samples=choices.n_samples,
            seed=choices.seed,
            quantiles=check_quantiles(choices.quantiles),
            level_map=check_level_map(level_map, choices.calibrated, data.schema, direction),
        )

    def _held_out(
        self,
        data: MultimodalData,
        cells: np.ndarray,
        direction: Direction,
        n_samples: int,
        seed: int,
        batch_size: int,
    ) -> np.ndarray:
        n_features = data.schema.modalities[direction.modality].n_features
        return pooled_scores(
            self.module,
            data,
            some_of(cells_for(data, cells, direction), MOST_CELLS, seed),
            batch_size,
            direction,
            some_of(np.arange(n_features), MOST_FEATURES, seed),
            n_samples,
            self._depth_for(direction),
            seed,
        )

    def _depth_for(self, direction: Direction) -> DepthModel | None:
        """None where each cell's own depth is read."""
        return None if direction.given is None else self._depth(direction.modality)

    def _depth(self, modality: int) -> DepthModel:
        """Depth of a modality given z, learned from the model's own training cells when first needed."""
        if not self.module.likelihoods[modality].reads_depth:
            return DepthModel.none(self.module)
        if modality not in self._aids.depths:
            cells = self.train_indices if len(self.train_indices) else np.arange(self._data.n_cells)
            found = fit_depth(self.module, self._data, cells, ANSWER_BATCH_SIZE, modality, self.config.seed)
            self._aids = self._aids.with_depth(modality, found)
        return self._aids.depths[modality]

    def _all_aids(self) -> PredictionAids:
        """What is to be saved: with a depth for each modality that has one and that the cells show."""
        for position, likelihood in enumerate(self.module.likelihoods):
            shown = int((self._data.modalities[position].row_of_cell >= 0).sum())
            if likelihood.reads_depth and shown > 1:
                self._depth(position)
        return self._aids
