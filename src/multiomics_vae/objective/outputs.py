"""Expected log likelihoods of all views of a step, through the output layers in one pass a modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.kernels import ChunkOptions
from multiomics_vae.module import MultimodalModule, OutputPart
from multiomics_vae.objective.config import Economy
from multiomics_vae.objective.views import View


@dataclass(frozen=True)
class OutputParts:
    """How the output layers are evaluated in one step, the same for the joint and every subset.

    Parameters
    ----------
    drawn
        The drawn features of each modality; None for all.
    options
        Precision of their products.
    """

    drawn: tuple[OutputPart | None, ...]
    options: ChunkOptions

    @classmethod
    def draw(
        cls, module: MultimodalModule, minibatch: Minibatch, economy: Economy, noise: StepNoise
    ) -> OutputParts:
        """Draw the features of a step, if it is to look at a part of them."""
        if economy.rows is not None:
            economy.rows.before_outputs()
        drawn: list[OutputPart | None] = []
        for m, batch in enumerate(minibatch.modalities):
            chances = economy.chances[m] if economy.chances else None
            if chances is None:
                drawn.append(None)
                continue
            covariates, generator = minibatch.covariates, noise.generator
            drawn.append(module.draw_features(m, batch, covariates, chances, generator, economy.rows))
        return cls(tuple(drawn), ChunkOptions(product_dtype=economy.product_dtype))


def log_likelihoods(
    module: MultimodalModule,
    minibatch: Minibatch,
    views: list[View],
    parts: OutputParts,
    modality_weights: tuple[float, ...],
    watch: Callable[[Tensor, int], Tensor] | None,
) -> Tensor:
    """Expected log likelihood by view and modality, summed over the counted cells: ``(V, M)``.

    All views of a modality are evaluated together; the first of them is the joint one.

    Parameters
    ----------
    module, minibatch, views, parts
        The model, the cells, their posteriors, and how output layers are evaluated.
    modality_weights
        λ, by which the loss will weigh the modalities.
    watch
        Sees the joint z before each decoder reads it; None for nobody.
    """
    sums = [[views[0].z.new_zeros(()) for _ in range(module.n_modalities)] for _ in views]
    for m, batch in enumerate(minibatch.modalities):
        readers = [v for v, view in enumerate(views) if m in view.targets]
        if len(batch.rows) == 0 or not readers:
            continue
        z = [views[v].read_by(m) for v in readers]
        if watch and readers[0] == 0:
            z[0] = watch(z[0], m)
        weights = [batch.rows_of(views[v].weights * views[v].counted, 1) for v in readers]
        of_loss = -modality_weights[m] / minibatch.n_cells
        found = module.log_likelihood(
            m,
            batch,
            torch.cat(z),  # (S, B, K)
            minibatch.covariates,
            torch.cat(weights),  # (S, B_m)
            parts.drawn[m],
            parts.options,
            upstream=tuple(of_loss * views[v].weight for v in readers for _ in views[v].z),
            at_draws=tuple(views[v].reads_draws(m) for v in readers for _ in views[v].z),
        )
        totals = torch.split(found.totals, [len(views[v].z) for v in readers])
        for v, total in zip(readers, totals, strict=True):
            sums[v][m] = total.sum()
    return torch.stack([torch.stack(row) for row in sums])
