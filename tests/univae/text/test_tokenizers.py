"""Every row of the registry: round trips, training, JSON, damage; and what single kinds add."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from univae.errors import InputError
from univae.registry import choices_help
from univae.text import tokenizer as tokenizer_module
from univae.text.bpe import sample_evenly
from univae.text.noise import WordNoise
from univae.text.special import END, PAD, RESERVED, START
from univae.text.tokenizer import most_frequent
from univae.text.tokenizers import (
    KINDS,
    TOKENIZERS,
    Tokenizer,
    pad,
    require_vocabulary,
    tokenizer_from_json,
    train_tokenizer,
)

CORPUS = ["the cat sat on the mat", "a <unk> cat", "Grüße, 世界! 🙂", "naïve café"] * 5
TRAINED = {kind: train_tokenizer(kind, CORPUS, vocab_size=300) for kind in TOKENIZERS}
PUBLISHED = ("wordpiece", "jieba")  # kinds that change texts before they split them
LOSSLESS = [kind for kind, row in TOKENIZERS.items() if row.lossless]
AWKWARD = [
    "",
    " ",
    "  two  spaces ",
    "<pad></s><s>[PAD]<unk><|endoftext|>",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "e\u0301 a\u0308\u0323 \u202eabc",
    "生成模型，变分自编码器。",
    "nul \0 inside",
    "carriage\rreturn\r\nline\n",
    "\ufeff\ufffd\uffff\U0010ffff",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
every_row = pytest.mark.parametrize("kind", list(TOKENIZERS))


# The battery over all rows.


@every_row
def test_a_row_says_what_it_is(kind: str) -> None:
    row = TOKENIZERS[kind]
    assert row.kind == kind
    assert f"{kind}: {row.summary}" in choices_help("what a token is", TOKENIZERS)
    assert KINDS[kind] is row
    assert isinstance(TRAINED[kind], row)


@every_row
@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_a_text_is_exact_where_the_row_is_lossless_or_its_words_are_known(
    kind: str, text: str
) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode(text)
    assert all(RESERVED <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.exact(text) == (tokenizer.decode(ids) == text)
    if tokenizer.lossless:
        assert tokenizer.decode(ids) == text
        assert tokenizer.unknown(text) == 0
    elif kind in PUBLISHED:
        again = tokenizer.decode(ids)
        assert tokenizer.decode(tokenizer.encode(again)) == again
    else:
        known = {word for line in CORPUS for word in line.split()}
        assert tokenizer.unknown(text) == sum(word not in known for word in text.split())
        spaced = " ".join(text.split())
        assert tokenizer.exact(text) == (tokenizer.unknown(text) == 0 and text == spaced)


@every_row
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_ids_decode_and_their_text_decodes_to_itself(kind: str, data: st.DataObject) -> None:
    tokenizer = TRAINED[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 5), max_size=30))
    text = tokenizer.decode(ids)
    if kind not in PUBLISHED:  # whose pieces may stand in an order that no text has
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(torch.tensor(ids, dtype=torch.int64)) == text
    assert tokenizer.decode(np.array(ids, dtype=int)) == text


@every_row
def test_start_and_padding_are_skipped_and_the_end_ends(kind: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode("the cat")
    padded = [START, *ids, END, PAD, *tokenizer.encode("mat")]
    assert tokenizer.decode(padded) == "the cat"


@every_row
def test_a_batch_is_its_texts(kind: str) -> None:
    tokenizer = TRAINED[kind]
    assert tokenizer.encode_batch(AWKWARD) == [tokenizer.encode(text) for text in AWKWARD]


@every_row
def test_json_rebuilds_the_same_tokenizer(kind: str) -> None:
    tokenizer = TRAINED[kind]
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert (again.kind, again.vocab_size) == (kind, tokenizer.vocab_size)
    assert again.to_json() == tokenizer.to_json()
    assert again.encode_batch(AWKWARD + CORPUS) == tokenizer.encode_batch(AWKWARD + CORPUS)


@every_row
def test_training_is_deterministic_and_stays_within_its_size(kind: str) -> None:
    again: Tokenizer = train_tokenizer(kind, iter(CORPUS), vocab_size=300)
    assert again.to_json() == TRAINED[kind].to_json()
    assert again.vocab_size <= 300


@every_row
def test_the_least_vocabulary_can_be_trained_and_one_id_less_is_refused(kind: str) -> None:
    least = TOKENIZERS[kind].least_vocabulary
    if least == 0:  # the size is not used
        assert train_tokenizer(kind, CORPUS, 1).vocab_size == TRAINED[kind].vocab_size
        return
    assert train_tokenizer(kind, CORPUS, least).vocab_size <= least
    message = rf"{kind} needs vocab_size >= {least}; got vocab_size={least - 1}"
    with pytest.raises(InputError, match=message):
        require_vocabulary(kind, least - 1)


@every_row
def test_a_prefix_gives_the_first_word_the_tokens_it_has_inside_a_text(kind: str) -> None:
    tokenizer = TRAINED[kind]
    prefix = tokenizer.text_prefix
    inside = tokenizer.encode("cat cat")
    first = tokenizer.encode(f"{prefix}cat")
    if prefix or not tokenizer.splits_words:
        assert inside[-len(first) :] == first
    assert tokenizer.decode(first).strip() == "cat"


@every_row
def test_words_of_the_noise_are_words_of_the_text(kind: str) -> None:
    tokenizer = TRAINED[kind]
    noise = WordNoise(tokenizer, tokenizer.vocab_size)
    ids = pad([tokenizer.encode("the cat")])
    index = noise.words(ids)[0]
    letters = [tokenizer.decode([i]).strip() for i in ids[0].tolist()]
    words: dict[int, str] = {}
    for i, text in zip(index.tolist(), letters, strict=True):
        if i >= 0:
            words[i] = words.get(i, "") + text
    assert [word for word in words.values() if word] == ["the", "cat"]
    assert index[-1] == -1


@every_row
@pytest.mark.usefixtures("unchecked")
def test_any_damaged_value_is_refused(kind: str) -> None:
    state = TRAINED[kind].to_json()
    damaged = [{**state, "kind": "rot13"}, {**state, "kind": [kind]}, {**state, "more": 1}]
    for name in state.keys() - {"kind"}:
        damaged.append({**state, name: 3})
        damaged.append({**state, name: None})
        damaged.append({**state, name: [1, 2]})
    for wrong in damaged:
        with pytest.raises(InputError, match=r"not a tokenizer \(.*\); restore"):
            tokenizer_from_json(wrong)


@every_row
def test_a_lone_surrogate_is_named(kind: str) -> None:
    message = r"cannot encode half of a surrogate pair; got '.*\\ud800'; replace it by U\+FFFD"
    with pytest.raises(InputError, match=message):
        TRAINED[kind].encode("ab\ud800")
    with pytest.raises(InputError, match=message):
        TRAINED[kind].encode_batch(["fine", "ab\ud800"])
    if TOKENIZERS[kind].least_vocabulary:  # bytes are not trained, so no text is read
        with pytest.raises(InputError, match=message):
            train_tokenizer(kind, ["fine", "ab\ud800"], 300)


# Single kinds.


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_are_exact_also_beside_start_end_and_padding(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([START, *ids, END, PAD, *tokenizer.encode("more")]) == text


@pytest.mark.parametrize("kind", LOSSLESS)
def test_broken_utf8_becomes_the_replacement_character(kind: str) -> None:
    tokenizer = TRAINED[kind]
    # the first byte alone: both characters start with 0xe4
    lead = tokenizer.encode("丁")[0] if kind == "bpe" else RESERVED + "世".encode()[0]
    assert tokenizer.decode([lead, *tokenizer.encode("ok")]) == "\ufffdok"


@given(words=st.lists(st.sampled_from(sorted({word for text in CORPUS for word in text.split()}))))
@settings(deadline=None)
def test_known_words_between_single_spaces_are_exact(words: list[str]) -> None:
    tokenizer = TRAINED["words"]
    text = " ".join(words)
    assert tokenizer.exact(text)
    assert tokenizer.unknown(text) == 0
    assert len(tokenizer.encode(text)) == len(words)


def test_unknown_words_become_the_corpus_own_unk_and_are_counted() -> None:
    tokenizer = TRAINED["words"]
    assert tokenizer.decode(tokenizer.encode("the dog sat")) == "the <unk> sat"
    assert (tokenizer.unknown("the dog sat"), tokenizer.unknown("a <unk> cat")) == (1, 0)
    assert tokenizer.to_json()["words"].count("<unk>") == 1


def test_a_small_word_vocabulary_keeps_the_most_frequent_and_unk() -> None:
    tokenizer = train_tokenizer("words", ["b b b a a c"], vocab_size=5)
    assert tokenizer.to_json()["words"] == ["b", "<unk>"]
    assert tokenizer.vocab_size == 5


def test_characters_are_ordered_by_frequency_and_the_rest_are_bytes() -> None:
    tokenizer = train_tokenizer("chars", ["cccbb  é"], vocab_size=3 + 256 + 2)
    # three c, two spaces and two b: ties by code point
    assert tokenizer.to_json()["characters"] == "c "
    assert tokenizer.encode("cé") == [259, *(byte + 3 for byte in "é".encode())]


def test_bpe_merges_shorten_the_text_of_their_training() -> None:
    text = "the cat sat on the mat"
    assert len(TRAINED["bpe"].encode(text)) < len(text) / 2
    assert train_tokenizer("bpe", CORPUS, vocab_size=270).vocab_size == 270


def test_the_sample_is_even_and_bounded() -> None:
    lines = [f"{i:03d}" for i in range(100)]
    assert sample_evenly(lines, 1000) == lines
    assert sample_evenly(iter(lines), 80) == lines[::4]  # 50 lines hold 150 characters, 25 hold 75
    assert sample_evenly(["x" * 1000], 10) == ["x" * 1000]


def test_padding_appends_exactly_one_end_per_text() -> None:
    ids = pad([[5, 6, 7], [], [9]])
    assert ids.tolist() == [[5, 6, 7, END], [END, PAD, PAD, PAD], [9, END, PAD, PAD]]
    assert ids.dtype == torch.int64
    assert Counter(ids.flatten().tolist())[END] == 3


NO_TEXT = r"needs at least one non-empty text; got none"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pad([]), r"pad: needs at least one text; got none"),
        (
            lambda: train_tokenizer("morse", ["x"]),
            r"tokenizer must be one of bpe, words, chars, bytes, wordpiece, jieba; got 'morse'",
        ),
        (lambda: train_tokenizer("bpe", ["x"], 2**21), r"vocab_size must be at most 1048576; got"),
        (lambda: train_tokenizer("bpe", [""]), NO_TEXT),
        (lambda: train_tokenizer("words", [" "]), NO_TEXT),
        (lambda: train_tokenizer("chars", []), NO_TEXT),
        (
            lambda: tokenizer_from_json({"kind": "words", "words": ["a"]}),
            r"words must contain <unk>; got 1 without",
        ),
        (
            lambda: tokenizer_from_json({"kind": "rot13"}),
            r"not a tokenizer \(KeyError: 'rot13'\); restore",
        ),
        (
            lambda: tokenizer_from_json({"kind": "bpe", "merges": 3}),
            r"not a tokenizer \(TypeError: .*; restore",
        ),
    ],
)
def test_an_error_says_the_rule_and_the_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "state",
    [
        [],
        None,
        {"kind": "words", "words": ["a", 5, "<unk>"]},
        {"kind": "words", "words": "<unk>"},
        {"kind": "words", "words": ["a", "a", "<unk>"]},
        {"kind": "chars", "characters": ["ab", "c"]},
        {"kind": "bpe", "tokens": ["a", "b"], "merges": [["a"]]},
        {"kind": "bpe", "tokens": ["a", "b"], "merges": [["a", "z"]]},
        {"kind": "bpe", "tokens": ["a", "b"], "merges": [["a", "b"]]},
    ],
)
def test_a_state_of_another_shape_is_no_tokenizer(state: object) -> None:
    with pytest.raises(InputError, match=r"not a tokenizer \(.*\); restore"):
        tokenizer_from_json(state)


class Watched(Counter[str]):
    """Counts that remember the largest number of different pieces."""

    largest: ClassVar[int] = 0

    def update(self, *pieces: Any) -> None:
        super().update(*pieces)
        Watched.largest = max(Watched.largest, len(self))


def test_counting_words_takes_bounded_memory_and_keeps_the_frequent_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [f"w{i}" for i in range(1, 21)]
    texts = [f"{' '.join(words[: 1 + i % 20])} new{i}" for i in range(4000)]
    exact = most_frequent((text.split() for text in texts), 20)
    monkeypatch.setattr(tokenizer_module, "MOST_COUNTED", 100)
    monkeypatch.setattr(tokenizer_module, "Counter", Watched)
    assert most_frequent((text.split() for text in texts), 20) == exact == words
    assert 100 < Watched.largest <= 100 + 21  # one text beyond the limit, out of 4,020 words
