"""What a teacher gives besides cosines: the start of the token table, and pairs to contrast."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import train_similar
from experiments.cli import commands as cli
from experiments.sentences.pair_task import PairTask
from experiments.sentences.reduction import principal_components
from experiments.sentences.teacher import token_vectors, write_table
from experiments.sentences.token_start import load_table, token_counts, token_table, token_texts
from experiments.training.distributed import World
from experiments.training.run_folder import Run
from univae.errors import InputError
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.sentence.trained import TrainedSimilar
from univae.text.corpus import Corpus
from univae.text.special import RESERVED
from univae.text.tokenizers import train_tokenizer

GROUPS = [
    [f"{a} {b} here", f"{b} {a} there"] for a in ("red", "big", "old") for b in ("cat", "dog")
]
TEXTS = [text for group in GROUPS for text in group]
WORDS = sorted({word for text in TEXTS for word in text.split()})
OPTIONS = {
    "width": 8,
    "heads": 2,
    "layers": 1,
    "max_length": 12,
    "tokenizer": "words",
    "vocab_size": 40,
    "steps": 2,
    "batch_size": 2,
    "held_out": 0.2,
    "threads": 1,
    "stage": "distil",
}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def vectors_of(texts: list[str], width: int = 12) -> np.ndarray:
    rows = [np.random.default_rng(sum(map(ord, text))).normal(size=width) for text in texts]
    return np.array(rows)


def taught(folder: Path, *, extra: list[str] = WORDS, **options: object) -> train_similar.Config:
    """Return a configuration with a table of vectors of all texts, and of ``extra``."""
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(group) + "\n" for group in GROUPS))
    table = folder / "teacher.npz"
    texts = [*TEXTS, *extra]
    write_table(table, texts, vectors_of(texts))
    values = {**OPTIONS, "pairs": (pairs,), "teacher": table, "out": folder / "run", **options}
    return train_similar.Config.of(**values)


def initial(config: train_similar.Config) -> RoFormerSim:
    """Return the model of a run before its first step."""
    world = World(0, 1, torch.device("cpu"))
    module = train_similar.prepare(config, world).steps(world).task.module
    assert isinstance(module, RoFormerSim)
    return module


# The table of tokens.


def test_every_token_but_parts_of_characters_has_a_text() -> None:
    tokenizer = train_tokenizer("bpe", [" the cat", " the café"], 300)
    texts = token_texts(tokenizer)
    assert len(texts) == tokenizer.vocab_size
    assert texts[:RESERVED] == [""] * RESERVED
    for text in ("the", "cat", "a", "!"):
        assert text in texts
    # half of the bytes are parts of characters, and others control characters and a space
    assert sum(text == "" for text in texts) > 128
    assert not any("\ufffd" in text or text != text.strip() for text in texts)


def test_the_table_is_weighted_principal_components(tmp_path: Path) -> None:
    vectors = vectors_of(["", *WORDS])
    vectors[0] = np.nan
    counts = np.arange(len(vectors)) * 10
    table = token_table(vectors, counts, 4)
    components = principal_components(vectors[1:], 4)
    weight = 1e-3 / (1e-3 + counts[1:] / counts.sum())
    expected = components * weight[:, None]
    np.testing.assert_allclose(table[1:], expected / expected.std(), rtol=1e-5)
    assert table.dtype == np.float32
    assert np.isnan(table[0]).all()
    np.testing.assert_array_equal(token_table(vectors, counts, 4), table)

    with pytest.raises(
        InputError, match="is 13 wide, the teacher's vectors 12; give --embedding-w"
    ):
        token_table(vectors, counts, 13)
    with pytest.raises(InputError, match="has 1 different vectors of the 2 tokens; add"):
        token_table(np.ones((5, 12)), np.ones(5), 4)


def test_the_table_has_the_spread_of_the_random_one(tmp_path: Path) -> None:
    shape = RoFormerSimConfig(vocab_size=6, width=8, heads=2, layers=1)
    model = RoFormerSim(shape)
    before = model.embedding.tokens.weight.detach().clone()
    table = np.full((6, 8), np.nan, np.float32)
    table[3:5] = np.random.default_rng(0).normal(size=(2, 8))
    np.save(tmp_path / "t.npy", table)
    load_table(tmp_path / "t.npy", model)
    after = model.embedding.tokens.weight.detach()
    expected = torch.from_numpy(table[3:5]) * before[3:5].std(correction=0)
    torch.testing.assert_close(after[3:5], expected)
    rest = [0, 1, 2, 5, 6]
    assert torch.equal(after[rest], before[rest])  # the mask too

    np.save(tmp_path / "t.npy", table[:5])
    with pytest.raises(
        InputError, match=r"holds float32 \(5, 8\), not float32 \(6, 8\); delete it"
    ):
        load_table(tmp_path / "t.npy", model)
    (tmp_path / "t.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"t\.npy is damaged"):
        load_table(tmp_path / "t.npy", model)


@pytest.mark.parametrize("table_width", [0, 6])
def test_a_run_starts_from_the_vectors_of_its_tokens(tmp_path: Path, table_width: int) -> None:
    plain = initial(taught(tmp_path, out=tmp_path / "plain", embedding_width=table_width))
    config = taught(tmp_path, token_start="teacher", embedding_width=table_width)
    model = initial(config)

    tokenizer = config.corpora.new_tokenizer()
    texts = token_texts(tokenizer)
    counts = token_counts(Corpus.open(tmp_path / "run" / "corpus"), len(texts))
    assert counts[texts.index("cat")] == 6
    vectors = vectors_of(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = np.isin(texts, WORDS)
    vectors[~known] = np.nan
    expected = torch.from_numpy(token_table(vectors, counts, table_width or 8)[known])
    random = plain.embedding.tokens.weight.detach()
    rows = np.flatnonzero(known)
    weight = model.embedding.tokens.weight.detach()
    torch.testing.assert_close(
        weight[rows], expected * random[rows].std(correction=0), atol=1e-6, rtol=1e-4
    )

    weights = dict(plain.named_parameters())
    for name, value in model.named_parameters():
        if name != "embedding.tokens.weight":
            assert torch.equal(value, weights[name]), name  # nothing else starts differently


def test_a_resumed_run_keeps_its_trained_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"token_start": "teacher", "steps": 4, "checkpoint_every": 1}
    train_similar.train(taught(tmp_path, out=tmp_path / "whole", **options))
    plain = PairTask.loss

    def stop(task: PairTask, batch: object, progress: object) -> object:
        if progress.step == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return plain(task, batch, progress)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(PairTask, "loss", stop)
        with pytest.raises(KeyboardInterrupt):
            train_similar.train(taught(tmp_path, **options))
    config = taught(tmp_path, **options)
    (tmp_path / "teacher.npz").unlink()  # the run has what it needs
    train_similar.train(config.change(resume=True))
    weights = [
        (tmp_path / run / "checkpoints/last/model.safetensors").read_bytes()
        for run in ("whole", "run")
    ]
    assert weights[0] == weights[1]


def test_tokens_that_a_table_lacks_start_at_random_and_are_counted(tmp_path: Path) -> None:
    result = train_similar.train(taught(tmp_path, extra=WORDS[2:], token_start="teacher"))
    (note,) = [note for note in result["notes"] if "token-start" in note]
    assert note.startswith("--token-start teacher: the teacher lacks ")
    assert note.endswith(f"of {len(WORDS)} tokens; they start at random") or "tokens" in note
    assert not any("are not in --pairs" in note for note in result["notes"])


def test_a_run_as_teacher_gives_the_vectors_of_tokens(tmp_path: Path) -> None:
    train_similar.train(taught(tmp_path))
    run = TrainedSimilar.open(tmp_path / "run")
    vectors = token_vectors(tmp_path / "run", ["", "cat", "dog"])
    assert np.isnan(vectors[0]).all()
    np.testing.assert_allclose(vectors[1:], run.encode(["cat", "dog"]), atol=1e-6)


def test_the_teachers_vectors_are_a_target_in_the_students_width(tmp_path: Path) -> None:
    result = train_similar.train(taught(tmp_path, distil_target="vectors", distil_weight=10.0))
    assert np.isfinite(result["held_out_loss"])
    assert np.load(tmp_path / "run" / "teacher.npy").shape == (len(TEXTS), 8)


# Contrasts.


def contrasts(folder: Path, pairs: list[list[str]]) -> tuple[Path]:
    path = folder / "contrasts.tsv"
    path.write_text("".join("\t".join(pair) + "\n" for pair in pairs))
    return (path,)


def test_contrasts_share_a_batch_and_are_not_written(tmp_path: Path) -> None:
    pairs = [[a, f"not {a}"] for a, _ in GROUPS]
    similar = [[*GROUPS[0]]]
    config = taught(
        tmp_path,
        extra=[b for _, b in pairs],
        contrasts=contrasts(tmp_path, [*pairs, *similar]),
        noise_rows=0.0,
    )
    world = World(0, 1, torch.device("cpu"))
    prepared = train_similar.prepare(config, world)
    task = prepared.steps(world).task
    assert isinstance(task, PairTask)
    examples = task.examples
    groups = examples.groups
    held_out = {groups.texts[i] for i in groups.pairs[examples.held_out].flat}
    kept = {(a, b) for a, b in pairs if a not in held_out}
    assert len(kept) == len(pairs) - len(examples.held_out)
    (note,) = [note for note in prepared.notes if "--contrasts" in note]
    assert f"{len(pairs) + 1 - len(kept)} of {len(pairs) + 1} pairs" in note

    for epoch in range(2):
        found = set()
        for item in task.batches(epoch):
            texts = [(groups.texts[a], groups.texts[b]) for a, b in item.tolist()]
            found |= {pair for pair in texts if pair in kept}
            batch = task.load(item)
            partners = int(groups.partners(item).sum())
            assert (batch.target != 0).any(1).sum() == 2 * partners
        assert found == kept
    train_similar.train(config.change(out=tmp_path / "trained"))
    record = Run.open(tmp_path / "trained").data_record()
    assert record["contrasts"]["count"] == len(pairs) + 1
    assert record["pairs"]["count"] == len(GROUPS)


def test_a_resumed_run_of_other_contrasts_is_refused(tmp_path: Path) -> None:
    path = contrasts(tmp_path, [["red cat here", "old dog here"]])
    config = taught(tmp_path, contrasts=path)
    train_similar.train(config)
    contrasts(tmp_path, [["red cat here", "old cat here"]])
    with pytest.raises(InputError, match=r"other data.*contrasts .*: 1 then, 1 now"):
        train_similar.train(config.change(resume=True))


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_options_of_a_teacher_need_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = taught(tmp_path)
    train = ("train-similar", "--pairs", *config.data.pairs, "--out", tmp_path / "new")
    line = refused(capsys, *train, "--token-start", "teacher")
    assert "--token-start teacher needs --stage distil with a --teacher; got none" in line
    line = refused(capsys, *train, "--contrasts", tmp_path / "c.tsv")
    assert "c.tsv needs --stage distil with a --teacher; got none" in line

    distil = (*train, "--stage", "distil", "--teacher", config.data.teacher)
    with pytest.raises(InputError, match=r"the table of tokens is that of .*old, whose weights"):
        config.change(token_start="teacher", from_run=tmp_path / "old")
    line = refused(capsys, *distil, "--token-start", "teacher", "--preset", "tiny")
    assert "the table of tokens is 128 wide, the teacher's vectors 12" in line
    three = contrasts(tmp_path, [["a", "b", "c"]])
    assert "a line holds two texts; one has 3" in refused(capsys, *distil, "--contrasts", *three)
    labelled = contrasts(tmp_path, [["a", "b", "0.5"]])
    line = refused(capsys, *distil, "--contrasts", *labelled)
    assert "has labels, which are not read; give two texts a line" in line
    assert not (tmp_path / "new").exists()
