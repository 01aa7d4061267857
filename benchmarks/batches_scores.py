"""scib-metrics of an embedding whose cells need not all have a label.

``python batches_scores.py arrays.npz …`` prints the scores of each as a line of JSON. It is a script of its
own, so that an interpreter with scib-metrics and without this project can run it; one process scores many
embeddings, because the neighbour search compiles itself for a minute in every process. Biology and batches
are scored on labelled cells; iLISI, which needs no labels, on all.
"""

from __future__ import annotations

import json
import sys

import numpy as np

BIO = ("ari_leiden", "nmi_leiden", "ari_kmeans", "asw", "clisi")
BATCH = ("batch_asw", "ilisi", "graph_connectivity")
NEIGHBOURS = 90


def batch_scores(
    Z: np.ndarray, labels: np.ndarray, batch: np.ndarray, labelled: np.ndarray
) -> dict[str, float]:
    """Score an embedding; what is not defined (one batch among the labelled cells) is left out.

    The row of figures is that of ``scib_worker.scib_scores``. ``bio`` and ``batch`` are the means of `BIO`
    and of those of `BATCH` that are there, ``total`` = 0.6 bio + 0.4 batch.
    """
    import scib_metrics as scib
    from scib_metrics.nearest_neighbors import pynndescent

    Z = Z.astype(np.float32)
    near = pynndescent(Z, n_neighbors=NEIGHBOURS, random_state=0)
    scores = {"ilisi": float(scib.ilisi_knn(near, batch))}
    X, y, b = Z[labelled], labels[labelled], batch[labelled]
    if not labelled.all():
        near = pynndescent(X, n_neighbors=NEIGHBOURS, random_state=0)
    leiden = scib.nmi_ari_cluster_labels_leiden(near, y, optimize_resolution=True, resolution=1.0)
    k_means = scib.nmi_ari_cluster_labels_kmeans(X, y)
    scores |= {
        "ari_leiden": float(leiden["ari"]),
        "nmi_leiden": float(leiden["nmi"]),
        "ari_kmeans": float(k_means["ari"]),
        "nmi_kmeans": float(k_means["nmi"]),
        "asw": float(scib.silhouette_label(X, y)),
        "clisi": float(scib.clisi_knn(near, y)),
        "graph_connectivity": float(scib.graph_connectivity(near, y)),
    }
    if len(np.unique(b)) > 1:
        scores["batch_asw"] = float(scib.silhouette_batch(X, y, b))
    return scores | summary(scores)


def summary(scores: dict[str, float]) -> dict[str, float]:
    """Bio, batch and total."""
    bio = float(np.mean([scores[name] for name in BIO]))
    batch = float(np.mean([scores[name] for name in BATCH if name in scores]))
    return {"bio": bio, "batch": batch, "total": 0.6 * bio + 0.4 * batch}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with np.load(path) as arrays:
            found = batch_scores(*(arrays[name] for name in ("Z", "labels", "batch", "labelled")))
        print(json.dumps(found), flush=True)
