"""``train-text`` that is asked to stop while it takes its third step.

``python -m`` of it prints a JSON object.
"""

import json
import os
import signal
import sys
from typing import Any

from torch import Tensor

from experiments import train_text
from experiments.cli.commands import parse
from experiments.text.task import TextTask
from experiments.training.stopping import Interrupted
from experiments.training.task import Progress

__all__: list[str] = []


class Stopped(TextTask):
    """Sends this process a SIGTERM in step 3."""

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(batch, progress)


if __name__ == "__main__":
    options: Any = parse(train_text.Config, sys.argv[1:])
    train_text.TextTask = Stopped  # type: ignore[misc]
    try:
        train_text.train(options)
    except Interrupted:
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps({"interrupted": True}))
