"""What was registered: the frozen description of a data set that a model belongs to.

A schema holds no cells, only names, kinds and categories, and can be written as JSON. A model is
built from a schema and accepts other data only if that data fits the schema.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    modalities: tuple[ModalitySchema, ...]
    batch: CategoricalCovariate | None = None
    categorical: tuple[CategoricalCovariate, ...] = ()
    continuous: tuple[ContinuousCovariate, ...] = ()
    size_factor_key: str | None = None

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(modality.name for modality in self.modalities)

    @property
    def n_batches(self) -> int:
        return len(self.batch.categories) if self.batch else 1
