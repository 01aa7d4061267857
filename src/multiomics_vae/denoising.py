"""Denoised values of a modality, asked for in a few ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.cautions import required_modalities, warn_of_unseen_batches
from multiomics_vae.analysis.depth import DepthModel, fit_depth, warn_if_unlearned
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.normalized import PREDICTED, check_library_size, normalized_values
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

    train_indices: np.ndarray
    validation_indices: np.ndarray
    _aids: PredictionAids

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
            mean, background included, at the cell's own depth where the modality itself is given and
            measured, else at the one that the other given modalities and their depths let one expect.
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
            self._expected_depth(library_size, data, cells, position, evidence),
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
        library_size: float | Literal["predicted"] = 1.0,
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
            library_size=library_size,
            n_samples=n_samples,
            batch_size=batch_size,
        )

    # --- helpers ---------------------------------------------------------------------------------

    def _expected_depth(
        self,
        library_size: float | str,
        data: MultimodalData,
        cells: np.ndarray,
        modality: int,
        given: tuple[int, ...] | None,
    ) -> DepthModel | None:
        """What tells the depth of cells that do not show their own; None where depth is taken out."""
        if library_size != PREDICTED:
            return None
        readable = range(len(data.schema.modalities)) if given is None else given
        if modality in readable and data.present[cells, modality].all():
            return DepthModel.none(self.module)
        return self._depth(Direction(modality, tuple(m for m in readable if m != modality)))

    def _depth_for(self, direction: Direction) -> DepthModel | None:
        """Depth of the target from what is given; None where each cell's own is read."""
        return None if direction.given is None else self._depth(direction)

    def _depth(self, direction: Direction) -> DepthModel:
        """`_learned_depth`, with a warning where nothing could be learned from what is given."""
        found = self._learned_depth(direction)
        warn_if_unlearned(found, self._data.schema, direction.modality)
        return found

    def _learned_depth(self, direction: Direction) -> DepthModel:
        """Learned from the model's own training cells when first needed."""
        if not self.module.likelihoods[direction.modality].reads_depth:
            return DepthModel.none(self.module)
        if direction not in self._aids.depths:
            cells = self._reference_cells
            found = fit_depth(self.module, self._data, cells, ANSWER_BATCH_SIZE, direction, self.config.seed)
            self._aids = self._aids.with_depth(direction, found)
        return self._aids.depths[direction]

    @property
    def _reference_cells(self) -> np.ndarray:
        """The training cells, which a loaded model takes its own cells to be."""
        return self.train_indices if len(self.train_indices) else np.arange(self._data.n_cells)
