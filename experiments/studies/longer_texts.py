"""Likelihoods and sentence vectors of texts longer than those of training, as ``stretch`` has them.

A UniVAE is trained on documents of up to 64 tokens, consecutive sentences of a file joined, and
measured on documents of up to 512: nats a token, by the bound. A RoFormer-Sim is trained on groups
of similar short texts and measured on long ones: k texts of different groups joined, whose other
members, joined in the same order, are to be found among all such texts. Each run is measured

    plain       with the positions of training, continued
    ntk         with stretched rotary positions
    stretched   as ``univae stretch`` writes it: those, and scores that grow with ln n
    cut         vectors alone: texts are cut at the length of training

``python -m experiments.studies.longer_texts sentences.txt groups.jsonl --out runs/longer`` reads
sentences, one a line, and groups of texts, one JSON list a line. Minutes are processor time.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import train_similar, train_text
from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, failures, finished, run_all, spread
from experiments.studies.reuse import bad_input_ends
from experiments.studies.sentences import recall, write_groups
from univae.attention import stretched
from univae.checkpoint import JsonObject, write_text_atomic
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.sentence.tokenizer import SimilarText
from univae.sentence.trained import TrainedSimilar
from univae.text.padding import pad
from univae.vae.trained import TrainedText

DOCUMENT = 64  # most tokens of a training document, its end token included
LENGTHS = (64, 128, 256, 512)
VECTOR_LENGTH = 32  # most tokens of a text in training the sentence model
JOINED = (1, 4, 16)  # texts in a text whose vector is measured
MOST_JOINED = 16 * VECTOR_LENGTH  # tokens
DRAWS = 4  # of the latents of a document
TOKENS = 16_384  # of documents in a measurement
AT_ONCE = 4096  # tokens
CANDIDATES = 200  # texts among which one is to be found
HELD_OUT = 0.05
WAYS = ("plain", "ntk", "stretched")
CUT = "cut"

COMMON: JsonObject = {
    "clock": "processor",
    "threads": 1,
    "validate_every": 0,
    "checkpoint_every": 0,
}


def longer(config: Any, length: int, way: str) -> Any:
    """Return a model's configuration for texts of up to ``length`` tokens."""
    if length <= config.max_length:
        return config
    stretched_config = stretched(config, length)
    if way == "stretched":
        return stretched_config
    base = stretched_config.rotary_base if way == "ntk" else config.rotary_base
    return replace(config, max_length=length, rotary_base=base)


def with_config(run: TrainedText | TrainedSimilar, config: Any) -> Any:
    """Return the model of a run with another configuration and the same weights."""
    model = type(run.model)(config).eval()
    model.load_state_dict(run.model.state_dict())
    return model


def documents(run: TrainedText, sentences: Sequence[str], length: int) -> list[list[int]]:
    """Return documents of about ``length`` tokens: as many whole sentences as fit."""
    all_documents = []
    document: list[int] = []
    for sentence in sentences:
        ids = run.tokenizer.encode(sentence)
        if document and len(document) + len(ids) + 1 > length:
            all_documents.append(document)
            document = []
        document = document + ids
    full = [ids for ids in all_documents if length / 2 < len(ids) < length]
    if not full:
        raise InputError(f"the held-out sentences give no document of {length} tokens; give more")
    return full[: max(1, TOKENS // length)]


@torch.inference_mode()
def nats_per_token(run: TrainedText, sentences: Sequence[str]) -> JsonObject:
    """Return minus the bound of held-out documents, by length and way, in nats a token."""
    table: JsonObject = {way: {} for way in WAYS}
    for length in LENGTHS:
        held_out = documents(run, sentences, length)
        tokens = sum(len(document) + 1 for document in held_out)
        for way in WAYS:
            model = with_config(run, longer(run.model.config, length, way))
            torch.manual_seed(length)
            total = 0.0
            rows = max(1, AT_ONCE // length)
            for start in range(0, len(held_out), rows):
                block = pad(held_out[start : start + rows])
                for _ in range(DRAWS):
                    bound = model.elbo(block)
                    total -= (bound.log_likelihood - bound.kl.sum(-1)).double().sum().item()
            table[way][str(length)] = total / (DRAWS * tokens)
    return table


def long_pairs(groups: Sequence[Sequence[str]], count: int) -> list[tuple[str, str]]:
    """Return pairs of ``count`` texts joined: the first of each group, and the second."""
    pairs = []
    for start in range(0, len(groups) - count + 1, count):
        joined = groups[start : start + count]
        first = " ".join(group[0] for group in joined)
        second = " ".join(group[1] for group in joined)
        pairs.append((first, second))
    return pairs[:CANDIDATES]


@torch.inference_mode()
def recalls(run: TrainedSimilar, groups: Sequence[Sequence[str]]) -> JsonObject:
    """Return the share of long texts whose other text is the nearest, by texts joined and way."""
    config = run.model.config
    table: JsonObject = {way: {} for way in (CUT, *WAYS)}
    for count in JOINED:
        pairs = long_pairs(groups, count)
        for way in table:
            length = config.max_length if way == CUT else MOST_JOINED * count // max(JOINED)
            way_config = config if way == CUT else longer(config, length, way)
            model = with_config(run, way_config)
            lowercase = run.text.lowercase
            reader = SimilarText(run.tokenizer, way_config.max_length, lowercase=lowercase)

            def encode(
                texts: Sequence[str], model: Any = model, reader: Any = reader
            ) -> np.ndarray:
                blocks = [texts[start : start + 32] for start in range(0, len(texts), 32)]
                vectors = [model.encode(reader.batch(block)).numpy() for block in blocks]
                return np.concatenate(vectors)

            table[way][str(count)] = recall(encode, pairs, (1,))["recall_at_1"]
    return table


def prepare_texts(path: Path, out: Path) -> tuple[Path, list[str]]:
    """Write documents for training; return their file and the held-out sentences.

    A document has whole sentences of up to three quarters of :data:`DOCUMENT` words, so that its
    tokens fit.
    """
    sentences = path.read_text(encoding="utf-8").splitlines()
    sentences = [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]
    count = max(1, int(HELD_OUT * len(sentences)))
    training = out / "documents.txt"
    if not training.exists():
        lines = "".join(document + "\n" for document in _joined(sentences[:-count]))
        write_text_atomic(training, lines)
    return training, sentences[-count:]


def _joined(sentences: Iterable[str]) -> Iterator[str]:
    words = 0
    parts: list[str] = []
    for sentence in sentences:
        count = len(sentence.split())
        if parts and words + count > DOCUMENT * 3 // 4:
            yield " ".join(parts)
            parts = []
            words = 0
        parts.append(sentence)
        words += count
    if parts:
        yield " ".join(parts)


def prepare_groups(path: Path, out: Path) -> tuple[Path, list[list[str]]]:
    """Write the groups for training; return their file and the held-out groups."""
    lines = path.read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line) for line in lines if line.strip()]
    count = min(len(groups) // 2, CANDIDATES * max(JOINED))
    training = out / "groups.jsonl"
    if not training.exists():
        write_groups(training, groups[:-count])
    return training, groups[-count:]


def text_job(path: Path, options: argparse.Namespace, seed: int) -> Job:
    """Return the training of a UniVAE."""
    config = train_text.Config.of(
        text=str(path),
        out=options.out / f"text-{seed}",
        seed=seed,
        minutes=options.minutes,
        validation_texts=64,
        validation_samples=21,
        **train_text.PRESETS["tiny"],
        **COMMON,
    )
    return Job(f"text-{seed}", train_text.train, config)


def sentence_job(path: Path, options: argparse.Namespace, seed: int) -> Job:
    """Return the training of a RoFormer-Sim."""
    config = train_similar.Config.of(
        pairs=(path,),
        out=options.out / f"sentences-{seed}",
        seed=seed,
        minutes=options.minutes,
        **{**train_similar.PRESETS["tiny"], "max_length": VECTOR_LENGTH},
        **COMMON,
    )
    return Job(f"sentences-{seed}", train_similar.train, config)


def over_seeds(tables: Sequence[JsonObject]) -> JsonObject:
    """Return every number of tables of one shape with its spread."""
    return {
        way: {key: spread(table[way][key] for table in tables) for key in tables[0][way]}
        for way in tables[0]
    }


def main(options: argparse.Namespace) -> JsonObject:
    """Train and measure with every seed; return the tables."""
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    documents_file, sentences = prepare_texts(options.texts, options.out)
    groups_file, groups = prepare_groups(options.groups, options.out)
    jobs = []
    for seed in range(options.seeds):
        jobs.append(text_job(documents_file, options, seed))
        jobs.append(sentence_job(groups_file, options, seed))
    results = run_all(jobs, options.at_once)
    done = finished(results)

    nats_of_seeds = []
    recalls_of_seeds = []
    for job in jobs:
        if job.name not in done:
            continue
        folder = RunFolder.open(job.config.out)
        if job.name.startswith("text"):
            text_run = TrainedText.read(folder, torch.device("cpu"), "best")
            nats_of_seeds.append(nats_per_token(text_run, sentences))
        else:
            sentence_run = TrainedSimilar.read(folder, torch.device("cpu"), "best")
            recalls_of_seeds.append(recalls(sentence_run, groups))
    return {
        "minutes": options.minutes,
        "seeds": options.seeds,
        "nats_per_token": over_seeds(nats_of_seeds) if nats_of_seeds else {},
        "recall_at_1": over_seeds(recalls_of_seeds) if recalls_of_seeds else {},
        "failed": failures(results),
    }


def markdown(results: Mapping[str, Any]) -> str:
    """Return both tables in Markdown."""
    titles = {
        "nats_per_token": ("nats a token, documents of up to", 3, 1),
        "recall_at_1": ("nearest text is the right one, %, texts joined", 1, 100),
    }
    lines: list[str] = []
    for name, (title, digits, factor) in titles.items():
        rows = results[name]
        if not rows:
            continue
        columns = list(next(iter(rows.values())))
        lines += [f"| {title} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        for way, spreads in rows.items():
            cells = [_cell(spreads[column], digits, factor) for column in columns]
            lines.append(f"| {way} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(number: Mapping[str, Any], digits: int, factor: float) -> str:
    """Return a mean times a factor, with the deviation over seeds if there is one."""
    mean = f"{factor * number['mean']:.{digits}f}"
    return mean if number["sd"] is None else f"{mean} ± {factor * number['sd']:.{digits}f}"


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Texts longer than those of training.")
    parser.add_argument("texts", type=Path, help="a file of sentences in their order, one a line")
    parser.add_argument("groups", type=Path, help="groups of similar texts, one JSON list a line")
    parser.add_argument("--out", type=Path, default=Path("runs/longer"), help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=4.0, help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each model")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    with bad_input_ends("longer_texts"):
        report("longer_texts", main(arguments), arguments.results, kind="study")
