"""Whether a training leaves torch one thread, because its wide work is shared out in blocks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import scipy.sparse as sp
import torch

from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.kernels.compiled.blocks import torch_alone
from multiomics_vae.kernels.differentiable import FEWEST_COMPILED_ENTRIES
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.module import ModalityParts, MultimodalModule

# Multiplications of one matrix product that one thread does in a fraction of a millisecond.
MOST_ALONE = 2**24


def training_threads(
    module: MultimodalModule, data: MultimodalData, batch_size: int
) -> AbstractContextManager[None]:
    """A context in which steps on a processor are fast: torch has one thread where that is enough.

    Parameters
    ----------
    module, data, batch_size
        What is trained on what.
    """
    return torch_alone() if needs_one_thread(module, data, batch_size) else nullcontext()


def needs_one_thread(module: MultimodalModule, data: MultimodalData, batch_size: int) -> bool:
    """Whether nothing in a step is wide but what is done in blocks: output layers and sparse inputs."""
    return all(
        _is_narrow(part, table, batch_size) for part, table in zip(module.parts, data.modalities, strict=True)
    )


def _is_narrow(part: ModalityParts, table: ModalityData, batch_size: int) -> bool:
    decoder, encoder = part.decoder, part.encoder
    n_outputs = sum(len(layer.bias) for layer in decoder.last_layers)
    if batch_size * n_outputs >= FEWEST_COMPILED_ENTRIES and not _is_compiled(part, table):
        return False
    hidden = [*encoder.hidden.parameters(), *decoder.hidden.parameters()]
    matrices = [parameter for parameter in hidden if parameter.ndim > 1]
    if encoder.projection is None and sp.issparse(table.values) and len(encoder.hidden.layers):
        matrices = matrices[1:]  # reads sparse rows
    return batch_size * max((len(m) * m.shape[1] for m in matrices), default=0) <= MOST_ALONE


def _is_compiled(part: ModalityParts, table: ModalityData) -> bool:
    one_cell = CellContext(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    terms = part.likelihood.fused_terms(one_cell)
    if terms is None or not sp.issparse(table.values) or not terms.kernel.is_compiled:
        return False
    return terms.log_dispersion is None or terms.log_dispersion.numel() == part.likelihood.n_features
