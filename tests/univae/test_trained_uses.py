"""Runs take texts and numbers as people have them, return NumPy, and say what they cannot do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

import univae
from gan.labels import class_numbers
from gan.trained import TrainedGan, slerp
from gan.units import DataUnits
from univae.as_texts import as_texts
from univae.errors import InputError
from univae.trained import Trained

USES = ("sample", "encode", "reconstruct", "interpolate", "edit", "impute", "score")
LACKS = {
    "gan_images": {"encode", "reconstruct", "edit", "impute", "score"},
    "similar": {"sample", "reconstruct", "interpolate", "edit", "impute", "score"},
    "text": {"impute"},
    "images": set(),
}
BLANK = np.zeros((1, 8, 8), np.uint8)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def opened(name: str, tmp_path: Path) -> Any:
    return univae.load(make.copy_run(name, tmp_path), "cpu")


@pytest.mark.parametrize("name", sorted(LACKS))
def test_every_use_exists_on_every_run_and_a_missing_one_names_the_kinds(
    name: str, tmp_path: Path
) -> None:
    run = opened(name, tmp_path)
    for use in USES:
        method = "scoring" if use == "score" else use
        has_it = getattr(type(run), method) is not getattr(Trained, method)
        assert has_it == (use not in LACKS[name]), use
        if not has_it:
            with pytest.raises(InputError, match=rf"^{use}: .*; it works on runs of train-"):
                getattr(run, use)("a")


def test_only_a_table_with_named_columns_is_imputed(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="not trained on a table with named columns; missing cells"
    ):
        opened("images", tmp_path).impute(np.zeros((1, 8, 8)))
    with pytest.raises(InputError, match="impute: only a table with named columns has missing"):
        opened("text", tmp_path).impute(["a"])


@pytest.mark.parametrize("name", sorted(make.RUNS))
def test_a_run_prints_in_one_line(name: str, tmp_path: Path) -> None:
    run = opened(name, tmp_path)
    text = repr(run)
    assert text.startswith(f"{type(run).__name__}('{run.path}', ")
    assert text.endswith(" parameters, step 12, best)")


# Texts.


def test_a_text_alone_is_one_text() -> None:
    assert as_texts("a cat", "test") == ["a cat"]
    assert as_texts(np.array(["a", "b"]), "test") == ["a", "b"]
    assert as_texts(("a",), "test") == as_texts(iter(["a"]), "test") == ["a"]
    assert type(as_texts(np.array(["a"]), "test")[0]) is str


def test_a_frame_has_one_column_of_texts() -> None:
    pandas = pytest.importorskip("pandas")
    assert as_texts(pandas.Series(["a", "b"], index=[5, 6]), "test") == ["a", "b"]
    assert as_texts(pandas.DataFrame({"n": [1, 2], "t": ["a", "b"]}), "test") == ["a", "b"]
    lost_first = pandas.DataFrame({"n": [1, 2], "t": [None, "b"]})
    assert as_texts(lost_first.iloc[1:], "test") == ["b"]
    with pytest.raises(InputError, match=r"every entry must be a text; row 0"):
        as_texts(lost_first, "test")
    two = pandas.DataFrame({"t": [None, "b"], "u": ["a", "b"]})
    with pytest.raises(InputError, match="got 2 of its columns t, u"):
        as_texts(two, "test")
    with pytest.raises(
        InputError, match="must have one column of texts; got 2 of its columns a, b"
    ):
        as_texts(pandas.DataFrame({"a": ["x"], "b": ["y"]}), "test")
    with pytest.raises(InputError, match=r"row 1 .*nan"):
        as_texts(pandas.Series(["a", None]).fillna(np.nan), "test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], "row 0 .from 0. is int 1"),
        (["a", None], "row 1 .from 0. is NoneType"),
        (b"a", "got bytes"),
        ({"t": ["a"]}, "got dict"),
        (3, "got int"),
        (np.array([["a"]]), "an array of one axis"),
    ],
)
def test_what_is_no_text_is_named(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_texts(data, "test")


def test_a_text_run_takes_texts_of_any_kind_and_seeds(tmp_path: Path) -> None:
    run = opened("text", tmp_path)
    assert run.encode("a cat").shape == (1, 2, 4)
    np.testing.assert_array_equal(run.encode(np.array(["a cat"])), run.encode(["a cat"]))
    assert run.encode([]).shape == (0, 2, 4)
    assert run.reconstruct([]) == []
    assert run.reconstruct("a cat") == run.reconstruct(["a cat"])
    state = torch.get_rng_state()
    assert run.sample(2, seed=4) == run.sample(2, seed=4) != run.sample(2, seed=5)
    assert run.edit("a cat", [0], 2, seed=1) == run.edit(["a cat"], [0], 2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match="edit: takes one text; got 2"):
        run.edit(["a", "b"], [0])


def test_a_sentence_run_compares_and_searches(tmp_path: Path) -> None:
    run = opened("similar", tmp_path)
    corpus = ["a man sees a ball", "the dog runs", "a cat"]
    vectors = run.encode(corpus)
    np.testing.assert_allclose(run.similarity(corpus, corpus), 1, atol=1e-5)
    (found,) = run.search(corpus, "the dog runs", 2)
    assert found[0][0] == "the dog runs"
    np.testing.assert_allclose(found[1][1], np.sort(vectors @ vectors[1])[-2], atol=1e-5)
    assert len(run.search(np.array(corpus), corpus, 9)[0]) == 3
    assert len(run.similar("a cat", 2, samples=4)) == 1
    with pytest.raises(InputError, match="needs pairs of texts; got 1 and 3"):
        run.similarity("a", corpus)
    with pytest.raises(InputError, match="the corpus is empty"):
        run.search([], "a")


# Rows of a GAN.


def test_words_to_keep_or_hide_are_a_word_or_several(tmp_path: Path) -> None:
    run = opened("similar", tmp_path)
    text = make.WORDS[0]
    alone = run.similar(text, samples=20, seed=1, mask=text, keep=text)
    assert alone == run.similar(text, samples=20, seed=1, mask=[text], keep=[text])
    with pytest.raises(InputError, match="the text has no word 'zebra'"):
        run.similar(text, mask="zebra")


def test_similar_texts_repeat_with_a_seed_and_none_have_none(tmp_path: Path) -> None:
    run = opened("similar", tmp_path)
    text = " ".join(make.WORDS[:4])
    state = torch.get_rng_state()
    first = run.similar(text, samples=20, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == run.similar(text, samples=20, seed=1)
    assert first[0]
    assert first != run.similar(text, samples=20, seed=2)
    assert run.similar([]) == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "use", "message"),
    [
        ("similar", lambda run: run.similar("a", samples=0), "similar: samples must be at least 1"),
        ("similar", lambda run: run.similar("a", count=0), "similar: count must be at least 1"),
        ("similar", lambda run: run.search(["a"], "b", count=0), "search: count must be at least"),
        ("text", lambda run: run.sample("3"), "sample: count must be a whole number .*count='3'"),
        ("text", lambda run: run.sample(2.5), "sample: count must be a whole number .*count=2.5"),
        ("text", lambda run: run.sample(True), "sample: count must be a whole number .*True"),
        ("text", lambda run: run.reconstruct("a", beam=0), "reconstruct: beam must be at least 1"),
        ("text", lambda run: run.edit("a", layers="x"), "edit: layers must be a whole number"),
        ("text", lambda run: run.edit("a", layers=-1), "edit: layers must be at least 0"),
        ("text", lambda run: run.interpolate("a", "b", 2.5), "interpolate: steps must be a whole"),
        ("images", lambda run: run.sample(2.5), "sample: count must be a whole number"),
        ("images", lambda run: run.interpolate(BLANK, BLANK, 2.5), "interpolate: steps must be a"),
        (
            "gan_images",
            lambda run: run.interpolate(1, 2, 1),
            "interpolate: steps must be at least 2",
        ),
        ("gan_images", lambda run: run.sample("3"), "sample: count must be a whole number"),
        ("gan_images", lambda run: run.interpolate("a", "b"), "must be seeds, or .*; got str 'a'"),
    ],
)
def test_an_argument_of_another_type_is_refused_in_one_line(
    name: str, use: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        use(opened(name, tmp_path))
    assert "\n" not in str(caught.value)


def test_one_layer_is_a_list_of_it(tmp_path: Path) -> None:
    run = opened("text", tmp_path)
    assert run.edit("a cat", 0, seed=1) == run.edit("a cat", [0], seed=1)


def test_labels_are_numbers_or_names_for_all_rows_or_each() -> None:
    names = ["cat", "dog", "eel"]
    assert class_numbers("dog", 2, 3, names).tolist() == [1, 1]
    assert class_numbers(["eel", "cat"], 2, 3, names).tolist() == [2, 0]
    assert class_numbers(np.array([2, 0], np.uint8), 2, 3, []).tolist() == [2, 0]
    assert class_numbers([1], 2, 3, []).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.7, 1.9], "labels must be whole numbers in 0..2, or one of cat, dog, eel; got 0.7"),
        ([0, 1, 2], r"one class, or 2 of them, one for each row; got shape \(3,\)"),
        ("cow", "or one of cat, dog, eel; got 'cow'"),
        (3, "labels must be whole numbers in 0..2, .*; got 3"),
        ([[0], [1]], r"got shape \(2, 1\)"),
        (True, "whole numbers in .*; got True"),
    ],
)
def test_a_label_that_is_no_class_is_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_numbers(labels, 2, 3, ["cat", "dog", "eel"])


def test_units_of_a_gan_undo_its_scaling() -> None:
    x = torch.tensor([[-1.0, 1.0], [0.0, 2.0]])
    levels = DataUnits(256, None, None, np.dtype("uint8"))
    np.testing.assert_array_equal(levels.from_networks(x), [[0, 255], [128, 255]])
    spread = np.array([2.0, 10.0])
    table = DataUnits(None, np.array([1.0, 5.0]), spread, np.dtype("float64"))
    np.testing.assert_array_equal(table.from_networks(x), [[-1, 15], [1, 25]])


def test_a_gan_samples_and_interpolates_arrays_from_seeds(tmp_path: Path) -> None:
    run = opened("gan_images", tmp_path)
    assert isinstance(run, TrainedGan)
    state = torch.get_rng_state()
    rows = run.sample(3, seed=1)
    assert isinstance(rows, np.ndarray)
    np.testing.assert_array_equal(rows, run.sample(3, seed=1))
    path = run.interpolate(1, 2, 5)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_allclose(path[0], run.interpolate(1, 1, 2)[1], atol=1e-5)
    latent = np.ones(run.latent_width)
    first = run.from_networks(run.generate(torch.ones(1, 8)))[0]
    np.testing.assert_allclose(run.interpolate(latent, 2, 2)[0], first, atol=1e-5)
    assert any("in the units of the networks" in note for note in run.notes)  # version 0.1.0
    for arguments, message in (
        ((0,), "count must be at least 1"),
        ((2, [0, 1]), "labels are for a conditional GAN"),
    ):
        with pytest.raises(InputError, match=message):
            run.sample(*arguments)
    with pytest.raises(InputError, match="steps must be at least 2"):
        run.interpolate(0, 1, 1)
    with pytest.raises(InputError, match=r"must be seeds, or latents of shape \(8,\)"):
        run.interpolate(np.ones(3), 1)


def test_a_path_along_the_sphere_keeps_the_length() -> None:
    start = torch.tensor([3.0, 0.0])
    end = torch.tensor([0.0, 3.0])
    path = slerp(start, end, torch.linspace(0, 1, 5)[:, None])
    torch.testing.assert_close(path.norm(dim=1), torch.full((5,), 3.0))
    torch.testing.assert_close(path[2], torch.full((2,), 4.5**0.5))
