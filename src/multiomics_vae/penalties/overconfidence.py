"""Less evidence must not mean more certainty."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.penalties.base import Penalty, PenaltyInput, PenaltyValue


class Overconfidence(Penalty):
    """A hinge on stopgrad H(q(z | x)) − H(q(z | x_m)): a single modality may not be surer than all together.

    H is the differential entropy in nats; the hinge max(0, ·) is averaged over the modalities of a cell and
    over the cells that have several. The joint posterior is the teacher and is not changed. Where the
    fusion rule gives a mixture, its entropy is estimated with one draw from each component. In a product of
    experts whose powers are 1 or more the hinge is 0 by construction; other rules can break it.

    Cells with one modality carry no term. A cell's value does not depend on the cells beside it, so several
    devices give what one would.

    Parameters
    ----------
    n_latent, n_modalities, n_batches
        Ignored.

    Examples
    --------
    >>> Overconfidence(n_latent=10, n_modalities=2, n_batches=1).compares_cells
    False
    """

    name: ClassVar[str] = "overconfidence"
    compares_cells: ClassVar[bool] = False

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over cells, in nats."""
        several = found.present.sum(1) > 1  # (B,)
        present = found.present[several].T  # (M, n)
        excess = (_joint_entropy(found)[several] - found.singles.entropy()[:, several]).clamp(min=0.0)
        each = excess.masked_fill(~present, 0.0).sum(0) / present.sum(0)  # (n,)
        return PenaltyValue(each.sum() / several.sum().clamp(min=1), several.sum())


def _joint_entropy(found: PenaltyInput) -> Tensor:
    """Entropy of q(z | x), without gradient: ``(B,)``."""
    joint = found.joint
    if joint.n_components == 1:
        return joint.gaussian.entropy().detach()
    weights = joint.log_weights.exp()  # (C, B)
    surprise = -joint.log_prob(found.z)  # (C, B)
    # Draws of components that a cell does not have weigh nothing, and may be far out.
    return torch.where(weights > 0, weights * surprise, 0.0).sum(0).detach()
