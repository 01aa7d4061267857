"""What an encoder makes of a minibatch before anything is learned, done beside the training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from multiomics_vae.data.minibatch import Minibatch, ModalityBatch
from multiomics_vae.kernels import SparseRows
from multiomics_vae.kernels.compiled.blocks import give_way
from multiomics_vae.module import ModalityParts, MultimodalModule


def input_transforms(module: MultimodalModule) -> Callable[[Minibatch], Minibatch]:
    """A function that sets the encoder inputs of a minibatch; for the thread that gathers minibatches.

    Parameters
    ----------
    module
        Whose encoders are asked, on a processor; transforms have nothing to learn.
    """
    parts = module.parts

    @torch.no_grad()
    def transformed(minibatch: Minibatch) -> Minibatch:
        found = zip(parts, minibatch.modalities, strict=True)
        return replace(minibatch, modalities=tuple(_with_inputs(part, batch) for part, batch in found))

    return transformed


def _with_inputs(part: ModalityParts, batch: ModalityBatch) -> ModalityBatch:
    encoder = part.encoder
    wanted = batch.encoder_inputs is None and encoder.projection is None
    if not wanted or not isinstance(batch.values, SparseRows):
        return batch
    give_way()
    return replace(batch, encoder_inputs=encoder.transformed(batch))
