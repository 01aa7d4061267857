"""The loss: an evidence lower bound over subsets of the modalities, as a sum of named terms.

    L(A)  = Σ_m λ_m E_{q(z|x_A)} log p(x_m|z) − β KL(q(z|x_A) ‖ p(z))
    loss  = −[ L(all) + w Σ_A L(A) ] − (1/N) log p(weights)

For a proper subset A the sum runs over m in A (``"within"``, with the extra term
KL(stopgrad q(z|x_all) ‖ q(z|x_A)), which teaches the subset both the mean and an honest width) or
over every observed modality (``"cross"``). Only observed values enter; a subset counts for a cell
only if it is neither empty nor all that the cell has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.distributions import GaussianMixture, kl_gaussian
from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.fusion import Evidence, Subset
from multiomics_vae.kernels import ChunkOptions
from multiomics_vae.loss_terms import LossTerm, LossTerms
from multiomics_vae.module import MultimodalModule, OutputPart, RowSource

SubsetObjective = Literal["within", "cross", "none"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Choices of the objective.

    Parameters
    ----------
    subset_objective
        ``"within"``, ``"cross"`` or ``"none"``.
    subset_weight
        w.
    n_subsets
        Random proper subsets a step; None takes every single modality if there are at most three,
        and two random subsets otherwise.
    modality_dropout
        Probability that one modality of a cell with several is hidden from the joint posterior, which
        must then predict it too.
    kl_weight
        Final β.
    free_bits
        Nats a latent dimension (averaged over cells) that the KL does not pay for.
    """

    subset_objective: SubsetObjective = "within"
    subset_weight: float = 0.3
    n_subsets: int | None = None
    modality_dropout: float = 0.0
    kl_weight: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        allowed = get_args(SubsetObjective)
        if self.subset_objective not in allowed:
            raise InputError(
                f"There is no subset_objective={self.subset_objective!r}. "
                f"{did_you_mean(self.subset_objective, allowed)}"
            )
        for name in ("subset_weight", "kl_weight", "free_bits"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"{name} must be a number of at least 0, not {getattr(self, name)!r}: "
                    f"model.train({name}=1.0)"
                )
        if not 0.0 <= self.modality_dropout <= 1.0:
            raise InputError(
                f"modality_dropout is a probability, not {self.modality_dropout!r}: "
                "model.train(modality_dropout=0.2)"
            )
        if self.n_subsets is not None and self.n_subsets < 1:
            raise InputError(
                f"n_subsets must be at least 1, not {self.n_subsets!r}; to have none: "
                "model.train(subset_objective='none')"
            )


@dataclass(frozen=True)
class Economy:
    """What a training step rounds or leaves to chance to be faster.

    Parameters
    ----------
    product_dtype
        Type in which the factors of the output layers' products are rounded; None keeps them as they are.
    n_features
        Features of a modality, drawn anew at each step, that stand for all; None takes all. See
        `MultimodalModule.draw_features` for what always takes all.
    rows
        Where the rows of drawn features come from; None takes them from the module's parameters.
    """

    product_dtype: torch.dtype | None = None
    n_features: int | None = None
    rows: RowSource | None = None


EXACT = Economy()


@dataclass(frozen=True)
class View:
    """The posterior of one subset for all cells of a minibatch, with one draw from each component.

    Parameters
    ----------
    posterior, z
        q(z | x_A), and a draw from each of its components, ``(C, B, K)``.
    counted
        Cells that the subset counts for, ``(B,)``, bool.
    targets
        Modalities whose log likelihood is wanted.
    weight
        Of the bound of this subset in the loss.
    """

    posterior: GaussianMixture
    z: Tensor
    counted: Tensor
    targets: Subset
    weight: float = 1.0

    @property
    def weights(self) -> Tensor:
        """Weights of the draws: ``(C, B)``."""
        return self.posterior.log_weights.exp()


@dataclass(frozen=True)
class OutputParts:
    """How the output layers are evaluated in one step, the same for the joint and every subset.

    Parameters
    ----------
    drawn
        The drawn features of each modality; None for all.
    options
        Precision of their products.
    """

    drawn: tuple[OutputPart | None, ...]
    options: ChunkOptions


class Objective:
    """Computes `LossTerms` for a minibatch.

    Parameters
    ----------
    config
        The choices.
    modality_weights
        λ, one a modality; may be changed between steps by whoever adapts it.
    n_training_cells
        N, by which the log prior of the weights is divided.
    watch
        Called with the joint z and a modality's position before its decoder reads z; returns z.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        modality_weights: tuple[float, ...],
        n_training_cells: int,
        watch: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        self.config = config
        self.modality_weights = modality_weights
        self.n_training_cells = n_training_cells
        self.watch = watch

    def __call__(
        self,
        module: MultimodalModule,
        minibatch: Minibatch,
        kl_scale: float,
        generator: torch.Generator,
        economy: Economy = EXACT,
    ) -> LossTerms:
        """Evaluate the loss.

        Parameters
        ----------
        module, minibatch
            The model and B cells.
        kl_scale
            Warm-up factor of β, 0 to 1.
        generator
            Of the noise, on the module's device.
        economy
            What may be rounded or estimated; by default nothing. An estimated loss has the same
            expectation, and its gradient too.
        """
        noise = StepNoise(generator, minibatch.share)
        evidence = module.encode(minibatch)
        prior = module.prior_mixture()
        present = minibatch.present
        every_modality = tuple(range(module.n_modalities))
        everyone = torch.ones(minibatch.n_cells, dtype=torch.bool, device=present.device)
        available = self._drop_modality(present, noise) if module.training else present  # (B, M)
        joint = self._view(module, evidence, available, everyone, every_modality, noise)
        parts = _output_parts(module, minibatch, economy, noise)
        subsets: list[View] = []
        teacher = joint
        if self.config.subset_objective != "none" and module.n_modalities > 1:
            # Where dropout hid a modality, the joint view is not q(z | x_all), which teaches the subsets.
            if available is not present:
                teacher = self._view(module, evidence, present, everyone, every_modality, noise)
            subsets = self._subset_views(module, minibatch, evidence, noise)
        likelihood, *of_subsets = self._log_likelihoods(module, minibatch, [joint, *subsets], parts)
        divergence, charged = self._kl(joint, prior)
        beta = self.config.kl_weight * kl_scale

        n = minibatch.n_cells
        terms = [
            LossTerm("log_likelihood", value / n, -self.modality_weights[m], m)
            for m, value in enumerate(likelihood)
        ]
        terms.append(LossTerm("kl", charged / n, beta))
        for view, values in zip(subsets, of_subsets, strict=True):
            terms += self._subset_terms(view, values / n, prior, teacher, beta)
        log_prior = module.log_prior_of_weights()
        terms.append(LossTerm("weight_prior", log_prior / self.n_training_cells, -1.0))
        return LossTerms(
            terms=tuple(terms),
            elbo=((likelihood.sum() - divergence) / n).detach(),
            log_likelihood=likelihood.detach(),
            n_cells=minibatch.present.sum(0),
        )

    # --- the parts -------------------------------------------------------------------------------

    def _view(
        self,
        module: MultimodalModule,
        evidence: Evidence,
        available: Tensor,
        counted: Tensor,
        targets: Subset,
        noise: StepNoise,
        weight: float = 1.0,
    ) -> View:
        posterior = module.fuse(evidence, available).posterior
        z = posterior.components.at(noise.like(posterior.components.mean))  # (C, B, K)
        return View(posterior, z, counted, targets, weight)

    def _subset_views(
        self, module: MultimodalModule, minibatch: Minibatch, evidence: Evidence, noise: StepNoise
    ) -> list[View]:
        """One for every subset that counts for any cell."""
        views = []
        present, weight = minibatch.present, self.config.subset_weight
        for subset in self._subsets(module.n_modalities, noise):
            chosen = torch.zeros(module.n_modalities, dtype=torch.bool, device=present.device)
            chosen[list(subset)] = True
            available = present & chosen  # (B, M)
            counted = available.any(1) & (available != present).any(1)  # (B,)
            within = self.config.subset_objective == "within"
            targets = subset if within else tuple(range(module.n_modalities))
            # Drawn also where no cell counts: every process must draw as often as the others.
            view = self._view(module, evidence, available, counted, targets, noise, weight)
            if bool(counted.any()):
                views.append(view)
        return views

    def _log_likelihoods(
        self, module: MultimodalModule, minibatch: Minibatch, views: list[View], parts: OutputParts
    ) -> Tensor:
        """Expected log likelihood by view and modality, summed over the counted cells: ``(V, M)``.

        All views of a modality are evaluated together; the first of them is the joint one.
        """
        sums = [[views[0].z.new_zeros(()) for _ in range(module.n_modalities)] for _ in views]
        for m, batch in enumerate(minibatch.modalities):
            readers = [v for v, view in enumerate(views) if m in view.targets]
            if len(batch.rows) == 0 or not readers:
                continue
            z = [self.watch(views[v].z, m) if self.watch and v == 0 else views[v].z for v in readers]
            weights = [views[v].weights[:, batch.rows] * views[v].counted[batch.rows] for v in readers]
            of_loss = -self.modality_weights[m] / minibatch.n_cells
            found = module.log_likelihood(
                m,
                batch,
                torch.cat(z),  # (S, B, K)
                minibatch.covariates,
                torch.cat(weights),  # (S, B_m)
                parts.drawn[m],
                parts.options,
                upstream=tuple(of_loss * views[v].weight for v in readers for _ in views[v].z),
            )
            totals = torch.split(found.totals, [len(views[v].z) for v in readers])
            for v, total in zip(readers, totals, strict=True):
                sums[v][m] = total.sum()
        return torch.stack([torch.stack(row) for row in sums])

    def _kl(self, view: View, prior: GaussianMixture) -> tuple[Tensor, Tensor]:
        """KL(q ‖ p) summed over the counted cells, as it is and as the loss charges it (free bits)."""
        counted = view.counted
        if view.posterior.n_components == 1 and prior.n_components == 1:
            each = kl_gaussian(view.posterior.gaussian, prior.gaussian)  # (B, K)
            per_dimension = (each * counted.unsqueeze(-1)).sum(0)  # (K,)
        else:
            log_ratio = view.posterior.log_prob(view.z) - prior.log_prob(view.z)  # (C, B)
            # Draws of components that a cell does not have weigh nothing, and may be far out.
            present = view.weights > 0
            expected = torch.where(present, view.weights * log_ratio, 0.0).sum(0)  # (B,)
            per_dimension = (expected * counted).sum().unsqueeze(0)  # a mixture has no value a dimension
        total = per_dimension.sum()
        if self.config.free_bits == 0.0:
            return total.detach(), total
        free = self.config.free_bits * view.z.shape[-1] / len(per_dimension) * counted.sum()
        return total.detach(), per_dimension.clamp(min=free).sum()

    def _subset_terms(
        self, view: View, likelihood: Tensor, prior: GaussianMixture, teacher: View, beta: float
    ) -> list[LossTerm]:
        """Terms of one subset; ``likelihood`` is that of each modality a cell, ``(M,)``."""
        n, w, counted = len(view.counted), view.weight, view.counted
        terms = [
            LossTerm("subset_log_likelihood", likelihood[m], -w * self.modality_weights[m], m)
            for m in view.targets
        ]
        _, charged = self._kl(view, prior)
        terms.append(LossTerm("subset_kl", charged / n, w * beta))
        if self.config.subset_objective == "within":
            matching = _kl_from_joint(teacher, view, counted)
            terms.append(LossTerm("subset_matching", matching / n, w * beta))
        return [replace(term, n_counted=counted.sum()) for term in terms]

    def _subsets(self, n_modalities: int, noise: StepNoise) -> list[Subset]:
        n_subsets = self.config.n_subsets
        if n_subsets is None and n_modalities <= 3:
            return [(m,) for m in range(n_modalities)]
        return [_random_proper_subset(n_modalities, noise.generator) for _ in range(n_subsets or 2)]

    def _drop_modality(self, present: Tensor, noise: StepNoise) -> Tensor:
        """Hide one random modality of some of the cells that have several."""
        if self.config.modality_dropout == 0.0:
            return present
        draws = noise.uniform(present.shape[1])  # (B, M)
        hidden = torch.where(present, draws, -1.0).argmax(1)  # (B,)
        hit = (noise.uniform() < self.config.modality_dropout) & (present.sum(1) > 1)
        kept = present.clone()
        kept[hit, hidden[hit]] = False
        return kept


def _output_parts(
    module: MultimodalModule, minibatch: Minibatch, economy: Economy, noise: StepNoise
) -> OutputParts:
    drawn: list[OutputPart | None] = []
    for m, batch in enumerate(minibatch.modalities):
        n, covariates = economy.n_features, minibatch.covariates
        if n is None:
            drawn.append(None)
        else:
            drawn.append(module.draw_features(m, batch, covariates, n, noise.generator, economy.rows))
    return OutputParts(tuple(drawn), ChunkOptions(product_dtype=economy.product_dtype))


def _random_proper_subset(n_modalities: int, generator: torch.Generator) -> Subset:
    """One of the 2^M − 2 non-empty proper subsets, uniformly."""
    code = int(torch.randint(1, 2**n_modalities - 1, (), generator=generator, device=generator.device))
    return tuple(m for m in range(n_modalities) if code >> m & 1)


def _kl_from_joint(joint: View, subset: View, counted: Tensor) -> Tensor:
    """KL(stopgrad q(z|x_all) ‖ q(z|x_A)), summed over the counted cells."""
    if joint.posterior.n_components == 1 and subset.posterior.n_components == 1:
        teacher = joint.posterior.gaussian
        teacher = type(teacher)(teacher.mean.detach(), teacher.log_variance.detach())
        divergence = kl_gaussian(teacher, subset.posterior.gaussian).sum(-1)  # (B,)
        return (divergence * counted).sum()
    z = joint.z.detach()  # (C, B, K)
    weights = joint.weights.detach()  # (C, B)
    log_ratio = joint.posterior.log_prob(z).detach() - subset.posterior.log_prob(z)  # (C, B)
    return (torch.where(weights > 0, weights * log_ratio, 0.0).sum(0) * counted).sum()
