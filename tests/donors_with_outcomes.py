"""Cells of donors whose outcomes follow a state that shifts all their cells."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

OUTCOMES = {
    "response": "binary",
    "severity": "ordinal",
    "site_of_origin": "categorical",
    "score": "continuous",
    "survival": ("time", "event"),
}


def make_donors(
    n_donors: int = 12,
    n_cells: int = 6,
    *,
    signal: float = 2.0,
    unknown: tuple[int, ...] = (),
    n_features: int = 8,
    seed: int = 0,
) -> mudata.MuData:
    """RNA counts and real-valued proteins of ``n_cells`` cells of every donor; donor i is called ``d<i>``.

    A donor's state is N(0, 1); its cells' state is that times ``signal`` plus noise. The outcomes are those
    of the state, and NaN for donors in ``unknown``; ``age`` follows it too, with noise.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=n_donors)
    donor = np.repeat(np.arange(n_donors), n_cells)
    z = np.stack([signal * state[donor] + 0.5 * rng.normal(size=len(donor)), rng.normal(size=len(donor))], 1)
    names = [f"c{i}" for i in range(len(donor))]
    parts = {}
    for name in ("rna", "prot"):
        eta = z @ rng.normal(size=(2, n_features)) * 0.5
        x = rng.poisson(np.exp(1.0 + eta)) if name == "rna" else eta + 0.2 * rng.normal(size=eta.shape)
        values = sp.csr_matrix(x.astype(np.float32)) if name == "rna" else x.astype(np.float32)
        var = pd.DataFrame(index=[f"{name}:f{j}" for j in range(n_features)])
        parts[name] = AnnData(values, obs=pd.DataFrame(index=names), var=var)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData(parts)
        obs = pd.DataFrame(index=names)
        obs["donor"] = [f"d{i}" for i in donor]
        level = np.digitize(state, np.quantile(state, [1 / 3, 2 / 3]))[donor]
        obs["response"] = np.where(state > np.median(state), "yes", "no")[donor]
        obs["severity"] = pd.Categorical.from_codes(level, ["mild", "moderate", "severe"], ordered=True)
        obs["site_of_origin"] = pd.Categorical.from_codes(level, ["gut", "lung", "skin"])
        obs["score"] = (10.0 + 3.0 * state)[donor]
        obs["time"] = np.exp(1.0 - state + 0.1 * rng.normal(size=n_donors))[donor]
        obs["event"] = (np.arange(n_donors) % 4 > 0).astype(float)[donor]
        obs["age"] = (50.0 + 10.0 * (state + rng.normal(size=n_donors)))[donor]
        obs["sex"] = np.where(rng.random(n_donors) < 0.5, "f", "m")[donor]
        lost = np.isin(donor, unknown)
        for key in ("response", "severity", "site_of_origin", "score", "time", "event"):
            obs[key] = obs[key].where(~lost)
        mdata.obs = obs.loc[mdata.obs_names]
    return mdata
