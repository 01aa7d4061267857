"""What was registered: the frozen description of a data set that a model belongs to.

A schema holds no cells, only names, kinds and categories, and can be written as JSON. A model is
built from a schema and accepts other data only if that data fits the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from multiomics_vae.errors import InputError, did_you_mean

OutcomeKind = Literal["binary", "categorical", "ordinal", "continuous", "survival"]
OUTCOME_KINDS: tuple[OutcomeKind, ...] = get_args(OutcomeKind)
UNLABELLED = ("unlabelled", "unlabeled", "unknown")
"""Names that say that a cell has no label, unless the user gives others; case does not matter."""


@dataclass(frozen=True)
class ModalitySchema:
    """One modality as it was registered.

    Parameters
    ----------
    name
        The user's name for it.
    likelihood
        Name in the likelihood registry.
    layer
        Layer that holds the values; None means ``X``.
    coverage_layer
        Layer that holds the coverage of a methylation modality; None for others.
    features
        ``var_names``, in the model's order.
    depth_from_values
        True if the depth of a cell is the sum of its row, False if it is a registered size factor.
    depth_scale
        What a registered size factor is multiplied with, so that its mean is the mean row sum: the
        model's proportions add up to 1, and a size factor around 1 would say that cells are empty.
    note
        How the likelihood and the layer were chosen, for the printed table.
    """

    name: str
    likelihood: str
    layer: str | None
    coverage_layer: str | None
    features: tuple[str, ...]
    depth_from_values: bool = True
    depth_scale: float = 1.0
    note: str = ""

    @property
    def n_features(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class CategoricalCovariate:
    """A categorical column of obs and its categories, in code order."""

    key: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class ContinuousCovariate:
    """A continuous column of obs and what standardises it."""

    key: str
    mean: float
    sd: float


@dataclass(frozen=True)
class OutcomeSchema:
    """Something that is to be predicted of a cell or of a donor, and may be unknown for many.

    Parameters
    ----------
    name
        The user's name for it.
    kind
        ``"binary"``, ``"categorical"``, ``"ordinal"``, ``"continuous"`` or ``"survival"``.
    keys
        Columns of obs that hold it: one, or for survival those of the time and of the event.
    categories
        In code order, which for an ordinal outcome is their order, and for a binary one means no, yes.
    mean, sd
        What standardises a continuous outcome.
    time_scale
        What times of a survival outcome are divided by.
    """

    name: str
    kind: OutcomeKind
    keys: tuple[str, ...]
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    time_scale: float = 1.0

    @property
    def n_columns(self) -> int:
        """Columns that it takes among the labels: (time, event) for survival, one for all others."""
        return 2 if self.kind == "survival" else 1


@dataclass(frozen=True)
class Schema:
    """All that was registered about a MuData.

    Parameters
    ----------
    modalities
        In the MuData's order.
    batch
        The batch column; None where none was registered.
    categorical, continuous
        Further covariates.
    size_factor_key
        Column of obs that holds each cell's size factor; None means depth from the values.
    donor_key
        Column of obs that says whose cell it is; None where none was registered. The donors themselves are no
        part of a schema: other data may have others, and a saved model names no patient.
    outcomes
        What may be predicted.
    unlabelled
        Names in a column of an outcome that say that there is no label, in lower case.
    """

    modalities: tuple[ModalitySchema, ...]
    batch: CategoricalCovariate | None = None
    categorical: tuple[CategoricalCovariate, ...] = ()
    continuous: tuple[ContinuousCovariate, ...] = ()
    size_factor_key: str | None = None
    donor_key: str | None = None
    outcomes: tuple[OutcomeSchema, ...] = ()
    unlabelled: tuple[str, ...] = UNLABELLED

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(modality.name for modality in self.modalities)

    @property
    def n_batches(self) -> int:
        return len(self.batch.categories) if self.batch else 1

    @property
    def n_label_columns(self) -> int:
        """Columns of all outcomes together."""
        return sum(outcome.n_columns for outcome in self.outcomes)

    def outcome(self, name: str) -> OutcomeSchema:
        """The outcome of this name.

        Raises
        ------
        InputError
            If none is called so.
        """
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        if not self.outcomes:
            raise InputError(
                f"There is no outcome {name!r}, because none was registered: "
                f'MultiVAE.setup_mudata(mdata, outcomes={{{name!r}: "categorical"}})'
            )
        raise InputError(
            f"There is no outcome {name!r}. {did_you_mean(name, [o.name for o in self.outcomes])}"
        )

    def label_columns(self, name: str) -> slice:
        """Where the columns of an outcome stand among the labels."""
        self.outcome(name)
        start = 0
        for outcome in self.outcomes:
            if outcome.name == name:
                break
            start += outcome.n_columns
        return slice(start, start + self.outcome(name).n_columns)
