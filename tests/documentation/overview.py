"""Draw the picture of the README: ``python -m tests.documentation.overview RUN PICTURE.png``.

RUN is a folder of ``univae demo``. The picture shows parts of the reports of its text VAE and of its
GAN, in light and in dark colours, as a headless Chromium draws them.
"""

import sys
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser import OPTIONS, chromium_path

WIDTH = 1280  # pixels of the picture
HEIGHT = 560
PAGE = 760  # width of the window of a report

FRAME = """<!doctype html><style>
body {{ margin: 0; padding: 20px; display: flex; gap: 20px; background: #e9ecf1; }}
div {{ flex: 1; height: {height}px; overflow: hidden; border-radius: 8px; background: white;
  box-shadow: 0 2px 12px #0004; }}
div.dark {{ background: #14171c; }}
img {{ width: 100%; display: block; }}
</style>
<div>{head}</div><div class="dark">{curves}</div><div>{samples}</div>"""


def picture_of(
    browser: Browser, report: Path, scheme: str, parts: Sequence[str], height: int
) -> str:
    """Return the images of a report, from the top of each part on, as HTML.

    Args:
        browser: a running Chromium.
        report: the page.
        scheme: ``light`` or ``dark``.
        parts: identifiers of elements of the page.
        height: pixels of each image.
    """
    context = browser.new_context(
        viewport={"width": PAGE, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    images = []
    for part in parts:
        page.evaluate("id => document.getElementById(id).scrollIntoView()", part)
        source = b64encode(page.screenshot()).decode()
        images.append(f'<img src="data:image/png;base64,{source}">')
    context.close()
    return "".join(images)


def draw(run: Path, picture: Path) -> None:
    """Draw parts of the reports of a demo side by side."""
    text = run / "report.html"
    gan = run / "gan" / "report.html"
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(OPTIONS))
        frame = Path(folder) / "frame.html"
        frame.write_text(
            FRAME.format(
                height=HEIGHT - 40,
                head=picture_of(browser, text, "light", ["top"], 1000),
                curves=picture_of(browser, gan, "dark", ["distance-to-real-data"], 1000),
                samples=picture_of(
                    browser,
                    gan,
                    "light",
                    ["generated-images-the-moving-average-of-its-weights"],
                    400,
                )
                + picture_of(browser, text, "light", ["samples-from-the-prior"], 600),
            )
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(frame.as_uri())
        page.screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
