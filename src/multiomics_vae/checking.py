"""The fitted model as a Pyro program, and its amortised posterior held against NUTS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.analysis.cautions import given_modalities
from multiomics_vae.analysis.nuts import MAX_CELLS, N_CHAINS, N_SAMPLES, N_WARMUP
from multiomics_vae.analysis.posterior_reference import PosteriorReference, posterior_reference
from multiomics_vae.analysis.pyro_program import GenerativeProgram, generative_program
from multiomics_vae.data.selection import CellSelection
from multiomics_vae.evaluating import EvaluatingModel

if TYPE_CHECKING:
    from mudata import MuData

ONE_BATCH = 512


class CheckableModel(EvaluatingModel):
    """A model whose posterior can be checked by someone else's sampler."""

    def to_pyro(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
    ) -> GenerativeProgram:
        """The generative model of some cells as a Pyro program: z ~ p(z), x_m ~ p_m(x_m | z, s).

        Weights, depths and covariates are constants, copied: later training does not reach the program.
        Values are held densely in float64, so a few cells are meant. Modalities that a cell lacks and
        entries that were not measured are summed out.

        Parameters
        ----------
        mdata, indices
            As in `get_latent_representation`.
        modalities
            Observed ones; the others are summed out. None for all that a cell has.

        Returns
        -------
        GenerativeProgram
            To be called inside Pyro: ``MCMC(NUTS(program), ...)``, ``poutine.trace(program)``.

        Raises
        ------
        InputError
            For names and positions that are not there, and no cell.

        Examples
        --------
        >>> program = model.to_pyro(indices=[0, 1])  # doctest: +SKIP
        >>> pyro.poutine.trace(program).get_trace().log_prob_sum()  # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, ONE_BATCH)
        return generative_program(self.module, data, cells, given_modalities(data, cells, modalities))

    def compare_with_nuts(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        n_warmup: int = N_WARMUP,
        n_samples: int = N_SAMPLES,
        n_chains: int = N_CHAINS,
        seed: int = 0,
        max_cells: int = MAX_CELLS,
    ) -> PosteriorReference:
        """Hold q(z | x_A) of a few cells against draws from the exact posterior (Hoffman & Gelman 2014).

        The chains of a cell take seconds; with tens of thousands of features, minutes. Global random state
        and Pyro's parameters stay as they were.

        Parameters
        ----------
        mdata, indices
            As in `get_latent_representation`.
        modalities
            A: condition on these only.
        n_warmup, n_samples, n_chains
            Steps of a chain that only adapt, draws that are kept of each chain, and chains of a cell.
        seed
            Of the chains, with the cell's name: a cell's draws do not depend on the cells beside it.
        max_cells
            More cells are refused.

        Returns
        -------
        PosteriorReference
            Standardised differences of means, ratios of standard deviations, KL and diagnostics of every
            cell; ``to_frame()`` makes a table of them.

        Raises
        ------
        InputError
            For more than ``max_cells`` cells, too few draws, and names that are not there.

        Examples
        --------
        >>> model.compare_with_nuts(indices=range(5)).to_frame()  # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, ONE_BATCH)
        return posterior_reference(
            self.module,
            data,
            np.asarray(cells),
            given_modalities(data, cells, modalities),
            n_warmup=n_warmup,
            n_samples=n_samples,
            n_chains=n_chains,
            seed=seed,
            max_cells=max_cells,
        )
