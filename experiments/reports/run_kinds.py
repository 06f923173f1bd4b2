"""The kinds of run in the words of reports: what a run is, and what its data consist of."""

from collections.abc import Mapping
from dataclasses import dataclass

from univae.run_folder import RunFolder

__all__ = ["RUN_KINDS", "RunKind", "kind_of"]


@dataclass(frozen=True)
class RunKind:
    """A kind of run in words."""

    name: str
    data: str  # what its data consist of
    speed: str  # what its speed of training counts


RUN_KINDS: Mapping[str, RunKind] = {
    "train-text": RunKind("text VAE", "texts", "tokens"),
    "train-density": RunKind("density VAE", "rows", "rows"),
    "train-gan": RunKind("GAN", "rows", "rows"),
    "train-similar": RunKind("sentence model", "pairs or groups", "texts"),
}
UNKNOWN = RunKind("", "data", "data")


def kind_of(run: RunFolder) -> RunKind:
    """Return the kind of a run in words; without a name where it is unknown."""
    return RUN_KINDS.get(str(run.kind), UNKNOWN)
