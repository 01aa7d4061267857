"""The exact posterior of a few cells by Hamiltonian Monte Carlo, which no encoder has a part in.

The No-U-Turn Sampler (Hoffman & Gelman 2014) of Pyro draws from p(z | x) of the fitted model. Weights being
constant, cells are independent, and every cell has chains of its own, with its own step size and mass
matrix: one hard cell spoils no other, and a cell's draws do not depend on the cells beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from multiomics_vae.analysis.inference import infer
from multiomics_vae.analysis.pyro_program import GenerativeProgram, generative_program
from multiomics_vae.analysis.random_state import borrowed_random_state
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule
from multiomics_vae.training.config import check_whole

MAX_CELLS = 50
N_WARMUP = 200
N_SAMPLES = 400
N_CHAINS = 2


@dataclass(frozen=True)
class NutsPosterior:
    """Draws from p(z | x_A) of N cells, and how far they can be trusted.

    Parameters
    ----------
    cell_names
        ``(N,)``.
    draws
        ``(S, N, K)``, float64, chain after chain.
    r_hat
        Split R-hat of every cell and dimension, near 1 if the chains agree (Gelman et al. 2013), ``(N, K)``.
    ess
        Effective number of draws for the mean, ``(N, K)``; it may exceed S.
    n_divergent
        Divergent transitions after the warm-up, ``(N,)``.
    """

    cell_names: np.ndarray
    draws: np.ndarray
    r_hat: np.ndarray
    ess: np.ndarray
    n_divergent: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """``(N, K)``."""
        mean: np.ndarray = self.draws.mean(axis=0)
        return mean

    @property
    def covariance(self) -> np.ndarray:
        """Mean square deviation from the mean, ``(N, K, K)``."""
        centred = self.draws - self.mean
        covariance: np.ndarray = np.einsum("snk,snl->nkl", centred, centred) / len(self.draws)
        return covariance


def nuts_posterior(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    given: tuple[int, ...] | None = None,
    *,
    n_warmup: int = N_WARMUP,
    n_samples: int = N_SAMPLES,
    n_chains: int = N_CHAINS,
    seed: int = 0,
    max_cells: int = MAX_CELLS,
) -> NutsPosterior:
    """Draw from the exact posterior of some cells.

    Parameters
    ----------
    module, data, cells
        The model, the registered cells, the positions wanted.
    given
        Positions of the modalities conditioned on; None for all that a cell has.
    n_warmup, n_samples, n_chains
        Steps of a chain that only adapt; draws that are kept of each chain; chains of a cell. The first
        chain starts at the mean of q(z | x_A), the others at draws from it, twice as wide.
    seed
        Of the chains, with the cell's name.
    max_cells
        More cells than this are refused: a cell takes seconds, or minutes where modalities are wide.

    Returns
    -------
    NutsPosterior
        S = ``n_chains · n_samples`` draws of each cell.

    Raises
    ------
    InputError
        For no cell, more than ``max_cells``, and numbers of steps that are too small.
    """
    check_sizes(len(cells), n_warmup, n_samples, n_chains, seed, max_cells)
    program = generative_program(module, data, cells, given)
    starts = _starts(module, data, cells, given, n_chains, seed)  # (n_chains, N, K)
    chains = np.empty((n_chains, n_samples, *starts.shape[1:]))  # (n_chains, n_samples, N, K)
    n_divergent = np.zeros(len(cells), dtype=np.int64)
    for cell in range(len(cells)):
        one = program.only(cell)
        for chain in range(n_chains):
            with borrowed_random_state(_seed_of(one.cell_names[0], seed, chain)):
                run = _run(one, starts[chain, cell], n_warmup, n_samples)
            chains[chain, :, cell] = run.get_samples()["z"].squeeze(1).numpy()
            n_divergent[cell] += sum(len(steps) for steps in run.diagnostics()["divergences"].values())
    drawn = torch.from_numpy(chains)
    return NutsPosterior(
        cell_names=data.cell_names[cells],
        draws=chains.reshape(n_chains * n_samples, *starts.shape[1:]),
        r_hat=split_gelman_rubin(drawn, chain_dim=0, sample_dim=1).numpy(),
        ess=effective_sample_size(drawn, chain_dim=0, sample_dim=1).numpy(),
        n_divergent=n_divergent,
    )


def check_sizes(
    n_cells: int, n_warmup: int, n_samples: int, n_chains: int, seed: int, max_cells: int
) -> None:
    """Refuse what would take hours or mean nothing."""
    if n_cells == 0:
        raise InputError("indices chooses no cell, so there is nothing to draw for: indices=[0, 1, 2]")
    if n_cells > max_cells:
        raise InputError(
            f"NUTS for {n_cells} cells: each takes seconds or minutes, and max_cells={max_cells}. Choose a "
            f"few (indices=range(10)), or say that you mean it: max_cells={n_cells}"
        )
    check_whole("n_warmup", n_warmup, 10, f"n_warmup={N_WARMUP}")
    # Split R-hat wants a variance within each half of a chain.
    check_whole("n_samples", n_samples, 8, f"n_samples={N_SAMPLES}")
    check_whole("n_chains", n_chains, 1, f"n_chains={N_CHAINS}")
    check_whole("seed", seed, 0, "seed=0")


def _starts(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    given: tuple[int, ...] | None,
    n_chains: int,
    seed: int,
) -> Tensor:
    """Where the chains start: the mean of q, then draws twice as far from it, ``(n_chains, N, K)``."""
    starts = []
    for inferred in infer(module, data, cells, len(cells), given, seed):
        mean = inferred.fused.posterior.mean  # (N, K)
        starts.append(torch.cat([mean[None], mean + 2.0 * (inferred.sample(n_chains) - mean)]))
    return torch.from_numpy(starts[0][:n_chains].double().cpu().numpy())


def _seed_of(cell_name: str, seed: int, chain: int) -> int:
    """A seed that belongs to the cell, the user's seed and the chain."""
    said = f"{seed}:{chain}:{cell_name}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=4).digest(), "little")


def _run(program: GenerativeProgram, start: Tensor, n_warmup: int, n_samples: int) -> MCMC:
    """One chain of one cell; draws from the global generators."""

    def potential(site: dict[str, Tensor]) -> Tensor:
        return -program.log_joint(site["z"])

    # Tracing the program at every step would take twice the time; a test holds the two against each other.
    # A diagonal mass matrix: a VAE turns its axes until posteriors are nearly diagonal. A full one, learned
    # in a short warm-up, took nine times as many gradients on a trained model of 20 dimensions, for fewer
    # effective draws.
    kernel = NUTS(potential_fn=potential, full_mass=False)
    run = MCMC(
        kernel,
        num_samples=n_samples,
        warmup_steps=n_warmup,
        initial_params={"z": start.unsqueeze(0)},
        disable_progbar=True,
    )
    run.run()
    return run
