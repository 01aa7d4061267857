"""The depth at which cells are imagined to be measured: their own where it may be read, else predicted."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.analysis.depth import DepthModel, log_depths
from multiomics_vae.analysis.inference import Inferred
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.module import MultimodalModule


def expected_depth(
    module: MultimodalModule, inferred: Inferred, covariates: Covariates, depth: DepthModel
) -> Tensor:
    """E[depth] of a minibatch's cells, told from what is given and nothing of the target: ``(B,)``.

    Parameters
    ----------
    module
        The model.
    inferred
        Cells whose posterior is that given what ``depth`` reads.
    covariates
        Which the cells are decoded as.
    depth
        Of the target.
    """
    depths = log_depths(inferred.minibatch, depth.given)  # (B, |A|)
    mean_log = depth.mean_log(module, inferred.fused.posterior.mean, covariates, depths)
    return depth.expected(mean_log)


def visible_depth(
    module: MultimodalModule, inferred: Inferred, covariates: Covariates, depth: DepthModel, modality: int
) -> Tensor:
    """Depth as it was measured where the minibatch shows the target, else `expected_depth`: ``(B,)``.

    So the target must have been taken out of the minibatch (`evidence.showing_only`) where it is not given.
    """
    found = expected_depth(module, inferred, covariates, depth).clone()
    own = inferred.minibatch.modalities[modality]
    found[own.rows] = own.depth.to(found)
    return found
