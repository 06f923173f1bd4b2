"""Training on columns of pairs: the options reach the reader, and a run remembers them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import train_similar
from experiments.training.run_folder import Run
from univae.errors import InputError

TEXTS = [f"{a} {b} {c}" for a in ("a man", "a boy") for b in ("sees", "has") for c in "xyzuvw"]
OPTIONS: dict[str, Any] = {
    "width": 16, "heads": 2, "layers": 1, "max_length": 8, "tokenizer": "words", "steps": 1,
    "batch_size": 6, "held_out": 0.2, "threads": 1, "vocab_size": 60,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def test_named_columns_are_trained_on_and_a_resumed_run_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    rows = "".join(f"note {i},{t},{t} now,{i % 3}\n" for i, t in enumerate(TEXTS))
    path.write_text("remark,mine,yours,mark\n" + rows)
    options = {**OPTIONS, "pairs": (path,), "out": tmp_path / "run"}
    columns = ("mine", "yours", "mark")
    settings = train_similar.Config.of(**options, columns=columns, stage="finetune")
    first = train_similar.train(settings)
    assert "spearman" in first
    assert Run.open(tmp_path / "run").config["columns"] == list(columns)
    assert train_similar.train(settings.change(resume=True)) == first
    with pytest.raises(InputError, match="started with other data, which have changed"):
        train_similar.train(settings.change(resume=True, columns=("yours", "mine", "mark")))
    pairs = {**options, "out": tmp_path / "pairs"}
    unlabelled = train_similar.train(train_similar.Config.of(**pairs, columns=columns[:2]))
    assert unlabelled["pairs"] > 1
    with pytest.raises(InputError, match=r"has labels, .*--columns names the columns to read"):
        train_similar.train(
            train_similar.Config.of(**pairs | {"out": tmp_path / "c"}, columns=columns)
        )
