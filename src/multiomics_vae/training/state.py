"""Where a training run stands between two steps: all that it takes to go on, bit by bit the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from multiomics_vae.data.reading import PassStart
from multiomics_vae.training.processes import gather


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Parameters
    ----------
    n_epochs
        Finished passes.
    n_done
        Minibatches done of the pass under way.
    n_steps
        Steps in all.
    best_epoch
        Pass whose weights are kept, counted from 1; 0 before the first is finished.
    best_elbo
        Its held-out ELBO; None before, and while a ramped penalty has not its whole weight.
    n_averaged
        Steps that the average of the weights has taken in.
    modality_weights
        λ as it stands.
    gradient_norms
        Running norms from which λ is adapted; empty where it is not.
    """

    n_epochs: int
    n_done: int
    n_steps: int
    best_epoch: int
    best_elbo: float | None
    n_averaged: int
    modality_weights: tuple[float, ...]
    gradient_norms: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A run between two steps.

    Parameters
    ----------
    progress
        How far it has come.
    pass_start
        State of the shuffling generator at the start of the pass under way.
    history
        A row for each finished pass.
    tensors
        Weights, their average, the best ones, the optimiser's moments, the sums of the pass under way,
        and the states of the generators, one of dropout for each process.
    """

    progress: Progress
    pass_start: PassStart
    history: list[dict[str, float | None]] = field(repr=False)
    tensors: Mapping[str, Tensor] = field(repr=False)

    def under(self, room: str) -> dict[str, Tensor]:
        """The tensors of one part, by their names there."""
        prefix = f"{room}/"
        return {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}


def joined(**rooms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of several parts in one mapping, copied to the CPU; undone by `TrainingState.under`."""
    return {
        f"{room}/{name}": tensor.detach().cpu().clone()
        for room, tensors in rooms.items()
        for name, tensor in tensors.items()
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of an optimiser, by the position of their parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entries in state.items() for name, value in entries.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; learning rates are left to the schedule."""
    document = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": document["param_groups"]})


def dropout_states(device: torch.device) -> dict[str, Tensor]:
    """State of the generator that dropout reads, of every process by rank; all must call it."""
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return {str(rank): state for rank, state in enumerate(gather(own))}


def restore_dropout(state: Tensor, device: torch.device) -> None:
    """Undo `dropout_states` for one process."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
