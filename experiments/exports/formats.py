"""The registry of the formats of ``univae export``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from density.trained import TrainedDensity
from experiments.exports import (
    huggingface_folder,
    onnx_folder,
    sentence_transformers_folder,
    univae_file,
)
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["FORMATS", "Format", "FormatName"]


@dataclass(frozen=True)
class Format:
    """A format of an exported run.

    Args:
        summary: what is written, for the help.
        kinds: the kinds of run that can be written so.
        write: writes a run to a file, or into an empty folder, and returns the result's facts:
            ``files``, their names, and what only this format knows.
        is_folder: whether the result is a folder.
    """

    summary: str
    kinds: tuple[type[Trained], ...]
    write: Callable[[RunFolder, Path], JsonObject]
    is_folder: bool = True


FORMATS: Mapping[str, Format] = {
    "univae": Format(
        "one file that univae opens in place of the run",
        (TrainedDensity, TrainedSimilar, TrainedText),
        univae_file.write_file,
        is_folder=False,
    ),
    "huggingface": Format(
        "a folder that transformers loads as a RoFormer, of a sentence model",
        (TrainedSimilar,),
        huggingface_folder.write_folder,
    ),
    "sentence-transformers": Format(
        "a folder that SentenceTransformer loads, of a sentence model",
        (TrainedSimilar,),
        sentence_transformers_folder.write_folder,
    ),
    "onnx": Format(
        "a folder of graphs that onnxruntime runs: encoders, decoders, generators",
        (TrainedDensity, TrainedGan, TrainedSimilar, TrainedText),
        onnx_folder.write_folder,
    ),
}

if TYPE_CHECKING:
    FormatName: TypeAlias = str
else:
    FormatName = Literal[tuple(FORMATS)]
