"""What the explorer shows of a sentence model."""

from collections.abc import Sequence
from functools import partial
from itertools import islice

from experiments.data.texts import TextFiles
from experiments.explorer.answers import notes_list
from experiments.explorer.panels import NumberField, Panel, SliderField, TextField
from experiments.reports.blocks import table
from experiments.reports.fragments import fragment
from experiments.sentences.index_cache import open_index
from experiments.sentences.notes import sentence_notes
from experiments.sentences.vectors import Precision, require_cosines, texts_at, vectors_of
from experiments.training.settings import SEED
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import at_least
from univae.sentence.trained import RankedTexts, TrainedSimilar
from univae.text.tally import Tally

__all__ = ["Corpus", "cosines_of", "sentence_panels"]

MOST_RESULTS = 100
MOST_SAMPLES = 2000
MOST_COMPARED = 20  # texts
EXAMPLE_COUNT = 3
EXAMPLES = (
    "how do I learn to play the piano",
    "how can I learn piano",
    "where can I buy a piano",
)
PRECISION: Precision = "float32"  # of the vectors of a corpus


class Corpus:
    """Texts to search, whose vectors are computed once, and kept as ``univae search`` does.

    Args:
        run: the run.
        source: a file of texts, or another source of texts.

    Raises:
        InputError: the texts cannot be read.
    """

    def __init__(self, run: TrainedSimilar, source: str) -> None:
        self.run = run
        self.files = TextFiles(source)
        self.vectors = vectors_of(run, self.files, None, PRECISION)
        self.notes = self.vectors.notes

    def __len__(self) -> int:
        return len(self.vectors.matrix)

    def first(self, count: int) -> list[str]:
        """Return the first ``count`` different texts."""
        return list(dict.fromkeys(islice(self.files.read(), 10 * count)))[:count]

    def nearest(self, text: str, count: int) -> RankedTexts:
        """Return the texts with the largest cosine to ``text``, the best first."""
        index = open_index("exact", self.vectors, count)
        nearest = index.search.nearest(self.run.encode([text]), count)
        scores = nearest.scores[0].tolist()
        rows = nearest.rows[0].tolist()
        require_cosines(scores, self.vectors.path, PRECISION)
        texts = texts_at(self.files, rows)
        return [(texts[row], score) for row, score in zip(rows, scores, strict=True)]


def sentence_panels(run: TrainedSimilar, corpus: Corpus | None = None) -> list[Panel]:
    """Return the panels of a sentence model, with a search of ``corpus`` if there is one."""
    examples = corpus.first(EXAMPLE_COUNT) if corpus is not None else EXAMPLES
    text = TextField("Text", examples[0])
    results = NumberField("Results", 10, at_least(1, MOST_RESULTS))
    if corpus is None:
        nearest = Panel(
            "Nearest",
            "The nearest sentences of a file: start the explorer with --data FILE, a file of one "
            "text per line.",
        )
    else:
        nearest = Panel(
            "Nearest",
            f"The sentences with the largest cosine, among {len(corpus)} of {corpus.files.name}.",
            (text, results),
            partial(_nearest, run, corpus),
            button="Search",
        )
    return [
        Panel(
            "Similar",
            "Texts that the model writes from a text, ranked by the cosine of their vectors to it.",
            (
                text,
                results,
                NumberField("Draws", 100, at_least(1, MOST_SAMPLES), "that results are chosen of"),
                SliderField("Temperature", 0, 2, 0.05, 1.0, hint="lower: more probable texts"),
                SliderField("Top p", 0.05, 1, 0.05, 0.95, hint="total probability of the tokens"),
                TextField("Words to keep", hint="that every result has", optional=True),
                TextField("Words to hide", hint="from the writer, to vary them", optional=True),
                NumberField("Seed", 0, SEED, "the same seed gives the same draws"),
            ),
            partial(_similar, run),
            button="Write",
        ),
        nearest,
        Panel(
            "Compare",
            "The cosine of every pair of texts: 1 for vectors of the same direction.",
            (TextField("Texts, one a line", "\n".join(examples), lines=4),),
            partial(_compare, run),
            button="Compare",
        ),
    ]


def cosines_of(run: TrainedSimilar, texts: Sequence[str]) -> list[list[float]]:
    """Return the cosines of all pairs of texts, a row for each text."""
    vectors = run.encode(texts)
    cosines: list[list[float]] = (vectors @ vectors.T).tolist()
    return cosines


def _similar(
    run: TrainedSimilar,
    text: str,
    count: int,
    samples: int,
    temperature: float,
    top_p: float,
    keep: str,
    mask: str,
    seed: int,
) -> str:
    (ranked,) = run.similar(
        text,
        count,
        samples,
        Sampling(temperature, top_p=top_p),
        keep=keep.split(),
        mask=mask.split(),
        seed=seed,
    )
    few = []
    if len(ranked) < count:
        few = [f"{len(ranked)} of {count} asked: draws repeat; raise Draws or Temperature"]
    return _ranked(ranked) + notes_list([*few, *_notes(run, [text])])


def _nearest(run: TrainedSimilar, corpus: Corpus, text: str, count: int) -> str:
    return _ranked(corpus.nearest(text, count)) + notes_list([*_notes(run, [text]), *corpus.notes])


def _compare(run: TrainedSimilar, lines: str) -> str:
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    if len(texts) > MOST_COMPARED:
        raise InputError(f"at most {MOST_COMPARED} texts at once; got {len(texts)}")
    head = ["", *map(str, range(1, len(texts) + 1))]
    rows = []
    for number, (text, cosines) in enumerate(zip(texts, cosines_of(run, texts), strict=True), 1):
        rows.append([f"{number}. {text}", *(f"{cosine:.2f}" for cosine in cosines)])
    return fragment(table(head, rows)) + notes_list(_notes(run, texts))


def _ranked(results: RankedTexts) -> str:
    rows = [[f"{score:.3f}", text] for text, score in results]
    return fragment(table(["cosine", "text"], rows))


def _notes(run: TrainedSimilar, texts: Sequence[str]) -> list[str]:
    """Return notes on texts that were cut, and on unknown words."""
    tally = Tally()
    run.text.counting(tally).encode_batch(texts)
    return sentence_notes(run, "what you typed", tally)
