"""Some features of a modality, for answers that need no others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import SoftmaxNormaliser


@dataclass(frozen=True)
class FeaturePart:
    """Which features the outputs belong to, when they are not those of all F.

    Parameters
    ----------
    features
        Positions, in any order, ``(G,)``, int64.
    normaliser
        Of the softmax over all F features, for a likelihood that is ``normalised_over_features``.
    """

    features: Tensor
    normaliser: SoftmaxNormaliser | None = None


def columns_of(table: Tensor, part: FeaturePart | None) -> Tensor:
    """The part's columns of a table ``(..., F)``: ``(..., G)``; all of them without a part."""
    return table if part is None else table[..., part.features]


def features_of(part: FeaturePart | None) -> Tensor | None:
    """Positions of the part's features; None without a part, which means all."""
    return None if part is None else part.features


def softmax_shares(logits: Tensor, part: FeaturePart | None) -> Tensor:
    """Softmax over all features, of the part's logits ``(B, G)``; of logits ``(B, F)`` without a part.

    Raises
    ------
    InputError
        If the part has no normaliser.
    """
    if part is None:
        return functional.softmax(logits, dim=-1)  # (B, F)
    if part.normaliser is None:
        raise InputError(
            "A softmax over features needs the normaliser of all of them, and this part has none: "
            "FeaturePart(features, softmax_normaliser(hidden, weight, bias))"
        )
    return part.normaliser.shares(logits)  # (B, G)
