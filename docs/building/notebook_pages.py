"""Notebooks, written as scripts, executed and shown as pages.

What a notebook printed and drew is kept in ``build/notebooks``, until the notebook or the library
changes.
"""

import base64
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["notebook_page"]

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "notebooks"
PACKAGES = ("univae", "density", "gan", "experiments")
LIMIT = 120  # seconds of a cell
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
TABLE = re.compile(r"<table[^>]*>")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """Return the page of a notebook and its images by their names, executed where it is new.

    Args:
        path: a script with cells in jupytext's format ``percent``.

    Raises:
        CellExecutionError: a cell failed.
    """
    kept = KEPT / f"{path.stem}-{_digest(path)}.ipynb"
    if not kept.exists():
        _execute(path, kept)
    return _page(json.loads(kept.read_text(encoding="utf-8")), path.stem)


def _digest(path: Path) -> str:
    """Return a digest of a notebook and of the library that it runs."""
    digest = hashlib.sha256(path.read_bytes())
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _execute(path: Path, kept: Path) -> None:
    """Execute a notebook in a temporary folder; write it with its outputs."""
    import jupytext
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = jupytext.read(path)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands set it
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with tempfile.TemporaryDirectory() as folder:
        execution = ExecutePreprocessor(timeout=LIMIT, kernel_name="python3")
        execution.preprocess(notebook, {"metadata": {"path": folder}})
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "text" in output:
            output["text"] = output["text"].replace(f"{Path(folder).resolve()}/", "")
    kept.parent.mkdir(parents=True, exist_ok=True)
    for former in kept.parent.glob(f"{path.stem}-*.ipynb"):
        former.unlink()
    jupytext.write(notebook, kept)


def _page(notebook: dict[str, Any], name: str) -> dict[str, str | bytes]:
    """Return the Markdown of an executed notebook, and its images."""
    parts: list[str] = []
    images: dict[str, str | bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in _joined(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                image = f"{name}-{len(images) + 1}.png"
                images[image] = base64.b64decode(data["image/png"])
                parts.append(f"![Drawn by the cell above]({image})")
            elif "text/html" in data:
                parts.append(_table("".join(data["text/html"])))
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{ESCAPE.sub('', text).rstrip()}\n```")
    return {f"{name}.md": "\n\n".join(parts) + "\n", **images}


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs in which what was printed in several pieces is one."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        is_printed = output["output_type"] == "stream"
        if is_printed and joined and joined[-1]["output_type"] == "stream":
            text = "".join(joined[-1]["text"]) + "".join(output["text"])
            joined[-1] = {**joined[-1], "text": text}
        else:
            joined.append(output)
    return joined


def _table(html: str) -> str:
    """Return the table of a data frame as the other tables of the site look."""
    return "\n".join(
        line.strip()
        for line in TABLE.sub("<table>", STYLE.sub("", html)).splitlines()
        if line.strip()
    )
