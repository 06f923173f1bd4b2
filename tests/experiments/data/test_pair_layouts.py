"""Columns of pairs: published layouts, headers, labels, and columns that hold no texts."""

import json
import random
from pathlib import Path

import pytest

from experiments.data.column_kinds import COLUMN_KINDS, kind_of, score_of
from experiments.data.pairs import Groups, read_groups
from univae.errors import InputError

COUNT = 60
WORDS = [
    "cat",
    "dog",
    "man",
    "boy",
    "tree",
    "house",
    "river",
    "bird",
    "child",
    "teacher",
    "sees",
    "likes",
    "finds",
]
RANDOM = random.Random(0)
FIRST = [" ".join(RANDOM.choices(WORDS, k=5)) + f" {i} ?" for i in range(COUNT)]
SECOND = [" ".join(RANDOM.choices(WORDS, k=5)) + f" {i} !" for i in range(COUNT)]


def rows_of(separator: str, *columns: object, header: str = "") -> str:
    """Return lines of cells; a column is a list, or a format of the row's number."""
    lines = [header] if header else []
    for i in range(COUNT):
        cells = [c[i] if isinstance(c, list) else str(c).format(i=i, j=i % 2) for c in columns]
        lines.append(separator.join(cells))
    return "".join(f"{line}\n" for line in lines)


def read(folder: Path, name: str, content: str, columns: tuple[str, ...] = ()) -> Groups:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return read_groups(path, columns=columns)


def pairs_of(groups: Groups) -> list[tuple[str, ...]]:
    return [tuple(groups.texts[i] for i in pair) for pair in groups.pairs.tolist()]


PAIRS = list(zip(FIRST, SECOND, strict=True))
BINARY = [float(i % 2) for i in range(COUNT)]
SCORE = [f"{RANDOM.random() * 5:.3f}" for i in range(COUNT)]
QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
STS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"

PUBLISHED: dict[str, tuple[str, str, list[float] | None]] = {
    "QQP": ("a.tsv", rows_of("\t", "{i}", "1{i}", "2{i}", FIRST, SECOND, "{j}", header=QQP), BINARY),
    "QQP of GLUE": (
        "train.tsv",
        rows_of("\t", "{i}", "9", "9", FIRST, SECOND, "{j}", header=QQP),
        BINARY,
    ),
    "label first": ("dev.tsv", rows_of("\t", "{j}", FIRST, SECOND, "{i}"), BINARY),
    "ids first": ("atec.csv", rows_of("\t", "{i}", FIRST, SECOND, "{j}"), BINARY),
    "label last": ("lcqmc.txt", rows_of("\t", FIRST, SECOND, "{j}"), BINARY),
    "CSV with names": (
        "bq.csv",
        "\ufeff" + rows_of(",", FIRST, SECOND, "{j}", header="sentence1,sentence2,label"),
        BINARY,
    ),
    "STS Benchmark": (
        "sts-train.csv",
        rows_of("\t", "main-captions", "MSRvid", "2012test", "{i:04d}", SCORE, FIRST, SECOND),
        [float(score) for score in SCORE],
    ),
    "STS-B of GLUE": (
        "dev.tsv",
        rows_of(
            "\t", "{i}", "main", "file", "2012", "{i}", "none", "none", FIRST, SECOND, SCORE,
            header=STS,
        ),
        [float(score) for score in SCORE],
    ),
    "objects": (
        "a.jsonl",
        "".join(json.dumps({"sentence1": a, "sentence2": b, "score": 2.5}) + "\n" for a, b in PAIRS),
        [2.5] * COUNT,
    ),
    "premise and hypothesis": (
        "nli.jsonl",
        "".join(
            json.dumps({"gold_label": "entailment", "premise": a, "hypothesis": b}) + "\n"
            for a, b in PAIRS
        ),
        [1.0] * COUNT,
    ),
    "anchor, positive, negative": (
        "triplets.jsonl",
        "".join(
            json.dumps({"anchor": a, "positive": b, "negative": a + b}) + "\n" for a, b in PAIRS
        ),
        None,
    ),
    "query and lists": (
        "bge.jsonl",
        "".join(json.dumps({"query": a, "pos": [b], "neg": [a + b]}) + "\n" for a, b in PAIRS),
        None,
    ),
    "header without label": (
        "a.csv",
        rows_of(";", FIRST, SECOND, header="text_a;text_b"),
        None,
    ),
    "unknown names": ("a.csv", rows_of(",", "{i}", FIRST, SECOND, "{j}", header="n,x,y,z"), BINARY),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layouts_are_read_without_naming_columns(name: str, tmp_path: Path) -> None:
    file, content, scores = PUBLISHED[name]
    groups = read(tmp_path, file, content)
    assert pairs_of(groups) == PAIRS
    assert (None if groups.scores is None else groups.scores.tolist()) == scores


def test_what_is_left_out_of_a_published_layout_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    assert read(tmp_path, "a.tsv", PUBLISHED["QQP"][1]).notes == (
        f"{path}: the first line is a header: " + QQP.replace("\t", ", "),
        f"{path}: texts in columns question1 and question2, the label in is_duplicate; "
        "left out id, qid1, qid2",
    )
    (note,) = read(tmp_path, "a.tsv", PUBLISHED["label first"][1]).notes
    assert note == f"{path}: texts in columns 2 and 3, the label in 1; left out 4"
    (note,) = read(tmp_path, "a.jsonl", PUBLISHED["query and lists"][1]).notes
    assert note.endswith("left out neg (the negatives of a pair are the other texts of its batch)")


def test_columns_are_named_by_name_or_number(tmp_path: Path) -> None:
    content = rows_of("\t", "x y", "{i}", SECOND, SCORE, FIRST)
    named = read(tmp_path, "a.tsv", content, ("5", "3", "4"))
    assert pairs_of(named) == PAIRS
    assert named.scores.tolist() == [float(score) for score in SCORE]
    assert read(tmp_path, "a.tsv", content, ("5", "3")).scores is None
    header = read(tmp_path, "a.tsv", "u\tv\tw\tx\ty\n" + content, ("y", "w", "x"))
    assert header.fingerprint() == named.fingerprint()
    three = read(tmp_path, "a.tsv", content, ("5", "3", "1"))
    assert np_sizes(three) == {3}


def np_sizes(groups: Groups) -> set[int]:
    return {int(b - a) for a, b in zip(groups.offsets[:-1], groups.offsets[1:], strict=True)}


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            rows_of("\t", "q{i}", FIRST, SECOND),
            (),
            r"column 1 holds short codes, all of them different \('q0'\), which are no texts; "
            r"choose columns with --columns 2 3; the file has 3 columns: 1 \(short codes",
        ),
        (rows_of("\t", "{i}", FIRST, SECOND), (), "column 1 holds whole numbers, all of them diff"),
        (rows_of("\t", "{j}", FIRST, SECOND, "{j}"), (), r"column 1 holds numbers \('0'\)"),
        (rows_of("\t", "{i}%", FIRST), (), r"column 1 holds percentages \('0%'\)"),
        (rows_of("\t", "en", FIRST, SECOND), (), "column 1 holds a few words, repeated"),
        (rows_of("\t", FIRST, SECOND), ("1", "3"), "--columns: .*a.tsv has no column 3; it has 2"),
        (rows_of("\t", FIRST, SECOND), ("a", "b"), "has no column a; it has 2 columns: 1 .texts"),
        (rows_of("\t", FIRST, SECOND, "{i}"), ("3", "1"), "column 3 holds whole numbers"),
        (
            rows_of("\t", FIRST, SECOND, "{j}", header="text1\ttext2\tlabel") + "a\tb\tmaybe\n",
            (),
            "line 62, column label: a label is a finite number, .* got maybe; correct it",
        ),
    ],
)
def test_a_column_that_is_no_text_is_refused_by_name_with_the_way_out(
    content: str, columns: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, "a.tsv", content, columns)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (["0%", "45%", "100%"], [0, 0.45, 1]),
        (["0,5", "1,25", "-2,0"], [0.5, 1.25, -2]),
        (["ENTAILMENT", "Neutral", "contradiction "], [1, 0.5, 0]),
        (["1", "1e-1", "+3."], [1, 0.1, 3]),
    ],
)
def test_labels_in_other_spellings_are_labels(
    labels: list[str], scores: list[float], tmp_path: Path
) -> None:
    content = "".join(f"{a}\t{b}\t{label}\n" for (a, b), label in zip(PAIRS, labels, strict=False))
    assert read(tmp_path, "a.tsv", content).scores.tolist() == scores
    assert [score_of(label) for label in labels] == scores


@pytest.mark.parametrize("label", ["1,000", "nan", "inf", "yes", "", True, None, [1], "neutral%"])
def test_other_values_are_no_labels(label: object) -> None:
    assert score_of(label) is None


def test_rows_without_a_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    header = "sentence1,sentence2,label\n"
    content = 'a b,c d,1\n"",e f,0\n"g, ""h""\nfurther",i,0\nj,k,-\nl,m,\n'
    groups = read(tmp_path, "a.csv", header + content)
    assert pairs_of(groups) == [("a b", "c d"), ('g, "h" further', "i")]
    assert groups.notes[:2] == (
        f"{tmp_path / 'a.csv'}: left out 3 rows with an empty cell",
        f"{tmp_path / 'a.csv'}: 1 line end inside texts read as a space",
    )
    padded = read(tmp_path, "b.csv", "a b,c d,e f\ng h,i j,\n")
    assert padded.offsets.tolist() == [0, 3, 5]


def test_quotes_between_tabs_are_joined_only_where_a_cell_goes_on(tmp_path: Path) -> None:
    content = (
        "id\tquestion1\tquestion2\tis_duplicate\n"
        '1\ta b\t"what\nis ""this"""\t1\n'  # a quoted cell of two lines
        '2\t"c" d\te "f"\t0\n'  # quotes of the text
        '3\t"open\tg h\t0\n'  # a quote that is never closed
        '4\tshort row\t"\n'
        "5\ti j\tk l\t1\n"
    )
    groups = read(tmp_path, "a.tsv", content)
    assert pairs_of(groups) == [
        ("a b", 'what is "this"'),
        ('"c" d', 'e "f"'),
        ('"open', "g h"),
        ("i j", "k l"),
    ]
    assert groups.notes[0].endswith("left out 1 row with an empty cell")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], "nothing"),
        ([None, " ", "-"], "nothing"),
        (["1", "2", "3"], "ids"),
        (["1", "2", "2"], "numbers"),
        (["1.5", "2.5"], "numbers"),
        ([1.5, 2], "numbers"),
        (["1%", "2,5%"], "percentages"),
        (["neutral", "Entailment", "0.5"], "classes"),
        ([f"q{i}" for i in range(10)], "codes"),
        ([f"{i:08x}" for i in range(10, 20)], "codes"),
        ([f"q{i}" for i in range(9)], "texts"),
        ([f"a word {i}" for i in range(10)], "texts"),
        (["en"] * 20, "words"),
        (["en"] * 19, "texts"),
        (["好"] * 20, "texts"),
        (["yes", "1"], "texts"),
    ],
)
def test_a_column_is_of_the_first_kind_that_all_its_values_match(
    values: list[object], kind: str
) -> None:
    assert kind_of(values) is COLUMN_KINDS[kind]


def test_no_kind_is_a_text_and_a_label() -> None:
    assert not any(kind.is_text and kind.is_label for kind in COLUMN_KINDS.values())
    assert [name for name, kind in COLUMN_KINDS.items() if kind.is_text] == ["texts"]


# Files as they were published, with their numbers of pairs and of positives (or graded scores).
FILES = {
    "stsb/stsb-en-test.csv.gz": (1379, None),
    "qqp_20k/dev.tsv.gz": (10_000, 5000),
    "lcqmc/dev.txt.gz": (8802, 4402),
    "bq_corpus/dev.csv.gz": (10_000, 5000),
}


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_as_they_are(name: str) -> None:
    path = Path(__file__).parents[4] / "shared/data" / name
    if not path.exists():
        pytest.skip(f"needs {name}")
    groups = read_groups(path)
    count, positives = FILES[name]
    assert len(groups) == count
    assert np_sizes(groups) == {2}
    if positives is None:
        assert (groups.scores.min(), groups.scores.max()) == (0, 5)
    else:
        assert sorted(set(groups.scores.tolist())) == [0, 1]
        assert groups.scores.sum() == positives
