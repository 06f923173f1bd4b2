"""Ranking by cosine and by marginal relevance, distinct texts, and exact retrieval from disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from univae.errors import InputError
from univae.sentence import nearest
from univae.sentence.nearest import top_k
from univae.sentence.ranking import Draws, count_draws, distinct, rank


def test_the_first_of_equal_texts_stays_and_the_source_goes() -> None:
    texts = [[5, 6], [7], [5, 6], [8], [7, 7]]
    assert distinct(texts, source=[8]) == [0, 1, 4]
    assert distinct(texts, source=[8], key=lambda text: sum(text) if text[0] != 5 else None) == [
        1,
        4,
    ]


def test_without_diversity_the_cosines_fall() -> None:
    source = F.normalize(torch.randn(4), dim=0)
    vectors = F.normalize(torch.randn(9, 4), dim=1)
    order, scores = rank(source, vectors, 5)
    torch.testing.assert_close(scores, (vectors @ source).sort(descending=True)[0][:5])
    torch.testing.assert_close(vectors[order] @ source, scores)
    assert len(rank(source, vectors, 20)[0]) == 9


@pytest.mark.parametrize("diversity", [0.2, 0.5, 0.8])
def test_diversity_is_maximal_marginal_relevance(diversity: float) -> None:
    source = F.normalize(torch.randn(4), dim=0)
    vectors = F.normalize(torch.randn(9, 4), dim=1)
    chosen: list[int] = []
    for _ in range(6):  # the definition
        gains = {
            i: (1 - diversity) * float(vectors[i] @ source)
            - diversity * max((float(vectors[i] @ vectors[j]) for j in chosen), default=0.0)
            for i in range(9)
            if i not in chosen
        }
        chosen.append(max(gains, key=gains.__getitem__))
    order, scores = rank(source, vectors, 6, diversity)
    assert order.tolist() == chosen
    torch.testing.assert_close(scores, vectors[order] @ source)


def test_a_near_copy_waits_for_something_new() -> None:
    source = torch.tensor([1.0, 0.0, 0.0])
    vectors = F.normalize(torch.tensor([[1.0, 0.3, 0.0], [1.0, 0.31, 0.0], [1.0, 0.0, 0.6]]), dim=1)
    assert rank(source, vectors, 2)[0].tolist() == [0, 1]
    assert rank(source, vectors, 2, diversity=0.5)[0].tolist() == [0, 2]


@pytest.mark.parametrize(("count", "diversity"), [(0, 0.0), (1, 1.0), (1, -0.1)])
def test_a_ranking_that_makes_no_sense_is_refused(count: int, diversity: float) -> None:
    with pytest.raises(InputError, match="count >= 1, 0 <= diversity < 1"):
        rank(torch.ones(2), torch.ones(3, 2), count, diversity)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("block", [1, 7, 1000, 0])
def test_blocks_from_disk_give_what_one_product_gives(
    tmp_path: Path, dtype: str, block: int
) -> None:
    torch.set_default_dtype(torch.float32)
    matrix = np.random.default_rng(0).normal(size=(101, 6)).astype(dtype)
    np.save(tmp_path / "m.npy", matrix)
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    queries = torch.randn(3, 6)
    scores, rows = top_k(queries, mapped, 9, block)
    expected = (queries @ torch.from_numpy(matrix.astype(np.float32)).T).topk(9, 1)
    torch.testing.assert_close(scores, expected.values)
    assert torch.equal(rows, expected.indices)


def test_many_queries_shrink_the_blocks_and_change_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_default_dtype(torch.float32)
    matrix = np.random.default_rng(0).integers(-9, 9, (50, 3)).astype(np.float32)
    queries = torch.randn(40, 3)
    sizes: list[int] = []
    plain = torch.from_numpy

    def counted(array: np.ndarray) -> torch.Tensor:
        sizes.append(len(array))
        return plain(array)

    expected = top_k(queries, matrix, 4)
    monkeypatch.setattr(nearest, "PRODUCT_BYTES", 4 * 40 * 7)
    monkeypatch.setattr(torch, "from_numpy", counted)
    scores, rows = top_k(queries, matrix, 4)
    assert sizes == [7] * 7 + [1]
    torch.testing.assert_close(scores, expected[0])
    assert torch.equal(rows, expected[1])


def test_fewer_rows_than_asked_for_are_all_given() -> None:
    scores, rows = top_k(torch.eye(2), np.eye(2)[[1, 0, 1]], 10, block=2)
    assert scores.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert sorted(rows[0].tolist()) == [0, 1, 2]
    with pytest.raises(
        InputError, match=r"k >= 1 and rows of width 2; got k=1 and a matrix of \(3, 3\)"
    ):
        top_k(torch.eye(2), np.eye(3), 1)


def test_every_drawn_text_is_counted_once_by_what_becomes_of_it() -> None:
    texts = [[1, 2], [3], [1, 2], [4, 4], [5], [3], [3], [9]]

    def key(text: Sequence[int]) -> tuple[int, ...] | None:
        return None if 4 in text else tuple(text)

    source = [9]
    draws = count_draws(texts, source, key, incomplete=2)
    assert draws == Draws(10, incomplete=2, equal_to_source=1, excluded=1, duplicates=3)
    assert draws.candidates == len(distinct(texts, source, key)) == 3
    assert count_draws([], source, key, 5) == Draws(5, 5)
    assert count_draws([[4]], [4], key, 0) == Draws(1, excluded=1)
