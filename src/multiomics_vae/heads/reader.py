"""A head with what stands between it and z: a hidden layer, and pooling where donors are predicted."""

from __future__ import annotations

from torch import Tensor, nn

from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.heads.base import OutcomeHead
from multiomics_vae.heads.head import NamedHead
from multiomics_vae.heads.pooling import POOLINGS, pool
from multiomics_vae.networks.blocks import MLP


class OutcomeReader(nn.Module):
    """Predicts one outcome from draws or means of z.

    Parameters
    ----------
    named
        The outcome's name and what the user said of its head.
    kind
        Class of the head, from the registry.
    outcome
        What is predicted.
    n_latent
        K.
    """

    def __init__(
        self, named: NamedHead, kind: type[OutcomeHead], outcome: OutcomeSchema, n_latent: int
    ) -> None:
        super().__init__()
        head = named.head
        self.name = named.outcome
        self.head = head
        self.hidden = MLP(n_latent, head.n_hidden, 1 if head.n_hidden else 0, head.dropout)
        width = self.hidden.n_outputs
        self.pooling = POOLINGS[head.pooling](width) if head.level == "donor" else None
        self.output = kind(width, outcome, head)

    @property
    def of_donors(self) -> bool:
        return self.head.level == "donor"

    def of_cells(self, z: Tensor) -> Tensor:
        """Scores of cells: ``(..., B, K)`` -> ``(..., B, S)``."""
        scores: Tensor = self.output(self.hidden(z))
        return scores

    def weighed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Features of cells and their log weights in a donor: ``(..., B, H)`` and ``(..., B)``."""
        assert self.pooling is not None
        features: Tensor = self.hidden(z)
        log_weights: Tensor = self.pooling(features)
        return features, log_weights

    def of_groups(self, z: Tensor, log_mass: Tensor, group: Tensor, n_groups: int) -> Tensor:
        """Scores of donors from their cells.

        Parameters
        ----------
        z
            A draw from each component of the cells' posteriors, ``(C, B, K)``.
        log_mass
            Log weights of the components, ``(C, B)``: a draw counts as much as its component.
        group
            Which donor a cell is of, ``(B,)``, below ``n_groups``; every one has a cell.

        Returns
        -------
        Tensor
            ``(n_groups, S)``.
        """
        features, log_weights = self.weighed(z)
        n_components = len(z)
        pooled, _ = pool(
            features.flatten(0, 1), (log_weights + log_mass).flatten(), group.repeat(n_components), n_groups
        )
        scores: Tensor = self.output(pooled)
        return scores
