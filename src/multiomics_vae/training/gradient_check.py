"""Whether the gradients of a step were finite, and whose was not."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.touched_rows import TouchedRows


class GradientCheck:
    """Looks at norms, which an optimiser that walks over wide matrices sums up on its way.

    Parameters
    ----------
    learned
        All parameters, by name.
    modality_names
        For what is said about them.
    rows, optimizer
        Who optimises.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> optimizer = torch.optim.AdamW(layer.parameters())
    >>> check = GradientCheck(layer.named_parameters(), (), TouchedRows(), optimizer)
    >>> layer.weight.grad = torch.full((1, 2), float("nan"))
    >>> check.before_step(3)
    'The gradient of weight stopped being finite at step 3.'
    """

    def __init__(
        self,
        learned: Iterable[tuple[str, nn.Parameter]],
        modality_names: tuple[str, ...],
        rows: TouchedRows,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._learned, self._modality_names, self._rows = list(learned), modality_names, rows
        self._walking = optimizer if isinstance(optimizer, AveragingAdamW) else None
        self._walking_since: int | None = None

    def before_step(self, step: int) -> str | None:
        """What is wrong before the optimiser's step, if it does not look itself."""
        if self._walking is not None:
            return None
        found = (self._rows.gradient(parameter) for _, parameter in self._learned)
        norm = float(torch.nn.utils.get_total_norm([g for g in found if g is not None]))
        return self._sentence(norm, step)

    def after_step(self, step: int) -> str | None:
        """What is wrong after it, as far as is known while its walks may go on."""
        if self._walking is None:
            return None
        self._walking_since = step
        return self._sentence(self._walking.narrow_squared_norm, step)

    def after_walks(self) -> str | None:
        """What is wrong with the wide matrices of the last step; ends all walks over them."""
        if self._walking is None or self._walking_since is None:
            return None
        step, self._walking_since = self._walking_since, None
        return self._sentence(self._walking.squared_norm + self._rows.squared_norm, step)

    def _sentence(self, norm: float, step: int) -> str | None:
        return None if math.isfinite(norm) else f"{self._whose()} stopped being finite at step {step}."

    def _whose(self) -> str:
        for name, parameter in self._learned:
            if not self._is_finite(parameter):
                room, _, rest = name.partition(".")
                number = rest.partition(".")[0]
                if room == "modalities":
                    return f"The gradient of {name} (modality {self._modality_names[int(number)]!r})"
                return f"The gradient of {name}"
        return "The norm of the gradient"

    def _is_finite(self, parameter: nn.Parameter) -> bool:
        squares = self._rows.squared_norm_of(parameter)
        if squares is None and self._walking is not None:
            squares = self._walking.squared_norm_of(parameter)
        if squares is not None and not math.isfinite(squares):
            return False  # gradients are let go of before a walk has ended
        gradient = self._rows.gradient(parameter)
        return gradient is None or bool(torch.isfinite(gradient).all())
