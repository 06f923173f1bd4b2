r"""RoFormer-Sim as the training loop sees it: batches of pairs, losses and validation.

Each row of a batch is the target of its partner. A source may have noise, a target never has, and
the teacher's vectors are those of clean sources.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data.pairs import pair_batches, pair_up
from experiments.sentences.batch import Batch, Examples, Objective, PairRows
from experiments.sentences.evaluation import generation, retrieval, selection
from experiments.sentences.stages import STAGES
from experiments.training.backward import TaskBackward
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.task import Progress
from univae.checkpoint import JsonObject
from univae.contrastive.all_gather import Share
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import paired_info_nce
from univae.sentence.losses import distillation_loss, generation_loss
from univae.sentence.model import RoFormerSim
from univae.text.noise import WordNoise
from univae.text.special import PAD

__all__ = ["ChunkedPairTask", "PairTask", "pair_steps"]

# rows up to which all scores are held at once, and rows of a tile of larger matrices
DENSE = 4096
TILE = 1024


class PairTask(PairRows):
    """Writes each pair's other text; contrasts the pairs of a batch or imitates a teacher."""

    def __init__(
        self,
        model: RoFormerSim,
        objective: Objective,
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
        draw = np.random.default_rng([self.seed % 2**64, epoch])
        lengths = self.examples.corpus.lengths
        pairs = pair_up(self.examples.groups, self.examples.train, lengths, draw)
        return pair_batches(pairs, lengths, self.objective.batch_size, draw)

    def load(self, item: np.ndarray) -> Batch:
        clean = self._clean(item)
        return clean._replace(source=self.noise(clean.source))

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.judge(
            *self.understand(batch.source, batch.target), batch, self.objective.gather
        )

    def understand(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors of all rows, and log-likelihoods of the targets of the first rows."""
        written = len(target)
        if not written:
            return self.module.read(source), source.new_zeros(0, dtype=torch.float32)
        vectors, log_likelihood = self.module.read_and_write(source[:written], target)
        if written < len(source):
            vectors = torch.cat((vectors, self.module.read(source[written:])))
        return vectors, log_likelihood

    def judge(
        self, vectors: Tensor, log_likelihood: Tensor, batch: Batch, gather: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stage's loss and its parts, summed over rows.

        With ``gather``, the rows of all processes are one batch.
        """
        o = self.objective
        rows = len(batch.source)
        unit = F.normalize(vectors, dim=-1)
        all_rows = Share.of(unit, gather=gather).counts
        if STAGES[o.stage].has_teacher:
            name = "distillation"
            loss = distillation_loss(unit, batch.teacher, o.distil_weight, gather=gather)
        else:
            name = "contrastive"
            loss = paired_info_nce(
                unit,
                o.contrast_scale,
                groups=batch.families,
                rows=TILE if sum(all_rows) > DENSE else None,
                gather=gather,
            )
        # The mean of the processes' losses is that of the whole batch.
        total = loss * (sum(all_rows) / len(all_rows))
        logged = {name: total}
        if len(batch.target):
            logged["generation_nats_per_token"] = rows * generation_loss(
                log_likelihood, batch.target
            )
            total = total + o.generation * logged["generation_nats_per_token"]
        return total, logged

    def validate(self, progress: Progress) -> JsonObject:
        e = self.examples
        o = self.objective
        draw = np.random.default_rng([self.seed % 2**64, 0])
        pairs = pair_up(e.groups, e.held_out, e.corpus.lengths, draw)
        _, first = np.unique(e.groups.families[pairs[:, 0]], return_index=True)
        # one a family: the others' texts are true negatives
        pairs = pairs[np.sort(first)][: o.validation_pairs]
        found = self.labelled()
        partners = pairs[e.groups.partners(pairs)]
        found |= retrieval(self.module, e.corpus, partners)
        if o.generation:
            found |= generation(self.module, e.corpus, partners)
        found["held_out_loss"] = self._held_out(pairs)
        return {
            "selection": selection(found) if "spearman" in found else found["held_out_loss"],
            **found,
        }

    def _held_out(self, pairs: np.ndarray) -> float:
        """Return the stage's loss per row on clean held-out pairs, in batches as in training."""
        total = 0.0
        rows = 0
        device = next(self.module.parameters()).device
        for start in range(0, len(pairs), self.objective.batch_size):
            batch = Batch(
                *(
                    part.to(device)
                    for part in self._clean(pairs[start : start + self.objective.batch_size])
                )
            )
            loss, _ = self.judge(*self.understand(batch.source, batch.target), batch, gather=False)
            total = total + float(loss)
            rows = rows + len(batch.source)
        return total / max(rows, 1)

    def _clean(self, pairs: np.ndarray) -> Batch:
        e = self.examples
        partners = e.groups.partners(pairs)
        order = np.argsort(~partners, kind="stable")
        pairs = pairs[order]
        partners = partners[order]
        texts = pairs.reshape(-1)
        source = self.rows(pairs)
        share = self.objective.generation_share if self.objective.generation else 0.0
        written = math.ceil(share * len(pairs) - 1e-9)
        target = e.corpus.gather(pairs[:written, ::-1].reshape(-1))
        target[torch.from_numpy(np.repeat(~partners[:written], 2))] = PAD
        teacher = (
            np.zeros((len(texts), 0), np.float32)
            if e.teacher is None
            else np.array(e.teacher[texts], np.float32)
        )
        families = torch.from_numpy(e.groups.families[texts]).long()
        return Batch(source, target, families, torch.from_numpy(teacher), torch.empty(0))


class ChunkedPairTask(PairTask):
    """The same gradients with the activations of ``chunk_size`` rows in memory.

    See :mod:`univae.contrastive.gradient_cache`.
    """

    def backward(
        self, batch: Batch, progress: Progress, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode chunk by chunk.

        A row's representation is its vector and the log-likelihood of its target.
        """
        written = len(batch.target)
        found = dict[str, Tensor]()
        unwritten = batch.target.new_full((len(batch.source) - written, batch.target.shape[1]), PAD)
        target = torch.cat((batch.target, unwritten))
        place = torch.arange(len(target), device=target.device)

        def encode(chunk: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            source, target, place = chunk
            own = target[place < written]
            vectors, log_likelihood = self.understand(source, own)
            nothing = log_likelihood.new_zeros(len(source) - len(own))
            return torch.cat(
                (vectors, torch.cat((log_likelihood, nothing))[:, None].to(vectors)), 1
            )

        def judge(rows: Tensor) -> Tensor:
            loss, logged = self.judge(
                rows[:, :-1], rows[:written, -1], batch, self.objective.gather
            )
            found.update(
                loss=loss.detach(), **{name: part.detach() for name, part in logged.items()}
            )
            return loss * factor

        cached_backward(
            encode,
            (batch.source, target, place),
            judge,
            self.objective.chunk_size,
            modules=(self.module,),
        )
        return found.pop("loss"), found


def pair_steps(
    model: RoFormerSim,
    objective: Objective,
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
