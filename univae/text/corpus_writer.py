"""Writing a corpus in shards, which several processes share, and which a new start continues.

Where a shard ends depends on the texts alone. Every process reads all texts, and encodes those of
its own shards; the first one then completes the corpus. A shard that an interrupted build has
finished is not encoded again: its state holds the fingerprint of all texts up to its end.
"""

import re
from pathlib import Path
from typing import Protocol, runtime_checkable

from univae.checkpoint import JsonObject, sync, write_json
from univae.errors import InputError
from univae.text.corpus_files import (
    STATE,
    TOTALS,
    Encoder,
    ShardFiles,
    ShardWriter,
    id_dtype,
)
from univae.text.fingerprint import Batch

__all__ = ["ALONE", "CorpusWriter", "Processes"]

# Bytes of text after which a shard ends, each text counted with one byte for its END.
SHARD_BYTES = 2**28
NUMBER = re.compile(r"-(\d+)\.")  # of a shard, in the names of its files


@runtime_checkable
class Processes(Protocol):
    """The processes that build a corpus together."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def wait(self) -> None:
        """Return when every process has called it."""
        ...


class _OneProcess:
    rank = 0
    size = 1

    def wait(self) -> None:
        """Return at once."""


ALONE: Processes = _OneProcess()


class CorpusWriter:
    """Writes batches of texts into the shards of this process.

    Args:
        folder: the folder of the corpus, which is created.
        tokenizer: encodes the texts.
        recipe: the fingerprint of the tokenizer, and ``max_length``.
        processes: those that write the shards; all of them add all batches.
    """

    def __init__(
        self, folder: Path, tokenizer: Encoder, recipe: JsonObject, processes: Processes = ALONE
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.processes = processes
        self.count = 0  # of shards that have begun
        self._size: int | None = None  # of the shard that has begun; None between shards
        self._writer: ShardWriter | None = None  # None: another process' shard, or a finished one
        self._expected: str | None = None  # fingerprint at the end of a finished shard

    def add(self, batch: Batch) -> None:
        """Append a batch to a shard.

        Raises:
            InputError: a finished shard is of other texts.
        """
        if self._size is None:
            self._begin()
            self._size = 0
        if self._writer is not None:
            self._writer.add(batch)
        self._size += sum(batch.sizes) + len(batch.texts)
        if self._size >= SHARD_BYTES:
            self.end_shard(batch.fingerprint)

    def end_shard(self, fingerprint: str) -> None:
        """End the shard that has begun, if one has, with the fingerprint of all texts up to here.

        Raises:
            InputError: it was finished before, with other texts.
        """
        if self._size is None:
            return
        self._size = None
        if self._writer is not None:
            self._writer.finish({"recipe": self.recipe, "fingerprint": fingerprint})
        elif self._expected not in (None, fingerprint):
            self._remove_own()
            raise InputError(
                f"corpus {self.folder}: the texts have changed since an interrupted build, whose "
                "files were removed; run the command again"
            )

    def finish(self, fingerprint: str) -> None:
        """Write ``corpus.json`` when all processes have written their shards.

        Raises:
            InputError: no text was short enough.
        """
        shards = [ShardFiles(self.folder, number) for number in range(self.count)]
        states = [self._state(shard) for shard in shards]
        totals = {name: sum(state["totals"][name] for state in states) for name in TOTALS}
        if not totals["texts"]:
            self._remove_from(0)
            rule = f"needs a text of at most max_length={self.recipe['max_length']} tokens"
            raise InputError(
                f"corpus {self.folder}: {rule}; got {totals['dropped']} longer ones; "
                "raise max_length"
            )
        state: JsonObject = {
            "totals": totals,
            "recipe": {**self.recipe, "texts": fingerprint},
            "dtype": id_dtype(self.tokenizer).str,
            "pad": self.tokenizer.pad,
            "digests": [state["digests"] for state in states],
        }
        if len(shards) == 1:
            shards[0].rename(ShardFiles(self.folder))
        else:
            state["shards"] = len(shards)
        self._remove_from(len(shards))
        sync(self.folder)
        write_json(self.folder / STATE, state)
        for shard in shards:
            shard.state.unlink()

    def _begin(self) -> None:
        """Choose what to do with the next shard: write it, or read past it."""
        number = self.count
        self.count += 1
        self._writer = None
        self._expected = None
        if not self._is_own(number):
            return
        files = ShardFiles(self.folder, number)
        state = files.finished(id_dtype(self.tokenizer)) or {}
        if state.get("recipe") == self.recipe:
            self._expected = str(state.get("fingerprint"))
        else:
            files.remove()
            self._writer = ShardWriter(files, self.tokenizer, self.recipe["max_length"])

    def _state(self, shard: ShardFiles) -> JsonObject:
        """Return the state of a shard; raise InputError where its files have other sizes.

        Their digests are compared once, when the corpus is opened.
        """
        state = shard.written(id_dtype(self.tokenizer))
        if state is None or "digests" not in state:
            raise InputError(f"{shard.ids}: no longer there, or damaged; run the command again")
        return state

    def _is_own(self, number: int) -> bool:
        """Return whether this process writes the shard of a number."""
        return number % self.processes.size == self.processes.rank

    def _remove_own(self) -> None:
        """Delete the shards of this process, while others write theirs, and unfinished files."""
        for path in [*self.folder.glob("shard-*.json"), *self.folder.glob("*.partial")]:
            match = NUMBER.search(path.name)
            number = int(match[1]) if match else 0
            if self._is_own(number):
                ShardFiles(self.folder, number).remove()
                path.unlink(missing_ok=True)

    def _remove_from(self, number: int) -> None:
        """Delete the shards from a number on, and what interrupted builds have left.

        Only the first process calls this, when all have written their shards.
        """
        for path in self.folder.glob("shard-*.json"):
            other = int(path.stem.removeprefix("shard-"))
            if other >= number:
                ShardFiles(self.folder, other).remove()
        for path in self.folder.glob("*.partial"):
            path.unlink()
