"""AdamW with the average of the weights, in one walk over the memory of wide matrices.

An optimiser does little arithmetic: it waits for memory. Weight, gradient, two moments and average are each
read once and written once here, where a norm of the gradient, an optimiser and an average one after the
other read the gradient three times and the weight twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw
from torch.utils.hooks import RemovableHandle

from multiomics_vae.kernels.rounded_copy import RoundedCopy
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.flat_parameter import FlatParameter
from multiomics_vae.training.row_loops import step_whole
from multiomics_vae.training.walk import Walk

FEWEST_ENTRIES = 2**16  # of a matrix that is walked over; compiling and calling cost more than they save
ENTRIES_IN_PIECE = 2**17


class AveragingAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, which also moves an average of the weights along; for processors.

    States are those of AdamW. Without wide matrices everything goes through PyTorch's own loop, and averages
    are left to `WeightAverage.update`; so is what is not averaged at all.

    Parameters
    ----------
    groups
        Parameters and their weight decay.
    learning_rate, betas
        As for AdamW.

    Examples
    --------
    >>> layer = torch.nn.Linear(300, 300)
    >>> optimizer = AveragingAdamW([{"params": layer.parameters()}], 1e-3, (0.9, 0.99))
    >>> optimizer.attach(WeightAverage(layer, 0.99), others=())
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], learning_rate: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(groups, lr=learning_rate, betas=betas, fused=True)
        self.narrow_squared_norm = 0.0
        self._average: WeightAverage | None = None
        self._last_singles: tuple[object, tuple[np.float32, ...]] = (None, ())
        self._wide: set[int] = set()
        self._narrow: set[int] = set()  # the others that this optimiser averages
        self._flat: dict[int, FlatParameter] = {}
        self._late: set[int] | None = None  # None where a step ends with its last walk
        self._walks: dict[int, Walk] = {}  # under way, by parameter
        self._squares: dict[int, float] = {}  # Σ gradient², of those that were walked over
        self._taken: set[int] = set()  # walks that this step has begun
        self._hooks: list[RemovableHandle] = []

    def attach(self, average: WeightAverage, others: Iterable[Tensor]) -> None:
        """Move an average along.

        Parameters
        ----------
        average
            From now on without what this optimiser averages itself.
        others
            Parameters whose average is somebody else's already.
        """
        others = list(others)
        averaged = {id(parameter) for parameter in average.parameters} - {id(other) for other in others}
        own = [
            p
            for group in self.param_groups
            for p in group["params"]
            if id(p) in averaged and p.is_contiguous() and p.dtype == torch.float32
        ]
        self._wide = {id(p) for p in own if p.numel() >= FEWEST_ENTRIES}
        own = own if self._wide else []
        self._average, self._narrow = average, {id(p) for p in own} - self._wide
        average.leave_out([*others, *own])

    def overlap(self, late: Iterable[Tensor]) -> None:
        """Begin a walk as soon as a gradient has come, and end a step while walks go on.

        From now on one backward pass belongs to a step, and whoever reads weights or averages must first
        `finish`, or `finish_early` to read all but the late ones; until `overlap_no_more`.

        Parameters
        ----------
        late
            Parameters that a step reads last.
        """
        self._late = {id(p) for p in late}
        for group in self.param_groups:
            for p in group["params"]:
                if id(p) in self._wide:
                    self._hooks.append(p.register_post_accumulate_grad_hook(partial(self._begin, group)))

    def overlap_no_more(self) -> None:
        """End all walks, and from now on those of a step within it."""
        self._late = None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.finish()

    def walks_over(self, parameter: Tensor) -> bool:
        """Whether a parameter is one of the wide matrices; its gradient may be bfloat16 too."""
        return id(parameter) in self._wide

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Optimise every parameter that has a gradient.

        Parameters
        ----------
        closure
            Called first, if there is one; what it returns is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        squares = 0.0
        for group in self.param_groups:
            rest = []
            for p in group["params"]:
                if id(p) in self._wide:
                    if id(p) not in self._taken:
                        self._begin(group, p)
                elif id(p) in self._narrow:
                    squares += self._step_narrow(p, group)
                elif p.grad is not None:
                    rest.append(p)
            squares += self._step_rest(rest, group)
        self._taken.clear()
        self.narrow_squared_norm = squares
        if self._late is None:
            self.finish()
        return loss

    def finish(self) -> None:
        """End all walks that are under way."""
        for key in list(self._walks):
            self._walks.pop(key).finish()

    def finish_early(self) -> None:
        """End the walks over what the next step reads first."""
        for key in [key for key in self._walks if self._late is None or key not in self._late]:
            self._walks.pop(key).finish()

    @property
    def squared_norm(self) -> float:
        """Σ gradient² of the last step; ends all walks."""
        self.finish()
        return sum(self._squares.values()) + self.narrow_squared_norm

    def squared_norm_of(self, parameter: Tensor) -> float | None:
        """The same of one of the wide matrices; None of others, and of one that had no gradient."""
        self.finish()
        return self._squares.get(id(parameter))

    @torch.no_grad()
    def _begin(self, group: dict[str, Any], parameter: Tensor) -> None:
        """Begin the walk over a wide matrix; without a gradient its average alone moves."""
        key = id(parameter)
        self._taken.add(key)
        if key in self._walks:
            self._walks.pop(key).finish()
        self._squares.pop(key, None)
        piece = self._piece_of(parameter, group)
        if piece is None:
            return
        copy = RoundedCopy.on(parameter)
        if copy is not None:
            copy.forget()

        def after(squares: float) -> None:
            self._squares[key] = squares
            if copy is not None:
                copy.confirm(parameter)

        self._walks[key] = Walk(-(-parameter.numel() // ENTRIES_IN_PIECE), piece, after)

    def _step_rest(self, parameters: list[Tensor], group: dict[str, Any]) -> float:
        """PyTorch's own step of some parameters with gradients; returns Σ gradient²."""
        if not parameters:
            return 0.0
        states = [self._state_of(p) for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        return float(torch.nn.utils.get_total_norm(gradients)) ** 2

    def _step_narrow(self, parameter: Tensor, group: dict[str, Any]) -> float:
        """Step a small parameter and its average at once; returns Σ gradient²."""
        gradient = parameter.grad
        if gradient is None:
            self._move_average(parameter)
            return 0.0
        flat = self._flat_of(parameter)
        singles = self._singles(group, flat.next_step())
        return _walked([*flat.arrays, gradient.numpy().reshape(-1)], None, singles)

    def _piece_of(self, parameter: Tensor, group: dict[str, Any]) -> Callable[[int], float] | None:
        """A function that walks over a piece of a wide matrix; None without a gradient."""
        gradient = parameter.grad
        if gradient is None:
            self._move_average(parameter)
            return None
        flat, copy = self._flat_of(parameter), RoundedCopy.on(parameter)
        singles = self._singles(group, flat.next_step())
        entries = gradient.view(torch.uint16) if gradient.dtype == torch.bfloat16 else gradient
        rounded = None if copy is None else copy.tensor.view(torch.uint16).numpy().reshape(-1)
        arrays = [*flat.arrays, entries.numpy().reshape(-1)]

        def walk(i: int) -> float:
            here = slice(i * ENTRIES_IN_PIECE, (i + 1) * ENTRIES_IN_PIECE)
            copied = None if rounded is None else rounded[here]
            return _walked([array[here] for array in arrays], copied, singles)

        return walk

    def _move_average(self, parameter: Tensor) -> None:
        """Let the average alone take a step."""
        assert self._average is not None
        self._average.of(parameter).lerp_(parameter.detach(), 1.0 - self._average.next_decay)

    def _flat_of(self, parameter: Tensor) -> FlatParameter:
        assert self._average is not None
        average, state = self._average.of(parameter), self._state_of(parameter)
        flat = self._flat.get(id(parameter))
        if flat is None or not flat.is_of(parameter, average, state):
            flat = self._flat[id(parameter)] = FlatParameter(parameter, average, state)
        return flat

    def _singles(self, group: dict[str, Any], n_steps: float) -> tuple[np.float32, ...]:
        """The numbers that a loop is given, at the step of a number."""
        assert self._average is not None
        of_group = (group["lr"], group["weight_decay"], group["betas"], group["eps"])
        key = (n_steps, self._average.n_updates, *of_group)
        if self._last_singles[0] != key:
            beta_mean, beta_square = group["betas"]
            root = (1.0 - beta_square**n_steps) ** 0.5
            rate = group["lr"] * root / (1.0 - beta_mean**n_steps)
            shrink = 1.0 - group["lr"] * group["weight_decay"]
            numbers = (beta_mean, beta_square, rate, shrink, group["eps"] * root, self._average.next_decay)
            self._last_singles = key, tuple(np.float32(number) for number in numbers)
        return self._last_singles[1]

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _walked(
    arrays: list[NDArray[Any]], rounded: NDArray[Any] | None, singles: tuple[np.float32, ...]
) -> float:
    """One walk over some entries; returns Σ gradient²."""
    arguments: tuple[Any, ...] = (*arrays, rounded, *singles)
    return float(step_whole(*arguments))
