"""Whether the modalities of a cell tell the same story."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.memory import memory_for
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.fusion.disagreement import disagreement, modality_pairs
from multiomics_vae.module import MultimodalModule


@dataclass(frozen=True)
class DisagreementTable:
    """Disagreement of N cells.

    Parameters
    ----------
    pairs
        Names of the two modalities, joined by ``|``.
    values
        As in `fusion.disagreement.disagreement`, ``(N, P)``, float32.
    """

    pairs: tuple[str, ...]
    values: np.ndarray


def disagreement_table(
    module: MultimodalModule, data: MultimodalData, cells: np.ndarray, batch_size: int
) -> DisagreementTable:
    """Compare the experts of every pair of modalities in some cells.

    Raises
    ------
    InputError
        If the fusion rule has no experts of single modalities.
    """
    if not all((m,) in module.fusion.experts for m in range(module.n_modalities)):
        raise InputError(
            f"fusion={module.fusion.name!r} has no experts of single modalities that could disagree. "
            "Build the model with another rule: MultiVAE(mdata, fusion='product')"
        )
    names = data.schema.modality_names
    pairs = modality_pairs(module.n_modalities)
    values = np.full((len(cells), len(pairs)), np.nan, dtype=np.float32)
    start = 0
    with memory_for(batch_size):
        for inferred in infer(module, data, cells, batch_size):
            here = slice(start, start + inferred.minibatch.n_cells)
            found = disagreement(inferred.evidence.experts, inferred.minibatch.present)  # (P, B)
            values[here] = found.T.cpu().numpy()
            start = here.stop
    return DisagreementTable(tuple(f"{names[a]}|{names[b]}" for a, b in pairs), values)
