# %% [markdown]
# # Images and their labels: the experiment of the MVAE paper
#
# A multimodal VAE was first shown on pictures of digits and their labels (Wu & Goodman 2018). The same can
# be done here in a minute: a picture is a modality of 64 real values, a label is a modality of one
# category, and a digit is what elsewhere would be a cell. The pictures are the 1 797 digits that come with
# scikit-learn.
#
# Four questions are asked: what does a label look like, what label does a picture have, how good are the
# posteriors, and what does an exact sampler say of them?

# %%
import logging
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress not found")
warnings.filterwarnings("ignore", category=FutureWarning)

import anndata
import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from multiomics_vae import MultiVAE

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
mudata.set_options(pull_on_update=False)
torch.set_num_threads(1)

# %% [markdown]
# ## Pictures and labels as a MuData
#
# Every fifth digit is held out. Nothing is fitted on it.

# %%
bunch = load_digits()
images, labels = bunch.data.astype(np.float32) / 16.0, bunch.target.astype(np.float32)
is_held_out = np.arange(len(labels)) % 5 == 4


def as_mudata(images, labels, prefix):
    """Pictures (N, 64) and labels (N,) as two modalities; without labels as one."""
    obs = pd.DataFrame(index=[f"{prefix}{i}" for i in range(len(images))])
    pixels = pd.DataFrame(index=[f"pixel{row}{column}" for row in range(8) for column in range(8)])
    parts = {"image": anndata.AnnData(images, obs=obs, var=pixels)}
    if labels is not None:
        parts["label"] = anndata.AnnData(labels[:, None], obs=obs, var=pd.DataFrame(index=["digit"]))
    return mudata.MuData(parts)


train = as_mudata(images[~is_held_out], labels[~is_held_out], "train")
test = as_mudata(images[is_held_out], labels[is_held_out], "test")
truth = labels[is_held_out].astype(int)
train

# %% [markdown]
# ## Three ways to fuse, and pictures alone
#
# `product` multiplies what picture and label say of z, `gated` weighs single and joint experts, `mixture`
# believes one of them at a time. All pixels share one noise level (`dispersions`): those of the rim hardly
# ever change, and would take all of the fit.

# %%
KINDS = {"image": "gaussian", "label": "categorical"}


def fit(mdata, fusion):
    """Ten latent dimensions, one hidden layer of 64 units."""
    MultiVAE.setup_mudata(mdata, likelihoods={name: KINDS[name] for name in mdata.mod})
    model = MultiVAE(
        mdata,
        n_latent=10,
        n_hidden=64,
        n_layers=1,
        input_dropout=0.0,
        fusion=fusion,
        dispersions={"image": "shared"},
    )
    return model.train(60, accelerator="cpu", progress=False)


models = {fusion: fit(train, fusion) for fusion in ("product", "gated", "mixture")}
alone = fit(as_mudata(images[~is_held_out], None, "train"), "product")

# %% [markdown]
# ## From a label to pictures
#
# Each column is a label, each picture is decoded at another draw from q(z | label). The pictures that are
# handed over are blank: `given=["label"]` reads nothing of them.


# %%
def imagine(model, labels):
    """One picture a label, at one draw from q(z | label)."""
    blank = as_mudata(np.zeros((len(labels), 64), np.float32), np.asarray(labels, np.float32), "imagined")
    return model.get_normalized("image", blank, given=["label"], n_samples=1).to_numpy()


def show(rows_of_images, ax, title):
    """Pictures (rows, columns, 64) as one."""
    rows, columns = rows_of_images.shape[:2]
    tiles = rows_of_images.reshape(rows, columns, 8, 8).transpose(0, 2, 1, 3)
    ax.imshow(
        np.pad(tiles, ((0, 0), (0, 2), (0, 0), (0, 2))).reshape(rows * 10, -1), cmap="gray_r", vmin=0, vmax=1
    )
    ax.set_title(title, fontsize=10)
    ax.set_xticks(np.arange(columns) * 10 + 3.5, range(columns))
    ax.set_yticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)


wanted = np.tile(np.arange(10), 6)
real = np.stack([images[~is_held_out][labels[~is_held_out] == digit][:6] for digit in range(10)], axis=1)
figure, axes = plt.subplots(1, 4, figsize=(13, 2.6), layout="constrained")
show(real, axes[0], "real")
for ax, (fusion, model) in zip(axes[1:], models.items(), strict=True):
    show(imagine(model, wanted).reshape(6, 10, 64), ax, f"{fusion}, given the label")
plt.show()

# %% [markdown]
# ## Classification from either side
#
# The label of a held-out picture is read off the label decoder. Imagined pictures are judged by a support
# vector classifier of real pictures.

# %%
judge = SVC().fit(images[~is_held_out], labels[~is_held_out])
wanted = np.repeat(np.arange(10), 50)


def variety(images, labels):
    """Mean variance of a pixel among pictures of one label."""
    return np.mean([images[labels == digit].var(axis=0).mean() for digit in range(10)])


rows = {}
for fusion, model in models.items():
    imagined = imagine(model, wanted)
    read_off = model.get_normalized("label", test, given=["image"]).to_numpy()[:, 0]
    rows[fusion] = {
        "label from image": (read_off == truth).mean(),
        "image from label": (judge.predict(imagined) == wanted).mean(),
        "variety of images": variety(imagined, wanted) / variety(images, labels),
    }
print(f"The judge is right on {judge.score(images[is_held_out], truth):.3f} of the held-out real pictures.")
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# The mixture's pictures are the easiest to read because they are nearly all the same: *variety* is the
# variance of pixels among pictures of one label, as a share of that among real ones. Product and gated draw
# more different pictures from a label, and some of them stray into the region of another digit.

# %% [markdown]
# ## Variances of log importance weights
#
# With z drawn from q, the weight p(x, z) / q(z | x) is the same for every draw if q is the exact posterior.
# So the variance of its logarithm says how far q is from it (formulas in
# `benchmarks/importance_weights.py`): *marginal* of the picture, z from q(z | image); *joint* of picture
# and label, z from q(z | image, label); the same with z from q(z | image); *conditional* of the picture
# given the label.

# %%
sys.path.insert(0, str(Path.cwd().parent / "benchmarks"))
from importance_weights import weight_variances

test_alone = as_mudata(images[is_held_out], None, "test")
variances = {fusion: weight_variances(model, test, 200) for fusion, model in models.items()}
variances["image alone"] = weight_variances(alone, test_alone, 200)
pd.DataFrame({name: vars(each) for name, each in variances.items()}).T.astype(float).round(1)

# %% [markdown]
# A draw from the mixture comes from the picture's expert or from the label's. The label's knows nothing of
# the slant and weight of the digit at hand, so half of the draws explain the picture badly, and the joint
# variance is large. The draws of product and gated know both.
#
# ## What an exact sampler says
#
# `to_pyro` hands the fitted generative model to Pyro, and `compare_with_nuts` draws from its exact
# posterior by Hamiltonian Monte Carlo, which no encoder has a part in. `mean_distance` is in exact standard
# deviations, `sd_ratio` is below 1 where q is too sure, and a `kl` near `kl_noise` is no evidence against
# q.

# %%
reference = models["product"].compare_with_nuts(
    test, indices=range(3), modalities=["image"], n_warmup=150, n_samples=250
)
reference.to_frame().round(2)

# %%
mean, variance = models["product"].get_latent_representation(
    test, range(3), modalities=["image"], return_dist=True
)
angle = np.linspace(0, 2 * np.pi, 100)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
for i, ax in enumerate(axes):
    # The two dimensions that the picture says most about.
    a, b = np.argsort(variance[i])[:2]
    ax.scatter(*reference.nuts.draws[:, i, [a, b]].T, s=4, color="0.7", label="NUTS")
    for width in (1, 2):
        ring = mean[i, [a, b], None] + width * np.sqrt(variance[i, [a, b], None]) * [
            np.cos(angle),
            np.sin(angle),
        ]
        ax.plot(*ring, color="C0", lw=1, label="q(z | image), 1 and 2 sd" if width == 1 else None)
    ax.set(title=f"a held-out {truth[i]}", xlabel=f"z{a}", ylabel=f"z{b}")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# The encoder finds the right region, within half a standard deviation, and is too sure: the exact posterior
# is wider and has a longer tail than a Gaussian with independent dimensions can follow.
