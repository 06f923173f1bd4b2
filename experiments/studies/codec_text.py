"""Held-out lines of ``python-docs`` as a file: a UniVAE's bits beside archivers.

Trains the preset ``tiny``, or continues and uses ``--run``, then compresses what was held out with
one particle and with several, and decompresses it. ``xz`` primed is xz with the training text in
its window: what the held-out lines add.

``python -m experiments.studies.codec_text --run runs/texts --minutes 30``
"""

import argparse
from pathlib import Path

from experiments import compress, decompress, train_text
from experiments.benchmarks.harness import report
from experiments.data.texts import BUILT_IN
from experiments.evaluation.archivers import xz_primed
from experiments.text.presets import PRESETS
from univae.checkpoint import JsonObject

REPORTED = (
    "particles",
    "exact",
    "bits_per_char",
    "bytes_out",
    "net_bits",
    "initial_bits",
    "plain",
    "ideal_bits",
    "ideal_iw_bits",
)


def trained(run: Path, minutes: float) -> train_text.Config:
    """Train for so many minutes of processor time on one thread; a run that is done stays."""
    config = train_text.Config.of(
        text=BUILT_IN,
        out=run,
        minutes=minutes,
        clock="processor",
        threads=1,
        resume=(run / "config.json").exists(),
        **PRESETS["tiny"],
    )
    if not (run / "DONE").exists():
        train_text.train(config)
    return config


def coded(run: Path, lines: Path, particles: int) -> JsonObject:
    """Compress the lines with so many particles, and say whether they decompress exactly."""
    compressed = run / f"held_out-{particles}.bits"
    decompressed = run / f"held_out-{particles}.txt"
    result = compress.main(
        compress.Config(
            run=run,
            data=str(lines),
            out=compressed,
            particles=particles,
            verify=False,
            ideal_samples=particles,
        )
    )
    decompress.main(decompress.Config(run=run, data=compressed, out=decompressed))
    is_exact = decompressed.read_bytes() == lines.read_bytes()
    return {"particles": particles, "exact": is_exact, **result}


def main() -> None:
    """Run the study with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        help="the run folder; created, continued or used as it is",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of processor time")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    options = parser.parse_args()
    config = trained(options.run, options.minutes)
    lines = options.run / "held_out.txt"
    held_out, training_text = train_text.write_held_out(config, lines)
    characters = sum(map(len, held_out))

    rows = [coded(options.run, lines, particles) for particles in options.particles]
    primed_bytes = xz_primed(lines.read_bytes(), training_text.encode())
    archivers = dict(rows[0]["archivers_bits_per_char"])
    archivers["xz, primed"] = 8 * primed_bytes / characters
    results = {
        "minutes": options.minutes,
        "texts": len(held_out),
        "characters": characters,
        "files": [{name: row[name] for name in REPORTED} for row in rows],
        "archivers_bits_per_char": archivers,
    }
    report("codec_text", results, options.results, kind="study")


if __name__ == "__main__":
    main()
