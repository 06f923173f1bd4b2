"""``univae stretch``: a trained text or sentence model as a run that reads longer texts."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.kinds import row_of_kind
from univae.attention.stretching import stretched
from univae.checkpoint import JsonObject, write_json
from univae.checksums import WEIGHTS, read_unchanged, write_checksums
from univae.exported import require_folder
from univae.rules import Rule, check
from univae.run_folder import BEST, STRETCHED, TRAINED_LENGTH, RunFolder
from univae.sentence.trained import TrainedSimilar, similar_config
from univae.text.run_tokenizer import open_tokenizer
from univae.trained import Trained
from univae.vae.config import UniVAEConfig
from univae.vae.trained import TrainedText, model_config

__all__ = ["MODELS", "Config", "main"]

# The model configuration of a run, from its options and the size of its vocabulary.
MODELS: Mapping[type[Trained], Callable[[Mapping[str, Any], int], Any]] = {
    TrainedSimilar: similar_config,
    TrainedText: model_config,
}
CHANGED = ("max_length", "rotary_base", "scale", "scale_base")
COPIED = ("environment.json", "tokenizer.json")
OF_CHECKPOINT = (WEIGHTS, "state.json")
UNTRAINED = (
    "likelihoods and vectors of this run are those of another model than the run it was made from, "
    "also for short texts; train on with --from, or measure it before you rely on it"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes a trained text or sentence model as a run that reads texts longer than in training.

    The weights stay. Rotary positions are stretched, and scores of attention grow with ln(keys)
    beyond the length of training, unless the model was trained with --scale log_n.
    """

    run: tyro.conf.Positional[Path]  # the run folder, of train-text or train-similar
    out: tyro.conf.Positional[Path]  # the run folder to write
    length: int  # most tokens of a text, its end token included
    overwrite: bool = False  # replace an existing run folder

    RULES: ClassVar[Mapping[str, Rule]] = {"length": UniVAEConfig.RULES["max_length"]}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the options that changed, and a note.

    Raises:
        InputError: the run is missing, damaged, of another kind, or reads such texts already.
    """
    require_folder(config.run, "stretch")
    out = Output(config.out, config.overwrite, (config.run,), "OUT").check_folder()
    shape = row_of_kind(config.run, MODELS, "stretch")
    source = RunFolder.open(config.run)
    model = stretched(shape(source.config, open_tokenizer(source).vocab_size), config.length)
    changed = {name: getattr(model, name) for name in CHANGED}
    options = {**source.config, **changed, "out": str(config.out.absolute())}
    if options.get("batch_tokens", config.length) < config.length:  # a batch holds one text
        options["batch_tokens"] = config.length
    record = source.data_record()
    trained = record.get(STRETCHED, {TRAINED_LENGTH: source.config["max_length"]})
    with out.folder() as folder:
        write_json(folder / "config.json", options)
        write_json(folder / "data.json", {**record, STRETCHED: trained})
        for name in COPIED:
            if (source.path / name).exists():
                shutil.copyfile(source.path / name, folder / name)
        weights = folder / "checkpoints" / BEST
        weights.mkdir(parents=True)
        _copy_checkpoint(source, weights)
        write_checksums(weights, folder)
        result = {"run": str(config.out), "stretched_from": str(config.run), **changed}
        notes = [*source.notes, UNTRAINED]
        write_json(folder / "DONE", with_notes(result, notes))
    print_notes(notes)
    return with_notes(result, notes)


def _copy_checkpoint(source: RunFolder, to: Path) -> None:
    """Copy weights and position of the best checkpoint, compared with their digests."""

    def copy() -> None:
        for name in OF_CHECKPOINT:
            shutil.copyfile(source.checkpoint(BEST) / name, to / name)

    read_unchanged(lambda: [source.checkpoint(BEST)], source.path, copy)


if __name__ == "__main__":
    run(Config, main)
