"""Held-out lines of ``python-docs`` as a file: a UniVAE's bits beside archivers that have read nothing, and the text.

Trains the preset ``tiny``, or continues and uses ``--run``, then compresses what was held out with
one particle and with several, and reads it back. ``xz`` primed is xz with the training text in its
window: what the held-out lines add.

``python -m experiments.studies.codec_text --run runs/texts --minutes 30``
"""

import argparse
from pathlib import Path
from typing import Any

from experiments import compress, decompress, train_text
from experiments.benchmarks.harness import report
from experiments.data.texts import BUILT_IN
from experiments.evaluation.archivers import xz_primed
from experiments.text.presets import PRESETS


def trained(given: argparse.Namespace) -> train_text.Config:
    """A run of so many minutes of processor time on one thread; one that is done stays."""
    config = train_text.Config.of(
        text=BUILT_IN,
        out=given.run,
        minutes=given.minutes,
        clock="processor",
        threads=1,
        resume=(given.run / "config.json").exists(),
        **PRESETS["tiny"],
    )
    if not (given.run / "DONE").exists():
        train_text.train(config)
    return config


def coded(run: Path, lines: Path, particles: int) -> dict[str, Any]:
    """The file of some particles, and whether it came back."""
    out, again = (run / f"held_out-{particles}{kind}" for kind in (".bits", ".txt"))
    found = compress.main(
        compress.Config(
            run=run,
            data=str(lines),
            out=out,
            particles=particles,
            verify=False,
            ideal_samples=particles,
        )
    )
    decompress.main(decompress.Config(run=run, data=out, out=again))
    return {"particles": particles, "exact": again.read_bytes() == lines.read_bytes(), **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="the run folder; made, continued or used as it is"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of processor time")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    given = parser.parse_args()
    config = trained(given)
    lines = given.run / "held_out.txt"
    held_out, read = train_text.write_held_out(config, lines)
    characters = sum(map(len, held_out))
    rows = [coded(given.run, lines, particles) for particles in given.particles]
    primed = xz_primed(lines.read_bytes(), read.encode())
    results = {
        "minutes": given.minutes,
        "texts": len(held_out),
        "characters": characters,
        "files": [{name: row[name] for name in SHOWN} for row in rows],
        "archivers_bits_per_char": rows[0]["archivers_bits_per_char"]
        | {"xz, primed": 8 * primed / characters},
    }
    report("codec_text", results, given.results, kind="study")


SIZES = ("bytes_out", "net_bits", "initial_bits", "plain", "ideal_bits", "ideal_iw_bits")
SHOWN = ("particles", "exact", "bits_per_char", *SIZES)

if __name__ == "__main__":
    main()
