"""The training task of RoFormer-Sim on pairs: batches, losses and validation.

Each row of a batch is the target of its partner. Only sources have noise; the teacher's vectors are
those of sources without it.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.pairs import pair_batches, pair_up
from experiments.sentences.batch import Batch, Examples, PairRows, SentenceObjective
from experiments.sentences.evaluation import generation, retrieval, selection
from experiments.sentences.stages import STAGES
from experiments.sentences.targets import TARGETS
from experiments.training.backward import TaskBackward
from experiments.training.distributed import World, to_device
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.task import SHOWN_VECTORS, Progress, Shown, Total
from univae.checkpoint import JsonObject
from univae.contrastive.all_gather import Share
from univae.contrastive.chunking import by_mean_tokens
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import paired_info_nce
from univae.sentence.losses import generation_loss
from univae.sentence.model import RoFormerSim
from univae.text.noise import WordNoise
from univae.text.padding import trimmed
from univae.text.special import PAD

__all__ = ["ChunkedPairTask", "PairTask", "pair_steps"]

DENSE = 4096  # most rows whose scores are computed as one matrix
TILE = 1024  # rows of a tile of larger matrices
ROUNDING = 1e-9  # of a share of pairs, whose product may be above a whole number


class PairTask(PairRows):
    """Generate each pair's other text; contrast the pairs, or fit a teacher's vectors."""

    def __init__(
        self,
        model: RoFormerSim,
        objective: SentenceObjective,
        seed: int,
        examples: Examples,
        noise: WordNoise,
    ) -> None:
        super().__init__(model, objective, seed, examples)
        self.noise = noise
        model.classifier.requires_grad_(False)
        if not objective.generation:
            model.head.requires_grad_(False)

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the pairs of texts of every batch, drawn for the epoch."""
        draw = np.random.default_rng([self.seed % 2**64, epoch])
        e = self.examples
        lengths = e.corpus.lengths
        pairs = pair_up(e.groups, e.train, lengths, draw)
        if e.contrasts is not None:
            pairs = np.concatenate((pairs, e.contrasts))
        return pair_batches(pairs, lengths, self.objective.batch_size, draw)

    def load(self, item: np.ndarray) -> Batch:
        """Return the rows of a batch, with noise in the sources."""
        clean = self._clean(item)
        return clean._replace(source=self.noise(clean.source))

    def weigh(self, batches: Sequence[Batch], total: Total) -> list[Batch]:
        """Return the batches of a step with its numbers of rows and tokens, over all processes."""
        local = [(batch.step_rows, batch.step_tokens) for batch in batches]
        rows, tokens = map(round, total([sum(counts) for counts in zip(*local, strict=True)]))
        return [batch._replace(step_rows=rows, step_tokens=tokens) for batch in batches]

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms, summed over the rows of a batch."""
        vectors, log_likelihood = self.encode(batch.source, batch.target)
        return self.loss_of(vectors, log_likelihood, batch, gather=self.objective.gather)

    def encode(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of all rows, and the log-likelihoods of the targets, in nats."""
        written = len(target)
        if not written:
            return self.module.read(source), source.new_zeros(0, dtype=torch.float32)
        vectors, log_likelihood = self.module.read_and_write(source[:written], target)
        if written < len(source):
            vectors = torch.cat((vectors, self.module.read(source[written:])))
        return vectors, log_likelihood

    def loss_of(
        self, vectors: Tensor, log_likelihood: Tensor, batch: Batch, *, gather: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stage's loss and its terms, summed over rows.

        Nats per token are a mean over all tokens of the step, times its rows: the sum over the
        batches of a step, over its rows, is the mean. With ``gather`` the rows of all processes are
        one batch.
        """
        o = self.objective
        unit = F.normalize(vectors, dim=-1)
        all_rows = Share.of(unit, gather=gather).counts
        if STAGES[o.stage].has_teacher:
            name = "distillation"
            target = TARGETS[o.distil_target]
            loss = target.loss(unit, batch.teacher, o.distil_weight, gather=gather)
        else:
            name = "contrastive"
            loss = paired_info_nce(
                unit,
                o.contrast_scale,
                groups=batch.families,
                rows=TILE if sum(all_rows) > DENSE else None,
                gather=gather,
            )
        # The mean over processes is then the loss of the whole batch.
        total = loss * (sum(all_rows) / len(all_rows))
        logged = {name: total}
        if len(batch.target):
            mean = generation_loss(log_likelihood, batch.target, batch.step_tokens)
            logged["generation_nats_per_token"] = batch.step_rows * mean
            total = total + o.generation * logged["generation_nats_per_token"]
        return total, logged

    @property
    def validation_rows(self) -> int:
        """The number of held-out pairs, those with labels or those of retrieval: the larger."""
        return max(self.labelled_pairs, len(self._held_out_pairs))

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Return the metrics of ``rows`` held-out pairs, of those with labels and of the others.

        They are correlation, retrieval, generation and loss.
        """
        e = self.examples
        o = self.objective
        pairs = self._held_out_pairs[:rows]
        metrics = self.labelled(rows)
        has_labels = bool(metrics)
        partners = pairs[e.groups.partners(pairs)]
        metrics |= retrieval(self.module, e.corpus, partners)
        if o.generation:
            metrics |= generation(self.module, e.corpus, partners)
        metrics["held_out_loss"] = self._held_out_loss(pairs)
        best_by = selection(metrics) if has_labels else metrics["held_out_loss"]
        return {"selection": best_by, **metrics}

    def shown(self) -> Shown:
        """Return the vectors of held-out texts."""
        e = self.examples
        rows = self._held_out_pairs[:, 0][:SHOWN_VECTORS]
        ids = e.corpus.gather(rows).to(next(self.module.parameters()).device)
        labels = [" ".join(e.groups.texts[row].split()) for row in rows]
        return Shown(self.module.encode(ids), labels)

    @cached_property
    def _held_out_pairs(self) -> np.ndarray:
        """The pairs of retrieval, one of each family: the texts of other pairs are negatives."""
        e = self.examples
        draw = np.random.default_rng([self.seed % 2**64, 0])
        pairs = pair_up(e.groups, e.held_out, e.corpus.lengths, draw)
        _, first = np.unique(e.groups.families[pairs[:, 0]], return_index=True)
        return pairs[np.sort(first)][: self.objective.validation_pairs]

    def _held_out_loss(self, pairs: np.ndarray) -> float:
        """Return the stage's loss per row on held-out pairs without noise, in training batches."""
        total = 0.0
        rows = 0
        device = next(self.module.parameters()).device
        for start in range(0, len(pairs), self.objective.batch_size):
            on_cpu = self._clean(pairs[start : start + self.objective.batch_size])
            batch = to_device(on_cpu, device)
            vectors, log_likelihood = self.encode(batch.source, batch.target)
            loss, _ = self.loss_of(vectors, log_likelihood, batch, gather=False)
            total += float(loss)
            rows += len(batch.source)
        return total / max(rows, 1)

    def _clean(self, pairs: np.ndarray) -> Batch:
        """Return the rows of pairs without noise, those of partners first."""
        e = self.examples
        partners = e.groups.partners(pairs)
        order = np.argsort(~partners, kind="stable")
        pairs = pairs[order]
        partners = partners[order]
        texts = pairs.reshape(-1)
        source = self.rows(pairs)
        share = self.objective.generation_share if self.objective.generation else 0.0
        written = math.ceil(share * len(pairs) - ROUNDING)
        target = e.corpus.gather(pairs[:written, ::-1].reshape(-1))
        target[torch.from_numpy(np.repeat(~partners[:written], 2))] = PAD
        teacher = np.zeros((len(texts), 0), np.float32)
        if e.teacher is not None:
            teacher = np.array(e.teacher[texts], np.float32)
        families = torch.from_numpy(e.groups.families[texts]).long()
        tokens = int((target != PAD).sum())
        none = torch.empty(0)  # no labels
        teacher_rows = torch.from_numpy(teacher)
        return Batch(source, target, families, teacher_rows, none, none, len(source), tokens)


class ChunkedPairTask(PairTask):
    """A :class:`PairTask` whose gradients need the activations of one chunk of rows only.

    Chunks have equal tokens, so that little of them is padding: as many as ``chunk_size`` rows have
    on average. See :mod:`univae.contrastive.gradient_cache`.
    """

    def backward(
        self, batch: Batch, progress: Progress, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradient chunk by chunk, and return the loss and its terms, detached.

        The loss is a function of one row of numbers per text: its vector, and the log-likelihood of
        its target, 0 without one.
        """
        result = dict[str, Tensor]()

        def loss_of_rows(rows: Tensor) -> Tensor:
            loss, logged = self.loss_of(
                rows[:, :-1],
                rows[: len(batch.target), -1],
                batch,
                gather=self.objective.gather,
            )
            result["loss"] = loss.detach()
            result.update({name: term.detach() for name, term in logged.items()})
            return loss * factor

        cached_backward(
            self._encode_chunk,
            self._chunked(batch),
            loss_of_rows,
            self._groups,
            modules=(self.module,),
        )
        return result.pop("loss"), result

    def _chunked(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sources, targets of all rows, and whether a row's target is generated."""
        rows = len(batch.source)
        written = len(batch.target)
        unwritten = batch.target.new_full((rows - written, batch.target.shape[1]), PAD)
        target = torch.cat((batch.target, unwritten))
        is_written = torch.arange(rows, device=target.device) < written
        return batch.source, target, is_written

    def _groups(self, column: tuple[Tensor, Tensor, Tensor]) -> list[list[int]]:
        """Return the rows of each chunk, ascending: those that are generated come first."""
        source, target, _ = column
        lengths = torch.stack([(ids != PAD).sum(1) for ids in (source, target)], 1)
        chunker = by_mean_tokens(self.objective.chunk_size, tuple)
        return [sorted(group) for group in chunker(lengths.tolist())]

    def _encode_chunk(self, chunk: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the vector and the log-likelihood of each row, (rows, width + 1)."""
        source, target, is_written = chunk
        source = trimmed(source)
        vectors, log_likelihood = self.encode(source, trimmed(target[is_written]))
        unwritten = log_likelihood.new_zeros(len(source) - len(log_likelihood))
        column = torch.cat((log_likelihood, unwritten))[:, None]
        return torch.cat((vectors, column.to(vectors)), 1)


def pair_steps(
    model: RoFormerSim,
    objective: SentenceObjective,
    settings: Settings,
    examples: Examples,
    noise: WordNoise,
    world: World,
) -> GradientSteps[np.ndarray, Batch]:
    """Return the steps on pairs, with gradients in chunks where ``--chunk-size`` asks for them."""
    if not objective.chunk_size:
        task = PairTask(model, objective, settings.seed, examples, noise)
        return GradientSteps(task, settings, world)
    chunked = ChunkedPairTask(model, objective, settings.seed, examples, noise)
    backward = TaskBackward(chunked.backward, chunked, world)
    return GradientSteps(chunked, settings, world, backward=backward)
