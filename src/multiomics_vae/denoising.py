"""Denoised values of a modality, asked for in a few ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from multiomics_vae.analysis.cautions import required_modalities, warn_of_unseen_batches
from multiomics_vae.analysis.normalized import PREDICTED, check_library_size, normalized_values
from multiomics_vae.analysis.predicted_depth import Reference, predicted_depths
from multiomics_vae.analysis.readout import readout_values
from multiomics_vae.answers import ANSWER_BATCH_SIZE, AnsweringModel
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.selection import (
    CellSelection,
    only_modality,
    select_batches,
    select_cells,
    select_features,
    select_modalities,
    select_modality,
)
from multiomics_vae.errors import InputError

if TYPE_CHECKING:
    from mudata import MuData


class DenoisingModel(AnsweringModel):
    """A model that says what its decoders expect of a cell; one row a cell, in order."""

    def get_normalized(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        features: Iterable[str] | None = None,
        given: Iterable[str] | None = None,
        transform_batch: str | Sequence[str] | None = None,
        library_size: float | Literal["predicted"] = 1.0,
        n_samples: int | None = None,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """Denoised values: the decoder's mean with the cell's own depth taken out.

        A share of the library for RNA, the probability of being open at the average depth for peaks,
        the foreground for proteins, the mean for real values. A cell that lacks the modality is
        decoded from its others. No more is computed than the features asked for.

        Parameters
        ----------
        modality
            Its name.
        mdata, indices, batch_size
            As in `get_latent_representation`.
        features
            Names; None for all.
        given
            Modalities that z is inferred from; None for all that a cell has. With ``given=["rna"]``
            nothing of the other modalities is read, as if they had not been measured.
        transform_batch
            Decode every cell as if it came from this batch (averaged, for several); None for its own.
        library_size
            Multiplies shares of a library. ``"predicted"`` gives what would be measured: the likelihood's
            mean, background included, at the depth that the given modalities and their depths let one
            expect. The depth of the modality itself is read only where the modality is given.
        n_samples
            Draws of z to average over; None decodes the posterior mean.

        Returns
        -------
        DataFrame
            Cells by features.

        Raises
        ------
        InputError
            For unknown names, and if a cell has none of the ``given`` modalities.
        DeviceError
            If memory runs out; with half the batch size.
        """
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        check_library_size(library_size)
        position, schema = select_modality(data.schema, modality)
        chosen = select_features(schema, features)
        evidence = required_modalities(data, cells, given)
        if mdata is None and transform_batch is None:
            warn_of_unseen_batches(data, cells, position)
        depths = self._depths(library_size, data, cells, batch_size, position, evidence)
        values = normalized_values(
            self.module,
            data,
            cells,
            batch_size,
            position,
            chosen,
            select_batches(data.schema, transform_batch),
            n_samples,
            None if isinstance(library_size, str) else library_size,
            evidence,
            depths,
        )
        return pd.DataFrame(values, index=data.cell_names[cells], columns=np.asarray(schema.features)[chosen])

    def get_normalized_expression(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modality: str | None = None,
        gene_list: Iterable[str] | None = None,
        given: Iterable[str] | None = None,
        transform_batch: str | Sequence[str] | None = None,
        library_size: float | Literal["predicted"] = 1.0,
        n_samples: int | None = None,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """`get_normalized` of the RNA (the one with an ``nb`` or ``zinb``), as scvi-tools calls it."""
        name = modality or only_modality(self._data.schema, "log1p", "expression")
        return self.get_normalized(
            name,
            mdata,
            indices,
            features=gene_list,
            given=given,
            transform_batch=transform_batch,
            library_size=library_size,
            n_samples=n_samples,
            batch_size=batch_size,
        )

    def get_normalized_accessibility(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modality: str | None = None,
        region_list: Iterable[str] | None = None,
        given: Iterable[str] | None = None,
        transform_batch: str | Sequence[str] | None = None,
        n_samples: int | None = None,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """`get_normalized` of the peaks (``bernoulli`` or ``poisson``), as scvi-tools calls it."""
        name = modality or only_modality(self._data.schema, "tfidf", "accessibility")
        return self.get_normalized(
            name,
            mdata,
            indices,
            features=region_list,
            given=given,
            transform_batch=transform_batch,
            n_samples=n_samples,
            batch_size=batch_size,
        )

    def predict_values(
        self,
        modality: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        features: Iterable[str] | None = None,
        given: Iterable[str] | None = None,
        held_out: CellSelection = None,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """Predict what would be measured of a modality, from others, as well as can be.

        The decoder's expectation at the predicted depth (``get_normalized(library_size="predicted")``)
        plus what a ridge regression of its errors on what encoders and decoder hold of a cell adds to it:
        `analysis.readout`. Where that adds nothing on held-out cells, the decoder speaks alone. A point
        prediction without an uncertainty of its own.

        Parameters
        ----------
        modality
            Its name.
        mdata, indices, batch_size
            As in `get_latent_representation`.
        features
            Names; None for all.
        given
            Modalities that may be read; None for all others.
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
            For unknown names, a cell that has none of the given modalities, and without held-out cells.

        Examples
        --------
        >>> model.predict_values("prot", mdata, given=["rna"])      # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size)
        position, schema = select_modality(data.schema, modality)
        chosen = select_features(schema, features)
        evidence = select_modalities(data.schema, given, "given")
        judges = self.validation_indices if held_out is None else select_cells(self._data, held_out)
        if len(judges) == 0:
            raise InputError(
                "predict_values chooses its penalty on cells that were not trained on, and none are known. "
                f"Name some: model.predict_values({modality!r}, held_out=mdata.obs_names[:500])"
            )
        own = self.train_indices if len(self.train_indices) else np.arange(self._data.n_cells)
        reference = Reference(self._data, np.setdiff1d(own, judges))
        values = readout_values(
            self.module, data, cells, batch_size, position, chosen, evidence, reference, judges
        )
        return pd.DataFrame(values, index=data.cell_names[cells], columns=np.asarray(schema.features)[chosen])

    def _depths(
        self,
        library_size: float | str,
        data: MultimodalData,
        cells: np.ndarray,
        batch_size: int,
        modality: int,
        given: tuple[int, ...] | None,
    ) -> np.ndarray | None:
        """Predicted depths of the cells where they are asked for, learned from the training cells."""
        if library_size != PREDICTED:
            return None
        own = self.train_indices if len(self.train_indices) else np.arange(self._data.n_cells)
        reference = Reference(self._data, own)
        return predicted_depths(self.module, data, cells, batch_size, modality, given, reference)
