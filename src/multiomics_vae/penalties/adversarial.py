"""An adversary that reads the batch off z, and encoders that make it fail."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiomics_vae.penalties.base import PenaltyInput, PenaltyValue, Surroundings
from multiomics_vae.penalties.nuisance import NuisancePenalty, means_of


class Reverse(torch.autograd.Function):
    """The identity forwards, minus the gradient backwards (Ganin & Lempitsky 2015)."""

    @staticmethod
    def forward(context: Any, z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class Adversarial(NuisancePenalty):
    """Cross entropy of classifiers that guess each covariate from z; encoders learn to raise it.

    value = Σ_c E[−log p_c(s_c | E[z | x])], one network c a covariate s, in nats. The classifiers go down its
    gradient, and what stands before them goes up: the gradient is turned round where they read z. At its
    highest they know the shares of the categories and no more.

    p_c = softmax(log shares + network), with the shares counted in the training cells, in those of the
    cell's stratum where there are strata, and the network 0 at the start. So what the stratum says of the
    batch is said already: the network, which is told the stratum too, learns what z says beyond it, and only
    that is removed.

    One optimiser serves both sides. Its steps (Adam's) do not depend on the scale of a gradient, so the
    classifiers learn at full speed also while the weight of the penalty is still small.

    Parameters
    ----------
    n_latent, n_modalities, n_batches, surroundings
        As for every penalty against covariates.

    Examples
    --------
    >>> len(Adversarial(n_latent=10, n_modalities=2, n_batches=3).classifiers)
    1
    """

    name: ClassVar[str] = "adversarial"
    compares_cells: ClassVar[bool] = False
    reverses: ClassVar[bool] = True
    default_weight: ClassVar[float] = 10.0
    n_hidden: ClassVar[int] = 64

    def __init__(
        self,
        n_latent: int,
        n_modalities: int,
        n_batches: int,
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(n_latent, n_modalities, n_batches, surroundings)
        n_inputs, width = n_latent + self.surroundings.n_strata, self.n_hidden
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n_inputs, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, nuisance.n_categories),
            )
            for nuisance in self.surroundings.nuisances
        )
        for classifier in self.classifiers:
            last = classifier[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        for i, nuisance in enumerate(self.surroundings.nuisances):
            alike = torch.zeros(self.surroundings.n_strata + 1, nuisance.n_categories)
            counted = self.surroundings.log_shares
            self.register_buffer(f"log_shares_{i}", counted[i].to(alike) if counted else alike)

    def forward(self, found: PenaltyInput) -> PenaltyValue:
        """Average over cells, summed over covariates, in nats."""
        z, seen = means_of(found)
        turned = Reverse.apply(z)  # type: ignore[no-untyped-call]  # (n, K)
        inputs = torch.cat([turned, self._strata(found, seen).to(z.dtype)], dim=-1)  # (n, K + S)
        total, n = z.new_zeros(()), seen.sum()
        stratum = (
            torch.full_like(found.covariates.batch, -1) if found.strata is None else found.strata
        )  # (B,)
        for i, (nuisance, classifier) in enumerate(
            zip(self.surroundings.nuisances, self.classifiers, strict=True)
        ):
            codes = nuisance.codes(found.covariates)[seen]  # (n,)
            logits = classifier(inputs) + self.get_buffer(f"log_shares_{i}")[stratum[seen]]  # (n, G)
            total = total + functional.cross_entropy(logits, codes, reduction="sum")
        return PenaltyValue(total / n.clamp(min=1), n if self.surroundings.nuisances else 0 * n)

    def _strata(self, found: PenaltyInput, seen: Tensor) -> Tensor:
        """One-hot stratum, zeros where it is not known: ``(n, S)``."""
        n_strata = self.surroundings.n_strata
        if found.strata is None or not n_strata:
            return torch.zeros(int(seen.sum()), n_strata, device=seen.device)
        codes = found.strata[seen]  # (n,)
        return functional.one_hot(codes.clamp(min=0), n_strata) * (codes >= 0).unsqueeze(-1)
