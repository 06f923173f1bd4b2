"""The portable encoder computes the vectors of a RoFormer-Sim, from every text and configuration.

It is the plain twin of :meth:`univae.sentence.RoFormerSim.encode`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from univae.sentence.config import RoFormerSimConfig
from univae.sentence.model import RoFormerSim
from univae.sentence.tokenizer import SimilarText, tokenizer_input
from univae.text.tokenizers import TOKENIZERS, train_tokenizer

pytest.importorskip("sentence_transformers")

TEXTS = [
    "a cat sat on the mat",
    "",
    "Dogs  RUN\tin the\nsun",
    "über 中文 \U0001f600 straße",
    "one two three four five six seven eight nine ten eleven twelve",
    "a",
]

Portable = Callable[[RoFormerSim, SimilarText], Any]


@pytest.fixture(scope="module")
def portable() -> Portable:
    """Return a function that builds the portable encoder of a model."""
    from dataclasses import asdict

    from univae.sentence.portable import UnivaeEncoder

    def build(model: RoFormerSim, text: SimilarText) -> UnivaeEncoder:
        config = {"lowercase": text.lowercase, **asdict(model.config)}
        module = UnivaeEncoder(config, text.tokenizer.to_json()).eval()
        names = module.encoder.state_dict()
        module.encoder.load_state_dict({name: model.state_dict()[name] for name in names})
        return module

    return build


def similar_text(kind: str, lowercase: bool, max_length: int) -> SimilarText:
    inputs = [tokenizer_input(text, kind, lowercase=lowercase) for text in TEXTS[:3]]
    return SimilarText(train_tokenizer(kind, inputs, 300), max_length, lowercase=lowercase)


def model_for(text: SimilarText, **options: Any) -> RoFormerSim:
    config = RoFormerSimConfig(
        text.vocab_size, width=16, heads=2, layers=2, max_length=text.max_length, **options
    )
    model = RoFormerSim(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_have_the_tokens_that_the_model_reads(
    kind: str, lowercase: bool, portable: Portable
) -> None:
    text = similar_text(kind, lowercase, max_length=11)
    module = portable(model_for(text), text)
    ids = text.batch(TEXTS)
    rows = module.preprocess(TEXTS)
    assert torch.equal(rows["input_ids"][:, 1:], ids)
    assert (rows["input_ids"][:, 0] == 1).all()
    assert torch.equal(rows["attention_mask"][:, 1:] == 1, ids != 0)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("scale", ["sqrt", "log_n", "log_n_clip"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_vectors_are_those_of_the_model(
    norm: str, scale: str, pooling: str, portable: Portable
) -> None:
    text = similar_text("bpe", lowercase=True, max_length=24)
    options = {"norm": norm, "scale": scale, "scale_base": 8, "pooling": pooling}
    options["rotary_base"] = 50.0
    model = model_for(text, **options)
    module = portable(model.double(), text).double()
    vectors = module(module.preprocess(TEXTS))["sentence_embedding"]
    torch.testing.assert_close(vectors, model.encode(text.batch(TEXTS)), rtol=0, atol=1e-12)


def test_padding_and_the_rest_of_a_batch_change_nothing(portable: Portable) -> None:
    text = similar_text("words", lowercase=False, max_length=24)
    module = portable(model_for(text, scale="log_n", scale_base=8), text).double()
    together = module(module.preprocess(TEXTS))["sentence_embedding"]
    alone = [module(module.preprocess([one]))["sentence_embedding"] for one in TEXTS]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


def test_dropout_is_that_of_the_configuration_and_only_in_training(portable: Portable) -> None:
    text = similar_text("words", lowercase=False, max_length=24)
    module = portable(model_for(text, dropout=0.5, attention_dropout=0.5), text).double()
    features = module.preprocess(TEXTS)

    def vectors() -> torch.Tensor:
        return module(dict(features))["sentence_embedding"]

    assert torch.equal(vectors(), vectors())
    module.train()
    assert not torch.equal(vectors(), vectors())


def test_other_widths_activations_and_eps_are_read_from_the_configuration() -> None:
    from univae.sentence.portable import Encoder

    options = {"inner_width": 24, "embedding_width": 6, "norm_eps": 1e-3, "activation": "relu"}
    common = {"vocab_size": 9, "width": 8, "heads": 2, "layers": 1, "dropout": 0.0}
    common |= {"attention_dropout": 0.0, "scale": "sqrt", "scale_base": 512, "norm": "pre"}
    encoder = Encoder({**common, "pooling": "mean", **options}).eval()
    weights = encoder.state_dict()
    assert weights["embedding.tokens.weight"].shape == (10, 6)
    assert weights["embedding.project.weight"].shape == (8, 6)
    assert weights["blocks.0.wide.weight"].shape == (24, 8)
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-3}
    x = torch.randn(3, 8)
    block = encoder.blocks[0]
    expected = x @ block.wide.weight.T + block.wide.bias
    expected = expected.clamp_min(0) @ block.narrow.weight.T + block.narrow.bias
    torch.testing.assert_close(block.network(x), expected)
    vectors = encoder(torch.tensor([[1, 5, 2]]), torch.ones(1, 3, dtype=torch.bool))
    np.testing.assert_allclose(vectors.detach().norm(dim=-1), 1)


def test_a_saved_module_loads_with_its_length(tmp_path: Path, portable: Portable) -> None:
    from univae.sentence.portable import UnivaeEncoder

    text = similar_text("chars", lowercase=True, max_length=24)
    module = portable(model_for(text), text)
    module.max_seq_length = 9
    module.save(str(tmp_path))
    again = UnivaeEncoder.load(str(tmp_path)).eval()
    assert again.max_seq_length == 9
    assert again.preprocess(TEXTS)["input_ids"].shape[1] == 9
    for name, weight in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
