"""Checkpoints that transformers wrote, read here: the same states, logits and tokens."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from univae.attention.core import attend
from univae.attention.masks import causal
from univae.attention.rotary import phases
from univae.errors import InputError
from univae.huggingface import Checkpoint, write_roformer
from univae.huggingface.vocabulary_files import write_vocabulary
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.text.padding import pad
from univae.text.special import END, PAD, START
from univae.text.tokenizers import train_tokenizer
from univae.text.wordpiece import WordPiece

transformers = pytest.importorskip("transformers")

from experiments.benchmarks.import_parity import CASES, TEXTS, errors, write_checkpoint  # noqa: E402

TOLERANCE = 1e-5
DATA = Path(__file__).parents[4] / "shared" / "data"


def checkpoint(tmp_path: Path, case: str = "as published") -> Checkpoint:
    write_checkpoint(CASES[case], tmp_path)
    return Checkpoint.open(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_states_and_logits_are_those_of_transformers_under_every_mask(tmp_path: Path, case: str):
    write_checkpoint(CASES[case], tmp_path)
    for mask, values in errors(tmp_path).items():
        assert max(values.values()) < TOLERANCE, mask


def test_vectors_and_likelihoods_of_a_sentence_model_are_those_of_transformers(tmp_path: Path):
    opened = checkpoint(tmp_path, "embeddings of half the width")
    model = opened.sentence_model()
    published = transformers.RoFormerForMaskedLM.from_pretrained(tmp_path).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = published.roformer(**batch).last_hidden_state
        vectors = model.read(pad(opened.tokenizer.encode_batch(TEXTS)))
    torch.testing.assert_close(vectors, states[:, 0], atol=TOLERANCE, rtol=0)
    assert any("new weights in pooler, classifier" in note for note in opened.notes)

    # log p(target | source) from the logits of transformers under the UniLM mask
    source = opened.tokenizer.encode_batch(["今天天气"])[0]
    target = opened.tokenizer.encode_batch(["天气很好"])[0]
    row = torch.tensor([[START, *source, END, *target]])
    segments = torch.tensor([[0] * (len(source) + 2) + [1] * len(target)])
    order = segments.cumsum(1)
    mask = order[:, None, None, :] <= order[:, None, :, None]
    rows = torch.tensor([*opened.vocabulary.rows, opened.vocabulary.mask])
    additive = torch.zeros(mask.shape).masked_fill(~mask, -1e30)
    with torch.no_grad():
        logits = published(rows[row], attention_mask=additive, token_type_ids=segments).logits
        ours = model.read_and_write(pad([source]), pad([target]))[1]
    logits = logits[0, len(source) + 1 :, rows]
    logits[:, [PAD, START, model.mask]] = -torch.inf
    expected = logits.log_softmax(-1)[torch.arange(len(target) + 1), [*target, END]].sum()
    torch.testing.assert_close(ours[0], expected, atol=1e-4, rtol=0)


def test_the_streams_of_a_vae_below_its_latents_are_those_of_transformers(tmp_path: Path):
    opened = checkpoint(tmp_path)
    model = opened.text_vae(latent_layers=1, latent_width=4, max_length=20)
    published = transformers.RoFormerModel.from_pretrained(tmp_path, is_decoder=True).eval()
    rows = torch.tensor(opened.vocabulary.rows)
    ids = pad(opened.tokenizer.encode_batch(TEXTS[:1]))
    inputs = torch.cat((torch.full((1, 1), START), ids[:, :-1]), 1)
    x = model.embedding.decoder_rows(inputs)
    phase = phases(torch.arange(1, inputs.shape[1] + 1), 8)[None]
    with torch.no_grad():
        states = published(
            rows[inputs], token_type_ids=torch.ones_like(inputs), output_hidden_states=True
        ).hidden_states
        for block in model.blocks[:-1]:
            x = block(x, phase, lambda q, k, v: attend(q, k, v, causal(len(ids[0]), len(ids[0]))))
    torch.testing.assert_close(x, states[-2], atol=TOLERANCE, rtol=0)
    assert {name.split(".")[0] for name in _new(opened)} == {"infer", "inject"}
    injection = torch.cat([layer.weight.detach().flatten() for layer in model.inject])
    assert 0.01 < float(injection.std()) < 0.03


def _new(opened: Checkpoint) -> list[str]:
    note = next(note for note in opened.notes if "new weights in" in note)
    return note.split("new weights in ")[1].split(", ")


def test_tokens_are_those_of_transformers_on_real_texts(tmp_path: Path):
    texts = [
        "Él said: don’t   PLAY! ①",
        "今天ABC天气，１２３。",
        "\u200bzero-width",
        "naïve [MASK]",
    ]
    pairs = DATA / "tatoeba_cmn_eng"
    for path in sorted(pairs.glob("*.gz"))[:1]:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()[:2000]
        texts += [part for line in lines for part in line.split("\t")[:2]]
    for kind, cls in (("wordpiece", "BertTokenizer"), ("jieba", "RoFormerTokenizer")):
        ours = train_tokenizer(kind, texts, 600)
        folder = tmp_path / kind
        write_vocabulary(ours, folder)
        # RoFormerTokenizer.from_pretrained (5.24) does not give Jieba the vocabulary
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        published = getattr(transformers, cls)(vocab={word: i for i, word in enumerate(words)})
        for text in texts:
            if "[MASK]" in text:  # a special token in a text is no token here
                continue
            expected = published(text, add_special_tokens=False)["input_ids"]
            assert ours.encode(text) == expected, text


def test_weights_go_out_and_come_back_and_transformers_reads_them(tmp_path: Path):
    tokenizer = train_tokenizer("wordpiece", TEXTS, 60)
    config = RoFormerSimConfig(
        tokenizer.vocab_size, width=16, heads=2, layers=2, norm="post", pooling="first",
        activation="gelu_tanh", norm_eps=1e-9, inner_width=24, embedding_width=12,
    )  # fmt: skip
    torch.manual_seed(0)
    model = RoFormerSim(config).eval()
    write_roformer(model, tokenizer, tmp_path)
    opened = Checkpoint.open(tmp_path)
    again = opened.sentence_model(max_length=config.max_length)
    assert again.config == config
    ids = pad(tokenizer.encode_batch(TEXTS))
    torch.testing.assert_close(again.encode(ids), model.encode(ids))
    for name, parameter in model.named_parameters():
        if "classifier" not in name:
            torch.testing.assert_close(dict(again.named_parameters())[name], parameter)
    assert max(max(pair.values()) for pair in errors(tmp_path).values()) < TOLERANCE


def test_a_model_that_no_roformer_expresses_is_refused(tmp_path: Path):
    tokenizer = train_tokenizer("wordpiece", TEXTS, 60)
    model = RoFormerSim(RoFormerSimConfig(tokenizer.vocab_size, width=16, heads=2, layers=1))
    with pytest.raises(InputError, match=r"norm=post; the model has norm=pre; use --format"):
        write_roformer(model, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bert_and_gpt2_give_their_layers_and_say_what_is_left_out(tmp_path: Path):
    tokenizer = train_tokenizer("wordpiece", TEXTS, 60)
    write_vocabulary(tokenizer, tmp_path / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size + 1, intermediate_size=64, **sizes
    )
    bert = transformers.BertForMaskedLM(config).eval()
    bert.save_pretrained(tmp_path / "bert")
    opened = Checkpoint.open(tmp_path / "bert")
    model = opened.sentence_model()
    assert any("left out its absolute positions" in note for note in opened.notes)
    # the first block on the same rows without positions: transformers with position vectors of 0
    with torch.no_grad():
        bert.bert.embeddings.position_embeddings.weight.zero_()
        ids = pad(tokenizer.encode_batch(TEXTS[:1]))
        row = torch.nn.functional.pad(ids, (1, 0), value=START)
        rows = torch.tensor([*opened.vocabulary.rows, opened.vocabulary.mask])
        states = bert(rows[row], output_hidden_states=True).hidden_states
        still = phases(torch.zeros(row.shape[1]), 8)[None]
        x = model.blocks[0](model.embedding(row, 0), still, attend)
    torch.testing.assert_close(x, states[1], atol=TOLERANCE, rtol=0)


def test_a_gpt2_is_a_start_for_a_text_vae_and_none_for_a_sentence_model(tmp_path: Path):
    bpe = train_tokenizer("bpe", ["a small cat plays with a small ball"] * 4, 280)
    state = bpe.to_json()
    tokens = {token: i + 1 for i, token in enumerate(state["tokens"])}
    (tmp_path / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, **tokens}))
    merges = [" ".join(pair) for pair in state["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    config = transformers.GPT2Config(
        vocab_size=len(tokens) + 1, n_embd=16, n_layer=2, n_head=2, n_positions=32
    )
    torch.manual_seed(0)
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    gpt2.save_pretrained(tmp_path)
    opened = Checkpoint.open(tmp_path)
    assert opened.tokenizer.encode(" a small cat") == bpe.encode(" a small cat")
    model = opened.text_vae(latent_layers=1, latent_width=2)
    rows = torch.tensor(opened.vocabulary.rows)
    ids = torch.tensor([[START, *bpe.encode(" a small cat plays")]])
    still = phases(torch.zeros(ids.shape[1]), 8)[None]
    with torch.no_grad():
        gpt2.transformer.wpe.weight.zero_()
        output = gpt2(rows[ids])
        x = model.embedding(ids, 1)
        for block in model.blocks:
            x = block(x, still, lambda q, k, v: attend(q, k, v, causal=True))
        logits = model.head(x, model.embedding.tokens.weight)
    expected = output.logits[..., rows]
    torch.testing.assert_close(logits[..., END:], expected[..., END:], atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="no norm of its embeddings"):
        opened.sentence_model()


def test_older_files_and_divided_weights_are_read(tmp_path: Path):
    write_checkpoint(CASES["as published"], tmp_path)
    expected = Checkpoint.open(tmp_path).sentence_model().encode(torch.tensor([[5, 6, END]]))
    published = transformers.RoFormerForMaskedLM.from_pretrained(tmp_path)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
        for name, tensor in published.state_dict().items()
    }
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    again = Checkpoint.open(tmp_path).sentence_model().encode(torch.tensor([[5, 6, END]]))
    torch.testing.assert_close(again, expected, atol=0, rtol=0)

    (tmp_path / "pytorch_model.bin").unlink()
    published.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = Checkpoint.open(tmp_path).sentence_model().encode(torch.tensor([[5, 6, END]]))
    torch.testing.assert_close(again, expected, atol=0, rtol=0)


def test_a_linear_pooler_is_read_and_one_with_tanh_is_left_out(tmp_path: Path):
    opened = checkpoint(tmp_path)
    pooler = nn.Linear(32, 32)
    published = transformers.RoFormerForMaskedLM.from_pretrained(tmp_path).state_dict()
    published |= {
        "roformer.pooler.dense.weight": pooler.weight.detach(),
        "roformer.pooler.dense.bias": pooler.bias.detach(),
    }
    (tmp_path / "model.safetensors").unlink()
    torch.save(published, tmp_path / "pytorch_model.bin")
    config = json.loads((tmp_path / "config.json").read_text())
    for activation in ("linear", "tanh"):
        (tmp_path / "config.json").write_text(
            json.dumps({**config, "pooler_activation": activation})
        )
        opened = Checkpoint.open(tmp_path)
        weight = opened.sentence_model().pooler.weight
        expected = pooler.weight if activation == "linear" else torch.eye(32)
        torch.testing.assert_close(weight, expected)
        assert any("followed by tanh" in n for n in opened.notes) == (activation == "tanh")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "model_type must be one of roformer, bert, gpt2; got 'llama'"),
        ({"rotary_value": True}, "rotary_value=true; the models here do not have values"),
        ({"hidden_act": "quick_gelu"}, "activation must be one of gelu"),
        ({"num_attention_heads": 5}, "width must be an even multiple of heads"),
    ],
)
def test_what_has_no_equivalent_is_refused_in_one_line(tmp_path: Path, change: dict, message: str):
    write_checkpoint(CASES["as published"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message) as caught:
        Checkpoint.open(tmp_path).sentence_model()
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        Checkpoint.open(tmp_path / "none")
    write_checkpoint(CASES["as published"], tmp_path)
    words = (tmp_path / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*words, "more"]))
    with pytest.raises(InputError, match="restore the tokenizer of these weights"):
        Checkpoint.open(tmp_path).sentence_model()
    (tmp_path / "vocab.txt").write_text("\n".join(words[3:]))
    with pytest.raises(InputError, match=r"lacks the special token \[PAD\]"):
        Checkpoint.open(tmp_path).sentence_model()
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="add the files of its tokenizer"):
        Checkpoint.open(tmp_path).sentence_model()


def test_a_tokenizer_json_is_read_like_a_vocab_txt(tmp_path: Path):
    write_checkpoint(CASES["as published"], tmp_path)
    expected = Checkpoint.open(tmp_path).tokenizer
    transformers.BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "fast")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).rename(tmp_path / "fast" / name)
    opened = Checkpoint.open(tmp_path / "fast")
    if (tmp_path / "fast" / "vocab.txt").exists():
        (tmp_path / "fast" / "vocab.txt").unlink()
    assert isinstance(opened.tokenizer, WordPiece)
    assert opened.tokenizer.to_json() == expected.to_json()


def test_a_line_of_a_vocabulary_ends_at_a_line_feed_alone(tmp_path: Path):
    write_checkpoint(CASES["as published"], tmp_path)
    words = (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words[6] = "\u2028"  # a token that is a line separator
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    opened = Checkpoint.open(tmp_path)
    assert len(opened.vocabulary.rows) == len(words) - 2  # without the mask and the end of the file
    model = opened.sentence_model()
    published = transformers.RoFormerForMaskedLM.from_pretrained(tmp_path)
    row = opened.vocabulary.rows[-1]
    table = published.get_input_embeddings().weight
    torch.testing.assert_close(model.embedding.tokens.weight[-2], table[row])


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Replace the weights of a checkpoint by changed ones, in a file of PyTorch."""
    state = transformers.RoFormerForMaskedLM.from_pretrained(folder).state_dict()
    change(state)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


def _without_a_key(state: dict[str, torch.Tensor]) -> None:
    del state["roformer.encoder.layer.1.attention.self.key.weight"]


def _without_ties(state: dict[str, torch.Tensor]) -> None:
    state["cls.predictions.decoder.weight"] = torch.randn(
        state["roformer.embeddings.word_embeddings.weight"].shape
    )


def _not_finite(state: dict[str, torch.Tensor]) -> None:
    state["roformer.encoder.layer.0.output.dense.bias"][0] = torch.nan


def _of_other_width(state: dict[str, torch.Tensor]) -> None:
    state["roformer.encoder.layer.0.output.dense.bias"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_key, r"the weights lack blocks.1.attention.project.weight"),
        (_without_ties, r"decoder.weight must be the table of tokens"),
        (_not_finite, r"has values that are not finite"),
        (_of_other_width, r"blocks.0.narrow.bias must have the shape \(32,\); got \(3,\)"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
):
    write_checkpoint(CASES["as published"], tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(InputError, match=message) as caught:
        Checkpoint.open(tmp_path).sentence_model()
    assert "\n" not in str(caught.value)


def test_layers_that_the_configuration_lacks_are_refused(tmp_path: Path):
    write_checkpoint(CASES["as published"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(InputError, match="has 1 layers, and the weights have more"):
        Checkpoint.open(tmp_path).sentence_model()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", "3"),
        ("tokenizer_config.json", '{"do_lower_case": "false"}'),
        ("tokenizer_config.json", '{"cls_token": {"x": 1}}'),
        ("tokenizer_config.json", '{"cls_token": "[SEP]"}'),
        ("vocab.txt", "\udcff"),
        ("vocab.txt", "[PAD]\n[PAD]\n"),
        ("config.json", '{"model_type": ["roformer"]}'),
        ("config.json", '{"model_type": "roformer", "hidden_size": 32}'),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, name: str, content: str):
    write_checkpoint(CASES["as published"], tmp_path)
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        Checkpoint.open(tmp_path).sentence_model()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": None}, "normalizer must be BertNormalizer; got None"),
        ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, "pre_tokenizer must be BertPreTokenizer"),
        ({"model": {"type": "Unigram", "vocab": []}}, "WordPiece or a byte-level BPE"),
        ({"added_tokens": [{"content": "[E1]", "id": 9, "special": False}]}, r"got \[E1\]"),
    ],
)
def test_a_tokenizer_json_of_another_kind_is_refused(tmp_path: Path, change: dict, message: str):
    write_checkpoint(CASES["as published"], tmp_path)
    transformers.BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    state = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**state, **change}), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Checkpoint.open(tmp_path).sentence_model()
