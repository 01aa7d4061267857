"""The wide matrices of which a step sees some rows, and how they are optimised."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from multiomics_vae.kernels import FeatureSample
from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.lazy_matrix import LazyMatrix
from multiomics_vae.training.optimizer import AveragingAdamW
from multiomics_vae.training.prompt_matrix import PromptMatrix
from multiomics_vae.training.touched_matrix import TouchedMatrix


class TouchedRows:
    """All matrices of a module that are optimised by rows.

    Parameters
    ----------
    waiting
        Matrices that nothing reads but the rows that are drawn.
    read
        Matrices of which all rows are read at every step.

    Examples
    --------
    >>> rows = TouchedRows([nn.Parameter(torch.zeros(4, 2))])
    >>> optimizer = torch.optim.AdamW(rows.parameters)
    """

    def __init__(self, waiting: Iterable[Tensor] = (), read: Iterable[Tensor] = ()) -> None:
        self.waiting, self.read = list(waiting), list(read)
        self._matrices: dict[int, TouchedMatrix] = {}
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """All of them."""
        return [*self.waiting, *self.read]

    @classmethod
    def of(cls, module: MultimodalModule, chances: tuple[Tensor | None, ...]) -> TouchedRows:
        """The last layers of decoders of which a part is drawn, by the chances of each modality.

        Where means are shares among features, their normaliser reads all rows at every step. A prior on the
        weights gives all rows a gradient; such layers are left out.
        """
        waiting: list[Tensor] = []
        read: list[Tensor] = []
        for part, drawn in zip(module.parts, chances, strict=True):
            if drawn is None or part.decoder.weight_precision != 0.0:
                continue
            (read if part.likelihood.normalised_over_features else waiting).extend(
                layer.weight
                for layer in part.decoder.last_layers
                if layer.weight.requires_grad
                and layer.weight.is_leaf
                and layer.weight.is_contiguous()
                and layer.weight.dtype == torch.float32
            )
        return cls(waiting, read)

    def attach(self, optimizer: torch.optim.AdamW, average: WeightAverage) -> None:
        """Take over the matrices from an optimiser and an average of weights."""
        self._optimizer = optimizer
        if isinstance(optimizer, AveragingAdamW):
            optimizer.attach(average, self.parameters)
        else:
            average.leave_out(self.parameters)
        self._matrices = {id(p): LazyMatrix(p, optimizer, average) for p in self.waiting}
        self._matrices |= {id(p): PromptMatrix(p, optimizer, average) for p in self.read}
        optimizer.register_step_post_hook(lambda *_: self._step())

    def take(self, parameter: Tensor, sample: FeatureSample) -> Tensor:
        """The drawn rows of a parameter, ``(n, H)``; differentiable."""
        matrix = self._matrices.get(id(parameter))
        return sample.rows_of(parameter) if matrix is None else matrix.take(sample.features)

    def overlap(self, late: Iterable[Tensor]) -> None:
        """Begin walks over wide matrices as soon as gradients have come, and end a step while they go on.

        Those of the optimiser that was attached too. From now on a step has one backward pass, and does not
        both draw rows of a matrix and give all its rows a gradient; `before_encoders` and `before_outputs`
        come in every step, and `settle` before anybody else reads weights. Until `overlap_no_more`.

        Parameters
        ----------
        late
            The weights of output layers.
        """
        if isinstance(self._optimizer, AveragingAdamW):
            self._optimizer.overlap(late)
        for matrix in self._matrices.values():
            matrix.overlaps = True

    def overlap_no_more(self) -> None:
        """End all walks, and from now on those of a step within it."""
        if isinstance(self._optimizer, AveragingAdamW):
            self._optimizer.overlap_no_more()
        for matrix in self._matrices.values():
            matrix.overlaps = False
            matrix.finish()

    def before_encoders(self) -> None:
        """End the walks over all but the weights of output layers."""
        if isinstance(self._optimizer, AveragingAdamW):
            self._optimizer.finish_early()

    def before_outputs(self) -> None:
        """End all walks, the optimiser's too: what the next step reads is up to date then."""
        if isinstance(self._optimizer, AveragingAdamW):
            self._optimizer.finish()
        for matrix in self._matrices.values():
            matrix.finish()

    def gradient(self, parameter: Tensor) -> Tensor | None:
        """The gradient of a parameter, or of those of its rows that were drawn."""
        matrix = self._matrices.get(id(parameter))
        rows = None if matrix is None else matrix.gradient
        return parameter.grad if rows is None else rows

    @property
    def squared_norm(self) -> float:
        """Σ gradient² of the rows that the last step has optimised here; ends all walks."""
        self.before_outputs()
        return sum(matrix.squares for matrix in self._matrices.values())

    def squared_norm_of(self, parameter: Tensor) -> float | None:
        """The same of one matrix; None if it is none of these."""
        self.before_outputs()
        matrix = self._matrices.get(id(parameter))
        return None if matrix is None else matrix.squares

    def before_step(self) -> None:
        """To be called between the backward pass and the optimiser's step."""
        for matrix in self._matrices.values():
            matrix.before_step()

    def settle(self) -> None:
        """Bring all rows up to date: before anything but a training step reads the weights."""
        self.before_outputs()
        for matrix in self._matrices.values():
            matrix.settle()

    @torch.no_grad()
    def _step(self) -> None:
        for matrix in self._matrices.values():
            matrix.step()
