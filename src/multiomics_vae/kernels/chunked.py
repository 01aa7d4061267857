"""The one loop over chunks of features that every fused log likelihood goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.chunked_entries import ChunkedEntries, EntrySlice
from multiomics_vae.kernels.dispersion_table import DispersionTable
from multiomics_vae.kernels.drawn_features import DrawnFeatures
from multiomics_vae.kernels.elementwise import ElementwiseKernel, NonzeroTerms
from multiomics_vae.kernels.output_layer import OutputLayer, Wanted
from multiomics_vae.kernels.softmax_normaliser import softmax_normaliser

# Powers of 2 are several times faster than exp in PyTorch on processors.
LOG2_E = 1.0 / math.log(2.0)
ENTRIES_IN_BLOCK = 2**16


@dataclass(frozen=True)
class Costs:
    """What a run returns: −log p of every cell, ``(B,)``, and gradients of their weighted sum."""

    per_cell: Tensor
    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    offset: Tensor | None
    log_dispersion: Tensor | None


@dataclass(frozen=True)
class Normaliser:
    """What turns the logits of a cell into log means, (l − highest) + rest.

    Two numbers, because a logit of 40 added to one rounded normaliser would leave the same error in
    all means of the cell.

    Parameters
    ----------
    highest
        Highest logit, ``(B,)``.
    rest
        log depth − log Σ exp(l − highest), ``(B,)``.
    """

    highest: Tensor
    rest: Tensor

    def log_means_of(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Log means of single entries, ``(k,)``, in cells ``rows``."""
        return (logits - self.highest.index_select(0, rows)) + self.rest.index_select(0, rows)

    def means_(self, logits: Tensor) -> Tensor:
        """Means in place of logits, ``(n, B)``."""
        logits.sub_(self.highest)
        return torch.add(self.rest * LOG2_E, logits, alpha=LOG2_E, out=logits).exp2_()


class ChunkLoop:
    """Value and gradients of one output layer and likelihood, a ``(chunk, B)`` buffer at a time.

    Without a softmax there is one pass: product, arithmetic, gradient products. With one, the chain
    rule is dC/dl_f = s_f − p_f Σ_g s_g, where s are slopes by the log mean and p the shares; so the
    passes are (1) the normaliser of each cell, (2) the cost and Σ_g s_g, unless they have a closed
    form, (3) the gradients. Sums over features are kept in float64, since they add up thousands of
    float32 sums of chunks.

    Parameters
    ----------
    kernel
        The likelihood.
    layer
        The output layer.
    chunked
        The data.
    dispersion
        Of features, or of features and batches; None if the kernel has none.
    depth
        Sum of the means of each cell, ``(B,)``; None if the kernel is not normalised.
    wanted
        Which gradients to compute.
    memory_budget
        Bytes that the logits of all features may take.
    drawn
        What the features were drawn from and stand for: costs and slopes are then the estimates of
        `DrawnFeatures`. None if they are all.
    """

    def __init__(
        self,
        kernel: ElementwiseKernel,
        layer: OutputLayer,
        chunked: ChunkedEntries,
        dispersion: DispersionTable | None,
        depth: Tensor | None,
        wanted: Wanted,
        memory_budget: int,
        drawn: DrawnFeatures | None = None,
    ) -> None:
        self.drawn = drawn
        self._feature_weights = None if drawn is None else drawn.weights  # (F,)
        self.kernel, self.layer, self.chunked = kernel, layer, chunked
        self.dispersion, self.depth = dispersion, depth
        self.wanted = wanted
        like = layer.weight
        n_cells, n_features = chunked.n_cells, chunked.n_features
        shape = (min(chunked.chunk_size, n_features), n_cells)
        self._slope_buffer, self._cost_buffer = like.new_empty(shape), like.new_empty(shape)  # (chunk, B)
        holds = kernel.normalised and n_features * n_cells * like.dtype.itemsize <= memory_budget
        self._held = empty_buffer((n_features, n_cells), like) if holds else None  # (F, B)
        self._held_are_means = False
        self._argument_buffer = self._cost_buffer if holds else like.new_empty(shape)  # (chunk, B)
        # Metal has no float64.
        wide = like.dtype if like.device.type == "mps" else torch.float64
        self._per_cell = torch.zeros(n_cells, dtype=wide, device=like.device)  # (B,)

    def run(self) -> Costs:
        """Go through all chunks."""
        if self.kernel.normalised:
            self._run_normalised()
        else:
            self._run_elementwise()
        self.layer.finish()
        layer, dispersion = self.layer, self.dispersion
        return Costs(
            self._per_cell,
            layer.hidden_gradient,
            layer.weight_gradient,
            layer.bias_gradient,
            layer.offset_gradient,
            None if dispersion is None else dispersion.log_gradient,
        )

    def _run_elementwise(self) -> None:
        for chunk, features in enumerate(self.chunked.chunks):
            entries = self.chunked.of_chunk(chunk)
            argument = self._argument_buffer[: features.stop - features.start]  # (n, B)
            self.layer.logits(features, argument)
            at_entries = argument.view(-1).index_select(0, entries.positions)  # (k,)
            terms = self._nonzero_terms(at_entries, entries)
            slope = self._zero_slope(features, argument) if self.wanted.any else None
            self._add_zero_cost(features, argument, slope)
            if slope is not None and self.wanted.layer:
                slope.view(-1).scatter_add_(0, entries.positions, terms.slope)
                self.layer.add_gradient(features, slope)

    def _run_normalised(self) -> None:
        assert self.depth is not None
        log_mean, normaliser = self._normalise(self.depth.log())  # (nnz,)
        totals = self.kernel.zero_totals(self.depth) if self.drawn is None else None
        if totals is None:
            slope_sum = self._add_zero_costs(normaliser)  # (B,)
        else:
            self._per_cell += totals.cost
            slope_sum = totals.slope.to(self._per_cell.dtype)  # (B,)
        added, slope_sum = self._add_all_nonzero_terms(log_mean, slope_sum)
        if not self.wanted.layer:
            return
        share_slope = self._share_slope(slope_sum, normaliser)  # (B,)
        for chunk, features in enumerate(self.chunked.chunks):
            mean = self._means(features, normaliser)  # (n, B)
            slope = self._zero_slope(features, mean)  # (n, B)
            part = self.chunked.span(chunk)
            positions = self.chunked.entries.positions[part]
            slope.view(-1).scatter_add_(0, positions, added[part])
            by_share = share_slope.expand_as(mean)  # (n, B)
            if self.drawn is not None:
                mean = mean * self._weights_of(features)  # (n, B), of the features that these stand for
                own = slope - mean  # (n, B)
                own.view(-1).scatter_add_(0, positions, self._weighted_values[part])
                absent = (1.0 - self.drawn.chances[features]).unsqueeze(1)  # (n, 1)
                by_share = own * absent / self.depth + share_slope
            self.layer.add_gradient(features, slope.addcmul_(mean, by_share))

    @property
    def _weighted_values(self) -> Tensor:
        """Stored entries times what their features stand for, ``(nnz,)``."""
        entries = self.chunked.entries
        if self._feature_weights is None:
            return entries.values
        return entries.values * self._feature_weights.index_select(0, entries.columns)

    def _share_slope(self, slope_sum: Tensor, normaliser: Normaliser) -> Tensor:
        """What every slope has of the others, over its mean: ``(B,)``."""
        assert self.depth is not None
        if self.drawn is None:
            return -(slope_sum / self.depth).to(self.depth.dtype)
        excess = slope_sum.scatter_add(
            0, self.chunked.entries.rows, self._weighted_values.to(slope_sum.dtype)
        )  # (B,)
        for features in self.chunked.chunks:
            excess -= (self._means(features, normaliser) * self._weights_of(features)).sum(0)
        return self.drawn.share_slope(self.depth, excess).to(self.depth.dtype)

    def _add_all_nonzero_terms(self, log_mean: Tensor, slope_sum: Tensor) -> tuple[Tensor, Tensor]:
        """Add what stored entries cost; return their slopes ``(nnz,)`` and the new sums ``(B,)``."""
        entries = self.chunked.entries
        slopes = torch.empty_like(log_mean)  # (nnz,)
        n_entries = len(log_mean)
        # Special functions make many temporaries: in blocks, a processor's cache holds them.
        size = ENTRIES_IN_BLOCK if log_mean.device.type == "cpu" else max(n_entries, 1)
        for low in range(0, n_entries, size):
            block = slice(low, low + size)
            terms = self._nonzero_terms(log_mean[block], entries.part(block))
            slopes[block] = terms.slope
        return slopes, slope_sum.scatter_add(0, entries.rows, slopes.to(slope_sum.dtype))

    def _normalise(self, log_depth: Tensor) -> tuple[Tensor, Normaliser]:
        """Pass 1: log means of the stored entries, ``(nnz,)``, and the normaliser of each cell."""
        entries = self.chunked.entries
        at_entries = torch.empty_like(entries.values)  # (nnz,)
        highest = torch.full_like(log_depth, -math.inf)  # (B,)
        total = torch.zeros_like(self._per_cell)  # (B,)
        for chunk, features in enumerate(self.chunked.chunks):
            width, part = features.stop - features.start, self.chunked.span(chunk)
            logits = self._argument_buffer[:width] if self._held is None else self._held[features]  # (n, B)
            self.layer.logits(features, logits)
            torch.index_select(logits.view(-1), 0, entries.positions[part], out=at_entries[part])
            now_highest = torch.maximum(highest, logits.amax(0))  # (B,)
            shifted = torch.sub(logits, now_highest, out=self._slope_buffer[:width])  # (n, B)
            total.mul_((highest - now_highest).exp_()).add_(shifted.mul_(LOG2_E).exp2_().sum(0))
            highest = now_highest
        if self.drawn is not None and self.drawn.whole is not None:
            whole = self.drawn.whole
            found = softmax_normaliser(self.layer.hidden, whole.weight, whole.bias)
            highest, total = found.highest.squeeze(1), found.total.squeeze(1)
        normaliser = Normaliser(highest, (log_depth - total.log()).to(log_depth.dtype))
        return normaliser.log_means_of(at_entries, entries.rows), normaliser

    def _add_zero_costs(self, normaliser: Normaliser) -> Tensor:
        """Pass 2: costs as if all entries were 0; returns the sums of their slopes, ``(B,)``."""
        slope_sum = torch.zeros_like(self._per_cell)  # (B,)
        for features in self.chunked.chunks:
            mean = self._means(features, normaliser)  # (n, B)
            slope = None
            if self.wanted.any:
                slope = self._zero_slope(features, mean)  # (n, B)
                slope_sum += slope.sum(0)
            self._add_zero_cost(features, mean, slope)
        self._held_are_means = True
        return slope_sum

    def _means(self, features: slice, normaliser: Normaliser) -> Tensor:
        """Means of a chunk, ``(n, B)``, from the logits that were held, or else computed again."""
        if self._held is None:
            means = self._argument_buffer[: features.stop - features.start]  # (n, B)
            self.layer.logits(features, means)
        else:
            means = self._held[features]  # (n, B)
            if self._held_are_means:
                return means
        return normaliser.means_(means)

    def _nonzero_terms(self, argument: Tensor, entries: EntrySlice) -> NonzeroTerms:
        """What stored entries add, to costs and to the dispersion's gradient at once."""
        table = self.dispersion
        at_entries = None if table is None else table.at_entries(entries)  # (k,)
        terms = self.kernel.nonzero_terms(argument, entries.values, at_entries)
        if self._feature_weights is not None:
            weights = self._feature_weights.index_select(0, entries.columns)  # (k,)
            by_dispersion = terms.log_dispersion_slope
            terms = NonzeroTerms(
                terms.cost * weights,
                terms.slope * weights,
                None if by_dispersion is None else by_dispersion * weights,
            )
        self._per_cell.scatter_add_(0, entries.rows, terms.cost.to(self._per_cell.dtype))
        if table is not None and self.wanted.log_dispersion and terms.log_dispersion_slope is not None:
            table.add_at_entries(entries, terms.log_dispersion_slope)
        return terms

    def _zero_slope(self, features: slice, argument: Tensor) -> Tensor:
        slope = self._slope_buffer[: len(argument)]  # (n, B)
        self.kernel.zero_slope(argument, self._spread(features), slope)
        return slope if self._feature_weights is None else slope.mul_(self._weights_of(features))

    def _add_zero_cost(self, features: slice, argument: Tensor, slope: Tensor | None) -> None:
        cost = self._cost_buffer[: len(argument)]  # (n, B)
        if self.dispersion is None and self._feature_weights is None:
            self._per_cell += self.kernel.zero_cost_sums(argument, None, cost)
            return
        self.kernel.zero_cost(argument, self._spread(features), cost)
        if self._feature_weights is not None:
            cost.mul_(self._weights_of(features))
        self._per_cell += cost.sum(0)
        if self.dispersion is None:
            return
        if self.wanted.log_dispersion and slope is not None:
            self.kernel.zero_log_dispersion_slope(argument, slope, cost)
            self.dispersion.add_chunk(features, cost)

    def _weights_of(self, features: slice) -> Tensor:
        """What the drawn features of a chunk stand for, ``(n, 1)``."""
        assert self._feature_weights is not None
        return self._feature_weights[features].unsqueeze(1)

    def _spread(self, features: slice) -> Tensor | None:
        return None if self.dispersion is None else self.dispersion.of_chunk(features)
