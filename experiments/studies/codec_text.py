"""Compression of the held-out lines of ``python-docs``: a UniVAE compared with archivers.

Trains the preset ``tiny`` in ``--run``, or continues that run, then compresses the held-out lines
with one particle and with several, and decompresses them. ``xz, primed`` is the growth of an xz
file of the training text when the held-out lines are appended.

``python -m experiments.studies.codec_text --run runs/texts --minutes 30``
"""

import argparse
from pathlib import Path

from experiments import compress, decompress, train_text
from experiments.benchmarks.harness import report
from experiments.data.texts import BUILT_IN
from experiments.evaluation.archivers import xz_primed
from experiments.studies.reuse import bad_input_ends, require_same_options, stored_options
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


def train_run(run: Path, minutes: float) -> train_text.Config:
    """Train for ``minutes`` of processor time on one thread, unless the run is finished.

    Raises:
        InputError: it was finished with other options.
    """
    config = train_text.Config.of(
        text=BUILT_IN,
        out=run,
        minutes=minutes,
        clock="processor",
        threads=1,
        resume=(run / "config.json").exists(),
        **PRESETS["tiny"],
    )
    if (run / "DONE").exists():
        advice = "give another --run, or remove the folder"
        require_same_options(run, stored_options(run), config.flat(), advice)
    else:
        train_text.train(config)
    return config


def coding_rates(run: Path, lines: Path, particles: int) -> JsonObject:
    """Compress and decompress the lines; return the rates, and whether the file is reproduced."""
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


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        help="the run folder; created, continued, or reused if finished",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="processor time in minutes")
    parser.add_argument(
        "--particles", type=int, nargs="+", default=[1, 16], help="latent samples per line"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    config = train_run(options.run, options.minutes)
    lines = options.run / "held_out.txt"
    held_out, training_text = train_text.write_held_out(config, lines)
    characters = sum(len(text) for text in held_out)

    rows = [coding_rates(options.run, lines, particles) for particles in options.particles]
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
    with bad_input_ends("codec_text"):
        main()
