"""Mosaics: cells that lack modalities, in two data sets.

``midas``: PBMC of four batches, two of which have one modality only, beside MOFA+ and MIDAS, all scored by
scib-metrics. ``removed``: SNARE-seq with RNA taken from 40 % of the cells and ATAC
from another 40 %, against the same model with nothing taken away. Records and table as in
``imputation.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mudata as md
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from markers import write_between_markers
from mosaic_removed import draw_removal, foscttm, remove, with_zeros
from peer_multivi import embed, fit_multivi
from records import Stopwatch
from scores import MIN_CELLS_OF_A_TYPE, UNLABELLED

HERE = Path(__file__).resolve().parent
PAIR_WEIGHTS = {"paired_16": 16.0, "paired_24": 24.0}  # of distance_nce
METHODS = {
    "product": "MultiVAE, product",
    "gated": "MultiVAE, gated",
    "loose": "MultiVAE, product, kl_weight=0.1",
    "adversarial": 'MultiVAE, product, batch_correction="adversarial"',
    **{name: f"MultiVAE, product, distance_nce={weight:g}" for name, weight in PAIR_WEIGHTS.items()},
    "multivi": "MULTIVI, defaults, capped",
    "mofa": "MOFA+, 15 factors",
    "midas": "MIDAS, authors' settings",
}


@dataclass(frozen=True)
class Choices:
    """What one of our methods asks of the model and of its training."""

    fusion: str = "product"
    kl_weight: float = 1.0
    batch_correction: str = "conditional"
    penalties: dict[str, float] | None = None


OURS = {
    "product": Choices(),
    "gated": Choices(fusion="gated"),
    "loose": Choices(kl_weight=0.1),
    "adversarial": Choices(batch_correction="adversarial"),
    **{name: Choices(penalties={"distance_nce": weight}) for name, weight in PAIR_WEIGHTS.items()},
}
TASKS = ("midas", "removed")
# MULTIVI takes no cells that have proteins alone.
ONLY_TASK = {
    **dict.fromkeys(PAIR_WEIGHTS, "removed"),
    "adversarial": "midas",  # the only one with batches
    "multivi": "removed",
    "mofa": "midas",
    "midas": "midas",
}


@dataclass(frozen=True)
class Record:
    """One method, task and seed."""

    method: str
    task: str
    seed: int
    scores: dict[str, float]
    cpu_seconds: float
    versions: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """Scores of one run, CPU seconds to the embedding, what stopped a peer, versions in a peer's process."""

    scores: dict[str, float]
    cpu_seconds: float
    note: str = ""
    versions: tuple[str, ...] = ()


def midas(folder: Path, method: str, seed: int, scib_python: Path) -> Outcome:
    """Embed the four batches; the CPU seconds are from the raw counts to the embedding."""
    from multiomics_vae import MultiVAE

    mdata = md.read_h5mu(folder / "pbmc_mosaic_midas.h5mu")
    clock = Stopwatch()
    MultiVAE.setup_mudata(mdata, batch_key="batch")
    choices = OURS[method]
    model = MultiVAE(mdata, fusion=choices.fusion, batch_correction=choices.batch_correction, seed=seed)
    model.train(kl_weight=choices.kl_weight, penalties=choices.penalties, progress=False)
    Z = model.get_latent_representation()
    seconds = clock.cpu_seconds
    return Outcome(scib_in_process(scib_python, Z, mdata.obs["cell_type"], mdata.obs["batch"]), seconds)


def midas_peer(folder: Path, method: str, seed: int, threads: int, pythons: tuple[Path, Path]) -> Outcome:
    """Embed the four batches by MOFA+ or MIDAS with the first interpreter, score with the second."""
    data = folder / "pbmc_mosaic_midas.h5mu"
    peer_python, scib_python = pythons
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "peer.npz"
        command = [peer_python, HERE / "mosaic_peers.py", method, data, str(seed), out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | limits)
        with np.load(out) as found:
            Z, seconds, versions = found["Z"], float(found["seconds"]), tuple(found["versions"].tolist())
    obs = md.read_h5mu(data).obs
    scores = scib_in_process(scib_python, Z, obs["cell_type"], obs["batch"])
    return Outcome(scores, seconds, versions=versions)


def scib_in_process(
    python: Path, Z: NDArray[np.floating], labels: pd.Series, batch: pd.Series
) -> dict[str, float]:
    """Score with another interpreter: scib-metrics wants jax, which nothing else here needs."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "arrays.npz"
        np.savez(arrays, Z=Z, labels=labels.astype(str).to_numpy(str), batch=batch.astype(str).to_numpy(str))
        command = [str(python), str(HERE / "scib_worker.py"), str(arrays)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    scores: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return scores


def removed(folder: Path, method: str, seed: int) -> Outcome:
    """Take modalities away, embed what is left; and embed everything, for comparison."""
    from multiomics_vae import MultiVAE

    whole = md.read_h5mu(folder / "snareseq_mouse_cortex.h5mu")
    labels = whole.obs["cell_type"].astype(str)
    removal = draw_removal(whole.n_obs)
    lacking = remove(whole, removal)
    clock = Stopwatch()
    accuracies: list[dict[str, float]] = []
    matches: dict[str, float] = {}
    names, choices = whole.obs_names, OURS[method]
    for mdata in (lacking, whole):
        MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb", "atac": "bernoulli"})
        model = MultiVAE(mdata, fusion=choices.fusion, seed=seed)
        model.train(kl_weight=choices.kl_weight, penalties=choices.penalties, progress=False)
        if mdata is lacking:
            seconds = clock.cpu_seconds
            both = np.flatnonzero(mdata.obs_names.isin(names[removal.whole]))
            views = [model.get_latent_representation(indices=both, modalities=[m]) for m in ("rna", "atac")]
            matches = _matches(views, np.isin(both, model.validation_indices))
        Z = pd.DataFrame(model.get_latent_representation(), index=mdata.obs_names).loc[names].to_numpy()
        accuracies.append(_accuracies(Z, labels.to_numpy(), removal.has_rna))
    after, before = accuracies
    scores = {
        **after,
        **matches,
        **{f"{name}, nothing removed": value for name, value in before.items()},
        "kept RNA, share of it": after["cells with RNA"] / before["cells with RNA"],
    }
    return Outcome(scores, seconds)


def removed_multivi(folder: Path, seed: int, cap_seconds: float) -> Outcome:
    """The same cells with zeros where something is missing, which is how MULTIVI is told."""
    whole = md.read_h5mu(folder / "snareseq_mouse_cortex.h5mu")
    removal = draw_removal(whole.n_obs)
    lacking = with_zeros(whole, removal)
    clock = Stopwatch()
    model, note = fit_multivi(lacking, seed, cap_seconds)
    Z = model.get_latent_representation()
    seconds = clock.cpu_seconds
    views = [embed(model, name, lacking[name].X[removal.whole]) for name in ("rna", "atac")]
    scores = _accuracies(Z, whole.obs["cell_type"].astype(str).to_numpy(), removal.has_rna)
    held_out = np.isin(np.flatnonzero(removal.whole), model.validation_indices)
    return Outcome({**scores, **_matches(views, held_out)}, seconds, note)


def _matches(views: list[NDArray[np.floating]], held_out: NDArray[np.bool_]) -> dict[str, float]:
    """How well pairs meet: of the whole cells, and of those of them that no weight was fitted to."""
    a, b = views
    return {"foscttm": foscttm(a, b), "foscttm, held out": foscttm(a[held_out], b[held_out])}


def _accuracies(
    Z: NDArray[np.floating], labels: NDArray[np.str_], has_rna: NDArray[np.bool_]
) -> dict[str, float]:
    """15-NN accuracy, every cell among all cells; of all, of those with RNA and of those without."""
    _, of_cell, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    keep = ~np.isin(labels, UNLABELLED) & (sizes[of_cell] >= MIN_CELLS_OF_A_TYPE)
    y = labels[keep]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    right = cross_val_predict(KNeighborsClassifier(15), Z[keep], y, cv=folds) == y
    rna = has_rna[keep]
    return {
        "all cells": float(right.mean()),
        "cells with RNA": float(right[rna].mean()),
        "cells without RNA": float(right[~rna].mean()),
    }


def table(out: Path) -> str:
    """Mean over seeds, the worst in brackets."""
    records = [Record(**json.loads(path.read_text())) for path in sorted(out.glob("*.*.*.json"))]
    lines: list[str] = []
    for task in TASKS:
        found = [r for r in records if r.task == task]
        if not found:
            continue
        columns = list(max((r.scores for r in found), key=len))
        lines += ["", f"**{task}**", "", "| method | seeds | " + " | ".join(columns) + " | CPU s |"]
        lines.append("|---" * (len(columns) + 3) + "|")
        for method, description in METHODS.items():
            runs = [r for r in found if r.method == method]
            if not runs:
                continue
            cells = []
            for column in columns:
                each = [r.scores[column] for r in runs if column in r.scores]
                worst = max if column.startswith("foscttm") else min
                several = f" ({worst(each):.3f})" if len(each) > 1 else ""
                cells.append(f"{np.mean(each):.3f}" + several if each else "")
            seconds = np.mean([r.cpu_seconds for r in runs])
            lines.append(f"| {description} | {len(runs)} | " + " | ".join(cells) + f" | {seconds:.0f} |")
        notes = [f"- {METHODS[r.method]}, seed {r.seed}: {r.note}" for r in found if r.note]
        lines += ["", *notes] if notes else []
    return "\n".join(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="all by default")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=["product", "gated"],
        help="ours with their defaults by default; a peer runs on its own task only",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cap-minutes", type=float, default=20, help="CPU minutes allowed a peer (20)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results_mosaic", help="folder of the records")
    parser.add_argument(
        "--scib-python", type=Path, default=Path(sys.executable), help="interpreter that has scib-metrics"
    )
    parser.add_argument(
        "--peer-python", type=Path, default=Path(sys.executable), help="interpreter that has mofapy2, scmidas"
    )
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wanted = [(s, t, m) for s in arguments.seeds for t in arguments.tasks for m in arguments.methods]
    wanted = [(s, t, m) for s, t, m in wanted if ONLY_TASK.get(m, t) == t]
    for seed, task, method in [] if arguments.table else wanted:
        path = arguments.out / f"{task}.{method}.{seed}.json"
        if path.exists() and not arguments.redo:
            continue
        with threadpool_limits(limits=arguments.threads):
            if method == "multivi":
                found = removed_multivi(arguments.data, seed, 60 * arguments.cap_minutes)
            elif method in ("mofa", "midas"):
                pythons = (arguments.peer_python, arguments.scib_python)
                found = midas_peer(arguments.data, method, seed, arguments.threads, pythons)
            elif task == "midas":
                found = midas(arguments.data, method, seed, arguments.scib_python)
            else:
                found = removed(arguments.data, method, seed)
        names = ("torch", "scikit-learn", *(("scvi-tools",) if method == "multivi" else ()))
        versions = found.versions or tuple(f"{n} {version(n)}" for n in names)
        record = Record(method, task, seed, found.scores, found.cpu_seconds, versions, found.note)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
        temporary.replace(path)
        print(f"{task} {method} seed {seed}: {found.scores} ({found.cpu_seconds:.0f} CPU s)", flush=True)
    write_between_markers("mosaic", table(arguments.out))


if __name__ == "__main__":
    main()
