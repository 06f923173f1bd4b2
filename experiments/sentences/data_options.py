"""The options that name the pairs and the teacher of a sentence model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from typing_extensions import Doc

from experiments.data.remote import url_of
from experiments.data.sources import resolved
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, check, within
from univae.text.tokenizers import TOKENIZERS, TokenizerName

__all__ = ["PairData"]


@dataclass(frozen=True, kw_only=True)
class PairData:
    """The pairs to train on and to hold out, and the teacher."""

    # .tsv, .csv, .jsonl or .json files, maybe .gz or s3://..., of pairs or groups of similar texts;
    # labels are compared within a file
    pairs: tuple[Path, ...]
    # names, or numbers from 1, of the columns of similar texts and, last, of their label; none:
    # recognised
    columns: tuple[str, ...] = ()
    validation: tuple[Path, ...] = ()  # files of labelled pairs; none: a share of --pairs
    held_out: float = 0.05  # share of --pairs that is held out
    # with --stage distil: a run folder of train-similar, or a .npz of texts and vectors
    teacher: Path | None = None
    # with --teacher: files like those of --pairs, of two texts a line, hard negatives for instance:
    # the two share a batch, so that their cosine is fitted, and neither is generated from the other
    contrasts: tuple[Path, ...] = ()
    # where the table of tokens starts; random: as all weights; teacher: from the teacher's vectors
    # of single tokens, reduced to its width and smaller for frequent tokens
    token_start: Literal["random", "teacher"] = "random"
    tokenizer: Annotated[TokenizerName, Doc(choices_help("kind of tokens", TOKENIZERS))] = "bpe"
    lowercase: bool = False  # convert all texts to lower case

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the groups")}

    def __post_init__(self) -> None:
        check(self)
        if not self.pairs:
            raise InputError("--pairs needs at least one file of pairs or groups; got none")
        if self.teacher is None:
            self._refuse_without_teacher()

    def absolute(self) -> "PairData":
        """Return the same options with absolute paths."""
        return replace(
            self,
            pairs=tuple(_absolute(path) for path in self.pairs),
            validation=tuple(_absolute(path) for path in self.validation),
            contrasts=tuple(_absolute(path) for path in self.contrasts),
            teacher=None if self.teacher is None else Path(resolved(str(self.teacher))),
        )

    def _refuse_without_teacher(self) -> None:
        """Raise InputError for an option that only a teacher gives a meaning."""
        options = []
        if self.contrasts:
            options.append(f"--contrasts {' '.join(map(str, self.contrasts))}")
        if self.token_start == "teacher":
            options.append("--token-start teacher")
        if options:
            raise InputError(
                f"{' and '.join(options)} needs --stage distil with a --teacher; got none"
            )

    @property
    def pair_files(self) -> str:
        """The files of ``--pairs``, for messages."""
        return ", ".join(map(str, self.pairs))


def _absolute(path: Path) -> Path:
    """Return an absolute path; a URL stays as it is."""
    return Path(url_of(path) or resolved(str(path)))
