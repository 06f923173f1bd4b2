"""One option's texts of a text model: read, fingerprinted, tokenised, and recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from experiments.data.text_notes import left_out_notes, unknown_shares
from experiments.data.texts import TextFiles, size_of
from experiments.text.data_options import TextData
from univae.checkpoint import JsonObject
from univae.text.corpus import ALONE, Corpus, Processes, Removed, fingerprint_texts
from univae.text.tokenizers import Tokenizer

__all__ = ["Source", "counts_of", "sources_of"]

# Option -> key, in a result, of the number of its texts that were left out.
COUNTS = {"text": "texts_left_out", "validation": "validation_texts_left_out"}


class Source(NamedTuple):
    """An option that names texts, and the folder of their token ids."""

    option: str  # without dashes
    texts: TextFiles
    folder: Path

    def fingerprint(self) -> JsonObject:
        """Return source, fingerprint and count, for a comparison with ``data.json``."""
        count, fingerprint = fingerprint_texts(self.texts.read())
        return {"source": self.texts.name, "fingerprint": fingerprint, "count": count}

    def build(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        removed: Removed,
        processes: Processes = ALONE,
    ) -> Corpus:
        """Write the token ids of the texts, or open those of the same texts and tokenizer.

        All ``processes`` call this, and share the shards of large texts.

        Raises:
            InputError: the texts cannot be read, or the folder holds the ids of others.
        """
        with tqdm(
            total=size_of(self.texts.sources),
            unit="B",
            unit_scale=True,
            desc="tokenising",
            disable=True if processes.rank else None,
            leave=False,
        ) as bar:
            return Corpus.build(
                self.texts.read(removed),
                tokenizer,
                self.folder,
                max_length=max_length,
                progress=bar.update,
                processes=processes,
            )

    def record(self, corpus: Corpus, removed: Removed) -> JsonObject:
        """Return the entry of the texts in ``data.json``."""
        option = f"--{self.option}"
        dropped = corpus.totals["dropped"]
        count = len(corpus) + dropped
        notes = left_out_notes(option, dropped, count, corpus.recipe["max_length"])
        return {
            "source": self.texts.name,
            "fingerprint": corpus.recipe["texts"],
            "count": count,
            "texts_left_out": dropped,
            "notes": [*removed.notes(option), *notes],
        }


def sources_of(data: TextData, out: Path) -> list[Source]:
    """Return the training texts, and the held-out ones if an option names them."""
    training = TextFiles(data.text, data.column, refuse_long=False)
    sources = [Source("text", training, out / "corpus")]
    if data.validation:
        held_out = TextFiles(data.validation, data.column, refuse_long=False)
        sources.append(Source("validation", held_out, out / "validation"))
    return sources


def counts_of(record: Mapping[str, JsonObject]) -> JsonObject:
    """Return how many texts were left out, and the shares of unknown words, of ``data.json``."""
    counts: JsonObject = {}
    for option, name in COUNTS.items():
        if option in record:
            counts[name] = record[option].get("texts_left_out")
    for entry in record.values():
        counts |= unknown_shares(entry)
    return counts
