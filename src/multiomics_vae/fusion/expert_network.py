"""A small network from hidden features to a Gaussian, for rules that learn experts of their own."""

from __future__ import annotations

from torch import Tensor, nn

from multiomics_vae.distributions import Gaussian

LOG_VARIANCE_BOUND = 10.0


class ExpertNetwork(nn.Module):
    """From features to N(mean, exp(log variance)), by one hidden layer.

    The log variance is bounded softly, 10 · tanh(x / 10): practically x in the ordinary range, never
    outside [-10, 10], and with a gradient everywhere, which a clamp does not have. It starts at -1 for
    every cell, so that the first steps learn where the means are.

    Parameters
    ----------
    n_inputs, n_hidden, n_latent
        Widths of the input, the hidden layer and the Gaussian.

    Examples
    --------
    >>> network = ExpertNetwork(n_inputs=6, n_hidden=8, n_latent=3)
    >>> network.mean
    Linear(in_features=8, out_features=3, bias=True)
    """

    def __init__(self, n_inputs: int, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.LayerNorm(n_hidden), nn.SiLU())
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -1.0)

    def forward(self, inputs: Tensor) -> Gaussian:
        """Map ``(B, n_inputs)`` to a Gaussian of shape ``(B, K)``."""
        hidden = self.hidden(inputs)  # (B, n_hidden)
        bounded = LOG_VARIANCE_BOUND * (self.log_variance(hidden) / LOG_VARIANCE_BOUND).tanh()  # (B, K)
        return Gaussian(self.mean(hidden), bounded)
