"""The loop behind every answer: cells in minibatches, through the encoders, to their posteriors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.fusion import Evidence, Fused
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True)
class Inferred:
    """A minibatch and what was inferred of it."""

    minibatch: Minibatch
    evidence: Evidence
    fused: Fused
    noise: CellNoise

    def sample(self, n_samples: int) -> Tensor:
        """Draws of z that belong to the cells: ``(S, B, K)``."""
        components = self.fused.posterior.components
        device = components.mean.device
        return self.fused.posterior.sample(
            self.noise.normal(n_samples, components.mean.shape[-1]).to(device),
            self.noise.choice(n_samples).to(device),
        )


def infer(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    given: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Iterator[Inferred]:
    """Infer the posteriors of some cells, without gradients, in evaluation mode.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    given
        Positions of the modalities to condition on; None conditions on all that a cell has.
    seed
        Of the cells' noise.
    """
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            for minibatch in MinibatchLoader(data, cells, batch_size):
                names = data.cell_names[minibatch.cells.numpy()]
                minibatch = minibatch.to(device)
                available = minibatch.present
                if given is not None:
                    chosen = torch.zeros(available.shape[1], dtype=torch.bool, device=device)
                    chosen[list(given)] = True
                    available = available & chosen
                evidence = module.encode(minibatch)
                fused = module.fuse(evidence, available)
                yield Inferred(minibatch, evidence, fused, CellNoise(names, seed))
    finally:
        module.train(was_training)
