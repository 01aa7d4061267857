"""The loss: an evidence lower bound over subsets of the modalities, as a sum of named terms.

    L(A)  = Σ_m λ_m E_{q(z|x_A)} log p(x_m|z) − β KL(q(z|x_A) ‖ p(z))
    loss  = −[ L(all) + w Σ_A L(A) ] + Σ_h w_h cost_h + Σ_p w_p penalty_p − (1/N) log p(weights)

For a proper subset A the sum runs over m in A (``"within"``, with the extra term
KL(stopgrad q(z|x_all) ‖ q(z|x_A)), which teaches the subset both the mean and an honest width), over
every observed modality (``"cross"``), or over these and with the extra term (``"both"``), in which what is
not in A is read at the mean of q(z|x_A), so that it moves the mean and not the width, and teaches the
likelihood's dispersions and scales nothing. Only observed values enter; a subset counts for a cell only if it
is neither empty nor all that the cell has. The penalties are those of `penalties/`, the costs those of
`heads/`: average negative log likelihoods of the outcomes, over what has a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.share import StepNoise
from multiomics_vae.distributions import GaussianMixture
from multiomics_vae.loss_terms import LossTerm, LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective.config import EXACT, Economy, ObjectiveConfig
from multiomics_vae.objective.divergences import kl_from_joint, kl_to_prior
from multiomics_vae.objective.labelled import Supervision, head_terms
from multiomics_vae.objective.outputs import OutputParts, log_likelihoods
from multiomics_vae.objective.penalised import penalty_input, penalty_terms
from multiomics_vae.objective.views import View, joint_view, subset_views, without_dropped
from multiomics_vae.penalties import Penalty


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
    penalties
        Those that ``config`` names, by name, as `build_penalties` makes them.
    strata
        Group of every cell of the data set within which penalties against covariates look, ``(N,)``.
    supervision
        What is known of the outcomes that the module's heads predict, as `supervise` makes it; without it
        they learn nothing.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        modality_weights: tuple[float, ...],
        n_training_cells: int,
        watch: Callable[[Tensor, int], Tensor] | None = None,
        penalties: Mapping[str, Penalty] | None = None,
        strata: Tensor | None = None,
        supervision: Mapping[str, Supervision] | None = None,
    ) -> None:
        self.config = config
        self.modality_weights = modality_weights
        self.n_training_cells = n_training_cells
        self.watch = watch
        self.strata = strata
        self.supervision = supervision or {}
        self.penalties = {each.name: (penalties or {})[each.name] for each in config.penalties}

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
            Warm-up factor of β and of ramped penalties, 0 to 1.
        generator
            Of the noise, on the module's device.
        economy
            What may be rounded or estimated; by default nothing. An estimated loss has the same
            expectation, and its gradient too.
        """
        config = self.config
        noise = StepNoise(generator, minibatch.share)
        evidence = module.encode(minibatch)
        prior = module.prior_mixture()
        present = available = minibatch.present  # (B, M)
        if module.training:
            available = without_dropped(present, config.modality_dropout, noise)
        joint = joint_view(module, evidence, available, noise)
        parts = OutputParts.draw(module, minibatch, economy, noise)
        with_subsets = config.subset_objective != "none" and module.n_modalities > 1
        teacher = joint
        # Where dropout hid a modality, the joint view is not q(z | x_all), which teaches the subsets.
        if available is not present and (with_subsets or config.penalties):
            teacher = joint_view(module, evidence, present, noise)
        subsets = subset_views(config, module, minibatch, evidence, noise) if with_subsets else []
        likelihood, *of_subsets = log_likelihoods(
            module, minibatch, [joint, *subsets], parts, self.modality_weights, self.watch
        )
        divergence, charged = kl_to_prior(joint, prior, config.free_bits)
        beta = config.kl_weight * kl_scale

        n = minibatch.n_cells
        terms = [
            LossTerm("log_likelihood", value / n, -self.modality_weights[m], m)
            for m, value in enumerate(likelihood)
        ]
        terms.append(LossTerm("kl", charged / n, beta))
        for view, values in zip(subsets, of_subsets, strict=True):
            terms += self._subset_terms(view, values / n, prior, teacher, beta)
        terms += head_terms(module.readers, minibatch, joint, self.supervision)
        if config.penalties:
            found = penalty_input(module, minibatch, evidence, teacher, noise, self.strata)
            terms += penalty_terms(config.penalties, self.penalties, found, kl_scale)
        log_prior = module.log_prior_of_weights()
        terms.append(LossTerm("weight_prior", log_prior / self.n_training_cells, -1.0))
        return LossTerms(
            terms=tuple(terms),
            elbo=((likelihood.sum() - divergence) / n).detach(),
            log_likelihood=likelihood.detach(),
            n_cells=minibatch.present.sum(0),
        )

    def _subset_terms(
        self, view: View, likelihood: Tensor, prior: GaussianMixture, teacher: View, beta: float
    ) -> list[LossTerm]:
        """Terms of one subset; ``likelihood`` is that of each modality a cell, ``(M,)``."""
        n, w, counted = len(view.counted), view.weight, view.counted
        terms = [
            LossTerm("subset_log_likelihood", likelihood[m], -w * self.modality_weights[m], m)
            for m in view.targets
        ]
        _, charged = kl_to_prior(view, prior, self.config.free_bits)
        terms.append(LossTerm("subset_kl", charged / n, w * beta))
        if self.config.subset_objective in ("within", "both"):
            terms.append(LossTerm("subset_matching", kl_from_joint(teacher, view) / n, w * beta))
        return [replace(term, n_counted=counted.sum()) for term in terms]
