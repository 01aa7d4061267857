"""What the decoder says of some cells at each of their draws of z, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.likelihoods import CellContext, FeaturePart, Likelihood


@dataclass(frozen=True, eq=False)
class PredictedCells:
    """B cells decoded at S draws of z, for G features; draws of x are made when they are asked for.

    Parameters
    ----------
    cells
        Positions, ``(B,)``.
    latent_sd, latent_entropy
        Of the posterior that z was drawn from: mean over dimensions of its standard deviation, and its
        entropy in nats, ``(B,)``.
    likelihood, outputs, part
        What was decoded, ``(S · B, width)`` each, sample by sample.
    expected, drawn
        The cells at their expected and at a drawn depth; the same where depth is known or plays no part.
    noise, stream
        The cells' noise, and which stream of it draws x.
    features
        Positions, ``(G,)``.
    n_samples
        S.
    """

    cells: np.ndarray
    latent_sd: np.ndarray
    latent_entropy: np.ndarray
    likelihood: Likelihood
    outputs: tuple[Tensor, ...]
    expected: CellContext
    drawn: CellContext
    part: FeaturePart | None
    noise: CellNoise
    stream: int
    features: np.ndarray
    n_samples: int

    @cached_property
    @torch.inference_mode()
    def means(self) -> Tensor:
        """E[x | z] at every draw of z, at the expected depth: ``(S, B, G)``."""
        return self._by_sample(self.likelihood.mean(self.outputs, self.expected, self.part))

    @cached_property
    @torch.inference_mode()
    def mean(self) -> np.ndarray:
        """E[x | x_A], ``(B, G)``, float32; for codes, the one that is most probable at most draws of z."""
        if self.likelihood.support == "codes":
            return np.asarray(self.means.mode(0).values.cpu().numpy())
        return np.asarray(self.means.mean(0).cpu().numpy())

    @cached_property
    @torch.inference_mode()
    def sd(self) -> np.ndarray:
        """Standard deviation of x given x_A, ``(B, G)``, by the law of total variance.

        Var[x] = E_z Var[x | z] + Var_z E[x | z], with the depth drawn beside z. For codes, the probability
        that x is another than `mean`.
        """
        if self.likelihood.support == "codes":
            return np.asarray((self.draws() != self.mean).mean(0), dtype=np.float32)
        within = self._by_sample(self.likelihood.variance(self.outputs, self.drawn, self.part)).mean(0)
        means = self.means
        if self.drawn is not self.expected:
            means = self._by_sample(self.likelihood.mean(self.outputs, self.drawn, self.part))
        # Written out: torch.var over the first of three dimensions takes ten times as long.
        squares = (means - means.mean(0)).square().sum(0)  # (B, G)
        between = squares / max(self.n_samples - 1, 1)
        return np.asarray((within + between).sqrt().cpu().numpy())

    @torch.inference_mode()
    def draws(self) -> np.ndarray:
        """Draws of x, ``(S, B, G)``, float32: each depends on cell, seed, sample and feature only."""
        width = self.likelihood.n_features
        uniform = torch.from_numpy(self.noise.uniform(self.n_samples, width, self.stream, self.features))
        device = self.outputs[0].device
        wide = torch.float32 if device.type == "mps" else torch.float64
        flat = uniform.flatten(0, 1).to(device, wide)  # (S · B, G)
        drawn = self.likelihood.from_uniform(flat, self.outputs, self.drawn, self.part)
        return np.asarray(self._by_sample(drawn).cpu().numpy())

    @property
    def is_binary(self) -> bool:
        return self.likelihood.support == "binary"

    @property
    def is_discrete(self) -> bool:
        """True if x is a whole number."""
        support = self.likelihood.support
        return support in ("counts", "binary", "codes") or (
            support == "fractions" and self.drawn.coverage is not None
        )

    def _by_sample(self, flat: Tensor) -> Tensor:
        return flat.view(self.n_samples, len(self.cells), -1)
