"""RoFormer-Sim against a dense twin: masks, vectors, likelihoods, the cache, generation."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from univae.attention.core import attend
from univae.attention.rotary import phases
from univae.decoding.beam import beam_search
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.text.special import END, PAD, START
from univae.text.tokenizers import pad

SOURCE = pad([[5, 6, 7, 8], [9, 10], [11, 12, 13]])
TARGET = pad([[6, 5], [14, 10, 9, 7], [12]])
TIGHT = {"atol": 1e-11, "rtol": 1e-11}


def build(**options) -> RoFormerSim:
    shape = {"vocab_size": 15, "width": 16, "heads": 2, "layers": 2, "max_length": 24}
    model = RoFormerSim(RoFormerSimConfig(**{**shape, **options})).eval()
    for p in model.parameters():  # far from the flat start, so that a wrong mask shows
        torch.nn.init.normal_(p, std=0.3)
    return model


def dense_rows(model: RoFormerSim, source: list[int], target: list[int]) -> Tensor:
    """Return the rows of one pair without padding, in the published layout.

    [CLS] s [SEP] t [SEP], segments 0..0 1..1, the full UniLM mask.
    """
    c = model.config
    ids = torch.tensor([START, *source, END, *target])
    segments = torch.tensor([0] * (len(source) + 2) + [1] * len(target))
    order = segments.cumsum(0)
    mask = order[None, :] <= order[:, None]
    x = (model.embedding.tokens(ids) + model.embedding.segments(segments))[None]
    x = model.embedding.norm(x)
    phase = phases(torch.arange(len(ids)), c.width // c.heads, dtype=x.dtype)[None]
    for block in model.blocks:
        x = block(x, phase, lambda q, k, v: attend(q, k, v, mask, scale=c.scale, base=c.scale_base))
    return x[0]


def dense_pair(model: RoFormerSim, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """Return the pooled vector, and the log-likelihood of the target: the tokens of segment 1."""
    rows = dense_rows(model, source, [*target, END])
    ids = torch.tensor([START, *source, END, *target, END])
    segments = torch.tensor([0] * (len(source) + 2) + [1] * (len(target) + 1))
    logits = model.head(rows, model.embedding.tokens.weight).log_softmax(-1)
    each = logits[:-1].gather(1, ids[1:, None])[:, 0]
    source_rows = rows[: len(source) + 2]
    pooled = source_rows[0] if model.config.pooling == "first" else model.norm(source_rows).mean(0)
    pooled = model.norm(pooled) if model.config.pooling == "first" else pooled
    return model.pooler(pooled), each[segments[1:] == 1].sum()


def tokens(row: Tensor) -> list[int]:
    return [t for t in row.tolist() if t not in (PAD, END)]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("scale", ["sqrt", "log_n"])
def test_a_padded_batch_is_the_dense_model_of_each_pair_alone(
    norm: str, scale: str, pooling: str
) -> None:
    model = build(norm=norm, scale=scale, scale_base=4, pooling=pooling)
    vectors, log_likelihood = model.read_and_write(SOURCE, TARGET)
    for i in range(len(SOURCE)):
        vector, likelihood = dense_pair(model, tokens(SOURCE[i]), tokens(TARGET[i]))
        torch.testing.assert_close(vectors[i], vector, **TIGHT)
        torch.testing.assert_close(log_likelihood[i], likelihood, **TIGHT)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_the_vector_of_a_source_does_not_see_the_target(pooling: str) -> None:
    model = build(pooling=pooling)
    together, _ = model.read_and_write(SOURCE, TARGET)
    torch.testing.assert_close(together, model.read(SOURCE), atol=1e-12, rtol=1e-12)  # R1
    alone = torch.cat([model.read(row[None, : int((row != PAD).sum())]) for row in SOURCE])
    torch.testing.assert_close(together, alone, **TIGHT)  # padding is not seen either
    torch.testing.assert_close(model.encode(SOURCE), F.normalize(alone, dim=-1), **TIGHT)


@pytest.mark.parametrize("position", range(4))
def test_a_target_token_changes_only_what_follows_it(position: int) -> None:
    model = build()
    target = torch.tensor([[6, 5, 9, 7, END]])
    source = SOURCE[:1]
    other = target.clone()
    other[0, position] = 13
    a, b = (dense_rows(model, tokens(source[0]), t[0].tolist()) for t in (target, other))
    rows = source.shape[1] + 1 + position  # the source's, and the targets' before the change
    torch.testing.assert_close(a[:rows], b[:rows], **TIGHT)  # R2, of the twin
    assert ((a[rows:] - b[rows:]).abs().amax(-1) > 1e-6).all()

    def prefixes(t: Tensor) -> list[Tensor]:
        step = model.continuation(source)
        return [step(torch.tensor([START])), *(step(t[:, i]) for i in range(4))]

    for i, (x, y) in enumerate(
        zip(prefixes(target), prefixes(other), strict=True)
    ):  # R2, of the cached decoder
        assert torch.allclose(x, y, atol=1e-11) == (i <= position)


@pytest.mark.parametrize("scale", ["sqrt", "log_n"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_twenty_cached_steps_equal_one_pass_for_sources_of_mixed_lengths(
    norm: str, scale: str
) -> None:
    model = build(norm=norm, scale=scale, scale_base=4)
    target = torch.randint(3, 15, (6, 20))
    step = model.continuation(SOURCE, copies=2)
    logits = [step(torch.full((6,), START))] + [step(target[:, t]) for t in range(20)]
    for row in range(6):
        dense = dense_rows(model, tokens(SOURCE[row // 2]), target[row].tolist())
        expected = model.head(dense, model.embedding.tokens.weight)[-21:]
        torch.testing.assert_close(torch.stack([x[row] for x in logits]), expected, **TIGHT)  # R12


def test_a_beam_behind_sources_of_mixed_lengths_finds_what_exhaustion_finds() -> None:
    model = build(vocab_size=5, max_length=3)  # two words: END and two tokens, three positions
    texts, scores = beam_search(model.continuation(pad([[3, 4], [4]]), copies=9), 2, 9, 3)
    every = [[]] + [[a] for a in (3, 4)] + [[a, b] for a in (3, 4) for b in (3, 4)]
    for row, source in enumerate(([3, 4], [4])):
        likelihoods = [dense_pair(model, source, text)[1] for text in every]
        threes = [[a, b, c] for a in (3, 4) for b in (3, 4) for c in (3, 4)]  # cut before their end
        cut = [dense_cut(model, source, text) for text in threes]
        best = torch.stack([*likelihoods, *cut]).argmax()
        assert tokens(texts[row]) == [*every, *threes][int(best)]
        torch.testing.assert_close(scores[row], torch.stack([*likelihoods, *cut]).max(), **TIGHT)


def dense_cut(model: RoFormerSim, source: list[int], target: list[int]) -> Tensor:
    rows = dense_rows(model, source, target)
    logits = model.head(rows, model.embedding.tokens.weight).log_softmax(-1)
    return logits[-len(target) - 1 : -1].gather(1, torch.tensor(target)[:, None]).sum()


def test_a_target_of_padding_costs_nothing_and_the_first_token_counts() -> None:
    model = build()
    target = TARGET.clone()
    target[1] = PAD
    _, log_likelihood = model.read_and_write(SOURCE, target)
    assert log_likelihood[1] == 0
    _, whole = model.read_and_write(SOURCE, TARGET)
    torch.testing.assert_close(log_likelihood[[0, 2]], whole[[0, 2]], **TIGHT)
    _, end_alone = model.read_and_write(SOURCE[:1], torch.tensor([[END]]))
    first = model.continuation(SOURCE[:1])(torch.tensor([START])).log_softmax(-1)
    torch.testing.assert_close(end_alone[0], first[0, END], **TIGHT)


def test_padding_start_and_mask_are_never_written() -> None:
    model = build()
    logits = model.continuation(SOURCE)(torch.full((3,), START))
    assert torch.isneginf(logits[:, [PAD, START, model.mask]]).all()
    assert torch.isfinite(logits[:, END:15]).all()


def test_generated_texts_are_distinct_ranked_and_not_the_source() -> None:
    model = build()
    for ids, ranked in zip(
        SOURCE, model.generate(SOURCE, count=7, samples=300), strict=True
    ):  # R11
        texts = [tuple(tokens(row)) for row in ranked.ids]
        assert len(texts) == len(set(texts)) == 7
        assert tuple(tokens(ids)) not in texts
        assert () not in texts
        assert (ranked.scores.diff() <= 0).all()
        assert all((row == END).sum() == 1 for row in ranked.ids)
        source_rows = model.encode(ids[None, : int((ids != PAD).sum())])[0]
        torch.testing.assert_close(ranked.scores, model.encode(ranked.ids) @ source_rows, **TIGHT)


def test_a_source_that_must_be_written_gives_nothing_else() -> None:
    model = build(vocab_size=4, max_length=2)  # one token, so one text
    (ranked,) = model.generate(torch.tensor([[3, END]]), samples=30)
    assert ranked.ids.shape[0] == ranked.scores.shape[0] == 0


def test_a_key_refuses_texts_and_says_which_are_the_same() -> None:
    model = build()
    (ranked,) = model.generate(
        SOURCE[:1], 50, samples=300, key=lambda text: len(text) if 5 in text else None
    )
    lengths = [len(tokens(row)) for row in ranked.ids]
    assert len(lengths) == len(set(lengths)) > 1
    assert 4 not in lengths  # that of the source
    assert all(5 in tokens(row) for row in ranked.ids)


def test_hidden_tokens_are_not_seen_by_the_generator_and_seen_by_the_ranking() -> None:
    model = build()
    hidden = torch.tensor([[False, True, False, False, False]])
    other = SOURCE[:1].clone()
    other[0, 1] = 14
    drawn = []
    for source in (SOURCE[:1], other):
        torch.manual_seed(1)
        drawn.append(model.generate(source, 300, samples=60, hidden=hidden)[0])
    a, b = (
        {tuple(tokens(row)): score for row, score in zip(*ranked[:2], strict=True)}
        for ranked in drawn
    )
    assert a.keys() == b.keys()
    assert max(abs(a[text] - b[text]) for text in a) > 1e-5
    torch.manual_seed(1)
    (plain,) = model.generate(SOURCE[:1], 300, samples=60)
    assert {tuple(tokens(row)) for row in plain.ids} != a.keys()


def test_draws_follow_the_model_within_five_standard_errors() -> None:
    model = build(max_length=8)
    first = model.draw(SOURCE[1:2], 20_000, Sampling())[0, :, 0]
    p = model.continuation(SOURCE[1:2])(torch.tensor([START])).softmax(-1)[0]
    share = torch.bincount(first, minlength=len(p)) / 20_000
    # 16 tests: once in 100,000 seeds
    assert ((share - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt() + 1e-12).all()


def test_the_mask_gradient_reaches_every_part_in_one_pass() -> None:
    model = build().train()
    vectors, log_likelihood = model.read_and_write(
        SOURCE.masked_fill(SOURCE == 6, model.mask), TARGET
    )
    (vectors.square().sum() - log_likelihood.sum()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None}
    assert silent == {"classifier.weight"}
    assert model.embedding.tokens.weight.grad[model.mask].abs().max() > 0


def test_too_long_a_side_and_a_wrong_shape_are_refused() -> None:
    model = build(max_length=4)
    with pytest.raises(
        InputError, match="at most max_length=4 tokens, its end included; got 5; truncate it"
    ):
        model.read(SOURCE)
    with pytest.raises(InputError, match="max_length must be at least 2, a token and the end"):
        build(max_length=1)


def test_an_end_and_padding_cannot_be_hidden() -> None:
    model = build()
    source = SOURCE[1:2]
    ranked = []
    for hidden in (torch.ones_like(source, dtype=torch.bool), (source != END) & (source != PAD)):
        torch.manual_seed(1)
        ranked.append(model.generate(source, samples=20, hidden=hidden)[0])
    torch.testing.assert_close(ranked[0].scores, ranked[1].scores, **TIGHT)
    assert torch.equal(ranked[0].ids, ranked[1].ids)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_random_weights_keep_unlike_texts_apart(norm: str) -> None:
    model = RoFormerSim(
        RoFormerSimConfig(vocab_size=500, width=64, heads=4, layers=3, norm=norm)
    ).eval()
    vectors = model.encode(F.pad(torch.randint(3, 500, (40, 12)), (0, 1), value=END))
    cosines = (vectors @ vectors.T)[~torch.eye(40, dtype=torch.bool)]
    assert cosines.mean() < 0.5  # embeddings that are not normed: 0.8
    assert not model.embedding.segments.weight.any()


def test_a_stored_configuration_rebuilds_the_model() -> None:
    model = build(scale="log_n", pooling="mean")
    again = RoFormerSim(RoFormerSimConfig(**dataclasses.asdict(model.config)))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval().encode(SOURCE), model.encode(SOURCE), atol=0, rtol=0)
