"""The probabilistic model: encode, fuse, sample, decode.

    z ~ p(z),   x_m ~ p_m(x_m | z, s),   q(z | x_A) = fusion of the experts q_m(z | x_m), m in A

Every method takes tensors and returns tensors or frozen dataclasses; names of modalities, files and
users' tables are unknown here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from multiomics_vae.data.minibatch import Covariates, Minibatch, ModalityBatch
from multiomics_vae.distributions import Gaussian, GaussianMixture
from multiomics_vae.fusion import Evidence, Fused, FusionRule
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.kernels import (
    ChunkedEntries,
    ChunkOptions,
    DrawnEntries,
    DrawnFeatures,
    FeatureSample,
    SparseRows,
    WholeLayer,
    fused_log_likelihoods,
)
from multiomics_vae.likelihoods import CellContext, FusedTerms, Likelihood
from multiomics_vae.networks.covariates import CovariateEncoding
from multiomics_vae.networks.decoder import Decoder
from multiomics_vae.networks.encoder import Encoder
from multiomics_vae.networks.extension import ExtendedLinear
from multiomics_vae.priors import Prior


class ModalityParts(nn.Module):
    """The networks of one modality: encoder, decoder and likelihood."""

    def __init__(self, encoder: Encoder, decoder: Decoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood


@dataclass(frozen=True)
class WeightedLogLikelihood:
    """Log likelihood of one modality.

    Parameters
    ----------
    totals
        Weighted sum over the rows for each draw, ``(S,)``, differentiable.
    per_cell
        Of each draw and row, unweighted, without gradient, ``(S, B_m)``.
    """

    totals: Tensor
    per_cell: Tensor

    @property
    def total(self) -> Tensor:
        """Weighted sum over draws and rows, a scalar, differentiable."""
        return self.totals.sum()


class RowSource(Protocol):
    """Whoever keeps the rows of wide matrices."""

    def before_outputs(self) -> None:
        """To be called before a step reads the output layers."""

    def take(self, parameter: Tensor, sample: FeatureSample) -> Tensor:
        """The drawn rows of a parameter, ``(n, H)``; differentiable."""


@dataclass(frozen=True)
class OutputPart:
    """A decoder's last layer and the observations, both cut down to the same features.

    Parameters
    ----------
    weight, bias
        Of the last layer, ``(n, H)`` and ``(n,)``; differentiable.
    chunked
        Observations of the n features; None if n is 0.
    sample
        Which features they are; None for all.
    drawn
        What they were drawn from and stand for; None if they stand for themselves.
    """

    weight: Tensor
    bias: Tensor
    chunked: ChunkedEntries | None
    sample: FeatureSample | None = None
    drawn: DrawnFeatures | None = None


class MultimodalModule(nn.Module):
    """The generative model p(z) Π p_m(x_m | z, s), its amortised inference, and what is predicted from z.

    Parameters
    ----------
    modalities
        Encoder, decoder and likelihood of each modality, in the schema's order.
    fusion
        From experts to one posterior.
    prior
        p(z).
    covariates
        How covariates are written as numbers.
    heads
        What predicts outcomes from z.
    """

    def __init__(
        self,
        modalities: tuple[ModalityParts, ...],
        fusion: FusionRule,
        prior: Prior,
        covariates: CovariateEncoding,
        heads: tuple[OutcomeReader, ...] = (),
    ) -> None:
        super().__init__()
        self.modalities = nn.ModuleList(modalities)
        self.fusion = fusion
        self.prior = prior
        self.covariates = covariates
        self.heads = nn.ModuleList(heads)

    @property
    def readers(self) -> tuple[OutcomeReader, ...]:
        """What predicts outcomes from z."""
        return cast(tuple[OutcomeReader, ...], tuple(self.heads))

    @property
    def parts(self) -> tuple[ModalityParts, ...]:
        """The networks of every modality, in the schema's order."""
        return cast(tuple[ModalityParts, ...], tuple(self.modalities))

    @property
    def likelihoods(self) -> tuple[Likelihood, ...]:
        """The likelihood of every modality."""
        return tuple(part.likelihood for part in self.parts)

    @property
    def n_modalities(self) -> int:
        return len(self.modalities)

    @property
    def n_latent(self) -> int:
        return self.fusion.n_latent

    # --- inference -------------------------------------------------------------------------------

    def encode(self, minibatch: Minibatch) -> Evidence:
        """Run every encoder on the rows that have its modality; absent rows carry a mask, not zeros."""
        covariates = self.covariates(minibatch.covariates)  # (B, D)
        features = covariates.new_zeros(self.n_modalities, minibatch.n_cells, self.fusion.n_hidden)
        for m, (part, batch) in enumerate(zip(self.parts, minibatch.modalities, strict=True)):
            hidden = part.encoder(batch, batch.rows_of(covariates))  # (B_m, H)
            if len(batch.rows) == minibatch.n_cells:
                features[m] = hidden
            else:
                features[m] = features[m].index_copy(0, batch.rows, hidden.to(features.dtype))
        return Evidence(self.experts(features), features, minibatch.present)

    def experts(self, features: Tensor) -> Gaussian:
        """Experts of all modalities from their hidden features ``(M, B, H)``: ``(M, B, K)``."""
        heads = [part.encoder.head(hidden) for part, hidden in zip(self.parts, features, strict=True)]
        return Gaussian(
            torch.stack([head.mean for head in heads]), torch.stack([head.log_variance for head in heads])
        )

    def fuse(self, evidence: Evidence, available: Tensor | None = None) -> Fused:
        """q(z | x_A), where ``available`` ``(B, M)`` says what A is in each cell (default: all there is)."""
        if available is not None:
            evidence = Evidence(evidence.experts, evidence.features, available & evidence.available)
        fused: Fused = self.fusion(evidence)
        return fused

    def prior_mixture(self) -> GaussianMixture:
        """p(z), a mixture over one imagined cell, to be broadcast over cells."""
        mixture: GaussianMixture = self.prior(self._infer_from_features)
        return mixture

    def _infer_from_features(self, features: Tensor) -> GaussianMixture:
        available = torch.ones(features.shape[1], features.shape[0], dtype=torch.bool, device=features.device)
        return self.fuse(Evidence(self.experts(features), features, available)).posterior

    # --- generation ------------------------------------------------------------------------------

    def decode(
        self, modality: int, z: Tensor, covariates: Covariates, features: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Outputs of one modality's decoder at z ``(B, K)`` for the B cells of ``covariates``."""
        outputs: tuple[Tensor, ...] = self.parts[modality].decoder(z, self.covariates(covariates), features)
        return outputs  # (B, width) each

    def draw_features(
        self,
        modality: int,
        batch: ModalityBatch,
        covariates: Covariates,
        chances: Tensor,
        generator: torch.Generator,
        rows: RowSource | None = None,
    ) -> OutputPart | None:
        """A random part of a modality for `log_likelihood`; None where all features must be seen.

        It is drawn here, unless the minibatch comes with its draw. All are seen if the likelihood is not
        fused with the last layer, and if some were not measured.

        Parameters
        ----------
        modality, batch, covariates
            As for `log_likelihood`.
        chances
            With which each feature is drawn, ``(F,)``.
        generator
            Decides which.
        rows
            Where the drawn rows of the last layer's matrix come from; None takes them from the matrix.
        """
        if not isinstance(batch.values, SparseRows):
            return None
        if batch.gaps is not None:
            return None
        cells = CellContext(batch.depth, batch.rows_of(covariates.batch), batch.coverage)
        terms = self.parts[modality].likelihood.fused_terms(cells)
        if terms is None:
            return None
        normalised = terms.kernel.normalised
        found = batch.drawn or DrawnEntries.draw(batch.values, chances, generator, with_count=normalised)
        sample = found.sample
        assert sample.chances is not None
        layer, whole = self.parts[modality].decoder.last_layers[0], None
        if normalised:
            assert found.count is not None
            whole = WholeLayer(layer.weight, layer.bias, found.count)
        weight = sample.rows_of(layer.weight) if rows is None else rows.take(layer.weight, sample)
        drawn = DrawnFeatures(sample.chances, whole)
        return OutputPart(weight, sample.rows_of(layer.bias), found.chunked, sample, drawn)

    def log_likelihood(
        self,
        modality: int,
        batch: ModalityBatch,
        z: Tensor,
        covariates: Covariates,
        weights: Tensor | None = None,
        drawn: OutputPart | None = None,
        options: ChunkOptions | None = None,
        upstream: tuple[float, ...] | None = None,
        at_draws: tuple[bool, ...] | None = None,
    ) -> WeightedLogLikelihood:
        """Log p_m(x_m | z, s) of the B_m rows that have the modality, over their observed entries.

        Computed fused with the decoder's last layer where the likelihood knows how, else plainly.

        Parameters
        ----------
        modality
            Position in the schema.
        batch
            Its rows.
        z
            ``(S, B, K)``, draws for ALL cells of the minibatch.
        covariates
            Of all cells of the minibatch.
        weights
            Of each draw and row in the totals, ``(S, B_m)``, not differentiated; None for 1.
        drawn
            From `draw_features`: the values are then unbiased estimates; None for the exact ones.
        options
            Precision of the products of a fused likelihood.
        upstream
            Gradient of the loss by each of the totals, up to one factor that they share; None for one that
            all share. A fused likelihood computes its gradients on the way forward and must know.
        at_draws
            Which of ``z`` are draws, and not means; None for all. The likelihood's own parameters learn from
            draws alone: at a mean, what z is not known to is left over as if it were the features' spread.
        """
        own = covariates if len(batch.rows) == len(covariates.batch) else covariates.rows(batch.rows)
        cells = CellContext(batch.depth, own.batch, batch.coverage)
        terms = self.parts[modality].likelihood.fused_terms(cells)
        if terms is not None and terms.depth is not None and batch.gaps is not None:
            # Shares are of the measured features then, and so is the sum that they divide among them.
            terms = replace(terms, depth=terms.depth * batch.gaps.kept_share)
        output = drawn or (None if terms is None else self._whole_output(modality, batch))
        z = batch.rows_of(z, 1)  # (S, B_m, K)
        if terms is None or output is None:
            return self._plain_log_likelihood(modality, batch, z, own, cells, weights, at_draws)
        return self._fused_log_likelihood(
            modality, output, z, own, terms, weights, options, upstream, at_draws
        )

    def _whole_output(self, modality: int, batch: ModalityBatch) -> OutputPart | None:
        if batch.chunked is None:
            return None
        layer = self.parts[modality].decoder.last_layers[0]
        if batch.gaps is None:
            return OutputPart(layer.weight, layer.bias, batch.chunked)
        sample = batch.gaps.sample
        rows = sample.rows_of(layer.weight), sample.rows_of(layer.bias)
        return OutputPart(*rows, batch.chunked, sample)

    def _plain_log_likelihood(
        self,
        modality: int,
        batch: ModalityBatch,
        z: Tensor,
        covariates: Covariates,
        cells: CellContext,
        weights: Tensor | None,
        at_draws: tuple[bool, ...] | None,
    ) -> WeightedLogLikelihood:
        likelihood = self.parts[modality].likelihood
        totals, per_cell = [], []
        for s, draw in enumerate(z):
            outputs = self.decode(modality, draw, covariates)
            learns = at_draws is None or at_draws[s]
            log_prob_of = likelihood.log_prob if learns else likelihood.log_prob_as_it_is
            log_prob = log_prob_of(batch.dense, outputs, cells)  # (B_m, F)
            if batch.observed is not None:
                log_prob = log_prob.masked_fill(~batch.observed, 0.0)
            if batch.gaps is not None:
                log_prob = log_prob.masked_fill(~batch.gaps.measured, 0.0)
            each = log_prob.sum(-1)  # (B_m,)
            totals.append((each if weights is None else each * weights[s]).sum())
            per_cell.append(each.detach())
        return WeightedLogLikelihood(torch.stack(totals), torch.stack(per_cell))

    def _fused_log_likelihood(
        self,
        modality: int,
        output: OutputPart,
        z: Tensor,
        covariates: Covariates,
        terms: FusedTerms,
        weights: Tensor | None,
        options: ChunkOptions | None,
        upstream: tuple[float, ...] | None,
        at_draws: tuple[bool, ...] | None,
    ) -> WeightedLogLikelihood:
        if output.chunked is None:
            return WeightedLogLikelihood(z.new_zeros(len(z)), z.new_zeros(z.shape[:2]))
        if output.sample is not None and terms.log_dispersion is not None:
            by_feature = output.sample.rows_of(terms.log_dispersion.movedim(-1, 0))  # (n, ...)
            terms = replace(terms, log_dispersion=by_feature.movedim(0, -1))
        decoder, encoded = self.parts[modality].decoder, self.covariates(covariates)  # (B_m, D)
        repeated = encoded if len(z) == 1 else encoded.repeat(len(z), 1)  # (S · B_m, D)
        hidden = decoder.last_hidden(z.flatten(0, 1), repeated)  # (S · B_m, H)
        fused = fused_log_likelihoods(
            terms.kernel,
            hidden.view(*z.shape[:2], -1),
            output.weight,
            output.bias,
            output.chunked,
            depth=terms.depth,
            offset=terms.offset,
            log_dispersion=terms.log_dispersion,
            batch=terms.batch,
            cell_weights=weights,
            upstream=upstream,
            teaches_dispersion=at_draws,
            options=options,
            drawn=output.drawn,
        )
        return WeightedLogLikelihood(fused.totals, fused.per_cell)

    def log_prior_of_weights(self) -> Tensor:
        """Log prior density of the decoders' shrunk weights and the likelihoods' parameters, a scalar."""
        total = torch.zeros((), device=next(self.parameters()).device)
        for part in self.parts:
            for term in (part.decoder.log_prior(), part.likelihood.log_prior()):
                if term is not None:
                    total = total + term
        for layer in self.modules():
            if isinstance(layer, ExtendedLinear):
                total = total + layer.log_prior()
        return total
