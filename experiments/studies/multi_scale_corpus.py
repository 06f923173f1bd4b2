"""The texts of :mod:`experiments.studies.multi_scale`: short ones, of frequent words."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.studies.multi_scale_measures import LANGUAGES, Language
from experiments.studies.reuse import record_options, require_same_options, stored_options
from univae.atomic_files import write_text_atomic
from univae.errors import InputError

__all__ = ["Corpus", "lines_of", "tokenizer_of"]

FEWEST_WORDS = 3  # of a text


@dataclass(frozen=True)
class Corpus:
    """Texts for training and held-out ones, in two files."""

    name: str
    tokenizer: str
    folder: Path

    @property
    def language(self) -> Language:
        """The words and function words of the texts."""
        return LANGUAGES[self.tokenizer]

    @property
    def training(self) -> Path:
        """The file of texts to train on."""
        return self.folder / "training.txt"

    @property
    def held_out(self) -> Path:
        """The file of held-out texts."""
        return self.folder / "held_out.txt"

    def write(self, path: Path, held_out: int, longest: int, vocabulary: int) -> None:
        """Write both files from the distinct texts of ``path``.

        Texts are in lower case and without punctuation, of 3 to ``longest`` of the ``vocabulary``
        most frequent words, so that no word is unknown to a model. ``held_out`` are held out.
        Files that are there stay: models of the study were trained on them.

        Raises:
            InputError: too few texts remain, or the files that are there hold other texts.
        """
        advice = f"give another --out, or remove {self.folder.parent} with its runs"
        options = {"texts": held_out, "longest": longest, "vocabulary": vocabulary}
        self._require_same(options, advice)
        texts = list(dict.fromkeys(self.language.plain(line) for line in lines_of(path)))
        short = [
            text for text in texts if FEWEST_WORDS <= len(self.language.words(text)) <= longest
        ]
        counts = Counter(itertools.chain.from_iterable(map(self.language.words, short)))
        frequent = {word for word, _ in counts.most_common(vocabulary)}
        usable = [text for text in short if frequent.issuperset(self.language.words(text))]
        if len(usable) < 2 * held_out:
            raise InputError(
                f"{path}: {len(usable)} texts remain; needs {2 * held_out}; lower --texts, "
                "or raise --vocabulary or --longest"
            )
        order = np.random.default_rng(0).permutation(len(usable))
        shuffled = [usable[row] for row in order]
        contents = {self.held_out: shuffled[:held_out], self.training: shuffled[held_out:]}
        for file, lines in contents.items():
            if file.exists() and lines_of(file) != lines:
                raise InputError(f"{file} was written from other texts than {path}; {advice}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for file, lines in contents.items():
            _write(file, lines)
        record_options(self.folder, options)

    def _require_same(self, options: Mapping[str, object], advice: str) -> None:
        """Compare options with those of the files that are there.

        Of files without a record the number of held-out texts is known.
        """
        stored = stored_options(self.folder)
        if not stored and self.held_out.exists():
            stored = {"texts": len(lines_of(self.held_out))}
        require_same_options(self.folder, stored, options, advice)


def tokenizer_of(path: Path) -> str:
    """Return ``chars`` for a file whose letters are mostly Chinese, otherwise ``words``."""
    text = path.read_text(encoding="utf-8")[:100_000]
    letters = sum(character.isalpha() for character in text)
    chinese = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return "chars" if 2 * chinese > letters else "words"


def lines_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def _write(path: Path, lines: Sequence[str]) -> None:
    write_text_atomic(path, "".join(line + "\n" for line in lines))
