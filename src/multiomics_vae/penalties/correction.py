"""How a model takes batch effects out of z: what a user asks for, and which penalty answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import torch

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.schema import CategoricalCovariate, Schema
from multiomics_vae.errors import InputError, did_you_mean, warn
from multiomics_vae.penalties.base import Nuisance, Surroundings
from multiomics_vae.penalties.nuisance import log_shares

CONDITIONAL = "conditional"
PENALTY_OF = {"adversarial": "adversarial", "hsic": "hsic", "mmd": "batch_mmd"}
KINDS = (CONDITIONAL, *PENALTY_OF)


@dataclass(frozen=True)
class BatchCorrection:
    """How the effect of batches is kept out of the embedding.

    Decoders always read batch and covariates, so z need not explain them. That is all that ``"conditional"``
    does. The others add a penalty on what z still tells of them, whose weight rises with β over the warm-up.

    Parameters
    ----------
    kind
        ``"conditional"``; ``"adversarial"``, a classifier that z learns to mislead; ``"hsic"``, the
        Hilbert-Schmidt independence criterion; ``"mmd"``, the maximum mean discrepancy between batches.
    weight
        Of the penalty in the loss, in nats a cell for ``"adversarial"``; None takes the default of the kind.
    keys
        Columns whose effect is to go: the batch key or categorical covariates. None means all of them.
    conditional_on
        Column of obs with cell types. Within each type z is made independent of the batch, so that types that
        are more frequent in one batch are not pushed together. Cells without a type may be missing (NaN)
        or named in `data.strata.UNKNOWN_STRATA`; they make up a group of their own.

    Raises
    ------
    InputError
        For an unknown kind or an impossible weight.

    Examples
    --------
    >>> BatchCorrection("adversarial", weight=5.0, conditional_on="cell_type").penalty
    'adversarial'
    """

    kind: str = CONDITIONAL
    weight: float | None = None
    keys: tuple[str, ...] | None = None
    conditional_on: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"There is no batch_correction={self.kind!r}. {did_you_mean(self.kind, KINDS)}")
        number = isinstance(self.weight, Real) and not isinstance(self.weight, bool)
        if self.weight is not None and not (number and 0.0 <= self.weight < float("inf")):
            raise InputError(
                f"The weight of a batch correction is a number of at least 0, not {self.weight!r}: "
                f"BatchCorrection({self.kind!r}, weight=1.0)"
            )
        if isinstance(self.keys, str):
            raise InputError(
                f"keys is a tuple of columns, not {self.keys!r}: "
                f"BatchCorrection({self.kind!r}, keys=({self.keys!r},))"
            )
        said = [name for name in ("weight", "keys", "conditional_on") if getattr(self, name) is not None]
        if self.kind == CONDITIONAL and said:
            raise InputError(
                f"batch_correction='conditional' adds no penalty, so it has no {said[0]}. Name one of "
                f"{', '.join(map(repr, PENALTY_OF))}: BatchCorrection('adversarial', {said[0]}=...)"
            )

    @property
    def penalty(self) -> str | None:
        """Name of its penalty in the registry; None for ``"conditional"``."""
        return PENALTY_OF.get(self.kind)


def settled(asked: str | BatchCorrection, schema: Schema) -> BatchCorrection:
    """Check what was asked for against what was registered, and name the columns it is about.

    Parameters
    ----------
    asked
        A kind, or all there is to say.
    schema
        What was registered.

    Returns
    -------
    BatchCorrection
        With its keys; ``"conditional"``, and a warning, where no column has a second category.

    Raises
    ------
    InputError
        If no batch was registered, or a key was not.
    """
    correction = asked if isinstance(asked, BatchCorrection) else BatchCorrection(kind=asked)
    if correction.penalty is None:
        return correction
    columns = _columns(schema)
    if not columns:
        raise InputError(
            f"batch_correction={correction.kind!r} wants to know the batches, and none are registered: "
            "MultiVAE.setup_mudata(mdata, batch_key='batch')"
        )
    keys = tuple(columns) if correction.keys is None else tuple(correction.keys)
    for key in keys:
        if key not in columns:
            raise InputError(
                f"BatchCorrection(keys=...) names {key!r}, which was not registered as a batch or "
                f"categorical covariate. {did_you_mean(key, columns)}"
            )
    several = tuple(key for key in keys if len(columns[key].categories) > 1)
    if not several:
        warn(
            f"batch_correction={correction.kind!r} has nothing to do: {', '.join(map(repr, keys))} has one "
            "category only."
        )
        return BatchCorrection()
    return replace(correction, keys=several)


def nuisances(keys: tuple[str, ...] | None, schema: Schema) -> tuple[Nuisance, ...]:
    """Find the covariates by their keys, those with one category left out; None means all of them."""
    found = []
    for column, covariate in enumerate(schema.categorical):
        if keys is None or covariate.key in keys:
            found.append(Nuisance(column, len(covariate.categories)))
    if schema.batch is not None and (keys is None or schema.batch.key in keys):
        found.insert(0, Nuisance(None, schema.n_batches))
    return tuple(nuisance for nuisance in found if nuisance.n_categories > 1)


def surroundings_of(
    keys: tuple[str, ...] | None, data: MultimodalData, training_cells: np.ndarray
) -> Surroundings:
    """What penalties against covariates are told of the data.

    Parameters
    ----------
    keys
        Columns; None means the batch and every categorical covariate.
    data
        The registered cells.
    training_cells
        Positions of those that are counted.
    """
    n_strata = 0 if data.strata is None else int(data.strata.max(initial=-1)) + 1
    strata = None if data.strata is None else torch.from_numpy(data.strata[training_cells])
    found, shares = nuisances(keys, data.schema), []
    for nuisance in found:
        codes = data.batch if nuisance.column is None else data.categorical[:, nuisance.column]
        own = torch.from_numpy(codes[training_cells])
        shares.append(log_shares(own, nuisance.n_categories, strata, n_strata))
    return Surroundings(found, n_strata, tuple(shares))


def _columns(schema: Schema) -> dict[str, CategoricalCovariate]:
    own = [schema.batch] if schema.batch is not None else []
    return {covariate.key: covariate for covariate in [*own, *schema.categorical]}
