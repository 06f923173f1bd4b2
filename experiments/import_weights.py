"""``univae import-weights``: a published RoFormer as the run folder of a sentence model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from typing_extensions import Doc

from experiments import train_similar
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.training.environment import environment
from experiments.training.published import TextOrigin, adopt
from experiments.training.state import State
from univae.checkpoint import JsonObject, save_weights, write_json
from univae.checksums import WEIGHTS, write_checksums
from univae.huggingface import Checkpoint
from univae.registry import choices_help
from univae.rules import Rule, check
from univae.run_folder import BEST
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.pooling import POOLINGS, PoolingName
from univae.sentence.trained import similar_config
from univae.text.run_tokenizer import tokenizer_record

__all__ = ["Config", "main"]

# config.json is that of a training with the checkpoint's model, which needs a file of pairs; the
# run has none, and its config.json names none.
NO_PAIRS = (Path("none"),)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes a checkpoint of transformers as a run folder, for similar, search, encode, evaluate.

    RoFormer and RoFormer-Sim give the same states as in transformers. A BERT lacks its positions
    and is a start for train-similar --from RUN.
    """

    # folder that save_pretrained of transformers wrote, or its name on the hub
    checkpoint: tyro.conf.Positional[str]
    run: tyro.conf.Positional[Path]  # the run folder to write
    pooling: Annotated[
        PoolingName, Doc(choices_help("rows that a sentence's vector is computed from", POOLINGS))
    ] = "first"
    max_length: int = 64  # most tokens of a sentence, its end token included; longer ones are cut
    overwrite: bool = False  # replace an existing run folder

    RULES: ClassVar[Mapping[str, Rule]] = {"max_length": RoFormerSimConfig.RULES["max_length"]}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the size of the model, and notes on what was left out or is new.

    Raises:
        InputError: the checkpoint is missing, damaged or without an equivalent; ``run`` is not
            written.
    """
    out = Output(config.run, config.overwrite, (), "RUN").check_folder()
    options = _options(config)
    origin = TextOrigin(init_from=options["init_from"])
    checkpoint: Checkpoint = origin.checkpoint()
    tokenizer = checkpoint.tokenizer
    model = checkpoint.sentence_model(pooling=config.pooling, max_length=config.max_length)
    assert model.config == similar_config(options, tokenizer.vocab_size)
    with out.folder() as folder:
        write_json(folder / "config.json", options)
        write_json(folder / "environment.json", environment(options))
        write_json(folder / "tokenizer.json", tokenizer.to_json())
        record = {"tokenizer": tokenizer_record(tokenizer)}
        write_json(folder / "data.json", record | origin.record(folder, resumed=False))
        weights = folder / "checkpoints" / BEST
        weights.mkdir(parents=True)
        save_weights(model, weights / WEIGHTS)
        write_json(weights / "state.json", asdict(State(complete=True)))
        write_checksums(weights, folder)
        notes = checkpoint.notes
        result = {
            "run": str(config.run),
            "checkpoint": config.checkpoint,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tokens": tokenizer.vocab_size,
        }
        write_json(folder / "DONE", with_notes(result, notes))
    print_notes(notes)
    return with_notes(result, notes)


def _options(config: Config) -> JsonObject:
    """Return the content of ``config.json``: that of train-similar with the checkpoint's model."""
    training = train_similar.Config.of(
        out=config.run,
        pairs=NO_PAIRS,
        init_from=config.checkpoint,
        pooling=config.pooling,
        max_length=config.max_length,
    )
    training = adopt(training)
    return {**replace(training, out=config.run.absolute()).flat(), "pairs": []}


if __name__ == "__main__":
    run(Config, main)
