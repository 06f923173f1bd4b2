"""The files of the stories' users that no data set has: a table, a folder of pictures, a log."""

import csv
import math
from pathlib import Path

import numpy as np

__all__ = ["write_houses", "write_log", "write_pictures"]

DISTRICTS = ("centre", "harbour", "hills", "old town")
PICTURES = 240
SIDE = 24  # pixels
NOISE = 6.0  # deviation of the grain of a picture, in grey levels
MISSING = 0.06  # share of the cells


def write_houses(path: Path, rows: int = 600, seed: int = 0) -> None:
    """Write a CSV of houses: real numbers, a count and two categories, some cells empty.

    Prices follow area and district, rooms follow the area, and a garden is likelier in the hills.
    """
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["area_m2", "price_eur", "rooms", "district", "garden"])
        for _ in range(rows):
            writer.writerow(_house(rng))


def _house(rng: np.random.Generator) -> list[str]:
    district = int(rng.choice(len(DISTRICTS), p=[0.35, 0.2, 0.2, 0.25]))
    area = math.exp(rng.normal(4.4 + 0.25 * (district == 2), 0.3))
    price = area * (5200 - 900 * district) * math.exp(rng.normal(0, 0.12))
    rooms = 1 + rng.poisson(area / 30)
    garden = rng.random() < (0.75 if district == 2 else 0.2)
    cells = [f"{area:.1f}", f"{price:.0f}", f"{rooms}", DISTRICTS[district]]
    cells.append("yes" if garden else "no")
    return ["" if rng.random() < MISSING else cell for cell in cells]


def write_pictures(folder: Path, seed: int = 0) -> None:
    """Write PNG files of several modes and two sizes, and files that are no pictures.

    Every picture has a square of one colour on another, with the grain of a photograph; some have a
    palette, some are grey, some have an alpha channel.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    modes = ["RGB", "P", "L", "RGBA"]
    folder.mkdir()
    for number in range(PICTURES):
        side = SIDE if number % 5 else 2 * SIDE
        picture = Image.fromarray(_square(rng, side))
        mode = modes[number % len(modes)]
        converted = picture.quantize(16) if mode == "P" else picture.convert(mode)
        if mode == "RGBA":
            alpha = np.full((side, side), 255, np.uint8)
            alpha[: side // 4] = 0
            converted.putalpha(Image.fromarray(alpha))
        converted.save(folder / f"picture {number:03}.png")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "notes.txt").write_text("Pictures of squares.\r\nNo rights reserved.", "utf-8")


def _square(rng: np.random.Generator, side: int) -> np.ndarray:
    image = np.empty((side, side, 3), np.uint8)
    image[:] = rng.integers(160, 256, 3)
    top, left = rng.integers(0, side // 2, 2)
    image[top : top + side // 2, left : left + side // 2] = rng.integers(0, 120, 3)
    noisy = image + rng.normal(0, NOISE, image.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def write_log(path: Path, lines: int = 1000, seed: int = 0) -> None:
    """Write the log of a web server, with three strange lines near its end."""
    rng = np.random.default_rng(seed)
    pages = ["/", "/index.html", "/search?q=vae", "/static/site.css", "/login", "/api/v1/items"]
    content = []
    for number in range(lines):
        minute, second = divmod(number % 3600, 60)
        host = f"10.0.{rng.integers(4)}.{rng.integers(256)}"
        page = pages[int(rng.choice(len(pages), p=[0.3, 0.2, 0.15, 0.2, 0.05, 0.1]))]
        status = int(rng.choice([200, 304, 404, 500], p=[0.85, 0.1, 0.04, 0.01]))
        content.append(
            f"{host} - - [30/Nov/2026:12:{minute:02}:{second:02}] "
            f'"GET {page} HTTP/1.1" {status} {rng.integers(200, 9000)}'
        )
    for place in (-40, -25, -10):
        content[place] = f"kernel: Out of memory: killed process {rng.integers(10**5)} (python)"
    path.write_text("\n".join(content) + "\n", "utf-8")
