"""The donors of a MuData: their outcomes, what a form says of them, and MuDatas of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from multiomics_vae.data.columns import find_column
from multiomics_vae.data.donors import donor_outcomes
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import register
from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.errors import InputError

if TYPE_CHECKING:
    from mudata import MuData


@dataclass(frozen=True, eq=False)
class Donors:
    """What is known of D donors and their N cells.

    Parameters
    ----------
    mdata
        The user's; never changed.
    options
        How it was set up, with the donors' column.
    outcome
        What is predicted.
    names
        Of the donors, ``(D,)``.
    donor
        Position in ``names`` of every cell, -1 where it is not known, ``(N,)``.
    truth
        As `analysis.outcomes.measures` has it, ``(D, …)``; NaN where it is not known.
    columns
        Of obs: all that the set-up names, by cell.
    clinical
        Covariates, a row a donor.
    labelled_cell
        Position of a cell of each donor that has the label, -1 where it is not known, ``(D,)``.
    """

    mdata: MuData
    options: SetupOptions
    outcome: OutcomeSchema
    names: np.ndarray
    donor: np.ndarray
    truth: np.ndarray
    columns: pd.DataFrame
    clinical: pd.DataFrame
    labelled_cell: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Donors whose outcome is known, ``(D,)``, bool."""
        return np.asarray(self.labelled_cell >= 0)

    @property
    def n_classes(self) -> int:
        """K; 0 where there are no classes."""
        return len(self.outcome.categories)

    def cells_of(self, donors: np.ndarray) -> np.ndarray:
        """Positions of the cells of some donors, sorted."""
        return np.flatnonzero(np.isin(self.donor, donors))

    def without_donor(self) -> np.ndarray:
        """Positions of cells whose donor is not known: they are never used, because they may be anybody's."""
        return np.flatnonzero(self.donor < 0)

    def labelled(self, donors: np.ndarray, permutation: np.ndarray | None = None) -> MuData:
        """A MuData of some donors' cells with their outcomes, or with those that a permutation gives them.

        Parameters
        ----------
        donors
            Positions.
        permutation
            Whose outcome each of the D donors gets; None for their own.
        """
        cells = self.cells_of(donors)
        columns = self.columns.iloc[cells].copy()
        if permutation is not None:
            source = self.labelled_cell[permutation[self.donor[cells]]]
            for key in self.outcome.keys:
                given = self.columns[key].take(np.maximum(source, 0)).set_axis(columns.index)
                columns[key] = given.where(source >= 0)
        return self._part(cells, columns)

    def unlabelled(self, donors: np.ndarray) -> MuData:
        """A MuData of some donors' cells, from which every column of an outcome is gone."""
        cells = self.cells_of(donors)
        gone = {key for what, kind in self.options.outcomes.items() for key in _keys(what, kind)}
        kept = [key for key in self.columns.columns if key not in gone]
        return self._part(cells, self.columns.iloc[cells][kept].copy())

    def _part(self, cells: np.ndarray, columns: pd.DataFrame) -> MuData:
        """Cells with these columns and no other, so that nothing slips in through obs."""
        import mudata

        wanted = set(columns.index)
        parts = {}
        for name in self.options.modalities or tuple(self.mdata.mod):
            adata = self.mdata.mod[name]
            rows = np.flatnonzero([cell in wanted for cell in adata.obs_names])
            part = adata[rows]
            parts[name] = AnnData(
                None if part.X is None else part.X.copy(),
                obs=pd.DataFrame(index=part.obs_names),
                var=pd.DataFrame(index=part.var_names),
                layers={key: layer.copy() for key, layer in part.layers.items()},
            )
        with mudata.set_options(pull_on_update=False):
            made = mudata.MuData(parts)
            made.obs = columns.loc[made.obs_names]
        return made


def read_donors(
    mdata: MuData,
    options: SetupOptions,
    outcome: str,
    covariates: Sequence[str],
    also: Sequence[str] = (),
) -> Donors:
    """Look at the donors of a MuData.

    Parameters
    ----------
    mdata
        Set up or not.
    options
        How it is to be read; names the donors' column.
    outcome
        What is to be predicted, as registered.
    covariates
        Columns of obs that a form would tell; of a donor the first known value counts.
    also
        Further columns of obs that models read.

    Raises
    ------
    InputError
        If there is no such outcome, it is no outcome of donors, or a covariate is one of its columns.
    """
    data = register(mdata, options)
    # What was inferred is inferred once, from all cells: folds must not disagree about likelihoods.
    options = options_of(data.schema)
    schema = data.schema.outcome(outcome)
    assert data.labels is not None
    taken = [key for key in covariates if key in schema.keys]
    if taken:
        raise InputError(
            f"The covariate {taken[0]!r} is what {outcome!r} is read from: it would be predicted from "
            f"itself. Leave it out: covariates={[key for key in covariates if key not in schema.keys]!r}"
        )
    encoded = donor_outcomes(data, schema)  # (D, n_columns)
    known = ~np.isnan(encoded).any(axis=1)
    of_cells = data.outcomes[:, data.schema.label_columns(outcome)]
    labelled = np.flatnonzero((data.donor >= 0) & ~np.isnan(of_cells).any(axis=1))
    labelled_cell = np.full(len(known), -1)
    labelled_cell[data.donor[labelled][::-1]] = labelled[::-1]
    keys = list(dict.fromkeys([*_named(options), *covariates, *also]))
    columns = pd.DataFrame(
        {key: find_column(mdata, key, "cross_validate").values for key in keys},
        index=pd.Index(data.cell_names),
    )
    belongs = data.donor >= 0
    clinical = columns.loc[belongs, list(covariates)].groupby(data.donor[belongs]).first()
    return Donors(
        mdata,
        options,
        schema,
        np.asarray(data.labels.donor_names, dtype=object),
        data.donor,
        _in_their_units(encoded, schema),
        columns,
        clinical.reindex(np.arange(len(known))),
        labelled_cell,
    )


def _in_their_units(encoded: np.ndarray, outcome: OutcomeSchema) -> np.ndarray:
    values = encoded.astype(np.float64)
    if outcome.kind == "survival":
        return np.asarray(values * np.array([outcome.time_scale, 1.0]))
    if outcome.kind == "continuous":
        return np.asarray(values[:, 0] * outcome.sd + outcome.mean)
    return np.asarray(values[:, 0])


def _keys(name: str, kind: str | Sequence[str]) -> tuple[str, ...]:
    return (name,) if isinstance(kind, str) else tuple(kind)


def _named(options: SetupOptions) -> list[str]:
    """All columns of obs that a set-up reads."""
    named = [options.batch_key, options.size_factor_key, options.donor_key]
    outcomes = [key for name, kind in options.outcomes.items() for key in _keys(name, kind)]
    covariates = [*options.categorical_covariate_keys, *options.continuous_covariate_keys]
    return [key for key in [*named, *covariates, *outcomes] if key is not None]
