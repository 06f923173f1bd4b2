"""Imported checkpoints against transformers: the largest error of hidden states and of logits.

Small checkpoints with random weights are written by transformers, read here, and evaluated by both
on the same padded tokens: under the bidirectional mask, the UniLM mask (a source that sees itself,
a target that sees the source and its past) and the causal one.

``python -m experiments.benchmarks.import_parity --out parity.json``
"""

import argparse
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.harness import report
from univae.attention import masks
from univae.attention.core import attend
from univae.attention.rotary import phases
from univae.checkpoint import JsonObject
from univae.huggingface import Checkpoint
from univae.huggingface.vocabulary_files import write_vocabulary
from univae.sentence.model import RoFormerSim
from univae.text.padding import pad
from univae.text.special import PAD, START
from univae.text.wordpiece import UNKNOWN_PIECE, Jieba, WordPiece

TEXTS = ("今天天气非常好。", "怎么更改花呗手机号码", "a small cat plays", "天气")
TARGETS = ("天气很好", "花呗", "cat!", "今天 cat")
ENGLISH = ("a", "small", "cat", "play", "##s", "!", "[unused1]")
WORDS = ("今天", "天气", "非常", "手机", "号码")
SPREAD = 0.2  # standard deviation of random weights, so that errors would show


@dataclass(frozen=True)
class Case:
    """A checkpoint: its tokenizer, and what its configuration has besides its small size."""

    tokenizer: type[WordPiece]
    options: JsonObject = field(default_factory=dict)


CASES = {
    "as published": Case(WordPiece),
    "embeddings of half the width": Case(WordPiece, {"embedding_size": 16}),
    "tanh GELU, narrow inner layers": Case(
        WordPiece, {"hidden_act": "gelu_new", "intermediate_size": 48}
    ),
    "words by Jieba": Case(Jieba, {"embedding_size": 48, "hidden_act": "relu"}),
}


def write_checkpoint(case: Case, folder: Path, seed: int = 0) -> None:
    """Write a RoFormer with random weights and a vocabulary of a few words."""
    from transformers import RoFormerConfig, RoFormerForMaskedLM

    characters = sorted({character for text in TEXTS + TARGETS for character in text} - {" "})
    words = dict.fromkeys((UNKNOWN_PIECE, *ENGLISH, *WORDS, *characters))
    tokenizer = case.tokenizer(list(words))
    write_vocabulary(tokenizer, folder)
    config = RoFormerConfig(
        **{
            "vocab_size": tokenizer.vocab_size + 1,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
            **case.options,
        }
    )
    torch.manual_seed(seed)
    model = RoFormerForMaskedLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(1 if "LayerNorm.weight" in name else 0, SPREAD)
    model.save_pretrained(folder)


def errors(folder: Path) -> dict[str, dict[str, float]]:
    """Return the largest errors of a RoFormer checkpoint, by mask and output."""
    from transformers import RoFormerForMaskedLM

    published = RoFormerForMaskedLM.from_pretrained(folder).eval()
    checkpoint = Checkpoint.open(folder)
    model = checkpoint.sentence_model()
    rows = torch.tensor([*checkpoint.vocabulary.rows, checkpoint.vocabulary.mask])
    regular = torch.ones(len(rows), dtype=torch.bool)
    regular[[PAD, START, model.mask]] = False
    found = {}
    for name, (ids, segments, mask) in _inputs(checkpoint).items():
        additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        with torch.no_grad():
            output = published(
                rows[ids],
                attention_mask=additive,
                token_type_ids=segments,
                output_hidden_states=True,
            )
            states, logits = _states(model, ids, segments, mask)
        real = ids != PAD
        hidden = max(
            float((a - b)[real].abs().max())
            for a, b in zip(states, output.hidden_states, strict=True)
        )
        difference = (logits - output.logits[..., rows])[real][:, regular]
        found[name] = {"hidden": hidden, "logits": float(difference.abs().max())}
    return found


def _states(
    model: RoFormerSim, ids: Tensor, segments: Tensor, mask: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return the rows after the embedding and after every block, and the logits."""
    embedding = model.embedding
    x = embedding.finish(embedding.tokens(ids) + embedding.segments.weight[segments])
    config = model.config
    phase = phases(torch.arange(ids.shape[1]), config.width // config.heads)[None]
    states = [x]
    for block in model.blocks:
        states.append(block(states[-1], phase, partial(attend, mask=mask)))
    return states, model.head(states[-1], embedding.tokens.weight)


def _inputs(checkpoint: Checkpoint) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return ids, segments and the mask (batch, 1, rows, rows) of each kind of attention."""
    tokenizer = checkpoint.tokenizer
    source = F.pad(pad(tokenizer.encode_batch(TEXTS)), (1, 0), value=START)
    target = pad(tokenizer.encode_batch(TARGETS))
    rows = source.shape[1]
    both = torch.cat((source, target), 1)
    segments = torch.cat((torch.zeros_like(source), torch.ones_like(target)), 1)
    visible = masks.padding(source != PAD)
    triangle = masks.causal(rows, rows)
    return {
        "bidirectional": (source, torch.zeros_like(source), visible.expand(-1, -1, rows, -1)),
        "UniLM": (both, segments, masks.prefix(segments) & masks.padding(both != PAD)),
        "causal": (source, torch.ones_like(source), visible & triangle),
    }


def main() -> None:
    """Print the table, and write it with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    table = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(case, Path(folder))
            table[name] = {"tokenizer": case.tokenizer.kind, **errors(Path(folder))}
    report("import_parity", {"largest_error": table}, arguments.out)


if __name__ == "__main__":
    main()
