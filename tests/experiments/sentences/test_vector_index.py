"""Graphs of vectors: exact scores, recall that is counted right, and files that are built anew."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

from experiments import search
from experiments.sentences import index_cache
from experiments.sentences.index_cache import open_index
from experiments.sentences.vector_graphs import INDICES, OPTIONS
from experiments.sentences.vector_index import MISSING, ExactSearch, GraphSearch, Nearest, recall
from experiments.sentences.vectors import Vectors
from univae.errors import InputError
from univae.text.tally import Tally

GRAPHS = [name for name, kind in INDICES.items() if kind.library is not None]
DATA = Path(make.__file__).parent / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=GRAPHS)
def library(request: pytest.FixtureRequest) -> str:
    """The name of an index whose library is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


def unit_vectors(count: int, width: int = 16) -> np.ndarray:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((count, width), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored(folder: Path, matrix: np.ndarray, checksum: str = "x") -> Vectors:
    path = folder / "vectors.npy"
    path.with_suffix(".json").write_text(json.dumps({"checksum": checksum}))
    return Vectors(matrix, path, False, Tally(), [])


class Listed:
    """A graph whose candidates are given."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = np.array(rows)

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        return self.rows[: len(queries), :count]

    def save(self, path: Path) -> None:
        """Do nothing."""


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("count", [1, 7, 300, 1000])
def test_a_graph_of_few_vectors_finds_what_numpy_finds(
    library: str, count: int, dtype: type, tmp_path: Path
) -> None:
    matrix = unit_vectors(300).astype(dtype)
    queries = unit_vectors(310)[300:]
    loader = INDICES[library].library
    assert loader is not None
    nearest = GraphSearch(matrix, loader.load().build(matrix)).nearest(queries, count)
    products = queries @ matrix.astype(np.float32).T
    order = np.argsort(-products, axis=1)[:, :count]
    expected = np.take_along_axis(products, order, axis=1)
    np.testing.assert_allclose(nearest.scores.numpy(), expected, atol=1e-6)
    assert (nearest.rows.numpy() == order).mean() > 0.99  # equal but for ties in float16


def test_candidates_are_compared_again_and_missing_ones_are_searched_for() -> None:
    matrix = np.eye(4, dtype=np.float32)
    queries = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]], np.float32)
    graph = Listed([[0, 3], [2, MISSING]])
    nearest = GraphSearch(matrix, graph).nearest(queries, 2)
    assert nearest.rows.tolist() == [[3, 0], [0, 1]]
    np.testing.assert_allclose(nearest.scores, [[0.4, 0.1], [0.4, 0.3]])


def test_recall_is_the_share_of_others_and_equal_vectors_count_as_each_other() -> None:
    matrix = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [0, 1]], np.float32)
    exact = ExactSearch(matrix)

    class Half:
        def nearest(self, queries: np.ndarray, count: int) -> Nearest:
            rows = torch.tensor([[0, 1, 3]])  # row 2 is the second nearest other
            return Nearest(torch.from_numpy(matrix[rows[0]] @ queries[0])[None], rows)

    class Twin:
        def nearest(self, queries: np.ndarray, count: int) -> Nearest:
            return Nearest(torch.ones(1, 2), torch.tensor([[3, 4]]))

    assert recall(Half(), exact, 2, np.array([0])) == 0.5
    assert recall(Twin(), exact, 1, np.array([4])) == 1.0
    assert recall(exact, exact, 2, np.arange(5)) == 1.0
    assert recall(exact, exact, 100, np.arange(5)) == 1.0
    assert recall(exact, ExactSearch(matrix[:1]), 1, np.array([0])) == 1.0


def test_an_index_is_built_once_and_again_where_the_vectors_change(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = unit_vectors(500)
    first = open_index(library, stored(tmp_path, matrix), 5)
    again = open_index(library, stored(tmp_path, matrix), 5)
    assert first.facts["index_cached"] is False
    assert again.facts == {**first.facts, "index_cached": True}
    queries = unit_vectors(520)[500:]
    for a, b in zip(
        first.search.nearest(queries, 5), again.search.nearest(queries, 5), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = open_index(library, stored(tmp_path, unit_vectors(400), "y"), 5)
    assert other.facts["index_cached"] is False

    def measured_again(*args: object) -> float:
        raise AssertionError("recall was measured before")

    monkeypatch.setattr(index_cache, "recall", measured_again)
    assert open_index(library, stored(tmp_path, matrix), 5).facts == again.facts


@pytest.mark.parametrize("damage", [b"", b"not a graph", None])
def test_a_damaged_file_is_built_again(library: str, damage: bytes | None, tmp_path: Path) -> None:
    matrix = unit_vectors(500)
    open_index(library, stored(tmp_path, matrix), 5)
    folder = tmp_path / "cache" / "univae" / "vectors"
    (graph,) = [path for path in folder.iterdir() if path.suffix == f".{library}"]
    (facts,) = folder.glob("*.json")
    content = graph.read_bytes()
    graph.write_bytes(content[: len(content) // 2] if damage is None else damage)
    facts.write_text("[")
    again = open_index(library, stored(tmp_path, matrix), 5)
    assert again.facts["index_cached"] is False
    assert open_index(library, stored(tmp_path, matrix), 5).facts["index_cached"] is True


def test_a_low_recall_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matrix = unit_vectors(100)
    rows = np.tile(np.arange(6), (200, 1))
    fake = SimpleNamespace(
        suffix=".fake",
        version="1",
        options=OPTIONS,
        build=lambda matrix: Listed(rows),
        read=lambda path, matrix: None,
    )
    kind = SimpleNamespace(library=SimpleNamespace(load=lambda: fake))
    monkeypatch.setitem(index_cache.INDICES, "usearch", kind)  # type: ignore[arg-type]
    monkeypatch.setattr(Listed, "save", lambda self, path: path.write_bytes(b""))
    opened = open_index("usearch", stored(tmp_path, matrix), 5)
    share = opened.facts["index_recall"]
    assert 0 <= share < 0.3
    (note,) = opened.notes
    assert note.startswith(f"--index usearch: finds {share:.3f} of the 5 nearest texts")
    assert note.endswith("measured around 100 texts of the corpus; --index exact finds all")


def test_search_gives_the_results_of_the_exact_search(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make.copy_run("similar", tmp_path)
    options: dict[str, Any] = {"run": run, "text": "a cat", "corpus": DATA / "corpus.txt"}
    exact = search.main(search.Config(**options, count=3))
    assert not exact.keys() & {"index", "index_recall", "index_cached"}
    found = search.main(search.Config(**options, count=3, index=library))
    assert found["index"] == library
    assert found["index_recall"] == 1.0
    for (text, score), (other, other_score) in zip(exact["results"], found["results"], strict=True):
        assert text == other
        assert score == pytest.approx(other_score, abs=1e-6)
    assert f"--index {library}: finds 1.000 of the 3 nearest texts" in capsys.readouterr().err
    assert any("--index" in note for note in found["notes"])


@pytest.mark.parametrize("name", GRAPHS)
def test_without_the_library_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make.copy_run("similar", tmp_path)
    for module in (name, f"{name}.index"):
        monkeypatch.setitem(sys.modules, module, None)
    config = search.Config(run=run, text="a", corpus=DATA / "corpus.txt", index=name)
    with pytest.raises(InputError, match=rf"--index {name} needs the extra {name}: pip install"):
        search.main(config)
    assert not (run / "vectors").exists()
