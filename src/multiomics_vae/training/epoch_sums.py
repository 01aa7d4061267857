"""Averages of the loss terms over an epoch."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.objective import HEAD_TERM
from multiomics_vae.training.processes import gather


class EpochSums:
    """Averages of the loss terms over an epoch, in nats a cell, each over the cells that it concerns.

    Parameters
    ----------
    modality_names
        For the names of the averages.
    """

    def __init__(self, modality_names: tuple[str, ...]) -> None:
        self.names = modality_names
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, terms: LossTerms, n_cells: int) -> None:
        """Take a minibatch in."""
        values: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=terms.elbo.device))
        values["elbo"] = terms.elbo
        values["loss"] = terms.loss.detach()
        counted: dict[str, Tensor | int] = defaultdict(int)
        for term in terms.terms:
            if term.name != "log_likelihood":
                name = term.name if term.modality is None else f"{self.names[term.modality]}_{term.name}"
                values[name] = values[name] + term.value.detach()
                counted[name] = counted[name] + (n_cells if term.n_counted is None else term.n_counted)
        for name, value in values.items():
            self._add(name, value * n_cells, counted.get(name, n_cells))
        for m, modality in enumerate(self.names):
            self._add(f"{modality}_log_likelihood", terms.log_likelihood[m], terms.n_cells[m])

    def averages(self, suffix: str) -> dict[str, float]:
        """Names with a suffix (``"train"``, ``"validation"``) and their averages over all processes.

        A log likelihood of a modality that no cell has is NaN, and so is the cost of a head without a label.
        """
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        own = {name: (float(value), float(self.counts[name])) for name, value in self.sums.items()}
        for sums in gather(own):
            for name, (value, count) in sums.items():
                totals[name] += value
                counts[name] += count
        may_be_empty = {f"{modality}_log_likelihood" for modality in self.names}
        found = {}
        for name, total in totals.items():
            unknown = counts[name] == 0 and (name in may_be_empty or name.startswith(HEAD_TERM))
            found[f"{name}_{suffix}"] = float("nan") if unknown else total / (counts[name] or 1.0)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it by name."""
        sums = {f"sum.{name}": value for name, value in self.sums.items()}
        return sums | {f"count.{name}": value for name, value in self.counts.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self.sums = {name.removeprefix("sum."): t for name, t in tensors.items() if name.startswith("sum.")}
        self.counts = {
            name.removeprefix("count."): t for name, t in tensors.items() if name.startswith("count.")
        }

    def _add(self, name: str, value: Tensor, count: Tensor | int) -> None:
        count = torch.as_tensor(count, device=value.device)
        self.sums[name] = self.sums[name] + value if name in self.sums else value.detach().clone()
        self.counts[name] = self.counts[name] + count if name in self.counts else count.clone()
