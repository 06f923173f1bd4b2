"""Every text survives its tokens: round trips over arbitrary Unicode, and ids a model may invent never fail."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from univae.errors import InputError
from univae.text.special import END, PAD, START
from univae.text.tokenizers import (
    KINDS,
    Tokenizer,
    pad,
    sample_evenly,
    tokenizer_from_json,
    train_tokenizer,
)

CORPUS = ["the cat sat on the mat", "a <unk> cat", "Grüße, 世界! 🙂", "naïve café"] * 5
TOKENIZERS = {kind: train_tokenizer(kind, CORPUS, vocab_size=300) for kind in KINDS}
LOSSLESS = ["bytes", "chars", "bpe"]
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


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_any_text_is_its_decoded_tokens(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.exact(text)
    assert all(END < i < tokenizer.vocab_size for i in ids)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_survive_also_beside_start_end_and_padding(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (
        tokenizer.decode([START, *tokenizer.encode(text), END, PAD, *tokenizer.encode("more")])
        == text
    )


@given(words=st.lists(st.sampled_from(sorted({word for text in CORPUS for word in text.split()}))))
@settings(deadline=None)
def test_words_are_exact_on_known_words_parted_by_single_spaces(words: list[str]) -> None:
    tokenizer = TOKENIZERS["words"]
    text = " ".join(words)
    assert tokenizer.exact(text)
    assert tokenizer.unknown(text) == 0
    assert len(tokenizer.encode(text)) == len(words)


@given(text=texts)
@settings(deadline=None)
def test_words_say_of_every_text_whether_they_write_it(text: str) -> None:
    tokenizer = TOKENIZERS["words"]
    known = all(word in " ".join(CORPUS).split() for word in text.split())
    assert tokenizer.exact(text) == (known and text == " ".join(text.split()))


def test_unknown_words_become_the_corpus_own_unk_and_are_counted() -> None:
    tokenizer = TOKENIZERS["words"]
    assert tokenizer.decode(tokenizer.encode("the dog sat")) == "the <unk> sat"
    assert (tokenizer.unknown("the dog sat"), tokenizer.unknown("a <unk> cat")) == (1, 0)
    assert tokenizer.to_json()["words"].count("<unk>") == 1


def test_a_small_word_vocabulary_keeps_the_most_frequent_and_unk() -> None:
    tokenizer = train_tokenizer("words", ["b b b a a c"], vocab_size=5)
    assert tokenizer.to_json()["words"] == ["b", "<unk>"]
    assert tokenizer.vocab_size == 5


def test_characters_come_by_frequency_and_the_rest_are_bytes() -> None:
    tokenizer = train_tokenizer("chars", ["cccbb  é"], vocab_size=3 + 256 + 2)
    # three c, two spaces and two b: ties by code point
    assert tokenizer.to_json()["characters"] == "c "
    assert tokenizer.encode("cé") == [259, *(byte + 3 for byte in "é".encode())]


@pytest.mark.parametrize("kind", LOSSLESS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_ids_a_model_may_invent_always_decode(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 5), max_size=30))
    text = tokenizer.decode(ids)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (
        tokenizer.decode(torch.tensor(ids, dtype=torch.int64))
        == tokenizer.decode(np.array(ids, dtype=int))
        == text
    )


@pytest.mark.parametrize("kind", LOSSLESS)
def test_broken_utf8_becomes_the_replacement_character(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    lead, *_ = train_tokenizer("bytes", []).encode("世")
    # the first byte alone: both start with 0xe4
    lead = lead if kind != "bpe" else tokenizer.encode("丁")[0]
    assert tokenizer.decode([lead, *tokenizer.encode("ok")]) == "\ufffdok"


@pytest.mark.parametrize("kind", list(KINDS))
def test_json_rebuilds_the_same_tokenizer(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert (again.kind, again.vocab_size, again.to_json()) == (
        kind,
        tokenizer.vocab_size,
        tokenizer.to_json(),
    )
    assert again.encode_batch(AWKWARD + CORPUS) == tokenizer.encode_batch(AWKWARD + CORPUS)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_batch_is_its_texts(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.encode_batch(AWKWARD) == [tokenizer.encode(text) for text in AWKWARD]


@pytest.mark.parametrize("kind", list(KINDS))
def test_training_is_deterministic_and_stays_within_its_size(kind: str) -> None:
    again: Tokenizer = train_tokenizer(kind, iter(CORPUS), vocab_size=300)
    assert again.to_json() == TOKENIZERS[kind].to_json()
    assert again.vocab_size <= 300


def test_bpe_merges_shorten_the_text_it_learned() -> None:
    text = "the cat sat on the mat"
    assert len(TOKENIZERS["bpe"].encode(text)) < len(text) / 2
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pad([]), r"pad: needs at least one text; got none"),
        (
            lambda: train_tokenizer("morse", ["x"]),
            r"kind must be one of bytes, chars, words, bpe; got 'morse'",
        ),
        (
            lambda: train_tokenizer("chars", ["x"], 100),
            r"chars needs vocab_size >= 259; got vocab_size=100",
        ),
        (
            lambda: train_tokenizer("bpe", [""]),
            r"needs at least one text with a character in it; got none",
        ),
        (
            lambda: train_tokenizer("words", [" "]),
            r"needs at least one text with a character in it; got none",
        ),
        (
            lambda: tokenizer_from_json({"kind": "words", "words": ["a"]}),
            r"the vocabulary needs <unk>; 1 words lack",
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
def test_an_error_says_the_rule_and_the_value(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_lone_surrogate_is_named(kind: str) -> None:
    message = r"half of a surrogate pair: .*no lone surrogate; got '.*\\ud800'; write U\+FFFD"
    with pytest.raises(InputError, match=message):
        TOKENIZERS[kind].encode("ab\ud800")
    with pytest.raises(InputError, match=message):
        TOKENIZERS[kind].encode_batch(["fine", "ab\ud800"])
    if kind != "bytes":  # which reads no text to be trained
        with pytest.raises(InputError, match=message):
            train_tokenizer(kind, ["fine", "ab\ud800"], 300)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "state",
    [
        [],
        None,
        {"kind": ["bpe"]},
        {"kind": "words", "words": ["a", 5, "<unk>"]},
        {"kind": "words", "words": "<unk>"},
        {"kind": "words", "words": ["a", "a", "<unk>"]},
        {"kind": "chars", "characters": ["ab", "c"]},
        {"kind": "chars", "characters": 3},
        {"kind": "bpe", "tokens": [1, 2], "merges": []},
        {"kind": "bpe", "tokens": ["a", "b"], "merges": [["a"]]},
        {"kind": "bpe", "tokens": ["a", "b"], "merges": [["a", "z"]]},
    ],
)
def test_values_of_another_type_are_no_tokenizer(state: object) -> None:
    with pytest.raises(InputError, match=r"not a tokenizer \(.*\); restore"):
        tokenizer_from_json(state)
