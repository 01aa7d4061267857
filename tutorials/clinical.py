# %% [markdown]
# # Clinical outcomes: a trap, and the honest way
#
# Cells of one patient resemble each other: they share a genome, a tube and a day in the laboratory. A
# model that has seen some of a patient's cells knows the others when it meets them, and with them the
# patient's outcome. If cells are held out at random, every patient stands on both sides of the split, and
# the model looks clever without having learned any medicine.
#
# Below, first this trap; then the same cells judged by donors; then a signal that is really there, with
# probabilities that are held to their word; then 92 real patients.

# %%
import logging
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")
warnings.filterwarnings("ignore", category=FutureWarning)

import anndata
import mudata
import numpy as np
import pandas as pd
import torch

import multiomics_vae as mv
from multiomics_vae import Head, ModelSettings, MultiVAE, TrainingSettings, cross_validate, datasets
from multiomics_vae.errors import InputError, MultiomicsWarning

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
mudata.set_options(pull_on_update=False)
torch.set_num_threads(1)

# %% [markdown]
# ## Simulated donors, made of real cells
#
# **This is a simulation.** The cells are drawn from 1 200 blood cells of the bundled CITE-seq data and
# dealt to 24 donors that do not exist, 70 other cells and 30 monocytes each. Every donor keeps only a
# share of each gene's molecules, drawn once for the donor: that makes donors recognisable, and it has
# nothing to do with any outcome. In the 12 responders, monocytes lose three quarters of the molecules of
# 40 genes: that is the only truth there is to find. A second column, `coin`, is tossed for each donor and
# means nothing at all.

# %%
blood = datasets.pbmc_mosaic()
rna = blood["rna"]
cell_type = blood.obs.loc[rna.obs_names, "cell_type"].astype(str).to_numpy()
rng = np.random.default_rng(0)
N_DONORS, N_OTHERS, N_MONOCYTES = 24, 70, 30

is_monocyte = cell_type == "Mono"
donor = np.repeat(np.arange(N_DONORS), N_OTHERS + N_MONOCYTES)
chosen = np.concatenate(
    [
        np.r_[
            rng.choice(np.flatnonzero(~is_monocyte), N_OTHERS, replace=False),
            rng.choice(np.flatnonzero(is_monocyte), N_MONOCYTES, replace=False),
        ]
        for _ in range(N_DONORS)
    ]
)
responds = rng.permutation(np.arange(N_DONORS) % 2)
coin = rng.permutation(np.arange(N_DONORS) % 2)

counts = rna.X[chosen].toarray().astype(int)
kept = rng.beta(0.5, 0.5, size=(N_DONORS, counts.shape[1]))[donor]
strong = np.argsort(-counts[is_monocyte[chosen]].mean(0))[:40]
affected = (responds[donor] == 1) & is_monocyte[chosen]
kept[np.ix_(affected, strong)] *= 0.25
counts = rng.binomial(counts, kept).astype(np.float32)

names = [f"cell{i}" for i in range(len(donor))]
part = anndata.AnnData(counts, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=rna.var_names))
mdata = mudata.MuData({"rna": part})
mdata.obs = pd.DataFrame(
    {
        "donor": [f"donor{d:02d}" for d in donor],
        "response": np.where(responds, "yes", "no")[donor],
        "coin": np.where(coin, "heads", "tails")[donor],
        "age": rng.integers(30, 80, size=N_DONORS)[donor],
        "cell_type": cell_type[chosen],
    },
    index=names,
)
mdata.obs.groupby("response")["donor"].nunique()

# %% [markdown]
# ## The trap
#
# The coin cannot be predicted. Take eight of the donors, hold out random cells all the same, and see what
# happens. The toolkit refuses at first:

# %%
OUTCOMES = {"response": "binary", "coin": "binary"}
MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb"}, donor_key="donor", outcomes=OUTCOMES)
few = mdata[
    mdata.obs["donor"].isin(
        [f"donor{d:02d}" for d in np.r_[np.flatnonzero(coin)[:4], np.flatnonzero(1 - coin)[:4]]]
    )
].copy()
MultiVAE.setup_mudata(few, likelihoods={"rna": "nb"}, donor_key="donor", outcomes=OUTCOMES)
random_cells = rng.random(few.n_obs) < 0.2
trapped = MultiVAE(few, n_latent=15, n_hidden=64, n_layers=1, heads={"coin": Head(level="cell", weight=50.0)})
try:
    trapped.train(validation_indices=random_cells)
except InputError as error:
    print(error)

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore", MultiomicsWarning)
    trapped.train(
        40,
        validation_indices=random_cells,
        allow_leakage=True,
        early_stopping=False,
        progress=False,
        accelerator="cpu",
    )
guess = trapped.predict("coin", indices=random_cells).table
truth = few.obs.loc[guess.index, "coin"]
print(f"the coin of {(guess['prediction'] == truth).mean():.0%} of the held-out cells is found")

# %% [markdown]
# Better than a coin, and there is nothing to know: the model recognises the donor. Now the same coin with
# whole donors held out.

# %%
settings = ModelSettings(n_latent=15, n_hidden=64, n_layers=1)
training = TrainingSettings(max_epochs=15, accelerator="cpu", early_stopping=False)
by_donor = cross_validate(
    mdata,
    "coin",
    covariates=["age"],
    head=Head(level="cell", weight=20.0, n_hidden=32),
    model=settings,
    training=training,
    n_folds=3,
    n_permuted=0,
    calibration_share=0.0,
    progress=False,
)
by_donor.scores

# %% [markdown]
# The AUROC of the coin is that of chance, as its interval says. The same holds for any figure in a paper:
# ask who was held out.
#
# ## The honest way
#
# Now the response, for which there is something to find. A head at donor level pools the cells of a donor
# by gated attention. `cross_validate` holds out donors, holds out some more for temperature and conformal
# sets, asks a linear model of what a form would tell (age) about the same donors, and trains on permuted
# outcomes, which must come out at chance.

# %%
head = Head(level="donor", weight=10.0, cells_per_donor=None)
result = cross_validate(
    mdata,
    "response",
    covariates=["age"],
    head=head,
    model=settings,
    training=training,
    n_folds=3,
    calibration_share=0.25,
    level=0.7,
    progress=False,
)
print(result)

# %%
_ = result.plot()
# %% [markdown]
# With 24 donors intervals are wide. That is not a fault of the method but what 24 donors can tell.
#
# ### A model, its probabilities and what it promises
#
# A model for use is trained once, with some donors held out. They set the temperature of its
# probabilities and the size of its sets: a set holds the truth for as many new donors as `level` says,
# and a set that is not a single answer means that the model had better say nothing.

# %%
model = MultiVAE(mdata, n_latent=15, n_hidden=64, n_layers=1, heads={"response": head})
model.train(20, validation_size=0.3, early_stopping=False, progress=False, accelerator="cpu")
found = model.predict("response", indices=model.validation_indices, level=0.7)
found

# %% [markdown]
# Which cells was a prediction made from? The signal was put into monocytes.

# %%
everyone = model.predict("response")
_ = mv.plotting.attention(everyone.attention, mdata.obs["cell_type"], mdata.obs["donor"])
# %% [markdown]
# Attention says where the model looked, and no more: it can look at a cell type because it is different,
# or because it is common, and it was never asked to be right about types.
#
# ## Real patients: survival with adrenocortical carcinoma
#
# 92 patients of TCGA, five modalities, most patients without some of them; 34 deaths, one of them on day
# 0, which tells nothing of a time and is left without a label. Stage and age are what a clinic knows, and
# they are hard to beat. The head is detached: z is learned without the outcome, because so few deaths
# would be learned by heart.

# %%
# Most tumours have none of these mutations, which is no fault.
warnings.filterwarnings("ignore", message=".*no count at all", category=MultiomicsWarning)
tumours = datasets.tcga_acc_mini()
mirna = tumours["mirna"]
mirna.X = np.log1p(1e6 * mirna.X / mirna.X.sum(1, keepdims=True))  # bulk counts of up to a million
tumours.obs["patient"] = tumours.obs_names
tumours.obs["event"] = tumours.obs["event"].astype(float).where(tumours.obs["time_days"] > 0)
MultiVAE.setup_mudata(
    tumours,
    likelihoods={name: "bernoulli" if name == "mut" else "gaussian" for name in tumours.mod},
    donor_key="patient",
    outcomes={"survival": ("time_days", "event")},
)
survival = cross_validate(
    tumours,
    "survival",
    covariates=["stage", "age"],
    head=Head(level="cell", kind="cox", weight=30.0, detach=True),
    model=ModelSettings(n_latent=10, n_hidden=32, n_layers=1, dropout=0.2),
    training=TrainingSettings(
        max_epochs=80, batch_size=92, accelerator="cpu", modality_weights="balanced", early_stopping=False
    ),
    n_folds=4,
    n_permuted=0,
    calibration_share=0.0,
    progress=False,
)
print(survival)

# %%
_ = survival.plot()

# %% [markdown]
# The tumours' molecules alone rank patients about as well as stage and age do, and the interval of the
# difference holds 0: from 91 patients and one deal of folds nobody can say which is better.
# `benchmarks/outcomes.py` repeats the folds and puts both together.
#
# ## What to take along
#
# - Hold out donors, not cells. The toolkit does so by itself, and says what you would be doing otherwise.
# - Look at the interval over donors, and at the difference to the clinical baseline on the same donors.
# - A permuted run must come out at chance. If it does not, something leaks.
# - A probability is worth something when held-out donors say so, and a set that is no single answer is an
#   answer.
