"""The decoder plus a closed-form correction learned from its errors on training cells.

A decoder learns to explain cells from z given everything they have, by its likelihood. Asked to predict a
modality from z given others, it leaves something on the table: encoders know more than they put into z, and
z given less lies elsewhere. Both leave traces in the errors on training cells, so the errors are regressed
on what the encoders saw,

    g(x_m) = g(E[x_m | z_A, depth]) + W (1, h_m, h_A, log depth_A) + ε,

where z_A is the mean of q(z | x_A), depth the expected one (`analysis.depth`), h_m the decoder's last hidden
layer at z_A, h_A the encoders' hidden features; g is log(1 + x) for counts and nothing for other values.
W is found in closed form by ridge regression on the training cells. Its penalty, one for all features, has
the least error on the cells that early stopping held out: an encoder knows its training cells too well
for their own errors to be the judge. Where no penalty helps, the decoder speaks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from multiomics_vae.analysis.depth import DepthModel, log_depths
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.expected_depth import expected_depth
from multiomics_vae.analysis.inference import Inferred, infer
from multiomics_vae.analysis.normalized import decoded_features
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


@dataclass(frozen=True, eq=False)
class LearnedErrors:
    """Whose errors teach the regression, and how they are decoded.

    Parameters
    ----------
    module, data, batch_size
        The model, its own cells, how many of them at a time.
    cells
        Positions of those that teach; judges among them are passed over.
    judges
        Positions of cells that training held out; they choose the penalty.
    depth_for
        The depth of a target in a direction.
    """

    module: MultimodalModule
    data: MultimodalData
    cells: np.ndarray
    judges: np.ndarray
    batch_size: int
    depth_for: Callable[[Direction], DepthModel]


def readout_values(
    learned: LearnedErrors,
    data: MultimodalData,
    cells: np.ndarray,
    direction: Direction,
    features: np.ndarray,
) -> np.ndarray:
    """Predict what would be measured of one modality from others, with a regression for each set of these.

    Parameters
    ----------
    learned
        What the regression learns from.
    data, cells
        The cells asked about, positions; each has something of what is given.
    direction
        The target, and what may be read. Of this a cell may lack a part.
    features
        Positions, ``(G,)``.

    Returns
    -------
    ndarray
        ``(N, G)``, float32, in the units of the measured values.

    Raises
    ------
    InputError
        If the target is of a kind that cannot be corrected, there are no judges, or no cell shows what is
        to be regressed.
    """
    modality, others = direction.modality, direction.given or ()
    name = data.schema.modality_names[modality]
    support = learned.module.likelihoods[modality].support
    if support not in SUPPORTS:
        raise InputError(
            f"{name!r} holds {support}, whose errors no regression corrects. What would be measured is told "
            f"by: model.impute({name!r})"
        )
    if len(learned.judges) == 0:
        raise InputError(
            "predict_values chooses its penalty on cells that were not trained on, and none are known. "
            f"Name some: model.predict_values({name!r}, held_out=mdata.obs_names[:500])"
        )
    known = data.present[cells][:, list(others)]  # (N, |others|)
    result = np.empty((len(cells), len(features)), dtype=np.float32)
    for pattern in np.unique(known, axis=0):
        here = np.flatnonzero((known == pattern).all(1))
        given = tuple(m for m, there in zip(others, pattern, strict=True) if there)
        regression = _Regression(learned, modality, given, features)
        readout = regression.fit()
        start = 0
        for decoded, inputs, _ in regression.blocks(data, cells[here]):
            values = regression.back(decoded + readout.correction(inputs))
            result[here[start : start + len(values)]] = values
            start += len(values)
    return result


@dataclass(frozen=True, eq=False)
class _Regression:
    """Of the errors of some features, told from modalities that the cells all have."""

    learned: LearnedErrors
    modality: int
    given: tuple[int, ...]
    features: np.ndarray

    def fit(self) -> Readout:
        """Regress the errors on training cells; the held-out ones choose the penalty."""
        judges = self.learned.judges
        teachers = self._whole(np.setdiff1d(self.learned.cells, judges))
        held_out = list(self.errors(self._whole(judges)))
        sums = Moments()
        for inputs, errors in self.errors(teachers):
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

    def _whole(self, cells: np.ndarray) -> np.ndarray:
        """Those of the model's cells that have the target and all that is given."""
        data = self.learned.data
        having = cells[data.present[cells][:, [self.modality, *self.given]].all(axis=1)]
        if len(having) == 0:
            names = data.schema.modality_names
            name, given = names[self.modality], [names[m] for m in self.given]
            raise InputError(
                f"{name!r} must stand beside {given} in cells that were trained on and in cells held out, or "
                f"nothing can be regressed. Without a correction: model.impute({name!r}, given={given})"
            )
        if len(having) > MOST_CELLS:
            drawn = np.random.default_rng(0).choice(len(having), MOST_CELLS, replace=False)
            having = having[np.sort(drawn)]
        return np.asarray(having)

    def errors(self, cells: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs ``(B, P)`` and what the decoder is short of ``(B, G)``, of cells that have everything."""
        for decoded, inputs, inferred in self.blocks(self.learned.data, cells):
            batch = inferred.minibatch.modalities[self.modality]
            truth = batch.dense.cpu()[:, self.features].double().numpy()
            if self.learned.module.likelihoods[self.modality].support == "binary":
                truth = (truth > 0).astype(float)
            short = self.forth(truth) - decoded  # (B, G)
            if batch.observed is not None:
                short *= batch.observed.cpu()[:, self.features].numpy()
            yield inputs, short

    def blocks(
        self, data: MultimodalData, cells: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Inferred]]:
        """The decoder's expectation ``(B, G)`` after g, and the regression's inputs ``(B, P)``."""
        module = self.learned.module
        decoder = module.parts[self.modality].decoder
        for inferred in infer(module, data, cells, self.learned.batch_size, self.given):
            z, own = inferred.fused.posterior.mean, inferred.minibatch.covariates  # (B, K)
            context = CellContext(expected_depth(module, inferred, own, self.depth), own.batch)
            features = torch.from_numpy(self.features).to(z.device)
            mean = decoded_features(module, self.modality, z, own, context, features, as_measured=True)
            read = [
                decoder.last_hidden(z, module.covariates(own)),
                log_depths(inferred.minibatch, self.given),
            ]
            read += [inferred.evidence.features[m] for m in self.given]
            inputs = torch.cat(read, dim=-1).double().cpu().numpy()  # (B, P)
            yield self.forth(mean.double().cpu().numpy()), inputs, inferred

    @cached_property
    def depth(self) -> DepthModel:
        return self.learned.depth_for(Direction(self.modality, self.given))

    @property
    def counts(self) -> bool:
        return self.learned.module.likelihoods[self.modality].support == "counts"

    def forth(self, values: np.ndarray) -> np.ndarray:
        """The scale of the regression."""
        return np.log1p(values) if self.counts else values

    def back(self, values: np.ndarray) -> np.ndarray:
        """The scale of the data; counts and probabilities stay in their range."""
        if self.counts:
            return np.asarray(np.expm1(np.maximum(values, 0.0)))
        return (
            np.clip(values, 0.0, 1.0)
            if self.learned.module.likelihoods[self.modality].support == "binary"
            else values
        )
