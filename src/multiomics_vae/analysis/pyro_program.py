"""The fitted generative model of a few cells as a Pyro program (Bingham et al. 2019).

    z ~ p(z);   x_m ~ p_m(x_m | z, s) for every modality m that a cell has

Observations are sites of a distribution that wraps the module's own decoder and likelihood, not
``pyro.factor`` and not a second set of distributions: a site with a distribution can be traced, conditioned
and drawn from (``pyro.poutine.uncondition``), and one class serves every registered likelihood, so that a
new one needs nothing here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.minibatch import Covariates, ModalityBatch
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext, Likelihood
from multiomics_vae.module import MultimodalModule
from multiomics_vae.networks.decoder import Decoder

Part = TypeVar("Part", bound=torch.nn.Module)


class RowDistribution(dist.TorchDistribution):  # type: ignore[misc]
    """p_m(x_m | z, s) of the B_m rows of one modality, a row an event, unmeasured entries left out.

    Parameters
    ----------
    likelihood
        Of the modality.
    outputs
        Of its decoder at z, ``(B_m, width)`` each.
    cells
        Depth, batch and coverage of the rows.
    observed
        Entries that count, ``(B_m, F)``; None for all.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector

    def __init__(
        self,
        likelihood: Likelihood,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        observed: Tensor | None,
    ) -> None:
        self.likelihood = likelihood
        self.outputs = outputs
        self.cells = cells
        self.observed = observed
        shapes = torch.Size((len(outputs[0]),)), torch.Size((likelihood.n_features,))
        super().__init__(*shapes, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of every row: ``(B_m,)``."""
        each = self.likelihood.log_prob(value, self.outputs, self.cells)  # (B_m, F)
        if self.observed is not None:
            each = each.masked_fill(~self.observed, 0.0)
        return each.sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (torch's signature)
        """Draw rows, from torch's global generator as all of Pyro does: ``(*sample_shape, B_m, F)``."""
        with torch.no_grad():
            draws = [self.likelihood.sample(self.outputs, self.cells) for _ in range(sample_shape.numel())]
        return torch.stack(draws).view(*sample_shape, *draws[0].shape)


@dataclass(frozen=True)
class ObservedModality:
    """What one modality of the program was made of: its constant weights and its rows.

    Parameters
    ----------
    name
        Of the modality; its site is ``x_<name>``.
    decoder, likelihood
        Copies in float64 without gradients.
    rows
        Position among the cells of each row, ``(B_m,)``.
    values
        ``(B_m, F)``.
    observed
        Measured entries, ``(B_m, F)``; None for all.
    context
        Depth, batch and coverage of the rows.
    covariates
        What the decoder reads of each row, ``(B_m, D)``.
    """

    name: str
    decoder: Decoder
    likelihood: Likelihood
    rows: Tensor
    values: Tensor
    observed: Tensor | None
    context: CellContext
    covariates: Tensor

    def given(self, z: Tensor) -> RowDistribution:
        """p_m(x_m | z, s) at the states of all cells, ``(B, K)``."""
        outputs = self.decoder(z[self.rows], self.covariates)
        return RowDistribution(self.likelihood, outputs, self.context, self.observed)

    def only(self, cell: int) -> ObservedModality:
        """The same of one cell, which may have no row."""
        mine = self.rows == cell  # (B_m,)

        def part(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[mine]

        context = CellContext(self.context.depth[mine], self.context.batch[mine], part(self.context.coverage))
        return replace(
            self,
            rows=torch.zeros(int(mine.sum()), dtype=torch.int64),
            values=self.values[mine],
            observed=part(self.observed),
            context=context,
            covariates=self.covariates[mine],
        )


@dataclass(frozen=True)
class GenerativeProgram:
    """log p(x, z) of B cells as a Pyro program; call it inside any Pyro algorithm.

    Its sites are ``z``, ``(B, K)``, and ``x_<modality>``, ``(B_m, F)`` and observed. Weights, depth and
    covariates are constants. Everything is float64 and on the processor.

    Parameters
    ----------
    cell_names
        Of the B cells.
    prior
        p(z), a mixture over one imagined cell, ``(C, 1, K)``.
    modalities
        Those of which any of the cells has a row.

    Examples
    --------
    >>> program = model.to_pyro(indices=[0, 1])                        # doctest: +SKIP
    >>> MCMC(NUTS(program), num_samples=500, warmup_steps=300).run()   # doctest: +SKIP
    """

    cell_names: tuple[str, ...]
    prior: GaussianMixture
    modalities: tuple[ObservedModality, ...]

    def __call__(self) -> Tensor:
        """Run the program; returns z, ``(B, K)``."""
        with pyro.plate("cells", len(self.cell_names), dim=-1):
            z: Tensor = pyro.sample("z", pyro_prior(self.prior, len(self.cell_names)))  # (B, K)
        for modality in self.modalities:
            with pyro.plate(f"cells_with_{modality.name}", len(modality.rows), dim=-1):
                pyro.sample(f"x_{modality.name}", modality.given(z), obs=modality.values)
        return z

    def log_joint(self, z: Tensor) -> Tensor:
        """Log p(x, z), what the trace at z ``(B, K)`` sums up to, a scalar, without the cost of a trace."""
        total = self.prior.log_prob(z).sum()
        for modality in self.modalities:
            total = total + modality.given(z).log_prob(modality.values).sum()
        return total

    def only(self, cell: int) -> GenerativeProgram:
        """The program of one of the cells; cells are independent, the weights being constant."""
        parts = (modality.only(cell) for modality in self.modalities)
        return GenerativeProgram(
            (self.cell_names[cell],), self.prior, tuple(part for part in parts if len(part.rows))
        )


def pyro_prior(prior: GaussianMixture, n_cells: int) -> Any:
    """p(z) of ``n_cells`` cells as a distribution of Pyro, components summed out."""
    components = prior.components
    sd = (0.5 * components.log_variance).exp()  # (C, 1, K)
    if prior.n_components == 1:
        one = dist.Normal(components.mean[0], sd[0]).to_event(1)
    else:
        one = dist.MixtureOfDiagNormals(
            components.mean.transpose(0, 1),  # (1, C, K)
            sd.transpose(0, 1),
            prior.log_weights.T,
        )
    return one.expand((n_cells,))


def generative_program(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    given: tuple[int, ...] | None = None,
) -> GenerativeProgram:
    """Write down the generative model of some cells.

    Parameters
    ----------
    module, data, cells
        The model, the registered cells, the positions wanted.
    given
        Positions of the modalities that are observed, the others being summed out; None for all that a
        cell has.

    Raises
    ------
    InputError
        If there are no cells.
    """
    if len(cells) == 0:
        raise InputError("indices chooses no cell, so there is nothing to write down: indices=[0, 1, 2]")
    minibatch = make_minibatch(data, np.asarray(cells, dtype=np.int64)).to("cpu")
    modalities = []
    for m, batch in enumerate(minibatch.modalities):
        if len(batch.rows) and (given is None or m in given):
            name = data.schema.modality_names[m]
            modalities.append(_observed(module, m, name, batch, minibatch.covariates))
    names = tuple(str(name) for name in data.cell_names[cells])
    return GenerativeProgram(names, constant_prior(module), tuple(modalities))


def constant_prior(module: MultimodalModule) -> GaussianMixture:
    """p(z) of a module in evaluation mode, in float64 without gradients: ``(C, 1, K)``."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            prior = module.prior_mixture()
    finally:
        module.train(was_training)
    mean, log_variance = (
        tensor.detach().to("cpu", torch.float64)
        for tensor in (prior.components.mean, prior.components.log_variance)
    )
    return GaussianMixture(Gaussian(mean, log_variance), prior.log_weights.detach().to("cpu", torch.float64))


def _observed(
    module: MultimodalModule, m: int, name: str, batch: ModalityBatch, covariates: Covariates
) -> ObservedModality:
    own = covariates.rows(batch.rows)
    coverage = None if batch.coverage is None else batch.coverage.double()
    values, observed = batch.dense.double(), batch.observed
    if batch.gaps is not None:
        observed = batch.gaps.measured.expand(values.shape)
    return ObservedModality(
        name=name,
        decoder=_constant(module.parts[m].decoder),
        likelihood=_constant(module.parts[m].likelihood),
        rows=batch.rows,
        values=values,
        observed=observed,
        context=CellContext(batch.depth.double(), own.batch, coverage),
        covariates=module.covariates(own).double(),
    )


def _constant(part: Part) -> Part:
    """A copy that no later training reaches, in evaluation mode."""
    return copy.deepcopy(part).to("cpu", torch.float64).eval().requires_grad_(False)
