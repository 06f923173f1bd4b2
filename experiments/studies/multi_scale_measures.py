r"""What an edit of a sentence keeps: its content words, its pattern, and its length.

A closed list of function words divides the words of a sentence. The other words are its content;
its *pattern* is the sequence of its words in which every content word is replaced by a slot. Of two
sentences with content words a, b and patterns p, q,

.. math::

    \text{content} = \frac{2 |a \cap b|}{|a| + |b|} , \qquad
    \text{pattern} = 1 - \frac{\text{edit distance}(p, q)}{\max(|p|, |q|)} ,

with multisets a and b. Sentences that share nothing on purpose have function words and lengths in
common, so that a kept share s is also reported above the share c of random pairs,
:math:`(s - c) / (1 - c)`.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from univae.checkpoint import JsonObject

__all__ = [
    "LANGUAGES",
    "MEASURES",
    "Language",
    "above_chance",
    "compare",
    "content_kept",
    "edit_distance",
    "interval",
    "pattern_kept",
    "verdict",
]

SLOT = "_"  # of a content word in a pattern
RESAMPLES = 1000  # of the bootstrap
LEVELS = (2.5, 97.5)  # percentiles of a 95% interval
# content: see the module; exact: equal patterns; length: equal numbers of words; words_apart:
# difference of these numbers; changed: any word differs
MEASURES = ("content", "pattern", "exact", "length", "words_apart", "changed")

ENGLISH = """
    a an the this that these those some any each every all both no another other
    i you he she it we they me him her us them my your his its our their himself herself itself
    themselves who whom whose which what when where why how there here
    am is are was were be been being do does did have has had can could will would shall should may
    might must
    and or but nor so yet if while as because though although than then not
    of in on at by to from with without into onto over under above below between among through
    across along around against near behind beside beneath next up down off out for about after
    before during toward towards inside outside upon past
    one two three four five six seven eight nine ten several many few
"""
CHINESE = (
    "的地得了着过吗呢吧啊呀么嘛是有在不没别也都就才又再很太最更把被让给对从到向往和与跟或及而但"
    "我你他她它们这那哪谁什怎几多少为会能可以要想应该该个些样吗上下里中后前之所其如何啥"
)


@dataclass(frozen=True)
class Language:
    """How sentences are divided into words, which of them are function words, and attributes.

    An attribute is a pattern that a sentence of words, each followed by the separator but the last,
    contains or not.
    """

    word: re.Pattern[str]
    separator: str
    function_words: frozenset[str]
    attributes: Mapping[str, re.Pattern[str]]

    def words(self, text: str) -> list[str]:
        """Return the words, in lower case and without punctuation.

        >>> LANGUAGES["words"].words("A man's dog, running.")
        ['a', "man's", 'dog', 'running']
        >>> LANGUAGES["chars"].words("花呗是什么?")
        ['花', '呗', '是', '什', '么']
        """
        return self.word.findall(text.lower())

    def plain(self, text: str) -> str:
        """Return the words of a text, joined."""
        return self.separator.join(self.words(text))

    def content(self, words: Sequence[str]) -> Counter[str]:
        """Return the multiset of the content words."""
        return Counter(word for word in words if word not in self.function_words)

    def pattern(self, words: Sequence[str]) -> list[str]:
        """Return the words with a slot for every content word.

        >>> LANGUAGES["words"].pattern("a man with a dog".split())
        ['a', '_', 'with', 'a', '_']
        """
        return [word if word in self.function_words else SLOT for word in words]

    def has(self, attribute: str, text: str) -> bool:
        """Return whether a text has an attribute."""
        return self.attributes[attribute].search(self.plain(text)) is not None


# Tokenizer of the models -> the language that it is for.
LANGUAGES: Mapping[str, Language] = {
    "words": Language(
        word=re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*"),
        separator=" ",
        function_words=frozenset(ENGLISH.split()),
        attributes={
            "plural": re.compile(
                r"^(?:the )?(?:two|three|four|five|six|seven|eight|several|many|some|"
                r"a group of|a couple of|men|women|people|children|kids|boys|girls|dogs)\b"
            ),
            "progressive": re.compile(r"\b(?:is|are|was|were) (?:\w+ly )?\w+ing\b"),
            "question": re.compile(
                r"^(?:who|what|when|where|why|how|which|is|are|do|does|did|can|could|will|would|"
                r"should)\b"
            ),
        },
    ),
    "chars": Language(
        word=re.compile(r"[^\W_]"),
        separator="",
        function_words=frozenset(CHINESE),
        attributes={
            "question": re.compile("吗|呢|什么|啥|怎|如何|哪|谁|几|多少|多久|多长|为何|(.)不\\1"),
            "how": re.compile("怎么|怎样|如何"),
        },
    ),
}


def content_kept(a: Counter[str], b: Counter[str]) -> float:
    """Return Dice's coefficient of two multisets, in [0, 1]; 1 of two empty ones."""
    total = a.total() + b.total()
    return 2 * (a & b).total() / total if total else 1.0


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the fewest insertions, deletions and replacements that make b of a.

    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        diagonal = row[0]
        row[0] = i
        for j, right in enumerate(b, start=1):
            replaced = diagonal + (left != right)
            diagonal = row[j]
            row[j] = min(replaced, diagonal + 1, row[j - 1] + 1)
    return row[-1]


def pattern_kept(a: Sequence[str], b: Sequence[str]) -> float:
    """Return the similarity of two patterns, in [0, 1]; 1 of two empty ones."""
    longest = max(len(a), len(b))
    return 1 - edit_distance(a, b) / longest if longest else 1.0


def compare(language: Language, before: str, after: str) -> dict[str, float]:
    """Return all :data:`MEASURES` of an edit."""
    a = language.words(before)
    b = language.words(after)
    p = language.pattern(a)
    q = language.pattern(b)
    return {
        "content": content_kept(language.content(a), language.content(b)),
        "pattern": pattern_kept(p, q),
        "exact": float(p == q),
        "length": float(len(a) == len(b)),
        "words_apart": float(abs(len(a) - len(b))),
        "changed": float(a != b),
    }


def above_chance(kept: np.ndarray, chance: float) -> np.ndarray:
    """Return kept shares above those of random pairs: 0 at chance, 1 where all is kept."""
    return (kept - chance) / (1 - chance) if chance < 1 else np.zeros_like(kept)


def interval(values: np.ndarray, seed: int = 0) -> JsonObject:
    """Return the mean of values (N,), and its 95% interval by a bootstrap over them.

    Of differences of the same texts the interval is a paired one.
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(1), LEVELS)
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def verdict(content: JsonObject, pattern: JsonObject, contrast: JsonObject) -> str:
    """Return what intervals of "kept with low layers drawn anew, minus with the top one" say.

    The claim is that content is kept more and the pattern less. It is ``confirmed`` where the
    intervals of both say so, ``refuted`` where that of ``contrast``, content minus pattern, both
    above chance, is negative, and otherwise ``neither``. Shares by themselves do not refute it: a
    layer that changes less keeps more of both.
    """
    if content["low"] > 0 and pattern["high"] < 0:
        return "confirmed"
    return "refuted" if contrast["high"] < 0 else "neither"
