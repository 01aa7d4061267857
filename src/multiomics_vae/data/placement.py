"""Which values are kept on the device that trains."""

from __future__ import annotations

from dataclasses import replace

import scipy.sparse as sp
import torch

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.resident import ResidentRows, n_bytes

SHARE_OF_FREE_MEMORY = 0.5


def with_resident_values(
    data: MultimodalData, device: torch.device, budget: int | None = None
) -> MultimodalData:
    """Copy sparse values in memory to a device, the smallest matrices first, as many as fit.

    Parameters
    ----------
    data
        Registered cells. Dense values, and values on disk, are not copied.
    device
        A GPU.
    budget
        Bytes that may be taken; None takes half of what is free there.

    Returns
    -------
    MultimodalData
        The same cells, whose minibatches are gathered on the device where their values are.
    """
    left = int(SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]) if budget is None else budget
    parts = list(data.modalities)
    sparse = {m: part.values for m, part in enumerate(parts) if isinstance(part.values, sp.csr_matrix)}
    for m in sorted(sparse, key=lambda m: n_bytes(sparse[m])):
        needed = n_bytes(sparse[m])
        if needed <= left:
            left -= needed
            parts[m] = replace(parts[m], resident=ResidentRows(sparse[m], device))
    return replace(data, modalities=tuple(parts))
