"""Features drawn for the next step while the last one runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch, ModalityBatch
from multiomics_vae.kernels import DrawnEntries, SparseRows
from multiomics_vae.kernels.compiled.blocks import give_way

N_BYTES = 7  # of a seed, which torch wants to fit 64 bits with a sign


def draws_ahead(
    chances: tuple[Tensor | None, ...], seed: int, counted: tuple[bool, ...]
) -> Callable[[Minibatch], Minibatch]:
    """A function that draws the features of a minibatch; for the thread that gathers minibatches.

    What is drawn follows from the seed and the cells of the minibatch, of which every pass has others, and
    not from what was drawn before: a training that goes on in the middle of a pass draws as if it had not
    stopped.

    Parameters
    ----------
    chances
        Of each modality, on the processor; None where all features are looked at.
    seed
        Of the training.
    counted
        Of which modalities all entries are counted: those whose means are shares among features.
    """

    def drawn(minibatch: Minibatch) -> Minibatch:
        generator = torch.Generator().manual_seed(_seed_of(minibatch.cells, seed))
        found = [
            batch if each is None else _with_drawn(batch, each, generator, with_count)
            for batch, each, with_count in zip(minibatch.modalities, chances, counted, strict=True)
        ]
        return replace(minibatch, modalities=tuple(found))

    return drawn


def _with_drawn(
    batch: ModalityBatch, chances: Tensor, generator: torch.Generator, with_count: bool
) -> ModalityBatch:
    if not isinstance(batch.values, SparseRows) or batch.gaps is not None:
        return batch
    give_way()
    return replace(batch, drawn=DrawnEntries.draw(batch.values, chances, generator, with_count))


def _seed_of(cells: Tensor, seed: int) -> int:
    key = int(seed).to_bytes(16, "little", signed=True)
    digest = hashlib.blake2b(cells.numpy().tobytes(), digest_size=N_BYTES, key=key).digest()
    return int.from_bytes(digest, "little")
