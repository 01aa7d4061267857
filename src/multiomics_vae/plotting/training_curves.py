"""Training curves: every term of the objective, on training and on held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.plotting.style import colours, finish

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from multiomics_vae.training.history import History


def training_curves(
    history: History, *, axes: list[Axes] | None = None, show: bool | None = None
) -> list[Axes]:
    """A panel each for the ELBO, the KL and every modality's log likelihood.

    Parameters
    ----------
    history
        ``model.history``.
    axes
        As many axes as there are panels; None makes a figure.
    show
        Whether to show the figure.

    Returns
    -------
    list of Axes

    Raises
    ------
    NotFittedError
        If there is nothing to draw yet.
    InputError
        If there are not as many axes as panels.

    Examples
    --------
    >>> mv.plotting.training_curves(model.history)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    frame = history.to_frame()
    if frame.empty:
        raise NotFittedError("The history is empty. Train the model first: model.train()")
    panels = panels_of(frame)
    if axes is not None and len(axes) != len(panels):
        raise InputError(f"{len(axes)} axes for {len(panels)} panels ({', '.join(panels)}): give as many.")
    if axes is None:
        figure = plt.figure(figsize=(3.4 * len(panels), 3.0), layout="constrained")
        axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    blue, red = colours(2)
    for ax, panel in zip(axes, panels, strict=True):
        for suffix, colour, label in (("train", blue, "training"), ("validation", red, "held out")):
            if f"{panel}_{suffix}" in frame:
                marker = "o" if len(frame) == 1 else None
                ax.plot(frame.index, frame[f"{panel}_{suffix}"], color=colour, marker=marker, label=label)
        name = panel.removesuffix("_log_likelihood")
        title = f"{name}: log likelihood" if name != panel else panel.upper()
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].set_ylabel("nats a cell")
    axes[0].legend(frameon=False)
    finish(axes, show)
    return axes


def panels_of(frame: pd.DataFrame) -> list[str]:
    """Names of the quantities that get a panel."""
    names = [str(name).removesuffix("_train") for name in frame.columns if str(name).endswith("_train")]
    likelihoods = [
        n for n in names if n.endswith("_log_likelihood") and not n.endswith("_subset_log_likelihood")
    ]
    return ["elbo", "kl", *likelihoods]
