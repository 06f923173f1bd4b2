"""A headless Chromium for tests of pages, and the faults of a page that a reader would see.

Chromium is the one that ``UNIVAE_CHROMIUM`` names, or the first of :data:`NAMES` on the path; tests
that need one are skipped where there is none.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "OPTIONS",
    "SCHEMES",
    "WIDTHS",
    "chromium",
    "chromium_path",
    "faults",
    "opened_page",
    "views",
]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
WIDTHS = (1280, 390)  # pixels: a laptop and a phone
SCHEMES = ("light", "dark")
HEIGHT = 800  # pixels

# Returns the faults of the page's layout, in words.
LAYOUT = """() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth)
    faults.push(`the page is ${root.scrollWidth} pixels wide in a window of ${window.innerWidth}`);

  const hidden = (node) => {
    for (let each = node; each && each !== document.body; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.visibility === 'hidden' || style.display === 'none' || style.opacity === '0'
          || style.clip === 'rect(0px, 0px, 0px, 0px)') return true;
    }
    return false;
  };
  // The element that a word scrolls with; those that stay in place cover others.
  const layer = (node) => {
    for (let each = node; each && each !== document.body; each = each.parentElement) {
      if (['fixed', 'sticky'].includes(getComputedStyle(each).position)) return each;
    }
    return null;
  };
  const clipped = (node, box) => {
    for (let each = node; each && each !== document.body; each = each.parentElement) {
      if (getComputedStyle(each).overflowX === 'visible') continue;
      const frame = each.getBoundingClientRect();
      if (box.right <= frame.left || box.left >= frame.right
          || box.bottom <= frame.top || box.top >= frame.bottom) return true;
    }
    return false;
  };

  const words = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const parent = text.parentElement;
    if (['SCRIPT', 'STYLE', 'NOSCRIPT', 'TITLE', 'DESC', 'OPTION'].includes(
        parent.tagName.toUpperCase())) continue;
    if (parent.closest('math') || hidden(parent) || parent.closest('details:not([open]) > :not(summary)')) continue;
    for (const match of text.data.matchAll(/[^\\s\\u200b\\u2e80-\\u9fff\\uff00-\\uffef]+/g)) {
      const range = document.createRange();
      range.setStart(text, match.index);
      range.setEnd(text, match.index + match[0].length);
      const boxes = [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1);
      if (!boxes.length || boxes[0].right <= 0 || clipped(parent, boxes[0])) continue;
      const lines = new Set(boxes.map((box) => Math.round(box.top / 4)));
      if (lines.size > 1 && !/[-\\u2013\\u2014\\/|.,:_=@?&]/.test(match[0])
          && !parent.closest('[data-may-break]'))
        faults.push(`the word ${match[0]} is broken inside`);
      words.push({word: match[0], box: boxes[0], parent});
    }
  }

  words.sort((a, b) => a.box.top - b.box.top);
  for (let i = 0; i < words.length; i++) {
    const a = words[i];
    for (let j = i + 1; j < words.length && words[j].box.top < a.box.bottom - 4; j++) {
      const b = words[j];
      const width = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const height = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      if (width > 2 && height > 4 && a.parent !== b.parent && layer(a.parent) === layer(b.parent))
        faults.push(`the words ${a.word} and ${b.word} overlap`);
    }
  }
  return faults;
}"""


def chromium_path() -> str | None:
    """Return the path of Chromium, or None where there is none."""
    return os.environ.get("UNIVAE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a running Chromium of playwright."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on the path")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


def views() -> list[tuple[int, str]]:
    """Return every pair of a width and a colour scheme."""
    return list(product(WIDTHS, SCHEMES))


@contextmanager
def opened_page(
    browser: Any, address: str, width: int = WIDTHS[0], scheme: str = SCHEMES[0]
) -> Iterator[tuple[Any, list[str]]]:
    """Yield a page and its faults: errors of the console, and requests to other hosts.

    ``address`` is a path of a file or a URL.
    """
    url = address if "://" in address else Path(address).resolve().as_uri()
    view = {"width": width, "height": HEIGHT}
    context = browser.new_context(viewport=view, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    problems: list[str] = []

    def record_message(message: Any) -> None:
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def record_request(request: Any) -> None:
        if not request.url.startswith((url.partition("?")[0][:22], "data:", "blob:", "file:")):
            problems.append(f"request: {request.url}")

    page.on("console", record_message)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", record_request)
    try:
        page.goto(url)
        yield page, problems
    finally:
        context.close()


def faults(page: Any, problems: list[str]) -> list[str]:
    """Return the faults of a page: its problems so far, and those of its layout.

    Layout: the page scrolls sideways, a word is broken inside, two words overlap. A word may be
    broken at punctuation, and inside an element with the attribute ``data-may-break``.
    """
    return [*problems, *page.evaluate(LAYOUT)]
