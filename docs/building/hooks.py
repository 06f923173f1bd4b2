"""What mkdocs does beside its plugins: formulas, tables, notebooks, pages of the root folder."""

import re
from pathlib import Path

from formulas import with_formulas
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_pages import notebook_page
from tables import with_commands

__all__ = ["on_files", "on_page_content", "on_page_markdown"]

ROOT = Path(__file__).parents[2]
OF_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
TO_DOCS = re.compile(r"\]\(docs/")  # a link from a file of the root into the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root folder, and the executed notebooks with their images."""
    for source, name in OF_THE_ROOT.items():
        content = TO_DOCS.sub("](", (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=content))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        for name, generated in notebook_page(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=generated))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the list of commands."""
    return with_commands(markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the formulas of a page."""
    return with_formulas(html)
