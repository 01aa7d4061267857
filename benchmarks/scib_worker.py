"""Scores an embedding by scib-metrics: ``python scib_worker.py arrays.npz`` prints them as JSON.

A script of its own, so that an interpreter with scib-metrics and without this project can run it.
"""

from __future__ import annotations

import json
import sys

import numpy as np

# scib-metrics tries 0.2, 0.4 … 2.0. With eight types the best is often the coarsest of these, and whether
# it cuts a type in two is then chance.
FINE_RESOLUTIONS = np.arange(0.05, 1.01, 0.05)


def scib_scores(Z: np.ndarray, labels: np.ndarray, batch: np.ndarray) -> dict[str, float]:
    """Leiden clusters at the best resolution, k-means, silhouettes, LISI, connectivity, by scib-metrics.

    The resolution is that of the highest NMI: of ten, as scib-metrics chooses it, and (``fine``) of twenty
    that begin coarser.
    """
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import pynndescent

    Z = Z.astype(np.float32)
    near = pynndescent(Z, n_neighbors=90, random_state=0)
    leiden = scib.nmi_ari_cluster_labels_leiden(near, labels, optimize_resolution=True, resolution=1.0)
    fine = [
        scib.nmi_ari_cluster_labels_leiden(near, labels, optimize_resolution=False, resolution=resolution)
        for resolution in FINE_RESOLUTIONS
    ]
    best = max(fine, key=lambda found: found["nmi"])
    k_means = scib.nmi_ari_cluster_labels_kmeans(Z, labels)
    return {
        "ari_leiden": float(leiden["ari"]),
        "nmi_leiden": float(leiden["nmi"]),
        "ari_leiden_fine": float(best["ari"]),
        "nmi_leiden_fine": float(best["nmi"]),
        "ari_kmeans": float(k_means["ari"]),
        "asw": float(scib.silhouette_label(Z, labels)),
        "batch_asw": float(scib.silhouette_batch(Z, labels, batch)),
        "ilisi": float(scib.ilisi_knn(near, batch)),
        "clisi": float(scib.clisi_knn(near, labels)),
        "graph_connectivity": float(scib.graph_connectivity(near, labels)),
    }


if __name__ == "__main__":
    with np.load(sys.argv[1]) as arrays:
        print(json.dumps(scib_scores(arrays["Z"], arrays["labels"], arrays["batch"])))
