"""The format ``huggingface``: a RoFormer of transformers, with its vocabulary."""

from pathlib import Path

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.huggingface import require_roformer, write_roformer
from univae.run_folder import RunFolder
from univae.sentence.trained import TrainedSimilar
from univae.text.wordpiece import WordPiece

__all__ = ["is_roformer", "open_run", "write_folder"]


def write_folder(folder: RunFolder, out: Path) -> JsonObject:
    """Write a RoFormer-Sim into an empty folder, and return the names of its files.

    Raises:
        InputError: a RoFormer cannot express the model, or its tokenizer has no published form.
    """
    run = open_run(folder)
    write_roformer(run.model, run.tokenizer, out, lowercase=run.text.lowercase)
    return {"files": sorted(path.name for path in out.iterdir())}


def open_run(folder: RunFolder) -> TrainedSimilar:
    """Open the sentence model of a run; its notes are added to those of the folder."""
    run = TrainedSimilar.open(folder.path, "cpu")
    folder.notes.extend(run.notes)
    return run


def is_roformer(run: TrainedSimilar) -> bool:
    """Return whether a RoFormer of transformers expresses model and tokenizer.

    One with words of Jieba does, but transformers 5.24 loads its tokenizer without the vocabulary,
    and splits all words.
    """
    if type(run.tokenizer) is not WordPiece:
        return False
    try:
        require_roformer(run.model.config, run.tokenizer, lowercase=run.text.lowercase)
    except InputError:
        return False
    return True
