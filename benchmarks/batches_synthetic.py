"""Cells with a known batch effect and known biology, the two confounded from not at all to wholly.

Types have a home batch each. Of the cells of a type a share (1 + c)/2 is at home, so that Cramér's V of types
and batches is c. Recovered biology is how much of the true state a linear map of the embedding explains in
cells left out; removed batch is how well batches mix within types, which composition does not touch.

``python batches_synthetic.py`` runs it, draws the figure, and says where a warning would be given.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import mudata as md
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from markers import command_line, write_between_markers

HERE = Path(__file__).resolve().parent
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
WAYS = ("none", "conditional", "adversarial", "hsic", "mmd", "adversarial_within_types")
N_DRAWN, N_KEPT, N_TYPES, N_LATENT = 2_400, 800, 4, 6
NEIGHBOURS = 15


@dataclass(frozen=True)
class Point:
    """One level, way and seed."""

    level: float
    way: str
    seed: int
    biology: float
    batch: float
    warned: bool


@dataclass(frozen=True)
class Confounded:
    """Drawn cells and the truth about them."""

    mdata: md.MuData
    z: NDArray[np.float64]  # (N, K)
    types: NDArray[np.int64]  # (N,)
    batch: NDArray[np.int64]  # (N,)


def draw(level: float, seed: int) -> Confounded:
    """Simulate two batches, and keep as many cells of each type and batch as the level says."""
    from multiomics_vae.data.synthetic import SyntheticModality, simulate

    rna = SyntheticModality("rna", 120, depth=1500.0)
    atac = SyntheticModality("atac", 150, kind="binary", mean_open=0.15)
    found = simulate(
        N_DRAWN,
        (rna, atac),
        N_LATENT,
        n_types=N_TYPES,
        n_batches=2,
        batch_effect=0.5,
        type_share=0.6,
        seed=seed,
    )
    generator, kept = np.random.default_rng(seed), []
    for kind in range(N_TYPES):
        for batch in range(2):
            share = (1 + level) / 2 if kind % 2 == batch else (1 - level) / 2
            cells = np.flatnonzero((found.cell_type == kind) & (found.batch == batch))
            kept.append(generator.permutation(cells)[: round(share * N_KEPT / N_TYPES)])
    cells = np.sort(np.concatenate(kept))
    return Confounded(found.mdata[cells].copy(), found.z[cells], found.cell_type[cells], found.batch[cells])


def recovered_biology(Z: NDArray[np.floating], z: NDArray[np.float64]) -> float:
    """R² of the true state, predicted linearly from the embedding of cells left out, mean over dimensions."""
    predicted = cross_val_predict(LinearRegression(), Z, z, cv=10)
    return float(np.mean(1 - ((z - predicted) ** 2).sum(0) / ((z - z.mean(0)) ** 2).sum(0)))


def removed_batch(Z: NDArray[np.floating], types: NDArray[np.int64], batch: NDArray[np.int64]) -> float:
    """Share of neighbours within the type that are of the other batch, over its expectation."""
    ratios = []
    for kind in np.unique(types):
        own = types == kind
        b = batch[own]
        expected = 1 - np.square(np.bincount(b, minlength=2) / len(b)).sum()
        if expected < 0.02:
            continue
        near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(Z[own]).kneighbors(return_distance=False)
        ratios.append((b[near] != b[:, None]).mean() / expected)
    return float(np.mean(ratios)) if ratios else float("nan")


def run(level: float, way: str, seed: int) -> Point:
    """Train one way on one drawing."""
    from multiomics_vae import BatchCorrection, MultiVAE
    from multiomics_vae.data.confounding import warn_of_label

    cells = draw(level, seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_label(cells.batch, cells.types, ("batch", "cell_type"))
    correction: str | BatchCorrection = "conditional" if way == "none" else way
    if way == "adversarial_within_types":
        correction = BatchCorrection("adversarial", conditional_on="cell_type")
    MultiVAE.setup_mudata(cells.mdata, batch_key=None if way == "none" else "batch")
    model = MultiVAE(cells.mdata, batch_correction=correction, n_latent=10, seed=seed)
    model.train(progress=False)
    Z = np.asarray(model.get_latent_representation())
    return Point(
        level,
        way,
        seed,
        recovered_biology(Z, cells.z),
        removed_batch(Z, cells.types, cells.batch),
        bool(told),
    )


def figure(points: list[Point], path: Path) -> None:
    """Both scores over the level, mean and range over seeds."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = {
        "biology": "recovered biology (R² of the true state)",
        "batch": "removed batch (mixing within types)",
    }
    for ax, (which, title) in zip(axes, names.items(), strict=True):
        for way in WAYS:
            levels = sorted({p.level for p in points if p.way == way})
            values = [[getattr(p, which) for p in points if (p.way, p.level) == (way, x)] for x in levels]
            if levels:
                (line,) = ax.plot(levels, [np.mean(v) for v in values], marker="o", label=way)
                low, high = [min(v) for v in values], [max(v) for v in values]
                ax.fill_between(levels, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        warned = [p.level for p in points if p.warned]
        if warned:
            ax.axvspan(min(warned) - 0.05, 1.05, color="0.9", zorder=0, label="a warning is given")
        ax.set(xlabel="confounding (Cramér's V of batch and type)", title=title, xlim=(-0.05, 1.05))
    axes[1].legend(frameon=False, fontsize="small")
    plt.savefig(path, dpi=130)


def table(points: list[Point]) -> str:
    """Means over seeds, the worst in brackets."""
    levels = sorted({p.level for p in points})
    lines = ["| way | " + " | ".join(f"{x:g}" for x in levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for which in ("biology", "batch"):
        for way in (w for w in WAYS if any(p.way == w for p in points)):
            cells = []
            for level in levels:
                each = [getattr(p, which) for p in points if (p.way, p.level) == (way, level)]
                cells.append(
                    f"{np.mean(each):.3f} ({min(each):.3f})" if each and np.isfinite(each).all() else ""
                )
            lines.append(f"| {which}: {way} | " + " | ".join(cells) + " |")
    told = ["yes" if any(p.warned for p in points if p.level == x) else "no" for x in levels]
    return "\n".join([*lines, "| a warning is given | " + " | ".join(told) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--levels", nargs="+", type=float, default=list(LEVELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results_batches" / "synthetic.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(exist_ok=True)
    kept = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    points = [Point(**json.loads(line)) for line in kept]
    done = {(p.level, p.way, p.seed) for p in points}
    wanted = [(x, w, s) for s in arguments.seeds for x in arguments.levels for w in arguments.ways]
    for level, way, seed in wanted:
        if (level, way, seed) in done:
            continue
        with threadpool_limits(limits=arguments.threads):
            points.append(run(level, way, seed))
        with arguments.out.open("a") as out:
            out.write(json.dumps(asdict(points[-1])) + "\n")
        print(points[-1], flush=True)
    figure(points, HERE / "figures" / "batches_synthetic.png")
    write_between_markers("batches_synthetic", f"```bash\n{command_line()}\n```\n\n{table(points)}")


if __name__ == "__main__":
    main()
