"""Scores an embedding by scib-metrics: ``python scib_worker.py arrays.npz`` prints them as JSON.

A script of its own, so that an interpreter with scib-metrics and without this project can run it.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def scib_scores(Z: np.ndarray, labels: np.ndarray, batch: np.ndarray) -> dict[str, float]:
    """Leiden clusters at the best resolution, k-means, silhouettes, LISI, connectivity, by scib-metrics."""
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import pynndescent

    Z = Z.astype(np.float32)
    near = pynndescent(Z, n_neighbors=90, random_state=0)
    leiden = scib.nmi_ari_cluster_labels_leiden(near, labels, optimize_resolution=True, resolution=1.0)
    k_means = scib.nmi_ari_cluster_labels_kmeans(Z, labels)
    return {
        "ari_leiden": float(leiden["ari"]),
        "nmi_leiden": float(leiden["nmi"]),
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
