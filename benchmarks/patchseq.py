"""Patch-seq of mouse motor cortex: RNA, electrophysiology, and a morphology that half of the cells lack.

Three questions, on a fifth of the cells that nothing is fitted on: how well embeddings keep cell families
apart (of all cells, as in `embedding.py`), what is predicted of electrophysiology from RNA, and what of
morphology from the other two. Single entries of the morphology are unmeasured, which the model leaves out and
ridge and nearest cells fill with means.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from markers import command_line, write_between_markers
from multiomics_vae import MultiVAE
from scores import EmbeddingScores, Split, embedding_scores, held_out_split

HERE = Path(__file__).resolve().parent
FUSIONS = ("product", "gated")
DIMENSIONS = 30
NEIGHBOURS = 15
FEWEST_CELLS = 20

mudata.set_options(pull_on_update=False)


@dataclass(frozen=True)
class PatchSeq:
    """N cells; ``morphology`` is NaN where an entry or the whole cell was not measured.

    Parameters
    ----------
    mdata
        As read.
    split
        Cells to fit on and held out.
    rna
        SVD of log-normalised counts, fitted on the training cells, ``(N, 30)``.
    electrophysiology, morphology
        Standardised by the training cells, ``(N, 29)`` and ``(N, 61)``.
    """

    mdata: mudata.MuData
    split: Split
    rna: np.ndarray
    electrophysiology: np.ndarray
    morphology: np.ndarray


@dataclass(frozen=True)
class PatchSeqScores:
    """What is reported of one method; None where it has no answer."""

    families: EmbeddingScores | None
    electrophysiology_from_rna: float | None
    morphology_from_both: float | None
    seconds: float


def read_patchseq(path: Path) -> PatchSeq:
    """Read, split, and standardise by the training cells."""
    mdata = mudata.read_h5mu(path)
    split = held_out_split(mdata.n_obs, 0)
    counts = _of_all(mdata, "rna")
    logs = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    rna = TruncatedSVD(DIMENSIONS, random_state=0).fit(logs[split.train]).transform(logs)
    tables = []
    for name in ("ephys", "morph"):
        values = _of_all(mdata, name)
        center, scale = np.nanmean(values[split.train], 0), np.nanstd(values[split.train], 0)
        tables.append((values - center) / np.where(scale > 0, scale, 1.0))
    return PatchSeq(mdata, split, rna, *tables)


def _of_all(mdata: mudata.MuData, name: str) -> np.ndarray:
    """Values of all cells, NaN for those that lack the modality, ``(N, F)``, float64."""
    part = mdata[name]
    stored = part.X if isinstance(part.X, np.ndarray) else part.X.toarray()
    values = np.full((mdata.n_obs, part.n_vars), np.nan)
    values[mdata.obs_names.get_indexer(part.obs_names)] = stored
    return values


def mean_pearson(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over features of the correlation over cells that were measured; too few cells are left out."""
    found = []
    for x, y in zip(truth.T, predicted.T, strict=True):
        seen = np.isfinite(x)
        if seen.sum() >= FEWEST_CELLS and x[seen].std() > 0:
            found.append(np.corrcoef(x[seen], y[seen])[0, 1] if y[seen].std() > 0 else 0.0)
    return float(np.mean(found))


def ours(data: PatchSeq, fusion: str, seed: int, max_epochs: int | None) -> PatchSeqScores:
    """MultiVAE with its defaults, fitted on the training cells of all three modalities."""
    train, test = data.mdata[data.split.train].copy(), data.mdata[data.split.test].copy()
    start = time.perf_counter()
    kinds = {"rna": "nb", "ephys": "gaussian", "morph": "gaussian"}
    MultiVAE.setup_mudata(train, likelihoods=kinds, batch_key="batch")
    model = MultiVAE(train, fusion=fusion, seed=seed)
    model.train(max_epochs, seed=seed, accelerator="cpu", progress=False)
    seconds = time.perf_counter() - start
    answers = {
        "ephys": model.get_normalized("ephys", test, given=["rna"]).to_numpy(),
        "morph": model.get_normalized("morph", test, given=["rna", "ephys"]).to_numpy(),
    }
    return PatchSeqScores(
        families=embedding_scores(model.get_latent_representation(data.mdata), data.mdata.obs["cell_type"]),
        electrophysiology_from_rna=mean_pearson(data.electrophysiology[data.split.test], answers["ephys"]),
        morphology_from_both=mean_pearson(data.morphology[data.split.test], answers["morph"]),
        seconds=seconds,
    )


def regression(data: PatchSeq, name: str) -> PatchSeqScores:
    """Ridge (penalty by leave-one-out) or the mean of the 15 nearest cells, from the SVD of the RNA."""
    start = time.perf_counter()
    both = np.hstack([data.rna / data.rna.std(0), data.electrophysiology])
    from_rna = _regress(name, data.rna, data.electrophysiology, data.split)
    from_both = _regress(name, both, data.morphology, data.split)
    test = data.split.test
    return PatchSeqScores(
        families=None,
        electrophysiology_from_rna=mean_pearson(data.electrophysiology[test], from_rna),
        morphology_from_both=mean_pearson(data.morphology[test], from_both),
        seconds=time.perf_counter() - start,
    )


def _regress(name: str, x: np.ndarray, y: np.ndarray, split: Split) -> np.ndarray:
    """Predict the held-out cells' y; unmeasured entries of cells that have some are filled with means, 0."""
    rows = split.train[np.isfinite(y[split.train]).any(axis=1)]
    model = RidgeCV(np.logspace(-1, 5, 13)) if name == "ridge" else KNeighborsRegressor(NEIGHBOURS)
    predicted: np.ndarray = model.fit(x[rows], np.nan_to_num(y[rows])).predict(x[split.test])
    return predicted


def svd(data: PatchSeq, with_electrophysiology: bool) -> PatchSeqScores:
    """SVD of the RNA, alone or beside the electrophysiology, each block with total variance one."""
    start = time.perf_counter()
    blocks = [data.rna, data.electrophysiology] if with_electrophysiology else [data.rna]
    Z = np.hstack([block / np.sqrt(block.var(0).sum()) for block in blocks])
    families = embedding_scores(Z, data.mdata.obs["cell_type"])
    return PatchSeqScores(families, None, None, time.perf_counter() - start)


def row(name: str, found: PatchSeqScores) -> dict[str, object]:
    """A row of the table."""
    families = found.families
    print(f"{name}: {found}", flush=True)
    return {
        "method": name,
        "15-NN": families and families.knn_accuracy,
        "balanced": families and families.knn_balanced,
        "NMI": families and families.nmi,
        "electrophysiology from RNA": found.electrophysiology_from_rna,
        "morphology from both": found.morphology_from_both,
    }


def as_text(table: pd.DataFrame, n_cells: int, n_morphology: int) -> str:
    """Mean (and range) over seeds, in Markdown."""
    columns = [column for column in table.columns if column != "method"]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, rows in table.groupby("method", sort=False):
        lines.append(f"| {name} | " + " | ".join(_cell(rows[column]) for column in columns) + " |")
    return "\n".join(
        [
            f"`{command_line()}`: {n_cells} held-out cells, {n_morphology} of them with a morphology.",
            "Families: scores of all cells. Predictions: Pearson over held-out cells, mean over features.",
            "",
            *lines,
        ]
    )


def _cell(values: pd.Series) -> str:
    if values.isna().any():
        return "–"
    spread = f" ({values.min():.3f}–{values.max():.3f})" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--epochs", type=int, default=None, help="passes at the most (the model's own default)"
    )
    parser.add_argument("--tiny", action="store_true", help="try the script out; RESULTS.md stays as it is")
    parser.add_argument(
        "--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="folder of the h5mu files"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = read_patchseq(arguments.data / "patchseq_mouse_m1.h5mu")
    seeds, epochs = ([0], 3) if arguments.tiny else (arguments.seeds, arguments.epochs)
    rows = [
        row("SVD of RNA", svd(data, with_electrophysiology=False)),
        row("SVD of RNA beside electrophysiology", svd(data, with_electrophysiology=True)),
        row("ridge", regression(data, "ridge")),
        row("15 nearest cells", regression(data, "nearest")),
    ]
    for seed in seeds:
        rows += [row(f"MultiVAE, {fusion}", ours(data, fusion, seed, epochs)) for fusion in FUSIONS]
    held_out = data.morphology[data.split.test]
    text = as_text(pd.DataFrame(rows), len(held_out), int(np.isfinite(held_out).any(axis=1).sum()))
    print(text)
    if not arguments.tiny:
        write_between_markers("patchseq", text)


if __name__ == "__main__":
    main()
