"""MULTIVI of scvi-tools with its defaults: one training, and what one of its encoders says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata as md
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from peer_cap import CpuCap

if TYPE_CHECKING:
    from scvi.model import MULTIVI

ROWS = 512
Floats = NDArray[np.floating]


def fit_multivi(mdata: md.MuData, seed: int, cap_seconds: float) -> tuple[MULTIVI, str]:
    """Train on cells that are whole, or have zeros where they lack a modality; peaks are made 0 and 1."""
    import scvi

    scvi.settings.seed = seed
    own = md.MuData({name: mdata[name].copy() for name in ("rna", "atac")})
    own["atac"].X = (sp.csr_matrix(own["atac"].X) > 0).astype(np.float32)
    own["rna"].X = sp.csr_matrix(own["rna"].X, dtype=np.float32)
    scvi.model.MULTIVI.setup_mudata(own, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    model = scvi.model.MULTIVI(own)
    cap = CpuCap(cap_seconds)
    model.train(accelerator="cpu", callbacks=[cap], enable_progress_bar=False)
    model.module.eval()
    return model, cap.note


@torch.inference_mode()
def embed(model: MULTIVI, modality: str, x: sp.csr_matrix) -> Floats:
    """Mean of q(z | one modality): ``(n, K)``."""
    module = model.module
    encoder = module.z_encoder_expression if modality == "rna" else module.z_encoder_accessibility
    x = sp.csr_matrix(x, dtype=np.float32)
    if modality == "atac":
        x = (x > 0).astype(np.float32)
    found = []
    for start in range(0, x.shape[0], ROWS):
        rows = torch.from_numpy(x[start : start + ROWS].toarray())
        found.append(encoder(rows, torch.zeros(len(rows), 1, dtype=torch.int64))[0].numpy())
    return np.concatenate(found)
