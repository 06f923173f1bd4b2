"""How the code reads, in numbers: folders, arrows, strings that decide, types, density of lines, sizes.

Reads the syntax tree of ``univae``, ``density``, ``gan`` and ``experiments`` and imports none of
it, so that any checkout can be measured: ``python -m experiments.benchmarks.readability [FOLDER]``.
Prints one JSON object.
"""

import ast
import io
import json
import re
import statistics
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

__all__ = ["main", "measure"]

PACKAGES = ("univae", "density", "gan", "experiments")
LONG = 100  # characters of a line
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT}
LAYOUT |= {tokenize.ENCODING, tokenize.ENDMARKER}

Trees: TypeAlias = dict[Path, ast.Module]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def measure(root: Path) -> dict[str, object]:
    """Return the numbers of a checkout."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = [line for text in texts.values() for line in text.splitlines()]
    functions = [
        len_of(node)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    ]
    lengths = {path: text.count("\n") for path, text in texts.items()}
    longest = max(files, key=lambda path: lengths[path])

    return {
        "modules": len(files),
        "modules_flat_in_experiments": len(list((root / "experiments").glob("*.py")))
        - 1,  # without __init__
        "folders": len({path.parent for path in files}),
        "arrows_between_folders": len(arrows(root, trees)),
        "string_comparisons": sum(1 for tree in trees.values() for _ in string_comparisons(tree)),
        "any": sum(1 for tree in trees.values() for node in ast.walk(tree) if is_any(node)),
        "tokens_per_code_line": round(tokens_per_line(texts.values()), 2),
        "lines_over_100_percent": round(
            100 * sum(len(line) > LONG for line in lines) / len(lines), 2
        ),
        "parallel_assignments": sum(
            1 for tree in trees.values() for node in ast.walk(tree) if is_parallel(node)
        ),
        "function_lines_median": statistics.median(functions),
        "function_lines_longest": max(functions),
        "module_lines_median": statistics.median(lengths.values()),
        "module_lines_longest": lengths[longest],
        "longest_module": longest.relative_to(root).as_posix(),
    }


def len_of(node: Function) -> int:
    """Return the lines of a function, docstring included."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def arrows(root: Path, trees: Trees) -> set[tuple[str, str]]:
    """Return the pairs of folders of which one imports the other."""
    modules = {name_of(root, path): path for path in trees}
    pairs = set()
    for path, tree in trees.items():
        for name in imported(tree, modules):
            source = path.parent.relative_to(root).as_posix()
            target = modules[name].parent.relative_to(root).as_posix()
            if source != target:
                pairs.add((source, target))
    return pairs


def name_of(root: Path, path: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, modules: dict[str, Path]) -> Iterator[str]:
    """Return the project's modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                module = name if name in modules else node.module
                if module in modules:
                    yield module


def string_comparisons(tree: ast.Module) -> Iterator[ast.Compare]:
    """Return the comparisons of a value with a string that is written there."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        if any(is_string(side) for side in (node.left, *node.comparators)):
            yield node


def is_string(node: ast.AST) -> bool:
    """Return whether a node is a string, or a tuple, list or set of strings, written in the code."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) and all(is_string(element) for element in node.elts)
    return False


def is_any(node: ast.AST) -> bool:
    """Return whether a node is the name ``Any``."""
    return isinstance(node, ast.Name) and node.id == "Any"


def is_parallel(node: ast.AST) -> bool:
    """Return whether a node assigns several values to several names at once."""
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.value, ast.Tuple) and any(
        isinstance(target, ast.Tuple) for target in node.targets
    )


def tokens_per_line(texts: Iterable[str]) -> float:
    """Return the mean number of tokens on lines that hold code.

    Docstrings and comments do not count.
    """
    tokens = 0
    lines = 0
    for text in texts:
        coded: set[int] = set()
        start_of_line = True
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in LAYOUT:
                start_of_line = token.type != tokenize.COMMENT or start_of_line
                continue
            docstring = (
                start_of_line
                and token.type == tokenize.STRING
                and re.match(r'[rRuU]?"""', token.string)
            )
            start_of_line = False
            if docstring:
                continue
            tokens += 1
            coded.add(token.start[0])
        lines += len(coded)
    return tokens / lines


def main(argv: list[str]) -> dict[str, object]:
    """Measure the checkout in the folder that is named, by default the one this file is in."""
    return measure(Path(argv[0]) if argv else Path(__file__).parents[2])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
