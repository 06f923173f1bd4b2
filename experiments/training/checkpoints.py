"""Checkpoints: everything that the next step depends on, saved in the run folder and restored."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Generic

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.data.notes import print_notes
from experiments.training.budget import Budget
from experiments.training.length import is_longer, train_on
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.sharding import (
    Like,
    full_weights,
    whole_weights,
    with_parts,
    without_parts,
    write_parts,
)
from experiments.training.state import State
from experiments.training.step import Steps
from experiments.training.task import Item
from univae.checkpoint import (
    JsonObject,
    existing_folder,
    fill_weights,
    load_state,
    read_json,
    read_weights,
    require_weights,
    save_state,
    save_weights,
    write_json,
)
from univae.checksums import read_unchanged, require_unchanged
from univae.errors import InputError
from univae.optim.ema import EMA
from univae.rules import reading
from univae.run_folder import LAST, RunFolder

__all__ = ["Checkpoints"]


class Checkpoints(Generic[Item]):
    """The checkpoints of a run; a resumed run starts from the last one, others where --from says.

    Args:
        steps: what is trained; its weights and state are replaced where a run is resumed.
        settings: whether the run is resumed, and the decay of the moving average of the weights.
        run: the run folder.

    Attributes:
        state: the position in training, of the checkpoint where a run is resumed.
        average: the moving average of the weights, if ``settings.ema`` asks for one.

    Raises:
        InputError: the checkpoint is damaged, or these processes cannot share its steps.
    """

    def __init__(self, steps: Steps[Item], settings: Settings, run: Run) -> None:
        self.steps = steps
        self.run = run
        self.module = steps.task.module
        self.state = State(processes=steps.world.size)
        folder = existing_folder(run.path / "checkpoints" / LAST) if settings.resume else None
        if settings.resume and folder is None and (run.path / "DONE").exists():
            raise InputError(
                f"{run.path} holds weights without the state of a training, which --resume needs; "
                "train on with --from and a new --out"
            )
        origin = _origin(run) if folder is None else None
        if origin is not None:
            training = self._load_initial(origin)
        else:
            training = {} if folder is None else self._load(folder)
        # read before the barrier of _restore, after which the first process replaces the file
        stored = RunFolder.open(run.path) if settings.resume else None
        # The saved weights are the average: it is created once they are loaded.
        self.average = EMA(steps.averaged, settings.ema) if settings.ema else None
        if origin is not None:
            self._restore_average(training, origin.checkpoint())
        if folder is not None:
            self._restore(training, folder)
        if stored is not None and is_longer(stored, run.config):
            self._train_on(stored, folder)
        if settings.resume:
            run.record_resume()
        run.truncate_rows(self.state.rows)

    def save(self, name: str, budget: Budget) -> None:
        """Write the checkpoint ``last`` or ``best``.

        In the first process only; in all of them where state is divided, a collective operation.
        """
        if self.steps.saves_together:
            self._save_divided(name, budget)
            return
        if not self.steps.world.first:
            return
        self._record(budget)
        with self.run.saving(name) as folder:
            with self.averaged_weights():
                save_weights(self.module, folder / "model.safetensors")
            save_state(self._training_state(), folder / "optimizer.pt")
            write_json(folder / "state.json", asdict(self.state))

    def _save_divided(self, name: str, budget: Budget) -> None:
        """Write whole weights in the first process, and every process's part of the rest."""
        world = self.steps.world
        with self.averaged_weights():
            weights = full_weights(self.module, keep=world.first)
        training, parts = without_parts(self._training_state())
        if not world.first:
            write_parts(parts, Path(world.from_first("")))
            return
        self._record(budget)
        with self.run.saving(name) as folder:
            save_weights(weights, folder / "model.safetensors")
            save_state(training, folder / "optimizer.pt")
            write_json(folder / "state.json", asdict(self.state))
            world.from_first(str(folder))
            write_parts(parts, folder)

    def _record(self, budget: Budget) -> None:
        """Store the time that training took, and the number of rows of metrics, in the state."""
        self.state.seconds = budget.seconds
        self.state.reserve = budget.reserve
        self.state.prelude = budget.prelude
        self.state.validating = budget.validating
        self.state.rows = self.run.count_rows()

    def _training_state(self) -> JsonObject:
        """Return what the next step depends on, beside the averaged weights and the position."""
        training = self.steps.state_dict()
        if self.average:
            weights = self.module.state_dict()
            training |= {"weights": weights, "updates": self.average.updates}
        return training

    def _fill(self, weights: object, path: Path) -> None:
        """Fill the module with the weights of a file, which are whole or divided."""
        if self.steps.sharded:
            whole_weights(self.module, require_weights(self.module, weights, path))
        else:
            fill_weights(self.module, weights, path)

    def _like(self) -> Like:
        """Return the function from a path of ``optimizer.pt`` to the weight divided like it."""
        weights = self.module.state_dict()
        parameters = self.steps.optimized

        def like(path: tuple[object, ...]) -> Tensor | None:
            match path:
                case ("weights", str(name)):
                    return weights.get(name)
                case ("optimizer", "state", int(index), _):
                    return parameters[index] if index < len(parameters) else None
            return None

        return like

    def averaged_weights(self) -> AbstractContextManager[object]:
        """Let the module have its averaged weights, if there are any, while a block runs."""
        return self.average.swapped() if self.average else nullcontext()

    def _train_on(self, stored: RunFolder, folder: Path | None) -> None:
        """Continue a run that may be complete, with more steps or minutes than before."""
        self.state.complete = False
        if not self.run.writes:
            return
        if folder is not None:
            # before config.json: a process killed between the two leaves a run to be continued
            write_json(folder / "state.json", asdict(self.state))
        train_on(stored, self.run.config, self.state.step)

    def _load(self, folder: Path) -> JsonObject:
        """Load position and weights; return the state of the optimizer and of the average."""
        values = read_json(folder / "state.json")
        training = load_state(folder / "optimizer.pt")
        with reading(folder / "state.json"):
            self.state = State(**values)
        self._keep_batches()
        self._load_weights(folder)
        return with_parts(training, folder, self._like())

    def _load_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        self._fill(read_weights(path), path)

    def _load_initial(self, origin: Run) -> JsonObject:
        """Load the weights of another run; return the weights that they are an average of, if any.

        A calibrated checkpoint has the former only.
        """

        def load() -> JsonObject:
            folder = origin.checkpoint()
            self._load_weights(folder)
            path = folder / "optimizer.pt"
            return with_parts(load_state(path) if path.exists() else {}, folder, self._like())

        training = read_unchanged(lambda: [origin.checkpoint()], origin.path, load, to_train=True)
        return {name: training[name] for name in ("weights", "updates") if name in training}

    def _restore_average(self, training: JsonObject, folder: Path) -> None:
        """Continue a moving average, and let the module have the weights that it averages."""
        if self.average and "weights" in training:
            self.average.updates = training.get("updates", 0)
            self._fill(training["weights"], folder / "optimizer.pt")

    def _restore(self, training: JsonObject, folder: Path) -> None:
        self._restore_average({"weights": None, **training}, folder)
        self.steps.load_state_dict(training, self.state.step)
        require_unchanged(folder, self.run.path, to_train=True)
        self.steps.world.wait()  # barrier: the others may still be reading when rank 0 writes

    def _keep_batches(self) -> None:
        """Take steps as the processes did that began the run, or note what differs."""
        size = self.steps.world.size
        began = self.state.processes
        before = self.steps.batches // size * began
        self.steps.keep_batches(began)
        now = self.steps.batches
        if now != before:
            print_notes(
                [
                    f"{self.run.path} was begun by {began} processes, whose steps had {before} "
                    f"micro-batches; now they have {now}, for {size} processes"
                ]
            )
        statistics = _moving_statistics(self.module)
        if size != began and statistics:
            print_notes(
                [
                    f"{self.run.path} was begun by {began} processes: the moving statistics of "
                    f"{statistics}, and weights that depend on them or on the rows normalised "
                    f"together, are not those of {began} processes"
                ]
            )


def _moving_statistics(module: nn.Module) -> str | None:
    """Return the name of the first batch normalisation with moving statistics; None without."""
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.track_running_stats:
            return name
    return None


def _origin(run: Run) -> Run | None:
    """Return the run whose best weights a run starts from, ``--from``; None without one."""
    source = run.config.get("from_run")
    return None if source is None else Run.open(source)
