"""Pre-train a small RoFormer as a masked language model, with the Trainer of transformers.

``python -m experiments.studies.masked_words zh.txt runs/roformer-zh --minutes 20`` trains on a file
of one text a line, and writes a checkpoint folder of transformers with a WordPiece vocabulary.
With ``--minutes 0`` the weights are the initial ones.
"""

import argparse
import time
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    DataCollatorForLanguageModeling,
    RoFormerConfig,
    RoFormerForMaskedLM,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from univae.huggingface.vocabulary_files import write_vocabulary
from univae.text.tokenizers import train_tokenizer
from univae.text.wordpiece import WordPiece

MOST_STEPS = 10**9  # the clock ends the training
LAST = 5  # logged losses that the result is the mean of

Rows = list[dict[str, list[int]]]


class ProcessorTime(TrainerCallback):
    """Ends a training after so many seconds of processor time, and counts its steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = time.process_time()
        self.steps = 0

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Ask the trainer to stop once the time is over."""
        self.steps = state.global_step
        control.should_training_stop = time.process_time() - self.start >= self.seconds


def roformer(arguments: argparse.Namespace, vocab_size: int) -> RoFormerForMaskedLM:
    """Return a model whose token table is half as wide as its layers."""
    config = RoFormerConfig(
        vocab_size=vocab_size,
        embedding_size=arguments.width // 2,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        intermediate_size=4 * arguments.width,
        max_position_embeddings=2 * arguments.max_length,
    )
    return RoFormerForMaskedLM(config)


def pretrain(arguments: argparse.Namespace) -> dict[str, object]:
    """Train, write the folder, and return the steps and the last mean loss in nats per token."""
    texts = arguments.text.read_text(encoding="utf-8").split("\n")[:-1]
    pieces = train_tokenizer("wordpiece", texts, arguments.vocab_size)
    assert isinstance(pieces, WordPiece)
    write_vocabulary(pieces, arguments.out)
    tokenizer = BertTokenizer.from_pretrained(arguments.out)
    rows: Rows = [
        {"input_ids": ids}
        for ids in tokenizer(texts, truncation=True, max_length=arguments.max_length)["input_ids"]
    ]

    torch.set_num_threads(1)
    set_seed(0)
    model = roformer(arguments, len(tokenizer))
    clock = ProcessorTime(60 * arguments.minutes)
    loss = None
    if arguments.minutes:
        options = TrainingArguments(
            output_dir=str(arguments.out / "trainer"),
            per_device_train_batch_size=arguments.batch_size,
            learning_rate=arguments.lr,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=200,
            weight_decay=0.01,
            max_steps=MOST_STEPS,
            save_strategy="no",
            logging_steps=100,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            model=model,
            args=options,
            train_dataset=rows,
            data_collator=DataCollatorForLanguageModeling(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        loss = sum(losses[-LAST:]) / len(losses[-LAST:]) if losses else None
    model.save_pretrained(arguments.out)
    return {"texts": len(texts), "steps": clock.steps, "loss_nats_per_masked_token": loss}


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="a file of one text a line")
    parser.add_argument("out", type=Path, help="a folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=20.0, help="of processor time")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=48, help="most tokens of a text")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(pretrain(options()))
