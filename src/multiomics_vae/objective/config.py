"""The choices of the objective, and what a training step may round or leave to chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.module import RowSource
from multiomics_vae.penalties import PENALTIES
from multiomics_vae.penalties.correction import BatchCorrection

SubsetObjective = Literal["within", "cross", "both", "none"]


@dataclass(frozen=True)
class PenaltyWeight:
    """A penalty and its weight in the loss.

    Parameters
    ----------
    name
        In the registry of penalties.
    weight
        At least 0.

    Raises
    ------
    InputError
        If there is no such penalty, or the weight is no such number.
    """

    name: str
    weight: float

    def __post_init__(self) -> None:
        if self.name not in PENALTIES:
            raise InputError(
                f"There is no penalty called {self.name!r}. {did_you_mean(self.name, PENALTIES)}"
            )
        number = isinstance(self.weight, Real) and not isinstance(self.weight, bool)
        if not (number and math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(
                f"penalties[{self.name!r}] must be a number of at least 0, not {self.weight!r}: "
                f"model.train(penalties={{{self.name!r}: 1.0}})"
            )


def penalty_weights(asked: Mapping[str, float] | None) -> tuple[PenaltyWeight, ...]:
    """Take what a user asked for, in alphabetical order; a weight of 0 turns a penalty off.

    Parameters
    ----------
    asked
        Name -> weight; None for none.

    Raises
    ------
    InputError
        If it is no mapping, or holds an unknown name or an impossible weight.

    Examples
    --------
    >>> penalty_weights({"mmd": 1.0, "info_nce": 0.0})
    (PenaltyWeight(name='mmd', weight=1.0),)
    """
    if asked is None:
        return ()
    if not isinstance(asked, Mapping):
        raise InputError(
            f"penalties is a mapping from names to weights, not {asked!r}: "
            f"model.train(penalties={{{next(iter(PENALTIES))!r}: 1.0}})"
        )
    every = [PenaltyWeight(name, weight) for name, weight in asked.items()]
    return tuple(
        PenaltyWeight(each.name, float(each.weight))
        for each in sorted(every, key=lambda each: each.name)
        if each.weight > 0
    )


def with_correction(
    asked: Mapping[str, float] | None, correction: BatchCorrection
) -> Mapping[str, float] | None:
    """Add the penalty of a batch correction to those that were asked for, unless it is among them."""
    name = correction.penalty
    if name is None or not (asked is None or isinstance(asked, Mapping)):
        return asked
    weight = PENALTIES[name].default_weight if correction.weight is None else correction.weight
    return {name: weight, **(asked or {})}


@dataclass(frozen=True)
class ObjectiveConfig:
    """Choices of the objective.

    Parameters
    ----------
    subset_objective
        ``"within"``, ``"cross"``, ``"both"`` or ``"none"``.
    subset_weight
        w.
    n_subsets
        Random proper subsets a step; None takes every single modality if there are at most three,
        and two random subsets otherwise.
    modality_dropout
        Probability that one modality of a cell with several is hidden from the joint posterior, which
        must then predict it too.
    kl_weight
        Final β.
    free_bits
        Nats a latent dimension (averaged over cells) that the KL does not pay for.
    penalties
        Those that are on, and their weights.
    corrected
        Columns that penalties against covariates are about; None means the batch and every categorical
        covariate.
    """

    subset_objective: SubsetObjective = "within"
    subset_weight: float = 0.3
    n_subsets: int | None = None
    modality_dropout: float = 0.0
    kl_weight: float = 1.0
    free_bits: float = 0.0
    penalties: tuple[PenaltyWeight, ...] = ()
    corrected: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        allowed = get_args(SubsetObjective)
        if self.subset_objective not in allowed:
            raise InputError(
                f"There is no subset_objective={self.subset_objective!r}. "
                f"{did_you_mean(self.subset_objective, allowed)}"
            )
        for name in ("subset_weight", "kl_weight", "free_bits"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"{name} must be a number of at least 0, not {getattr(self, name)!r}: "
                    f"model.train({name}=1.0)"
                )
        if not 0.0 <= self.modality_dropout <= 1.0:
            raise InputError(
                f"modality_dropout is a probability, not {self.modality_dropout!r}: "
                "model.train(modality_dropout=0.2)"
            )
        if self.n_subsets is not None and self.n_subsets < 1:
            raise InputError(
                f"n_subsets must be at least 1, not {self.n_subsets!r}; to have none: "
                "model.train(subset_objective='none')"
            )


@dataclass(frozen=True)
class Economy:
    """What a training step rounds or leaves to chance to be faster.

    Parameters
    ----------
    product_dtype
        Type in which the factors of the output layers' products are rounded; None keeps them as they are.
    chances
        Of each modality, the chances with which its features are drawn at each step to stand for all,
        ``(F,)``; None takes all. See `MultimodalModule.draw_features` for what always takes all.
    rows
        Where the rows of drawn features come from; None takes them from the module's parameters.
    """

    product_dtype: torch.dtype | None = None
    chances: tuple[Tensor | None, ...] = ()
    rows: RowSource | None = None


EXACT = Economy()
