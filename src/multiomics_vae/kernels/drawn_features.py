"""What drawn features stand for, and shares among all features where a step looks at some of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class WholeLayer:
    """The output layer that drawn features were taken from, for means μ = depth · softmax over all F.

    Parameters
    ----------
    weight, bias
        Of all features, ``(F, H)`` and ``(F,)``; read for the normaliser, gradients do not flow to them.
    count
        Σ x over all features, ``(B,)``.
    """

    weight: Tensor
    bias: Tensor
    count: Tensor


@dataclass(frozen=True)
class DrawnFeatures:
    """n of F features, each drawn with a chance π_f of its own, independently of the others.

    Each stands for 1/π_f features: Σ t_f/π_f over the drawn ones is an unbiased estimate of the sum of t over
    all, and so are its gradients (Horvitz & Thompson 1952).

    Where means are shares among features, values need the normaliser of all features and nothing else of
    those that were not drawn. Slopes do: with s_f the slope of the cost by log μ_f and p_f the shares,
    dC/dl_f = s_f − p_f Σ_g s_g. Of this

        (s_f − p_f (D + E − (1/π_f − 1) e_f)) / π_f,   e_g = s_g − (μ_g − x_g),

    for the drawn f, and 0 for the others, is an unbiased estimate. Here E = Σ e_g/π_g over the drawn
    features, from which the term after it takes out what f itself has put in beyond e_f, and
    D = Σ (μ_g − x_g) over all F, which is depth − Σ x and known. Taking it out is what makes the estimate a
    good one: s is μ − x for a Poisson, whose e are 0, and nearly that for features of few counts.

    Parameters
    ----------
    chances
        π of the drawn features, ``(n,)``.
    whole
        The layer they were taken from, if means are shares among all features; else None.

    Examples
    --------
    >>> DrawnFeatures(torch.tensor([0.5, 1.0])).weights
    tensor([2., 1.])
    """

    chances: Tensor
    whole: WholeLayer | None = None

    @property
    def weights(self) -> Tensor:
        """How many features each of the drawn ones stands for, ``(n,)``."""
        return self.chances.reciprocal()

    def share_slope(self, depth: Tensor, excess: Tensor) -> Tensor:
        """−(D + E)/depth, ``(R,)``, of R rows that go through the B cells a whole number of times.

        Parameters
        ----------
        depth
            ``(R,)``.
        excess
            E, ``(R,)``.
        """
        assert self.whole is not None
        count = self.whole.count.to(excess.dtype).repeat(len(depth) // len(self.whole.count))  # (R,)
        return -(depth - count + excess) / depth
