"""The explorer's answers on a text VAE are those of the library."""

from collections.abc import Callable
from typing import Any

import pytest

from experiments.explorer.panels import Panel
from experiments.explorer.texts import moved_text, path_of, text_panels
from tests.experiments.explorer.plain_answers import plain, shown
from univae.decoding.sampling import Sampling
from univae.vae.trained import word_overlap

TEXTS = ["the cat sees a dog", "no bird likes the old fish", "a red dog"]


@pytest.fixture
def run(opened: Callable[[str], Any]) -> Any:
    return opened("text")


@pytest.fixture
def panels(run: Any) -> dict[str, Panel]:
    return {panel.title: panel for panel in text_panels(run, TEXTS, "texts.txt")}


def start(panel: Panel) -> list[Any]:
    """Return the values that the fields of a panel have at the start."""
    return [field.value for field in panel.fields]


def holds(answer: str, texts: list[str]) -> bool:
    return all(shown(text) in plain(answer) for text in texts)


def test_a_path_is_that_of_interpolate_with_the_words_of_both_ends(run: Any) -> None:
    path = path_of(run, TEXTS[0], TEXTS[1], 4)
    texts = run.interpolate(TEXTS[0], TEXTS[1], 4)
    assert [text for _, text, _, _ in path] == texts
    assert [number for number, _, _, _ in path] == [0, 1, 2, 3]
    assert path[1][2:] == (word_overlap(texts[0], texts[1]), word_overlap(texts[-1], texts[1]))


@pytest.mark.parametrize("name", ["text", pytest.param("text_vmf", marks=pytest.mark.slow)])
def test_sliders_at_zero_give_the_reconstruction_and_others_the_moved_latents(
    opened: Callable[[str], Any], name: str
) -> None:
    run = opened(name)
    panel = {each.title: each for each in text_panels(run, TEXTS)}["Latents"]
    sliders = panel.act.args[1]  # type: ignore[union-attr]
    zeros = [0.0] * len(sliders.fields)
    reconstruction, moved = moved_text(run, sliders, TEXTS[0], zeros)
    assert reconstruction == moved == run.decode(run.modes(TEXTS[:1]))[0]

    offsets = [3.0, *zeros[1:]]
    moved = moved_text(run, sliders, TEXTS[0], offsets)[1]
    assert moved == run.decode(sliders.moved(run.modes(TEXTS[:1]), offsets))[0]


def test_the_answers_are_those_of_the_library(run: Any, panels: dict[str, Panel]) -> None:
    assert list(panels) == ["Reconstruct", "Latents", "Path", "Resample", "Samples", "Score"]
    assert holds(panels["Reconstruct"].answer(TEXTS[0], 2), run.reconstruct(TEXTS[0], 2))
    assert holds(panels["Path"].answer(TEXTS[0], TEXTS[1], 3), run.interpolate(*TEXTS[:2], 3))
    reconstruction, edits = run.edit(TEXTS[2], [1], 4, seed=3)
    answer = panels["Resample"].answer(TEXTS[2], ["1"], 4, 3)
    assert holds(answer, [reconstruction, *(edit.text for edit in edits)])
    drawn = run.sample(3, Sampling(0.7, 5, 0.9), seed=2)
    assert holds(panels["Samples"].answer(3, 0.7, 5, 0.9, 2), drawn)


def test_the_scores_are_those_of_the_library(run: Any, panels: dict[str, Panel]) -> None:
    answer = panels["Score"].answer(f"{TEXTS[0]}\n\n {TEXTS[1]}", 40, "posterior")
    scores = run.score(TEXTS[:2], 40, "posterior")
    for column in (scores.log_likelihood, scores.standard_errors, scores.elbo, scores.khat):
        for value in column:
            assert f"{value:.2f}" in answer
    assert f"{scores.rates['bits_per_token']:.4g}" in answer


def test_the_fields_start_with_texts_of_the_data_and_every_panel_answers(
    panels: dict[str, Panel],
) -> None:
    assert start(panels["Path"]) == [*TEXTS[:2], 7]
    assert "3 texts of texts.txt" in panels["Latents"].about
    for panel in panels.values():
        answer = panel.answer(*start(panel))
        assert "<table>" in answer
        assert "warning" not in answer


def test_without_data_the_directions_are_those_of_texts_that_the_model_draws(run: Any) -> None:
    panels = {panel.title: panel for panel in text_panels(run)}
    drawn = [text for text in run.sample(256, seed=0) if text.strip()]
    assert f"{len(drawn)} texts that the model drew" in panels["Latents"].about


def test_too_many_texts_and_unknown_words_are_named(panels: dict[str, Panel]) -> None:
    many = "\n".join(["a cat"] * 201)
    assert "at most 200 texts at once; got 201" in panels["Score"].answer(many, 2, "posterior")
    long = " ".join(["cat"] * 40)
    assert "64" in panels["Reconstruct"].answer(long, 1)
