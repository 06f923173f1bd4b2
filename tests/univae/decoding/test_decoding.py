"""Sampling, generation and beam search on logits of known distributions."""

import math

import pytest
import torch

from univae.decoding.beam import beam_search
from univae.decoding.sampling import Sampling, generate
from univae.errors import InputError
from univae.text.special import END, PAD

DRAWS = 200_000
LOGITS = torch.tensor([0.5, 2.0, -1.0, 1.0, 0.0]).double()


def drawn_shares(sampling: Sampling) -> torch.Tensor:
    drawn = sampling(LOGITS.expand(DRAWS, -1))
    return torch.bincount(drawn, minlength=5) / DRAWS


def assert_distribution(shares: torch.Tensor, p: torch.Tensor) -> None:
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / DRAWS).sqrt()).all()  # zero where p is zero


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_softmax(temperature: float) -> None:
    assert_distribution(
        drawn_shares(Sampling(temperature=temperature)), (LOGITS / temperature).softmax(-1)
    )


def test_top_k_renormalises_the_k_most_probable() -> None:
    p = LOGITS.softmax(-1)
    p[[2, 4]] = 0
    assert_distribution(drawn_shares(Sampling(top_k=3)), p / p.sum())
    assert_distribution(drawn_shares(Sampling(top_k=9)), LOGITS.softmax(-1))


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass() -> None:
    p = LOGITS.softmax(-1)  # falling: .557, .205, .124, .075, .028 ...
    kept = p.clone()
    kept[[0, 2, 4]] = 0
    mass = (p[1] + p[3]).item()
    assert_distribution(drawn_shares(Sampling(top_p=mass - 1e-6)), kept / kept.sum())
    kept[0] = p[0]
    assert_distribution(drawn_shares(Sampling(top_p=mass + 1e-6)), kept / kept.sum())


def test_temperature_zero_is_the_most_probable_token() -> None:
    assert Sampling(temperature=0.0)(LOGITS[None]).tolist() == [1]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((50_000, 4), -math.inf)
    logits[:, 2] = 0.0
    assert (Sampling()(logits) == 2).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_senseless_sampling_is_refused(options: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        Sampling(**options)


class Script:
    """A stepper whose rows always continue with the tokens of ``texts``."""

    def __init__(self, *texts: list[int]) -> None:
        self.texts = torch.tensor(texts)
        self.t = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(self.texts), 6), -math.inf)
        logits[torch.arange(len(self.texts)), self.texts[:, self.t]] = 0.0
        self.t += 1
        return logits

    def reorder(self, rows: torch.Tensor) -> None:
        self.texts = self.texts[rows]


def test_texts_end_at_their_end_token_and_generation_with_the_last() -> None:
    step = Script([3, END, 5, 5], [3, 4, END, 5])
    assert generate(step, 2, 4).tolist() == [[3, END, PAD], [3, 4, END]]
    assert step.t == 3
    assert generate(Script([3, 4, 5, 5]), 1, 2).tolist() == [[3, 4]]
    assert generate(Script([3, END, 5, 4]), 1, 4, end=None).tolist() == [[3, END, 5, 4]]


def test_rows_that_have_ended_are_dropped() -> None:
    class Watched(Script):
        rows: list[int]

        def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
            self.rows = [*getattr(self, "rows", []), len(tokens)]
            return super().__call__(tokens)

    texts = [
        [3, 4, 5, 4, END],
        [END, 5, 5, 5, 5],
        [4, END, 5, 5, 5],
        [5, 3, 4, END, 5],
        [4, 4, 3, END, 5],
    ]
    step = Watched(*texts)
    assert generate(step, 5, 5).tolist() == [
        [3, 4, 5, 4, END],
        [END, PAD, PAD, PAD, PAD],
        [4, END, PAD, PAD, PAD],
        [5, 3, 4, END, PAD],
        [4, 4, 3, END, PAD],
    ]
    assert step.rows == [5, 5, 3, 3, 1]


def test_a_length_penalty_prefers_longer_texts() -> None:
    class Fork:
        """Stops at once with p = .5, or after two tokens that cost log .45 together."""

        def __init__(self) -> None:
            self.t = 0

        def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
            first = torch.tensor([0, 0, 0.5, 0.45, 0.05, 0]).log()
            later = (
                torch.tensor([0, 0, 0, 0, 1.0, 0]).log()
                if self.t < 2
                else torch.tensor([0, 0, 1.0, 0, 0, 0]).log()
            )
            self.t += 1
            return (first if self.t == 1 else later).expand(len(tokens), -1)

        def reorder(self, rows: torch.Tensor) -> None: ...

    short, score = beam_search(Fork(), 1, 2, 5)
    assert short.tolist()[0][0] == END
    assert score.item() == pytest.approx(math.log(0.5))
    long, score = beam_search(Fork(), 1, 2, 5, length_penalty=1.0)
    assert [t for t in long.tolist()[0] if t != PAD] == [3, 4, END]
    assert score.item() == pytest.approx(math.log(0.45))


@pytest.mark.usefixtures("unchecked")
def test_a_beam_of_no_hypothesis_is_refused() -> None:
    with pytest.raises(InputError, match="got width=0"):
        beam_search(Script([END]), 1, 0, 3)
    with pytest.raises(InputError, match="got max_length=0"):
        beam_search(Script([END]), 1, 1, 0)


def test_a_nucleus_wider_than_the_first_look_is_the_sorted_one() -> None:
    torch.manual_seed(0)
    # wide, and narrow
    p = torch.cat((torch.full((1, 3000), 1 / 3000), torch.linspace(0, 9, 3000).softmax(0)[None]))
    falling, ids = p.sort(-1, descending=True)
    kept = torch.zeros_like(p).scatter(-1, ids, (falling.cumsum(-1) - falling < 0.7).to(p))
    drawn = Sampling(top_p=0.7)(p.log().repeat(2000, 1)).view(2000, 2)
    assert kept[1].gather(0, drawn[:, 1]).all()
    # of 2100 equal ones, 2000 draws leave some 39 percent out
    assert len(drawn[:, 0].unique()) > 1150
    mean = (kept[1] * p[1] / (kept[1] * p[1]).sum() * torch.arange(3000)).sum()
    assert (drawn[:, 1].double().mean() - mean).abs() < 5 * drawn[:, 1].double().std() / 2000**0.5
