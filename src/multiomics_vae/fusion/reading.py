"""How a rule reads its evidence: shapes checked, what is masked replaced so that it cannot matter."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian
from multiomics_vae.errors import InputError
from multiomics_vae.fusion.base import Evidence, FusionRule


def check_evidence(evidence: Evidence, rule: FusionRule) -> None:
    """Refuse evidence of another shape than the rule was built for.

    Parameters
    ----------
    evidence
        What the encoders found.
    rule
        The rule that is about to read it.

    Raises
    ------
    InputError
        If M, K, H or B do not agree, or the mask is not boolean.

    Examples
    --------
    >>> check_evidence(evidence, rule)  # doctest: +SKIP
    """
    n_cells = evidence.available.shape[0]
    wanted = {
        "experts.mean": (rule.n_modalities, n_cells, rule.n_latent),
        "experts.log_variance": (rule.n_modalities, n_cells, rule.n_latent),
        "features": (rule.n_modalities, n_cells, rule.n_hidden),
        "available": (n_cells, rule.n_modalities),
    }
    seen = {
        "experts.mean": evidence.experts.mean,
        "experts.log_variance": evidence.experts.log_variance,
        "features": evidence.features,
        "available": evidence.available,
    }
    for field, shape in wanted.items():
        if tuple(seen[field].shape) != shape:
            raise InputError(
                f"Evidence.{field} has shape {tuple(seen[field].shape)}, but the {rule.name!r} rule was "
                f"built for {shape}. Build it with the sizes of the data: "
                f"{type(rule).__name__}(n_modalities=…, n_latent=…, n_hidden=…)."
            )
    if evidence.available.dtype != torch.bool:
        raise InputError(
            f"Evidence.available must be bool, not {evidence.available.dtype}. Write available.bool()."
        )


def available_experts(evidence: Evidence) -> Gaussian:
    """Return the experts, those of a masked modality replaced by N(0, I).

    Parameters
    ----------
    evidence
        What the encoders found.

    Returns
    -------
    Gaussian
        ``(M, B, K)``; no value of a masked expert, NaN included, reaches a value or a gradient.

    Examples
    --------
    >>> available_experts(evidence).mean.shape  # doctest: +SKIP
    torch.Size([2, 128, 20])
    """
    hidden = ~evidence.available.T.unsqueeze(-1)  # (M, B, 1)
    return Gaussian(
        evidence.experts.mean.masked_fill(hidden, 0.0),  # (M, B, K)
        evidence.experts.log_variance.masked_fill(hidden, 0.0),  # (M, B, K)
    )


def available_features(evidence: Evidence) -> Tensor:
    """Return the hidden features ``(M, B, H)`` with zeros where a modality is masked.

    Parameters
    ----------
    evidence
        What the encoders found.

    Examples
    --------
    >>> available_features(evidence).shape  # doctest: +SKIP
    torch.Size([2, 128, 64])
    """
    return evidence.features.masked_fill(~evidence.available.T.unsqueeze(-1), 0.0)  # (M, B, H)
