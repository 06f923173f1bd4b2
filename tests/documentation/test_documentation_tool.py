"""The tool that runs pages: it reads blocks, compares outputs and rewrites them."""

from pathlib import Path

import pytest

from tests.documentation.__main__ import check, main
from tests.documentation.outputs import cleaned, difference, elided
from tests.documentation.pages import Figure, blocks, figures, left_out

PAGE = """\
# A page

<!-- tolerance: 0.2 -->
```sh
echo 100
```

<!-- a remark -->
```text
110
```

Words.

<!-- not run: a GPU -->
```python
print(1)
```

```text
no output: a block that is not run precedes it, and is shown
```

- a list

    ```python
    if True:
        print("two")
    ```

    ```text
    two
    ```

```text
of no block
```
"""


def test_blocks_have_their_settings_and_outputs() -> None:
    shell, left, listed, plain = blocks(PAGE)
    assert shell.code == "echo 100\n"
    assert shell.tolerance == 0.2
    assert shell.output is not None
    assert shell.output.code == "110\n"
    assert shell.runs
    assert not left.runs
    assert listed.code == 'if True:\n    print("two")\n'
    assert listed.output is not None
    assert listed.output.code == "two\n"
    assert listed.tolerance == 0.05
    assert plain.output is None
    assert not plain.runs


def test_a_setting_before_no_block_and_a_block_without_end_are_errors() -> None:
    with pytest.raises(ValueError, match="before no block but 'words'"):
        blocks("<!-- tolerance: 1 -->\nwords\n")
    with pytest.raises(ValueError, match="line 2 has no end"):
        blocks("a\n```sh\nls\n")


def test_a_page_names_its_figures_and_why_it_is_left_out() -> None:
    assert figures("<!-- figure: a/grid.png -->\n![A grid](../figures/b.png)\n") == [
        Figure("a/grid.png", "../figures/b.png")
    ]
    assert left_out("<!-- page not run: needs two GPUs -->\n# A\n") == "needs two GPUs"
    assert left_out("# A\n") == ""


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("a\r 10%\r 20%\rb", "b"),
        ("a\r\nb\n", "a\nb"),
        ("\x1b[31mred\x1b[0m  ", "red"),
        ("  x 1\n" + '{"x": 1}\n', "  x 1"),
        ("{not json}", "{not json}"),
        ("see /tmp/a/runs/x", "see runs/x"),
        ("note: 1 thread: 2 usable cores, 1 not busy\nnote: 2 rows", "note: 2 rows"),
        ("step 3/9 · loss 1\n 12%  step 3/9 · loss 1\nstep 3 is fine", "step 3 is fine"),
    ],
)
def test_an_output_is_cleaned(printed: str, shown: str) -> None:
    assert cleaned(printed, "/tmp/a") == shown


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("NLL  22.5 nats", "NLL 23.0   nats"),
        ("22.5 ± 0.018", "22.6 ± 0.026"),
        ("a\n...\nc", "a\nb\nb\nc"),
        ("...\nc\n...", "a\nc"),
        ("time  1 min 3 s", "time  58.2 s"),
        ("1,000 images/s", "77 images/s"),
        ("tensor([-1.00, 2.00])", "tensor([-1.02, 1.99])"),
        ("", ""),
    ],
)
def test_outputs_match(shown: str, printed: str) -> None:
    assert not difference(shown, printed, 0.05)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("NLL  22.5 nats", "NLL  25.0 nats"),
        ("NLL  22.5 nats", "NLL  22.5 bits"),
        ("NLL  22.5", "NLL  -22.5"),
        ("22.5 ± 0.018", "22.6 ± 0.09"),
        ("a\nb", "a\nb\nc"),
        ("a\n...\nc", "a\nb\nd"),
        ("a", ""),
        ("runs/digits2", "runs/digits3"),
    ],
)
def test_outputs_differ(shown: str, printed: str) -> None:
    diff = difference(shown, printed, 0.05)
    assert diff.startswith("--- shown\n+++ printed\n")


def test_a_tolerance_of_one_takes_any_number_and_no_other_word() -> None:
    assert not difference("5 bytes", "-700 bytes", 1.0)
    assert difference("5 bytes", "5 bits", 1.0)


def test_what_a_page_leaves_out_stays_left_out() -> None:
    printed = "note: x\nsteps 200\nloss 3\nreport a"
    assert elided(printed, "...\nsteps 100\n...") == "...\nsteps 200\n..."
    assert elided(printed, "...\nloss 1\nreport a") == "...\nloss 3\nreport a"
    assert elided(printed, "") == printed  # nothing was shown yet
    assert elided(printed, "...\ngone 1\n...") == printed  # a line that is printed no more


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(
        "# A page\n\nIt takes <!-- seconds -->7 seconds.\n\n"
        "```sh\nword=from-sh; echo $word > a.txt\n```\n\n"
        "```python\nx = open('a.txt').read()\n```\n\n"
        "```python\nimport sys; print(x, 41.9, end='', file=sys.stderr)\nopen('f.png', 'w')\n```\n"
        "\n```text\nfrom-sh\n 42\n```\n\n"
        "<!-- exit code: 2 -->\n```sh\necho no; exit 2\n```\n\n```text\nyes\n```\n"
        "\n<!-- figure: f.png -->\n![f](figures/g.png)\n",
        encoding="utf-8",
    )
    return path


def test_a_page_is_checked_and_rewritten(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = page.read_text(encoding="utf-8")
    assert main([str(page)]) == 1
    printed = capsys.readouterr().out
    assert "4 blocks" in printed
    assert "line 24: another output\n--- shown\n+++ printed\n@@ -1 +1 @@\n-yes\n+no" in printed
    assert page.read_text(encoding="utf-8") == before

    assert main(["--write", str(page)]) == 0
    after = page.read_text(encoding="utf-8")
    assert after == (
        before.replace("-->7 ", "-->0 ")
        .replace("\n 42\n", "\n 41.9\n")
        .replace("\nyes\n", "\nno\n")
    )
    assert (page.parent / "figures" / "g.png").exists()
    assert main([str(page)]) == 0


def test_a_block_that_fails_ends_a_page_and_leaves_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "```sh\nfalse\necho after\n```\n\n```text\nx\n```\n\n```python\nprint(1)\n```\n"
    page.write_text(text, encoding="utf-8")
    report = check(page, write=True)
    assert report.ran == 1
    assert report.faults == ["line 1: exit code 1 instead of 0\nfalse\necho after\n"]
    assert page.read_text(encoding="utf-8") == text

    page.write_text("```python\nraise KeyError('none such')\n```\n", encoding="utf-8")
    (fault,) = check(page).faults
    assert fault.endswith("KeyError: 'none such'")
