"""How often the true state of a simulated cell lies in the interval that the posterior states.

    python benchmarks/latent_coverage.py [--seeds 0 1 2] [--cells 3000 20000] [--threads 1]

The truth is linear and Gaussian with one latent dimension, z ~ N(0, 1), x_m = w_m z + ε: the exact posterior
is known, and the model's z is the true one up to its sign. The second modality says four times as much as the
first. Whole cells, or a mosaic in which a quarter of the values is missing: a quarter of the cells lacks the
one modality and a quarter the other. Decoders are linear and everything is learned. Held-out cells are asked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import warnings

import anndata
import mudata as md
import numpy as np
import pandas as pd
import torch

from markers import command_line, write_between_markers
from multiomics_vae import MultiVAE

N_TEST, N_FEATURES = 10_000, 8
PRECISIONS = (1.0, 4.0)  # of what a modality says of z
STATED, HALF_WIDTH = 0.9, 1.645


def simulated(
    n_cells: int, rng: np.random.Generator, directions: list[np.ndarray]
) -> tuple[md.MuData, np.ndarray]:
    """Whole cells and their states ``(N,)``."""
    z = rng.normal(size=n_cells)
    names = [f"c{i}" for i in range(n_cells)]
    parts = {}
    for m, (w, precision) in enumerate(zip(directions, PRECISIONS, strict=True)):
        x = np.sqrt(precision) * z[:, None] * w + rng.normal(size=(n_cells, N_FEATURES))
        features = [f"m{m}:{j}" for j in range(N_FEATURES)]
        parts[f"m{m}"] = anndata.AnnData(
            x.astype(np.float32), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=features)
        )
    return md.MuData(parts), z


def coverage(
    n_train: int, fusion: str, mosaic: bool, objective: str | None, seed: int
) -> list[tuple[float, float]]:
    """Share covered and variance over the exact one, given both, the first and the second modality."""
    rng = np.random.default_rng(seed)
    directions = [w / np.linalg.norm(w) for w in rng.normal(size=(2, N_FEATURES))]
    train, _ = simulated(n_train, rng, directions)
    test, z = simulated(N_TEST, rng, directions)
    if mosaic:
        names, quarter = train.obs_names, n_train // 4
        train = md.MuData(
            {"m0": train["m0"][names[quarter:]].copy(), "m1": train["m1"][names[:-quarter]].copy()}
        )
    with contextlib.redirect_stdout(io.StringIO()):
        MultiVAE.setup_mudata(train, likelihoods={"m0": "gaussian", "m1": "gaussian"})
        model = MultiVAE(train, n_latent=1, n_hidden=64, decoders="linear", fusion=fusion, seed=seed)
        model.train(subset_objective=objective, progress=False)
    found = []
    for given, precision in ((None, sum(PRECISIONS)), (["m0"], PRECISIONS[0]), (["m1"], PRECISIONS[1])):
        posterior = model.get_latent_representation(test, modalities=given, return_dist=True)
        mean, variance = (np.asarray(part).ravel() for part in posterior)
        sign = np.sign(np.corrcoef(mean, z)[0, 1])
        covered = np.abs(sign * mean - z) < HALF_WIDTH * np.sqrt(variance)
        found.append((float(covered.mean()), float(variance.mean() * (1 + precision))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", type=int, default=[3_000, 20_000], help="to train with")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    lines = [
        "| training cells | fusion | subset objective | given both | given the first | given the second |",
        "|---|---|---|---|---|---|",
    ]
    kinds = itertools.product(
        arguments.cells, ((False, None), (True, None), (True, "within")), ("product", "gated")
    )
    for n_train, (mosaic, objective), fusion in kinds:
        runs = np.array([coverage(n_train, fusion, mosaic, objective, seed) for seed in arguments.seeds])
        shown = " | ".join(f"{share:.3f} ({ratio:.2f})" for share, ratio in runs.mean(0))
        name = objective or ("both, the default there" if mosaic else "within, the default there")
        which = f"{n_train}, {'mosaic' if mosaic else 'whole'}"
        lines.append(f"| {which} | {fusion} | {name} | {shown} |")
        print(lines[-1], flush=True)
    write_between_markers("latent_coverage", "\n".join([f"`{command_line()}`", "", *lines]))


if __name__ == "__main__":
    main()
