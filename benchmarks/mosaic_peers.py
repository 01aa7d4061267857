"""Peers that embed mosaics: ``python mosaic_peers.py mofa|midas DATA_FILE SEED OUT.npz``.

A script of its own, for an interpreter that has mofapy2 or scmidas: scmidas asks for an older torch than
the rest here. OUT gets the embedding ``Z`` of all cells in the order of the file, CPU seconds from the raw
counts to it (imports are not counted), and the versions.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import mudata as md
import numpy as np
import torch

FACTORS = 15


def mofa(mdata: md.MuData, seed: int) -> tuple[np.ndarray, float]:
    """MOFA+ of log-normalised RNA and centred log ratios of proteins; a missing modality is NaN.

    Both views are centred and scaled to the same variance, and all cells are of one group. The rest is
    mofapy2's default: ARD and spike and slab on the weights, at most 1 000 iterations, fast convergence.
    """
    from mofapy2.run.entry_point import entry_point

    started = process_time()
    rna, proteins = (_dense(mdata[name].X) for name in ("rna", "prot"))
    rna = np.log1p(1e4 * rna / np.maximum(rna.sum(1, keepdims=True), 1))
    proteins = np.log1p(proteins)
    proteins -= proteins.mean(1, keepdims=True)
    views = {"rna": rna, "prot": proteins}
    for name, values in views.items():
        views[name] = np.full((mdata.n_obs, values.shape[1]), np.nan)
        views[name][mdata.obs_names.get_indexer(mdata[name].obs_names)] = values
    model = entry_point()
    model.set_data_options(scale_views=True)
    # Cells are named for mofapy2 to check that no name comes twice; the order stays.
    model.set_data_matrix([[values] for values in views.values()], samples_names=[mdata.obs_names.tolist()])
    model.set_model_options(factors=FACTORS)
    model.set_train_options(seed=seed)
    model.build()
    model.run()
    return model.model.nodes["Z"].getExpectation(), process_time() - started


def midas(mdata: md.MuData, seed: int) -> tuple[np.ndarray, float]:
    """MIDAS by `scmidas.integrate` as it is; the embedding is the mean of c, without the technical u.

    Its settings (batch 128, 65 epochs, learning rate 3e-4) are those that its authors tuned on these cells:
    the file is the one that scmidas is shipped with. Only the 20 processes that load data are taken away.
    """
    import scmidas

    scmidas.load_config().update(num_workers=0, persistent_workers=False, pin_memory=False)
    started = process_time()
    renamed = md.MuData({"rna": mdata["rna"], "adt": mdata["prot"]})
    # Logs and checkpoints go to where they are thrown away.
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        scmidas.integrate(renamed, seed=seed, accelerator="cpu")
    Z = renamed.obsm["X_midas"][renamed.obs_names.get_indexer(mdata.obs_names)]
    return Z, process_time() - started


def _dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)


if __name__ == "__main__":
    method, data, seed, out = sys.argv[1:]
    run, package = {"mofa": (mofa, "mofapy2"), "midas": (midas, "scmidas")}[method]
    Z, seconds = run(md.read_h5mu(data), int(seed))
    versions = [f"{name} {version(name)}" for name in (package, "torch", "numpy")]
    np.savez(Path(out), Z=Z, seconds=seconds, versions=versions)
    print(f"{Z.shape[0]} cells, {Z.shape[1]} dimensions, {torch.get_num_threads()} threads", file=sys.stderr)
