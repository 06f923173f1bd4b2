"""Word noise: the published shares, whole words, and what it leaves alone."""

import pytest
import torch

from univae.errors import InputError
from univae.text.noise import KEEP, MASK, RANDOM, Noise, WordNoise
from univae.text.special import END, PAD, RESERVED
from univae.text.tokenizers import Tokenizer, pad, train_tokenizer

LINES = [
    "the old man's dog, unbelievably, sleeps (on 42 mats).",
    "it's a naïve résumé",
    "我喜欢北京abc的天气，你呢？",
]


def trained(kind: str) -> Tokenizer:
    return train_tokenizer(kind, [" " + line for line in LINES], 330 if kind != "words" else 40)


def groups(noise: WordNoise, tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text, as the noise sees them."""
    ids = pad([tokenizer.encode(text)])
    numbers = noise.words(ids)[0].tolist()
    return [
        tokenizer.decode([i for i, n in zip(ids[0].tolist(), numbers, strict=True) if n == w])
        for w in range(max(numbers) + 1)
    ]


def test_a_word_is_what_space_or_punctuation_parts_and_a_chinese_character() -> None:
    words = {kind: trained(kind) for kind in ("bpe", "chars", "words")}
    noise = {kind: WordNoise(tokenizer, tokenizer.vocab_size) for kind, tokenizer in words.items()}
    english = " the old man's dog, unbelievably, sleeps (on 42 mats)."
    parts = [" the", " old", " man", "'s", " dog", " unbelievably", " sleeps", "on", " 42", " mats"]
    words_of_text = groups(noise["bpe"], words["bpe"], english)
    assert "".join(words_of_text) == english
    assert [
        w for w in words_of_text if any(c.isalnum() for c in w)
    ] == parts  # the rest is punctuation
    assert groups(noise["bpe"], words["bpe"], " a naïve résumé") == [" a", " naïve", " résumé"]
    assert groups(noise["words"], words["words"], "it's a naïve") == ["it's", "a", "naïve"]
    chinese = groups(noise["chars"], words["chars"], "我喜欢北京abc的天气，")
    assert chinese == ["我", "喜", "欢", "北", "京", "abc", "的", "天", "气", "，"]


def test_published_shares_over_a_hundred_thousand_words() -> None:
    tokenizer = train_tokenizer("chars", ["abcdefgh 我喜欢北京的天气"], 300)
    noise = WordNoise(tokenizer, tokenizer.vocab_size)
    ids = pad([tokenizer.encode("我喜欢北京的天气" * 5)] * 2500)  # 100,000 words
    kinds = noise.kinds(ids)[:, :-1]
    share = [(kinds == kind).double().mean().item() for kind in (MASK, KEEP, RANDOM)]
    assert share == [
        pytest.approx(0.12, abs=0.003),
        pytest.approx(0.015, abs=0.001),
        pytest.approx(0.015, abs=0.001),
    ]  # R9
    noised = noise(ids)
    rows = (noised != ids).any(1)
    spared = 0.5 + 0.5 * (1 - 0.12 - 0.015) ** 40  # a noised text may have no noised word
    assert 1 - rows.double().mean().item() == pytest.approx(spared, abs=5 * 0.5 / 2500**0.5)
    masked = (noised == tokenizer.vocab_size)[rows].double().mean().item() * 41 / 40
    assert masked == pytest.approx(0.12, abs=0.005)


def test_ends_padding_and_lengths_stay_and_no_reserved_id_comes_in() -> None:
    tokenizer = trained("bpe")
    noise = WordNoise(tokenizer, tokenizer.vocab_size, Noise(1.0, 0.3, 0.0, 0.7))
    ids = pad(tokenizer.encode_batch([" " + line for line in LINES] * 50))
    before = ids.clone()
    noised = noise(ids)
    fixed = (ids == PAD) | (ids == END)
    assert torch.equal(ids, before)
    assert torch.equal(noised[fixed], ids[fixed])
    assert (noised[~fixed] >= RESERVED).all()
    assert (noised[~fixed] <= tokenizer.vocab_size).all()
    assert set(noised[~fixed].tolist()) >= {
        RESERVED,
        tokenizer.vocab_size - 1,
        tokenizer.vocab_size,
    }


def test_all_tokens_of_a_word_share_its_fate() -> None:
    tokenizer = trained("bpe")
    noise = WordNoise(tokenizer, tokenizer.vocab_size, Noise(1.0, 0.5, 0.0, 0.0))
    ids = pad([tokenizer.encode(" unbelievably sleeps unbelievably")] * 400)
    words = noise.words(ids)[0]
    masked = noise(ids) == tokenizer.vocab_size
    assert words.max() == 2
    for word in range(3):
        fate = masked[:, words == word]
        assert (words == word).sum() > 1
        assert torch.equal(fate.all(1), fate.any(1))
        # five standard errors
        assert fate[:, 0].double().mean().item() == pytest.approx(0.5, abs=0.125)
    assert not masked[:, words == -1].any()


def test_no_noise_is_no_change_and_other_shares_are_refused() -> None:
    tokenizer = trained("words")
    ids = pad([tokenizer.encode(line) for line in LINES])
    assert torch.equal(WordNoise(tokenizer, 99, Noise(rows=0.0))(ids), ids)
    for shares in ((1.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.4, 0.2), (0.5, -0.1, 0.1, 0.1)):
        with pytest.raises(InputError, match="their sum; got Noise"):
            Noise(*shares)
