"""``train-text`` whose corpora have a shard for every 200 bytes.

``python -m`` of it prints the result as a JSON object.
"""

import json
import os
import sys
from typing import Any

from experiments import train_text
from experiments.cli.commands import parse
from univae.text import corpus_writer, fingerprint

__all__: list[str] = []

if __name__ == "__main__":
    corpus_writer.SHARD_BYTES = 200
    fingerprint.BATCH_TEXTS = 4
    options: Any = parse(train_text.Config, sys.argv[1:])
    result = train_text.train(options)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"steps": result["steps"]}))
