"""A modality told from others as well as can be: the decoder's expectation, and what regression adds to it.

A decoder learns to explain cells from z given everything they have, by its likelihood. Asked to predict a
modality from z given others, it leaves something on the table: encoders know more than they put into z, and
z given less lies elsewhere. Both leave traces in the errors on training cells, so the errors are regressed
on what the encoders saw,

    g(x_m) = g(E[x_m | z_A, depth]) + W (1, h_m, h_A, log depth_A) + ε,

where z_A is the mean of q(z | x_A), the depth that of `predicted_depth`, h_m the decoder's last hidden
layer at z_A, h_A the encoders' hidden features; g is log(1 + x) for counts and nothing for other values.
W is found in closed form by ridge regression on the training cells. Its penalty, one for all features, has
the least error on the cells that early stopping held out: an encoder knows its training cells too well
for their own errors to be the judge. Where no penalty helps, the decoder speaks alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.inference import Inferred, infer
from multiomics_vae.analysis.normalized import decoded_features
from multiomics_vae.analysis.predicted_depth import Reference, predicted_depths
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.module import MultimodalModule

MOST_CELLS = 20_000
PENALTIES = 10.0 ** np.arange(0.0, 6.5, 0.5)
SUPPORTS = ("counts", "binary", "real")


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map from inputs to corrections.

    Parameters
    ----------
    weights
        ``(1 + P, G)``, the intercept first.
    penalty
        Of inputs in units of their standard deviations; infinite for no correction.
    """

    weights: np.ndarray
    penalty: float

    def correction(self, inputs: np.ndarray) -> np.ndarray:
        """What is added, ``(n, G)``, for inputs ``(n, P)``."""
        return np.asarray(self.weights[0] + inputs @ self.weights[1:])


class Moments:
    """Sums over cells that ridge regression of G errors on P inputs needs: nothing of the size of cells.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 1))
    >>> sums = Moments()
    >>> sums.add(x, 1.0 + 2.0 * x)
    >>> [readout] = sums.solve(np.array([1e-6]))
    >>> readout.correction(np.array([[1.0]])).round(3)
    array([[3.]])
    """

    def __init__(self) -> None:
        self.n = 0
        self.gram: np.ndarray | float = 0.0  # (1 + P, 1 + P)
        self.crossed: np.ndarray | float = 0.0  # (1 + P, G)

    def add(self, inputs: np.ndarray, errors: np.ndarray) -> None:
        """Add cells: inputs ``(n, P)`` and errors ``(n, G)``."""
        x = np.column_stack([np.ones(len(inputs)), inputs])  # (n, 1 + P)
        self.n += len(x)
        self.gram = self.gram + x.T @ x
        self.crossed = self.crossed + x.T @ errors

    def solve(self, penalties: np.ndarray = PENALTIES) -> Iterator[Readout]:
        """Ridge regression on standardised inputs, intercept free, for one penalty after the other."""
        gram, crossed = np.asarray(self.gram), np.asarray(self.crossed)
        middle, mean = gram[0, 1:] / self.n, crossed[0] / self.n  # (P,), (G,)
        centred = gram[1:, 1:] - self.n * np.outer(middle, middle)  # (P, P)
        spread = np.sqrt(np.maximum(np.diag(centred), 0.0) / self.n)
        scale = np.where(spread > 1e-6 * max(spread.max(), 1e-12), spread, np.inf)  # constants: slope 0
        values, vectors = np.linalg.eigh(centred / np.outer(scale, scale))
        turned = vectors.T @ ((crossed[1:] - self.n * np.outer(middle, mean)) / scale[:, None])  # (P, G)
        for penalty in penalties:
            slopes = vectors @ (turned / (np.maximum(values, 0.0) + penalty)[:, None]) / scale[:, None]
            yield Readout(np.vstack([mean - middle @ slopes, slopes]), float(penalty))  # (1 + P, G)


def readout_values(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    batch_size: int,
    modality: int,
    features: np.ndarray,
    given: tuple[int, ...] | None,
    reference: Reference,
    judges: np.ndarray,
) -> np.ndarray:
    """Predict what would be measured of one modality from others.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the registered cells, the positions wanted.
    modality, features
        Position of the modality, and of its features, ``(G,)``.
    given
        Positions of the modalities that may be read, without the one that is predicted; None for all
        others.
    reference
        The cells on which the regression is fitted.
    judges
        Cells of the same data that training held out; they choose the penalty.

    Returns
    -------
    ndarray
        ``(N, G)``, float32, in the units of the measured values.

    Raises
    ------
    InputError
        If the modality is given, is of a kind that cannot be corrected, or a cell has nothing else.
    """
    support = module.likelihoods[modality].support
    if support not in SUPPORTS:
        raise InputError(
            f"Values of the kind {support!r} cannot be predicted by regression: get_normalized(...)"
        )
    others = tuple(m for m in range(module.n_modalities) if m != modality) if given is None else given
    names = data.schema.modality_names
    if modality in others:
        rest = [name for name in names if name != names[modality]]
        raise InputError(f"given names {names[modality]!r}, which is what is predicted: given={rest}")
    known = data.present[cells][:, list(others)]  # (N, |others|)
    if not known.any(1).all():
        raise InputError(
            f"{int((~known.any(1)).sum())} of {len(cells)} cells have none of {[names[m] for m in others]}, "
            "so nothing says what is in them. Ask about the others with indices="
        )
    result = np.empty((len(cells), len(features)), dtype=np.float32)
    for pattern in np.unique(known, axis=0):
        here = np.flatnonzero((known == pattern).all(1))
        chosen = tuple(m for m, there in zip(others, pattern, strict=True) if there)
        direction = _Direction(
            module, batch_size, modality, torch.from_numpy(features), chosen, reference, judges
        )
        readout = direction.fit()
        start = 0
        for decoded, inputs, _ in direction.blocks(data, cells[here]):
            values = direction.back(decoded + readout.correction(inputs))
            result[here[start : start + len(values)]] = values
            start += len(values)
    return result


@dataclass(frozen=True, eq=False)
class _Direction:
    """From which modalities to which, and whence it is learned."""

    module: MultimodalModule
    batch_size: int
    modality: int
    features: Tensor
    given: tuple[int, ...]
    reference: Reference
    judges: np.ndarray

    def fit(self) -> Readout:
        """Regress the errors on training cells; the held-out ones choose the penalty."""
        sums, held_out = Moments(), list(self.errors(self.judges))
        for inputs, errors in self.errors(self.reference.cells):
            sums.add(inputs, errors)
        inputs, errors = (np.concatenate(part) for part in zip(*held_out, strict=True))
        spread = np.maximum(errors.var(0), 1e-12)  # (G,)
        nothing = Readout(np.zeros((1 + inputs.shape[1], errors.shape[1])), np.inf)
        least = float(np.mean(np.square(errors).mean(0) / spread))
        penalty = np.inf
        for readout in sums.solve():
            found = float(np.mean(np.square(errors - readout.correction(inputs)).mean(0) / spread))
            if found < least:
                penalty, least = readout.penalty, found
        if not np.isfinite(penalty):
            return nothing
        sums.add(inputs, errors)  # chosen: now they may teach too
        return next(sums.solve(np.array([penalty])))

    def errors(self, cells: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs ``(B, P)`` and what the decoder is short of ``(B, G)``, of cells that have everything."""
        data = self.reference.data
        having = cells[data.present[cells][:, [self.modality, *self.given]].all(axis=1)]
        if len(having) == 0:
            names = data.schema.modality_names
            raise InputError(
                f"{names[self.modality]!r} must stand beside {[names[m] for m in self.given]} in cells that "
                "were trained on and in cells held out, or nothing can be regressed: get_normalized(...)"
            )
        if len(having) > MOST_CELLS:
            drawn = np.random.default_rng(0).choice(len(having), MOST_CELLS, replace=False)
            having = having[np.sort(drawn)]
        for decoded, inputs, inferred in self.blocks(data, having):
            batch = inferred.minibatch.modalities[self.modality]
            truth = batch.dense.cpu()[:, self.features].double().numpy()
            if self.module.likelihoods[self.modality].support == "binary":
                truth = (truth > 0).astype(float)
            short = self.forth(truth) - decoded  # (B, G)
            if batch.observed is not None:
                short *= batch.observed.cpu()[:, self.features].numpy()
            yield inputs, short

    def blocks(
        self, data: MultimodalData, cells: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Inferred]]:
        """The decoder's expectation ``(B, G)`` after g, and the regression's inputs ``(B, P)``."""
        depths = predicted_depths(
            self.module, data, cells, self.batch_size, self.modality, self.given, self.reference
        )
        decoder, start = self.module.parts[self.modality].decoder, 0
        for inferred in infer(self.module, data, cells, self.batch_size, self.given):
            z, own = inferred.fused.posterior.mean, inferred.minibatch.covariates  # (B, K)
            depth = torch.from_numpy(depths[start : start + len(z)]).to(z)
            start += len(z)
            context = CellContext(depth, own.batch)
            mean = decoded_features(
                self.module, self.modality, z, own, context, self.features.to(z.device), as_measured=True
            )  # (B, G)
            read = [decoder.last_hidden(z, self.module.covariates(own))]
            evidence = self.module.encode(inferred.minibatch)
            for m in self.given:
                read += [evidence.features[m], inferred.minibatch.modalities[m].depth.log().unsqueeze(1)]
            inputs = torch.cat(read, dim=-1).double().cpu().numpy()  # (B, P)
            yield self.forth(mean.double().cpu().numpy()), inputs, inferred

    @property
    def counts(self) -> bool:
        return self.module.likelihoods[self.modality].support == "counts"

    def forth(self, values: np.ndarray) -> np.ndarray:
        """The scale of the regression."""
        return np.log1p(values) if self.counts else values

    def back(self, values: np.ndarray) -> np.ndarray:
        """The scale of the data; counts and probabilities stay in their range."""
        if self.counts:
            return np.asarray(np.expm1(np.maximum(values, 0.0)))
        return (
            np.clip(values, 0.0, 1.0)
            if self.module.likelihoods[self.modality].support == "binary"
            else values
        )
