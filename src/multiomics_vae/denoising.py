"""Denoised values of a modality, asked for in a few ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from multiomics_vae.analysis.cautions import required_modalities, warn_of_unseen_batches
from multiomics_vae.analysis.normalized import PREDICTED, check_library_size, normalized_values
from multiomics_vae.analysis.predicted_depth import Reference, predicted_depths
from multiomics_vae.answers import ANSWER_BATCH_SIZE, AnsweringModel
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.selection import (
    CellSelection,
    only_modality,
    select_batches,
    select_features,
    select_modality,
)

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
