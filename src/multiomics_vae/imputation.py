"""Values that were not measured, and how surely they are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.cautions import required_modalities, warn_of_unseen_batches
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.imputed import Prediction, draws_of
from multiomics_vae.analysis.imputed_table import imputed_table
from multiomics_vae.analysis.questions import (
    measured_cells,
    source_modalities,
)
from multiomics_vae.analysis.readout import LearnedErrors, readout_values
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.calibrated import N_SAMPLES, Batches, CalibratedModel, Choices
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.selection import CellSelection, select_cells, select_features, select_modality

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

QUANTILES = (0.05, 0.95)


class ImputingModel(CalibratedModel):
    """A model that predicts measurements with their uncertainty; one row a cell, in order.

    Three questions, and what each reads of a cell:

    - `impute`: a modality from others. Nothing of the target is read, its depth included.
    - `denoise`: a measured modality, from everything that the cell has, at its observed depth.
    - `get_normalized`: what the decoder expects at a common depth: a point, without uncertainty.

    And `predict_values`: a point for the first, corrected by regression.
    """

    def impute(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        given: Iterable[str] | None = None,
        features: Iterable[str] | None = None,
        transform_batch: Batches = None,
        n_samples: int = N_SAMPLES,
        quantiles: Sequence[float] = QUANTILES,
        calibrated: bool | None = None,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> AnnData:
        """What would be measured in a modality, predicted from others: p(x_m | x_A), m not in A.

        z is drawn from q(z | x_A), the depth from its distribution given the posterior mean of z, the
        covariates and the depths of A (a regression on training cells that have both), x from the likelihood.
        Of the target itself nothing is read, neither values nor depth, also where the cell has it. Counts
        come as counts at a predicted depth, peaks as 0/1, methylation as a fraction.

        Parameters
        ----------
        modality
            The target.
        mdata, indices, batch_size
            As in `get_latent_representation`.
        given
            A, without the target; None for all other modalities.
        features
            Names; None for all. No more is computed.
        transform_batch
            Decode every cell as if it came from this batch; as a mixture, for several.
        n_samples
            S, draws a cell.
        quantiles
            Levels of the interval's ends.
        calibrated
            Recalibrate the quantiles with what `calibrate` found; None where it was asked to.
        seed
            Of the draws.

        Returns
        -------
        AnnData
            ``X``: mean, at the expected depth. ``layers``: ``"sd"``, and ``"q05"``, ``"q95"`` (codes:
            ``"probability"`` of the code in X only). ``obs``: ``status`` (was the cell measured in the
            target, or is it only imputed), ``latent_sd``, ``latent_entropy`` of q(z | x_A).
            ``uns["multivae_prediction"]``: how it was made.

        Raises
        ------
        InputError
            For unknown names, if ``given`` holds the target, and if a cell has nothing of what is given.
        DeviceError
            If memory runs out.

        Examples
        --------
        >>> peaks = model.impute("atac", given=["rna"])                  # doctest: +SKIP
        >>> peaks.X, peaks.layers["q95"]                                 # doctest: +SKIP
        """
        return imputed_table(
            self._imputation(
                modality,
                mdata,
                indices,
                given,
                features,
                Choices(transform_batch, n_samples, quantiles, calibrated, seed, batch_size),
            )
        )

    def denoise(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        features: Iterable[str] | None = None,
        transform_batch: Batches = None,
        n_samples: int = N_SAMPLES,
        quantiles: Sequence[float] = QUANTILES,
        calibrated: bool | None = None,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> AnnData:
        """What a second measurement of the same cell would show: p(x_m' | x), at the observed depth.

        z is drawn given all modalities of the cell, the target included. Of ``mdata`` only the cells that
        were measured in the target are answered; naming another one in ``indices`` is an error.

        Parameters
        ----------
        modality, mdata, features, transform_batch, n_samples, quantiles, calibrated, seed, batch_size
            As in `impute`.
        indices
            Cells that have the modality; None for all of these.

        Returns
        -------
        AnnData
            As of `impute`, measured cells only.

        Raises
        ------
        InputError
            For unknown names, and for cells without the modality.
        """
        data, asked = self._ask(mdata, indices, batch_size, n_samples)
        position, _ = select_modality(data.schema, modality)
        cells = measured_cells(data, asked, position, every=indices is None)
        return imputed_table(
            self._prediction(
                data,
                cells,
                Direction(position, None),
                features,
                Choices(transform_batch, n_samples, quantiles, calibrated, seed, batch_size),
            )
        )

    def sample_posterior_predictive(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        given: Iterable[str] | None = None,
        features: Iterable[str] | None = None,
        transform_batch: Batches = None,
        n_samples: int = N_SAMPLES,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> np.ndarray:
        """The draws behind `impute`: ``(S, N, G)``, float32; all of them are held in memory.

        A draw depends on the cell's name, the seed, its number and the feature, and on nothing beside.
        Arguments and errors are those of `impute`.
        """
        return draws_of(
            self._imputation(
                modality,
                mdata,
                indices,
                given,
                features,
                Choices(transform_batch, n_samples, (), False, seed, batch_size),
            )
        )

    def predict_values(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        given: Iterable[str] | None = None,
        features: Iterable[str] | None = None,
        held_out: CellSelection = None,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """The decoder plus a closed-form correction learned from its errors on training cells.

        A point prediction of what would be measured, without an uncertainty. The decoder's mean at the
        posterior mean of z and the expected depth, plus a ridge regression of its errors on what encoders
        and decoder hold of a cell: `analysis.readout`. Where that adds nothing on held-out cells, the
        decoder speaks alone. Of the target nothing is read.

        Parameters
        ----------
        modality, mdata, indices, given, features, batch_size
            As in `impute`.
        held_out
            Of the model's own cells, some that it was not trained on, to choose the penalty; None takes
            those that `train` held out. A loaded model does not know them.

        Returns
        -------
        DataFrame
            Cells by features, in the units of the measured values.

        Raises
        ------
        InputError
            As in `impute`; for fractions and codes; and without held-out cells.

        Examples
        --------
        >>> model.predict_values("prot", mdata, given=["rna"])      # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size)
        position, schema = select_modality(data.schema, modality)
        source = source_modalities(data.schema, position, given)
        required_modalities(data, cells, [data.schema.modality_names[m] for m in source])
        self._warn_of_unseen_batches(data, cells, position, None)
        chosen = select_features(schema, features)
        judges = self.validation_indices if held_out is None else select_cells(self._data, held_out)
        learned = LearnedErrors(
            self.module, self._data, self._reference_cells, judges, batch_size, self._depth
        )
        values = readout_values(learned, data, cells, Direction(position, source), chosen)
        return pd.DataFrame(values, index=data.cell_names[cells], columns=np.asarray(schema.features)[chosen])

    def impute_missing(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        transform_batch: Batches = None,
        n_samples: int = N_SAMPLES,
        quantiles: Sequence[float] = QUANTILES,
        calibrated: bool | None = None,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> MuData:
        """A new MuData in which every modality has every cell; ``mdata`` stays as it is.

        Measured rows hold what was measured (of ``mdata``; of the registered values without it), the
        others the mean of `impute` from all that the cell has. Matrices are dense.

        Parameters
        ----------
        mdata, indices, transform_batch, n_samples, quantiles, calibrated, seed, batch_size
            As in `impute`.

        Returns
        -------
        MuData
            obs of each modality: ``status`` (``"measured"`` or ``"imputed"``). The layers of uncertainty,
            ``latent_sd`` and ``latent_entropy`` are NaN where a value was measured; they are absent where
            every cell was.
        """
        from multiomics_vae.analysis.completed import completed

        data, cells = self._ask(mdata, indices, batch_size, n_samples)

        def asked_for(position: int, lacking: np.ndarray) -> Prediction:
            self._warn_of_unseen_batches(data, lacking, position, transform_batch)
            given = source_modalities(data.schema, position, None)
            return self._prediction(
                data,
                lacking,
                Direction(position, given),
                None,
                Choices(transform_batch, n_samples, quantiles, calibrated, seed, batch_size),
            )

        return completed(data, cells, mdata, asked_for)

    def _imputation(
        self,
        modality: str,
        mdata: MuData | None,
        indices: CellSelection,
        given: Iterable[str] | None,
        features: Iterable[str] | None,
        choices: Choices,
    ) -> Prediction:
        data, cells = self._ask(mdata, indices, choices.batch_size, choices.n_samples)
        position, _ = select_modality(data.schema, modality)
        source = source_modalities(data.schema, position, given)
        required_modalities(data, cells, [data.schema.modality_names[m] for m in source])
        self._warn_of_unseen_batches(data, cells, position, choices.transform_batch)
        return self._prediction(data, cells, Direction(position, source), features, choices)

    def _warn_of_unseen_batches(
        self, data: MultimodalData, cells: np.ndarray, position: int, transform_batch: Batches
    ) -> None:
        # A loaded model may hold cells that lack the modality altogether, which say nothing of batches.
        if transform_batch is None and self._data.present[:, position].any():
            warn_of_unseen_batches(data, cells, position, self._data)
