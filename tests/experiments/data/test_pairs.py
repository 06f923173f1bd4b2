"""Pairs and groups: labels of lines, held-out families, and the pairs and batches of an epoch."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.data.pairs import group_up, joined, pair_batches, pair_up, read_groups
from experiments.sentences.reduction import principal_axes, principal_components, reduced
from experiments.sentences.teacher import open_vectors, read_table, teach, write_table
from univae.errors import InputError
from univae.sentence.tokenizer import SimilarText, truncate
from univae.text.tokenizers import train_tokenizer


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_tabs_and_lists_give_equal_groups(tmp_path: Path) -> None:
    groups = [["a b", "c"], ["d", "e", "f 1"], ["g"], ["c", "h"]]
    tsv = read_groups(write(tmp_path, "a.tsv", "".join("\t".join(g) + "\n" for g in groups)))
    jsonl = read_groups(write(tmp_path, "a.jsonl", "".join(json.dumps(g) + "\n" for g in groups)))
    assert tsv.texts == jsonl.texts == ["a b", "c", "d", "e", "f 1", "g", "h"]
    assert tsv.members.tolist() == jsonl.members.tolist() == [0, 1, 2, 3, 4, 5, 1, 6]
    assert tsv.offsets.tolist() == [0, 2, 5, 6, 8]
    assert tsv.scores is None
    assert tsv.pairs.tolist() == [[0, 1], [2, 4], [5, 5], [1, 6]]
    f = tsv.families
    assert f[0] == f[1] == f[6]  # by the text c
    assert len({int(f[0]), int(f[2]), int(f[5])}) == 3
    assert f[2] == f[3] == f[4]


def test_a_third_column_of_numbers_or_of_entailment_is_a_label(tmp_path: Path) -> None:
    result = read_groups(
        write(
            tmp_path, "a.tsv", "a\tb\t4.5\nc\td\tneutral\ne\tf\tcontradiction\ng\th\tentailment\n"
        )
    )
    assert result.scores.tolist() == [4.5, 0.5, 0.0, 1.0]
    assert result.classes.tolist() == [-1, 4, 2, 3]
    assert len(result.texts) == 8
    jsonl = read_groups(write(tmp_path, "a.jsonl", '["a", "b", 1]\n["c", "d", 0.25]\n'))
    assert jsonl.scores.tolist() == [1.0, 0.25]
    both = read_groups(tmp_path / "a.jsonl", tmp_path / "a.tsv")
    assert both.scores.tolist() == [1.0, 0.25, 4.5, 0.5, 0.0, 1.0]
    assert both.files.tolist() == [0, 0, 1, 1, 1, 1]
    assert len(both.texts) == 8  # a text of two files is stored once
    with pytest.raises(InputError, match=r"b\.tsv, line 1: no label where other lines have one"):
        read_groups(tmp_path / "a.tsv", write(tmp_path, "b.tsv", "a\tb\n"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tb\t1\nc\td\te\n", "line 2: no label where other lines have one"),
        ("a.jsonl", '["a", "b"]\n{"c": 1}\n', "line 2: an object .* where other lines are lists"),
        ("a.jsonl", '{"c": "d"}\n["a", "b"]\n', "line 2: a list, where other lines are objects"),
        (
            "a.jsonl",
            '{"sentence1": "a", "score": 3.2}\n',
            r"column score holds numbers .* the file has 2 columns: sentence1 \(texts, 'a'\), score",
        ),
        ("a.tsv", "a\t\n", "every row lacks a text or its label; fill the empty cells"),
        ("a.jsonl", '["a", "b"]\n\n\n["a", "b"\n', "line 4: not JSON"),  # blank lines count
        ("a.tsv", "\n\na\tb\t1\n \nc\td\n", "line 5: no label where other lines have one"),
        (
            "a.jsonl",
            '[["a", "b"], ["c", "d"]]\n',
            "line 1: a line is a list of texts, and holds no other lists",
        ),
        (
            "a.jsonl",
            '["a", "b"]\n["a", "b", ["c"]]\n',
            "line 2: a line is a list of texts, and holds no other",
        ),
        (
            "a.jsonl",
            '["a", "b", {"score": 1}]\n',
            "line 1: every column is a text, or the third a label",
        ),
        ("a.jsonl", '["a", "b", true]\n', "line 1: every column is a text, or the third a label"),
        (
            "a.jsonl",
            f'["a", "b", 1{"0" * 400}]\n',
            "line 1: every column is a text, or the third a label: a finite",
        ),
        ("a.jsonl", f'["a", "b", 1{"0" * 5000}]\n', "line 1: not JSON"),
        (
            "a.jsonl",
            '["a", "b", 1e999]\n',
            "line 1: every column is a text, or the third a label: a finite number",
        ),
        ("a.jsonl", "[" * 100_000 + "]" * 100_000, "line 1: nested too deep"),
        ("a.json", "[" * 100_000 + "]" * 100_000, "line 1: nested too deep"),
        ("a.json", '[["a", "b"],\n ["c", 3]]\n', "list 2: every column is a text"),
        (
            "a.json",
            '[["a", "b"], {"x": "c"}]\n',
            "list 2: an object with keys, where other lines are lists",
        ),
        ("a.json", '[["a", "b"],\n ["c", "d"]\n', "line 1: not JSON"),
        (
            "a.jsonl",
            '["a", "b"]\n["c \\ud83d d", "e"]\n',
            r"line 2: half of a surrogate pair \(\\ud83d\)",
        ),
        (
            "a.json",
            '[["a", "b"], ["c", "\\ude00"]]\n',
            r"list 2: half of a surrogate pair \(\\ude00\)",
        ),
        ("a.jsonl", '["a", "b"\n', "line 1: not JSON"),
        ("a.jsonl", '["a", 3]\n', r"column 2 holds numbers \('3'\), which are no texts; choose"),
        ("a.tsv", "\n", "has no line with a text"),
    ],
)
def test_a_line_that_breaks_a_rule_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_groups(write(tmp_path, name, text))


def test_a_json_file_may_be_one_list_of_lists(tmp_path: Path) -> None:
    lines = read_groups(write(tmp_path, "a.jsonl", '["a \\ud83d\\ude00", "b", 1]\n["c", "d", 2]\n'))
    assert lines.texts[0] == "a 😀"
    one = read_groups(write(tmp_path, "a.json", '[["a \\ud83d\\ude00", "b", 1], ["c", "d", 2]]\n'))
    many = read_groups(write(tmp_path, "b.json", '[\n ["a 😀", "b", 1],\n\n ["c",\n "d", 2]\n]\n'))
    listed = read_groups(write(tmp_path, "c.json", '["a 😀", "b", 1]\n["c", "d", 2]\n'))
    assert one.fingerprint() == many.fingerprint() == listed.fingerprint() == lines.fingerprint()
    single = read_groups(write(tmp_path, "d.json", '["a", "b"]\n'))
    assert single.texts == ["a", "b"]


def test_a_reader_notes_what_it_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "a\tb\n\n \nc\td\n")
    assert read_groups(path).notes == (f"{path}: left out 2 blank lines",)
    assert read_groups(write(tmp_path, "b.tsv", "a\tb\n")).notes == ()


def test_a_fingerprint_changes_with_texts_grouping_and_labels(tmp_path: Path) -> None:
    contents = [
        "a\tb\nc\td\n", "a\tb\tc\td\n", "a\tc\nb\td\n", "c\td\na\tb\n",
        "a\tb\t1\nc\td\t2\n", "a\tb\t1\nc\td\t3\n", "a\tb\tneutral\nc\td\t3\n",
        "a\tb\t0.5\nc\td\t3\n",
    ]  # fmt: skip
    paths = [write(tmp_path, f"{i}.tsv", content) for i, content in enumerate(contents)]
    assert len({read_groups(path).fingerprint() for path in paths}) == len(contents)
    again = [
        read_groups(write(tmp_path, "again.tsv", content)).fingerprint() for content in contents
    ]
    assert again == [read_groups(path).fingerprint() for path in paths]


def test_held_out_groups_share_no_text_with_the_others() -> None:
    # families of two groups
    groups = group_up([[f"t{i}", f"t{i + 1}"] for i in range(300) if i % 3])
    train, out = groups.split(0.1, seed=0)
    assert sorted([*train, *out]) == list(range(200))
    assert len(out) == 20
    texts = [set(groups.pairs[part].ravel().tolist()) for part in (train, out)]
    assert not texts[0] & texts[1]
    assert not np.array_equal(out, groups.split(0.1, seed=1)[1])
    with pytest.raises(InputError, match="2 groups, the largest 2 connected"):
        group_up([["a", "b"], ["b", "c"]]).split(0.5, 0)


def test_every_member_is_paired_at_most_once_an_epoch_and_with_its_own_group() -> None:
    groups = group_up([[f"{g}-{i}" for i in range(n)] for g, n in enumerate([5, 2, 1, 4, 3])])
    chosen = np.array([0, 2, 3, 4])
    seen = set[tuple[int, int]]()
    owner = np.repeat(np.arange(5), [5, 2, 1, 4, 3])
    lengths = np.full(15, 4)
    for epoch in range(60):
        pairs = pair_up(groups, chosen, lengths, np.random.default_rng(epoch))
        assert len(pairs) == 2 + 1 + 2 + 1
        assert (owner[pairs[:, 0]] == owner[pairs[:, 1]]).all()
        assert sorted(set(owner[pairs[:, 0]])) == [0, 2, 3, 4]
        alone = pairs[:, 0] == pairs[:, 1]
        assert (owner[pairs[alone, 0]] == 2).all()
        flat = pairs[~alone].ravel()
        assert len(flat) == len(set(flat.tolist()))
        seen |= {(int(a), int(b)) for a, b in pairs if owner[a] == 0}
        assert groups.partners(pairs).tolist() == (~alone).tolist()
    assert len(seen) == 20  # all ordered pairs of the group of five come


def test_single_texts_share_a_pair_with_one_of_like_length_and_are_no_partners() -> None:
    groups = group_up([["a", "b"], *([str(i)] for i in range(40)), ["c", "d"]])
    lengths = np.arange(44) % 7
    seen = set[tuple[int, int]]()
    for epoch in range(20):
        pairs = pair_up(groups, np.arange(42), lengths, np.random.default_rng(epoch))
        assert sorted(pairs.ravel().tolist()) == list(range(44))  # no text comes twice
        assert groups.partners(pairs).sum() == 2
        assert sorted(map(sorted, pairs[groups.partners(pairs)].tolist())) == [[0, 1], [42, 43]]
        assert (np.diff(lengths[pairs[~groups.partners(pairs)]], axis=1) <= 1).all()
        seen |= set(map(tuple, pairs.tolist()))
    assert len(seen) > 100


def test_batches_hold_every_pair_once_and_pairs_of_like_lengths() -> None:
    pairs = np.arange(4000).reshape(2000, 2)
    lengths = np.random.default_rng(0).integers(2, 30, 4000)
    draw = np.random.default_rng(1)
    batches = pair_batches(pairs, lengths, 32, draw)
    assert [len(b) for b in batches].count(32) == 62
    assert sorted(map(tuple, np.concatenate(batches).tolist())) == sorted(
        map(tuple, pairs.tolist())
    )
    spread = [np.ptp(lengths[b].max(1)) for b in batches]
    assert np.mean(spread) < 3
    means = [lengths[b].max(1).mean() for b in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5  # batches do not come by length


@pytest.mark.parametrize("kind", ["bpe", "words", "chars", "bytes"])
def test_texts_are_levelled_cut_and_written_back(kind: str) -> None:
    tokenizer = train_tokenizer(kind, [" a man sees a dog", " the dog sees a man"], 300)
    text = SimilarText(tokenizer, 32, lowercase=True)
    ids = text.encode_batch(["  A Man\tsees a  dog "])[0]
    assert text.decode(ids) == "a man sees a dog"
    assert text.encode_batch(["a man sees a dog"])[0] == ids
    assert [ids[i] for i in text.contains(ids, "DOG")] == text.encode_batch(["dog"])[0]
    assert text.contains(ids, "cat") == []
    short = SimilarText(tokenizer, 4).encode_batch(["a man sees a dog"])[0]
    assert short == SimilarText(tokenizer, 32).encode_batch(["a man sees a dog"])[0][:3]
    with pytest.raises(InputError, match="must not be empty"):
        text.contains(ids, " ")


def test_a_table_is_looked_up_text_by_text_and_made_of_length_one(tmp_path: Path) -> None:
    vectors = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], np.float16)
    write_table(tmp_path / "t.npz", ["a b", "c", "d"], vectors)
    result = teach(tmp_path / "t.npz", ["d", "a b"], tmp_path / "t.npy")
    np.testing.assert_allclose(result, [[0, 1], [0.6, 0.8]], rtol=1e-6)
    assert isinstance(result, np.memmap)
    with pytest.raises(InputError, match="lacks 2 of 3 texts, 'x' first"):
        teach(tmp_path / "t.npz", ["x", "c", "y"], tmp_path / "u.npy")
    assert not (tmp_path / "u.npy").exists()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", texts=np.array(["a"]), vectors=np.zeros((2, 3)))
    with pytest.raises(InputError, match="holds <U1"):
        read_table(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", texts=np.array(["a"]), vectors=np.full((1, 3), np.nan))
    with pytest.raises(InputError, match="finite"):
        read_table(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="is no table"):
        read_table(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="is no table"):
        read_table(tmp_path / "e.npz")


def test_a_damaged_table_is_refused_whatever_byte_is_wrong(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((50, 9))
    np.savez_compressed(
        tmp_path / "t.npz", texts=np.array([f"text {i}" for i in range(50)]), vectors=vectors
    )
    whole = (tmp_path / "t.npz").read_bytes()
    refusals = 0
    for place in range(0, len(whole), len(whole) // 150):
        (tmp_path / "t.npz").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        )
        try:
            result = read_table(tmp_path / "t.npz")[1]
        except InputError:  # any other exception is a failure
            refusals += 1
        else:  # a date in the archive, say
            np.testing.assert_array_equal(result, vectors)
    assert refusals > 100


def test_what_a_table_leaves_out_is_noted(tmp_path: Path) -> None:
    write_table(tmp_path / "t.npz", ["a", "b", "c", "a"], np.arange(1.0, 9).reshape(4, 2))
    notes: list[str] = []
    result = teach(tmp_path / "t.npz", ["a", "b"], tmp_path / "t.npy", notes=notes)
    np.testing.assert_allclose(result[0], np.array([7, 8]) / np.hypot(7, 8), rtol=1e-6)
    assert notes == [
        "--teacher: 1 of 4 rows repeat a text; the last row of a text is used",
        "--teacher: 1 of 3 texts of the table are not in --pairs or --contrasts and were left out",
    ]


def test_damaged_vectors_of_a_teacher_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npy"
    np.save(path, np.zeros((3, 2), np.float32))
    assert open_vectors(path, 3).shape == (3, 2)
    with pytest.raises(
        InputError, match=r"holds float32 \(3, 2\), not float32 of 4 texts; delete it"
    ):
        open_vectors(path, 4)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"teacher\.npy is damaged \(.*\); delete it"):
        open_vectors(path, 3)


def test_the_longest_text_loses_the_token_before_its_end() -> None:
    a = [1, 5, 6, 7, 2]
    b = [1, 8, 9, 2]
    assert truncate([a, b], 9) == [a, b]
    assert truncate([a, b], 8) == [[1, 5, 6, 2], b]
    assert truncate([a, b], 7) == [[1, 5, 2], b]  # of equals the first
    assert truncate([a, b], 6) == [[1, 5, 2], [1, 8, 2]]
    assert truncate([a], 3) == [[1, 5, 2]]
    assert (a, b) == ([1, 5, 6, 7, 2], [1, 8, 9, 2])  # R17; the arguments are unchanged
    with pytest.raises(InputError, match="2 texts keep their last id; got limit=1"):
        truncate([a, b], 1)


def test_pairs_join_groups_with_texts_in_no_group() -> None:
    groups = group_up([["a", "b"], ["c"]])
    longer, pairs = joined(groups, group_up([["b", "not b"], ["c", "a"], ["x", "not b"]]))
    assert longer.texts == ["a", "b", "c", "not b", "x"]
    assert pairs.tolist() == [[1, 3], [2, 0], [4, 3]]
    assert len(longer) == len(groups)
    assert longer.families[:3].tolist() == groups.families.tolist()
    assert len(set(longer.families.tolist())) == 4  # a and b are one family
    assert not longer.partners(pairs).any()


def test_vectors_are_reduced_to_the_nearest_inner_products(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(40, 6)) * [3, 1, 4, 0.5, 2, 0.1] + [1, 0, 2, 0, 0, 0]
    projected = reduced(vectors, 3)
    values, axes = np.linalg.eigh(vectors @ vectors.T)
    nearest = (axes[:, -3:] * values[-3:]) @ axes[:, -3:].T  # Eckart and Young
    np.testing.assert_allclose(projected @ projected.T, nearest, atol=1e-9)
    assert reduced(vectors, 6) is vectors

    axes = principal_axes(vectors, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert (axes[np.abs(axes).argmax(0), np.arange(3)] > 0).all()
    np.testing.assert_allclose(principal_axes(np.concatenate((vectors, -vectors)), 3), axes)
    components = principal_components(vectors, 6)
    np.testing.assert_allclose(components.mean(0), 0, atol=1e-12)
    covariance = components.T @ components
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert (np.diff(np.diag(covariance)) < 0).all()

    texts = [f"text {i}" for i in range(40)]
    write_table(tmp_path / "t.npz", texts, vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = reduced(unit, 3)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    result = teach(tmp_path / "t.npz", texts, tmp_path / "t.npy", width=3)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert teach(tmp_path / "t.npz", texts, tmp_path / "u.npy", width=9).shape == (40, 6)
