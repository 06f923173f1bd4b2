"""What each command does with each kind of run: it works, or there is a reason why it cannot.

``NOT_FOR`` lists every command that takes a run folder, and the kinds that it refuses, each with
the reason and what the user can do instead. A command works for all other kinds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from univae.errors import InputError
from univae.kinds import kinds
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["NOT_FOR", "commands_for", "refusal"]

TEXT = "train-text"
DENSITY = "train-density"
GAN = "train-gan"
SIMILAR = "train-similar"

NO_ENCODER = "a GAN has no encoder: it turns latents into data, not data into latents"
NO_DECODER = "a sentence model does not decode its vectors; univae similar writes similar texts"
NO_DENSITY = "a GAN gives data no probability; univae evaluate measures its samples"
NO_PROBABILITY = "a sentence model gives vectors and cosines, no probability of a text"
NO_BOUND = "the posterior of a VAE is calibrated, and this model has none"
NO_CELLS = "its data are texts, which have no cells to fill"
ANY_KIND = "it measures generated data; univae evaluate takes every kind of run"
NO_LENGTH = "its data are not texts, whose lengths differ"
NO_CRITIC = "it has no critic, whose gradients are measured"
NO_VECTORS = "it needs vectors of texts whose cosine is similarity; train-similar trains them"
NO_FILE = (
    "its moving average lies in its training state; copy the run folder instead, or write its "
    "generator with --format onnx"
)
NO_EXPORT = "its moving average lies in its training state; copy the run folder instead"

# Command -> kind of run -> why it does not work.
NOT_FOR: Mapping[str, Mapping[str, str]] = {
    "sample": {SIMILAR: "samples need a source text; univae similar RUN TEXT draws them"},
    "reconstruct": {GAN: NO_ENCODER, SIMILAR: NO_DECODER},
    "interpolate": {SIMILAR: NO_DECODER},
    "edit": {GAN: NO_ENCODER, SIMILAR: NO_DECODER},
    "encode": {GAN: NO_ENCODER},
    "impute": {TEXT: NO_CELLS, GAN: NO_ENCODER, SIMILAR: NO_CELLS},
    "likelihood": {GAN: NO_DENSITY, SIMILAR: NO_PROBABILITY},
    "compress": {GAN: NO_DENSITY, SIMILAR: NO_PROBABILITY},
    "decompress": {GAN: NO_DENSITY, SIMILAR: NO_PROBABILITY},
    "export": {GAN: NO_FILE},
    "push": {GAN: NO_EXPORT},
    "calibrate": {GAN: NO_BOUND, SIMILAR: NO_BOUND},
    "stretch": {DENSITY: NO_LENGTH, GAN: NO_LENGTH},
    "evaluate": {},
    "evaluate-gan": dict.fromkeys((TEXT, DENSITY, SIMILAR), ANY_KIND),
    "audit": {TEXT: NO_CRITIC, DENSITY: NO_CRITIC, SIMILAR: NO_CRITIC},
    "similar": {
        TEXT: "it has no vectors to rank texts by; univae edit and interpolate vary a text",
        DENSITY: NO_VECTORS,
        GAN: NO_VECTORS,
    },
    "search": {TEXT: NO_VECTORS, DENSITY: NO_VECTORS, GAN: NO_VECTORS},
    "explore": {},
    "report": {},
    "compare": {},
}

EVERY_KIND = ("report", "compare")  # not listed in messages


def commands_for(kind: object) -> list[str]:
    """Return the commands that work for a kind of run."""
    return [command for command, refused in NOT_FOR.items() if kind not in refused]


def refusal(path: str | Path, taken: type[Trained], command: str = "") -> InputError:
    """Return the error for a run whose kind a command does not take.

    The message says what the run is, why the command cannot work for it, and which can.

    Args:
        path: the run folder.
        taken: the kind of run that the command takes; one of them, if there are several.
        command: the command; empty: one that is not in :data:`NOT_FOR`.
    """
    folder = RunFolder.open(path)
    kind = folder.kind
    if kind not in kinds():
        return taken.wrong_kind(path)
    refused = NOT_FOR.get(command, {})
    able = [trained_of(name) for name in kinds() if command in NOT_FOR and name not in refused]
    *first, last = [trained.description for trained in able or [taken]]
    takes = f"{', '.join(first)} or {last}" if first else last
    reason = refused.get(str(kind), f"give the --out of {taken.kind}")
    others = [name for name in commands_for(kind) if name not in EVERY_KIND]
    return InputError(
        f"{path} is the run of {trained_of(str(kind)).description}, and "
        f"{f'univae {command}' if command else 'this command'} takes one of {takes}: {reason}; "
        f"for this run there are univae {', '.join(others)}"
    )


def trained_of(kind: str) -> type[Trained]:
    """Return the class of the runs of a kind."""
    return cast("type[Trained]", kinds()[kind].load())
