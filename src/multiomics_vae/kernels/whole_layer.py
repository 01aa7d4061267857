"""Shares among all features where a step looks at some of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

FEWEST_DRAWN = 2  # a sum over pairs of features cannot be estimated from one


@dataclass(frozen=True)
class WholeLayer:
    """The output layer that n drawn features were taken from, for means μ = depth · softmax over all F.

    Values need the normaliser of all features and nothing else of those that were not drawn. Slopes do:
    with s_f the slope of the cost by log μ_f and p_f the shares, dC/dl_f = s_f − p_f Σ_g s_g. Of this, F/n
    times

        s_f − p_f (D + c E + (1 − c) e_f),   e_g = s_g − (μ_g − x_g),   c = (F − 1)/(n − 1),

    for the drawn f, and 0 for the others, is an unbiased estimate, because two features are drawn together
    with probability n(n − 1)/(F(F − 1)) (Horvitz & Thompson 1952). Here E = Σ e over the drawn features, and
    D = Σ (μ_g − x_g) over all F, which is depth − Σ x and known. Taking it out is what makes the estimate a
    good one: s is μ − x for a Poisson, whose e are 0, and nearly that for features of few counts.

    Parameters
    ----------
    weight, bias
        Of all features, ``(F, H)`` and ``(F,)``; read for the normaliser, gradients do not flow to them.
    count
        Σ x over all features, ``(B,)``.

    Examples
    --------
    >>> whole = WholeLayer(torch.zeros(4, 1), torch.zeros(4), torch.tensor([6.0]))
    >>> whole.pair_factor(2)
    3.0
    """

    weight: Tensor
    bias: Tensor
    count: Tensor

    def pair_factor(self, n_drawn: int) -> float:
        """c, the share of features beside one that are drawn with it, inverted."""
        return (len(self.weight) - 1) / (n_drawn - 1)

    def share_slope(self, depth: Tensor, n_drawn: int, excess: Tensor) -> Tensor:
        """−(D + c E)/depth, ``(R,)``, of R rows that go through the B cells a whole number of times.

        Parameters
        ----------
        depth
            ``(R,)``.
        n_drawn
            n.
        excess
            E, ``(R,)``.
        """
        surplus = depth - self.count.to(excess.dtype).repeat(len(depth) // len(self.count))  # (R,)
        return -(surplus + self.pair_factor(n_drawn) * excess) / depth

    def own_slope(self, depth: Tensor, n_drawn: int) -> Tensor:
        """(c − 1)/depth, ``(R,)``: what e_f of the feature itself is multiplied by, beside its mean."""
        return (self.pair_factor(n_drawn) - 1.0) / depth
