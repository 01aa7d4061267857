"""Answers that may be larger than the memory: written to disk while they are worked out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from multiomics_vae.analysis.cautions import required_modalities
from multiomics_vae.analysis.imputed_table import write_imputed_table
from multiomics_vae.analysis.normalized import check_library_size, normalized_blocks
from multiomics_vae.analysis.table_file import check_new_file, write_table
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.calibrated import N_SAMPLES, Batches, Choices
from multiomics_vae.data.selection import CellSelection, select_batches, select_features, select_modality
from multiomics_vae.imputation import QUANTILES, ImputingModel

if TYPE_CHECKING:
    from mudata import MuData


class ExportingModel(ImputingModel):
    """A model that writes large answers to files; one row a cell, in order, as in the answer itself."""

    def write_normalized(
        self,
        path: str | Path,
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
    ) -> None:
        """Write what `get_normalized` returns into an .h5ad file; memory holds ``batch_size`` cells.

        Parameters
        ----------
        path
            A new file that ends in ``.h5ad``. It appears when it is complete.
        modality, mdata, indices, features, given, transform_batch, library_size, n_samples, batch_size
            As in `get_normalized`.

        Raises
        ------
        InputError
            If there is a file already, or an argument is wrong.

        Examples
        --------
        >>> model.write_normalized("denoised.h5ad", "rna")      # doctest: +SKIP
        >>> anndata.read_h5ad("denoised.h5ad", backed="r").X    # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        check_library_size(library_size)
        position, schema = select_modality(data.schema, modality)
        chosen = select_features(schema, features)
        batches = select_batches(data.schema, transform_batch)
        evidence = required_modalities(data, cells, given)
        file = check_new_file(path)
        depth = self._expected_depth(library_size, data, cells, position, evidence)
        number = None if isinstance(library_size, str) else library_size
        blocks = normalized_blocks(
            self.module,
            data,
            cells,
            batch_size,
            position,
            chosen,
            batches,
            n_samples,
            number,
            evidence,
            depth,
        )
        with closing(blocks):
            write_table(file, blocks, data.cell_names[cells], np.asarray(schema.features)[chosen])

    def write_imputed(
        self,
        path: str | Path,
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
    ) -> None:
        """Write what `impute` returns into an .h5ad file; memory holds ``batch_size`` cells.

        Parameters
        ----------
        path
            A new file that ends in ``.h5ad``. It appears when it is complete.
        modality, mdata, indices, given, features, transform_batch, n_samples, quantiles, calibrated, seed,
        batch_size
            As in `impute`.

        Raises
        ------
        InputError
            If there is a file already, or an argument is wrong.

        Examples
        --------
        >>> model.write_imputed("peaks.h5ad", "atac", given=["rna"])             # doctest: +SKIP
        >>> anndata.read_h5ad("peaks.h5ad", backed="r").X                        # doctest: +SKIP
        """
        asked = self._imputation(
            modality,
            mdata,
            indices,
            given,
            features,
            Choices(transform_batch, n_samples, quantiles, calibrated, seed, batch_size),
        )
        write_imputed_table(check_new_file(path), asked)
