"""Cells that do not fit the memory: registration, training and answers stay below a fixed bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

MIB = 1 << 20
BOUND = 240 * MIB
N_FEATURES, NONZEROS_A_CELL, N_BLOCK = 6_000, 3_000, 250
N_CELLS = 53_000

# Peak resident memory of a process before the file is opened, and after every step.
PROGRAM = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import mudata, numpy as np
from multiomics_vae import MultiVAE
sys.path.insert(0, sys.argv[2])
from small_models import make_model, train
train(make_model())  # imports what is imported late
def peak():
    # Not ru_maxrss: that of a new process starts at what the process that started it holds.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
baseline = peak()
mdata = mudata.read_h5mu(sys.argv[1], backed=True)
peaks = {"open": peak()}
MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb"})
peaks["setup"] = peak()
model = MultiVAE(mdata, n_latent=4, n_hidden=16)
peaks["model"] = peak()
model.train(1, progress=False, batch_size=128)
peaks["train"] = peak()
latent = model.get_latent_representation(batch_size=128)
peaks["latent"] = peak()
print(json.dumps({"above": {k: v - baseline for k, v in peaks.items()}, "baseline": baseline,
                  "shape": latent.shape, "finite": bool(np.isfinite(latent).all())}))
"""


def write_large(path: Path) -> int:
    """Write a small file of one block of cells over and over; return its size once read, in bytes."""
    rng = np.random.default_rng(0)
    names = pd.DataFrame(index=[f"cell_{i}" for i in range(N_CELLS)])
    shell = AnnData(
        sp.csr_matrix((N_CELLS, N_FEATURES), dtype=np.float32),
        obs=names,
        var=pd.DataFrame(index=[f"gene_{j}" for j in range(N_FEATURES)]),
    )
    mudata.MuData({"rna": shell}).write_h5mu(path)
    # Two kinds of cells, so that what is repeated lies within the reach of the compression.
    kinds = [np.sort(rng.choice(N_FEATURES, NONZEROS_A_CELL, replace=False)) for _ in range(2)]
    columns = np.tile(np.concatenate(kinds), N_BLOCK // 2).astype(np.int32)
    values = np.tile(rng.integers(1, 4, 2 * NONZEROS_A_CELL), N_BLOCK // 2).astype(np.float32)
    with h5py.File(path, "r+") as file:
        group = file["mod/rna/X"]
        for name, block in (("data", values), ("indices", columns)):
            del group[name]
            whole = group.create_dataset(
                name,
                (N_CELLS * NONZEROS_A_CELL,),
                block.dtype,
                chunks=(1 << 16,),
                compression="gzip",
                compression_opts=1,
            )
            for start in range(0, len(whole), len(block)):
                whole[start : start + len(block)] = block
        group["indptr"][:] = np.arange(N_CELLS + 1) * NONZEROS_A_CELL
        return N_CELLS * NONZEROS_A_CELL * 8


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak where Linux keeps it")
def test_row_65_peak_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.h5mu"
    assert write_large(path) >= 5 * BOUND
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(Path(__file__).parent)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["shape"] == [N_CELLS, 4]
    assert found["finite"]
    assert max(found["above"].values()) < BOUND, found
