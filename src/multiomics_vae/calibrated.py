"""How far a model's predictions can be trusted: intervals measured, and set right, on held-out cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.calibration import Calibration, LevelMap
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
from multiomics_vae.analysis.depth import FEWEST_CELLS as FEWEST_DEPTHS
from multiomics_vae.analysis.direction import Direction
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
from multiomics_vae.errors import InputError, warn
from multiomics_vae.training.config import check_whole

if TYPE_CHECKING:
    from mudata import MuData

N_SAMPLES = 100
FEWEST_CELLS = 20
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
            usable = cells_for(data, cells, direction)
            scores = np.empty(0)
            if len(usable):
                scores = self._held_out(data, usable, direction, n_samples, seed, batch_size)
            if len(usable) < FEWEST_CELLS:
                name = data.schema.modality_names[direction.modality]
                warn(
                    f"Intervals of {name!r} are calibrated on {len(usable)} held-out cells only, too few to "
                    "rely on. Hold out more: model.train(validation_size=0.2)"
                )
            if len(scores):
                maps[direction] = LevelMap.from_held_out(scores)
        self._aids = replace(self._aids, calibration=Calibration(maps))

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
        cells = cells_for(data, asked, direction)
        if len(cells) == 0:
            raise InputError(
                f"None of the {len(asked)} cells has {modality!r} and something to predict it from, so there "
                f"is nothing to compare with. Ask about cells that were measured: indices=mdata[{modality!r}]"
                ".obs_names"
            )
        return interval_coverage(
            self.module,
            data,
            cells,
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
            some_of(cells, MOST_CELLS, seed),
            batch_size,
            direction,
            some_of(np.arange(n_features), MOST_FEATURES, seed),
            n_samples,
            self._depth_for(direction),
            seed,
        )

    def _all_aids(self) -> PredictionAids:
        """What is to be saved: with the depths of all that is calibrated, as far as the cells show them."""
        present = self._data.present[self._reference_cells]
        for direction in directions(present.shape[1]):
            if direction.given is not None and present[:, direction.modality].sum() >= FEWEST_DEPTHS:
                self._learned_depth(direction)
        return self._aids
