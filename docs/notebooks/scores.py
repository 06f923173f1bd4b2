# %% [markdown]
# # Score the rows of a table
#
# A VAE is fitted to a data frame, and every row gets a log-likelihood with its standard error and
# its k-hat. The unlikely rows come first.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine

import density
import univae

wine = load_wine(as_frame=True)
table = wine.data[
    ["alcohol", "malic_acid", "flavanoids", "color_intensity", "hue", "proline"]
]
table = table.assign(cultivar=wine.target.map({0: "A", 1: "B", 2: "C"}))
table.head(3)

# %%
run = univae.train_density(
    table, out="runs/wine", preset="tiny", steps=1500, progress=False
)
print(run)

# %% [markdown]
# ## Scores
#
# Rows whose k-hat is large get a better proposal, more samples, and at last annealed chains.

# %%
rows = table.sample(60, random_state=0)
scores = density.score(run, rows)
print(scores)

# %%
frame = scores.to_pandas()
frame.sort_values("log_likelihood_nats").head(5).round(3)

# %% [markdown]
# A standard error is believed where its k-hat is small. Here is every row:

# %%
figure, axes = plt.subplots(figsize=(6, 3.5))
axes.scatter(frame["khat"], frame["standard_error_nats"], s=10)
axes.axvline(0.7, color="gray", linestyle="--")
axes.set(xlabel="k-hat", ylabel="standard error, nats", yscale="log")
plt.show()

# %% [markdown]
# ## A row that does not belong
#
# Two copies of one wine, and one of them gets the colour of another cultivar: each number is usual
# by itself, together they are not.

# %%
pair = table.iloc[[0, 0]].copy().reset_index(drop=True)
pair.loc[1, "color_intensity"] = table["color_intensity"].min()
pair.loc[1, "hue"] = table["hue"].min()
print(
    density.score(run, pair).to_pandas()["log_likelihood_nats"].round(2).to_string()
)

# %% [markdown]
# ## Missing cells
#
# Empty cells are integrated out, so the density of a row is that of the cells which are there, and
# `impute` fills the others.

# %%
holes = table.head(4).copy()
holes.loc[[0, 2], "proline"] = np.nan
run.impute(holes)
