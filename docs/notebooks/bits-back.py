# %% [markdown]
# # Bits-back coding in thirty lines
#
# A latent-variable model knows $p(x)$ only as a sum over latents, yet its data can be compressed to
# $-\log_2 p(x)$ bits, and to $-\mathrm{ELBO}$ bits with an approximate posterior. Here this is done
# by hand, with the entropy coder of `density.coding` and a mixture of Bernoulli pixels.
#
# ## The model
#
# The latent $z$ is one of 30 prototypes of black and white digits. It has a prior $p(z)$, pixels
# $p(x \mid z)$ that are independent given $z$, and it is fitted by expectation-maximisation.

# %%
import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import load_digits

x = (load_digits().data > 7).astype(np.int64)
train, held_out = x[:1500], x[1500:]

rng = np.random.default_rng(0)
prior = np.full(30, 1 / 30)
pixels = rng.uniform(0.25, 0.75, (30, 64))


def log_joint(x):
    """Return log p(x, z), (images, prototypes)."""
    return np.log(prior) + x @ np.log(pixels).T + (1 - x) @ np.log(1 - pixels).T


for _ in range(60):
    joint = log_joint(train)
    shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    prior = (shares.sum(0) + 1) / (len(train) + 30)
    pixels = (shares.T @ train + 1) / (shares.sum(0)[:, None] + 2)

exact = -logsumexp(log_joint(held_out), axis=1) / np.log(2)
print(f"{exact.mean():.2f} bits an image, by -log2 p(x)")

# %% [markdown]
# ## The code
#
# A `Stack` is a message of bits. Pushing a symbol of probability $P$ makes it $-\log_2 P$ bits
# longer, popping one makes it that much shorter, and each undoes the other. To send an image:
#
# 1. *pop* a latent with the probabilities $q(z \mid x)$: earlier bits of the message choose it;
# 2. *push* the pixels with $p(x \mid z)$;
# 3. *push* the latent with $p(z)$.
#
# The message grows by $\log_2 q(z \mid x) - \log_2 p(x \mid z) - \log_2 p(z)$ bits, whose mean is
# $-\mathrm{ELBO}$. The receiver does the three steps backwards, and gets the bits of step 1 back.

# %%
from density.coding.ans import Stack, frequencies, intervals


def posterior(image, temperature):
    """Return q(z | x), the exact posterior at temperature 1, as a table of frequencies."""
    log_q = log_joint(image[None]) / temperature
    return frequencies(np.exp(log_q - logsumexp(log_q, axis=1, keepdims=True)))


def table(latent):
    """Return p(x | z) of every pixel as a table of frequencies."""
    return frequencies(np.stack([1 - pixels[latent], pixels[latent]], axis=1))


def push(stack, frequencies_of_rows, symbols):
    stack.push(
        intervals(frequencies_of_rows, symbols, np.zeros(len(symbols), np.int64))
    )


def encode(stack, image, temperature=1.0):
    latent = stack.pop(posterior(image, temperature))
    push(stack, table(latent[0]), image)
    push(stack, frequencies(prior[None]), latent)


def decode(stack, temperature=1.0):
    latent = stack.pop(frequencies(prior[None]))
    image = stack.pop(table(latent[0]))
    push(stack, posterior(image, temperature), latent)
    return image


# %% [markdown]
# The first image needs some bits to pop, so the message starts with random ones. They come back,
# too.

# %%
stack = Stack(rng.integers(1, 2**32, 8, dtype=np.uint32))
start = stack.bits
for image in held_out:
    encode(stack, image)
print(f"{(stack.bits - start) / len(held_out):.2f} bits an image in the message")

read_back = np.stack([decode(stack) for _ in held_out])[::-1]
print("every pixel is the same:", np.array_equal(read_back, held_out))
print("bits left:", stack.bits - start)

# %% [markdown]
# ## Net bits are minus the ELBO
#
# A posterior that is too wide costs what the bound loses: the distance
# $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$. Each image is sent eight times, so that the draws
# of latents average out.

# %%
for temperature in (1.0, 2.0, 4.0, 8.0):
    joint = log_joint(held_out)
    log_q = joint / temperature
    log_q -= logsumexp(log_q, axis=1, keepdims=True)
    elbo = (np.exp(log_q) * (joint - log_q)).sum(1) / np.log(2)

    stack = Stack(rng.integers(1, 2**32, 8, dtype=np.uint32))
    start = stack.bits
    for image in np.tile(held_out, (8, 1)):
        encode(stack, image, temperature)
    net = (stack.bits - start) / (8 * len(held_out))
    print(
        f"temperature {temperature:4}: net {net:.2f} bits, minus ELBO {-elbo.mean():.2f}"
    )

# %% [markdown]
# `density.compress` does the same for deep models with continuous latents, of many layers, in
# tiles of images, and with several samples an image, which brings the file from the bound towards
# the likelihood: see [the tutorial](../tutorials/compression.md).
