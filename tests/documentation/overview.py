"""Draw the picture of the README: ``python -m tests.documentation.overview RUN PICTURE.png``.

RUN is a folder of ``univae demo``. The picture shows the reports of its text VAE, in light colours,
and of its GAN, in dark ones, as a headless Chromium draws them.
"""

import sys
import tempfile
from base64 import b64encode
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser import OPTIONS, chromium_path

WIDTH = 1120  # pixels of the picture
HEIGHT = 560
PAGE = 900  # width of the window of a report

FRAME = """<!doctype html><style>
body {{ margin: 0; padding: 24px; display: flex; gap: 24px; background: #e9ecf1; }}
div {{ flex: 1; height: {height}px; overflow: hidden; border-radius: 8px; box-shadow: 0 2px 12px #0004; }}
img {{ width: 100%; display: block; }}
</style><div><img src="{light}"></div><div><img src="{dark}"></div>"""


def report_picture(browser: Browser, report: Path, scheme: str, first: str) -> str:
    """Return a report as the address of a PNG, from the section of an identifier on."""
    context = browser.new_context(
        viewport={"width": PAGE, "height": 2 * HEIGHT}, color_scheme=scheme
    )
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    if first:
        page.locator(f"#{first}").scroll_into_view_if_needed()
        page.evaluate("id => document.getElementById(id).scrollIntoView()", first)
    picture = page.screenshot()
    context.close()
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def draw(run: Path, picture: Path) -> None:
    """Draw the reports of a demo side by side."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(OPTIONS))
        light = report_picture(browser, run / "report.html", "light", "")
        dark = report_picture(browser, run / "gan" / "report.html", "dark", "curves")
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(height=HEIGHT - 48, light=light, dark=dark))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(frame.as_uri())
        page.screenshot(path=str(picture))
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
