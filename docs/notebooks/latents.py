# %% [markdown]
# # Explore the latents of a run
#
# A run folder opens in one line, and what its model can do are methods of the run. Here a small VAE
# of digits is trained in seconds; any other run of `train-density` would do.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import univae

digits = load_digits()
images = (digits.images > 7).astype(np.uint8)[:, None]  # black and white
univae.train_density(
    images, out="runs/digits", preset="tiny", steps=2000, progress=False
)
run = univae.load("runs/digits")
print(run)

# %% [markdown]
# ## Codes
#
# `encode` returns the mode of each image's posterior.

# %%
codes = run.encode(images)
print(codes.shape, codes.dtype)

# %% [markdown]
# Two directions of most variance already separate some classes, though the model never saw a
# label:

# %%
plane = PCA(2).fit_transform(codes)
figure, axes = plt.subplots(figsize=(6, 5))
dots = axes.scatter(*plane.T, c=digits.target, cmap="tab10", s=8)
axes.set(xlabel="first principal component", ylabel="second")
figure.colorbar(dots, label="digit")
plt.show()

# %% [markdown]
# How much of the label is in the code? A nearest-neighbour classifier says:

# %%
classifier = KNeighborsClassifier(5).fit(codes[:1500], digits.target[:1500])
print(
    f"accuracy from codes: {classifier.score(codes[1500:], digits.target[1500:]):.2f}"
)

# %% [markdown]
# ## Paths
#
# `interpolate` decodes the points between two images:

# %%
figure, rows = plt.subplots(3, 9, figsize=(9, 3))
for row, (start, end) in zip(rows, [(0, 1), (3, 8), (4, 7)], strict=True):
    path = run.interpolate(images[start], images[end], steps=9)
    for axes, image in zip(row, np.asarray(path), strict=True):
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
plt.show()

# %% [markdown]
# ## One coordinate at a time
#
# Which coordinates does the model use? One that it ignores has the same code for all images.

# %%
spread = codes.std(0)
figure, axes = plt.subplots(figsize=(6, 2.5))
axes.bar(range(codes.shape[1]), spread)
axes.set(xlabel="coordinate", ylabel="deviation of the codes")
plt.show()
