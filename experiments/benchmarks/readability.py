"""Measures of readability: folders and their imports, string comparisons, types, density, sizes.

Parses ``univae``, ``density``, ``gan`` and ``experiments`` without importing them, so that any
checkout can be measured. Prints one JSON object.

``python -m experiments.benchmarks.readability [FOLDER]``
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
LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
DOCSTRING = re.compile(r'[rRuU]?"""')

Trees: TypeAlias = dict[Path, ast.Module]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def measure(root: Path) -> dict[str, object]:
    """Return the measures of the checkout in ``root``."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    lines = [line for text in texts.values() for line in text.splitlines()]
    long_lines = sum(len(line) > LONG for line in lines)
    function_lines = [length_of(node) for node in nodes if isinstance(node, Function)]
    module_lines = {path: text.count("\n") for path, text in texts.items()}
    longest = max(files, key=lambda path: module_lines[path])
    commands = list((root / "experiments").glob("*.py"))

    return {
        "modules": len(files),
        "modules_flat_in_experiments": len(commands) - 1,  # without __init__
        "folders": len({path.parent for path in files}),
        "arrows_between_folders": len(arrows(root, trees)),
        "string_comparisons": sum(is_string_comparison(node) for node in nodes),
        "main_guards": sum(is_main_guard(node) for node in nodes),
        "any": sum(is_any(node) for node in nodes),
        "tokens_per_code_line": round(tokens_per_line(texts.values()), 2),
        "lines_over_100_percent": round(100 * long_lines / len(lines), 2),
        "parallel_assignments": sum(is_parallel(node) for node in nodes),
        "function_lines_median": statistics.median(function_lines),
        "function_lines_longest": max(function_lines),
        "module_lines_median": statistics.median(module_lines.values()),
        "module_lines_longest": module_lines[longest],
        "longest_module": longest.relative_to(root).as_posix(),
    }


def length_of(node: Function) -> int:
    """Return the lines of a function, docstring included."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def arrows(root: Path, trees: Trees) -> set[tuple[str, str]]:
    """Return the pairs of folders in which the first imports the second."""
    modules = {name_of(root, path): path for path in trees}
    pairs = set()
    for path, tree in trees.items():
        source = path.parent.relative_to(root).as_posix()
        for name in imported_modules(tree, modules):
            target = modules[name].parent.relative_to(root).as_posix()
            if source != target:
                pairs.add((source, target))
    return pairs


def name_of(root: Path, path: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(tree: ast.Module, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the project's modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                module = name if name in modules else node.module
                if module in modules:
                    yield module


def is_string_comparison(node: ast.AST) -> bool:
    """Return whether a node compares a value with a literal string; main guards do not count."""
    if not isinstance(node, ast.Compare) or is_main_guard(node):
        return False
    return any(is_string(side) for side in (node.left, *node.comparators))


def is_main_guard(node: ast.AST) -> bool:
    """Return whether a node is ``__name__ == "__main__"``."""
    if not isinstance(node, ast.Compare) or not isinstance(node.left, ast.Name):
        return False
    return node.left.id == "__name__" and any(is_string(side) for side in node.comparators)


def is_string(node: ast.AST) -> bool:
    """Return whether a node is a literal string, or a literal tuple, list or set of strings."""
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
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def tokens_per_line(texts: Iterable[str]) -> float:
    """Return the mean number of tokens on lines of code, without docstrings and comments."""
    tokens = 0
    lines = 0
    for text in texts:
        code_lines = [token.start[0] for token in code_tokens(text)]
        tokens += len(code_lines)
        lines += len(set(code_lines))
    return tokens / lines


def code_tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the tokens of a module without layout, comments and docstrings."""
    starts_line = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in LAYOUT:
            starts_line = token.type != tokenize.COMMENT or starts_line
            continue
        is_string_token = token.type == tokenize.STRING
        is_docstring = starts_line and is_string_token and DOCSTRING.match(token.string)
        starts_line = False
        if not is_docstring:
            yield token


def main(argv: list[str]) -> dict[str, object]:
    """Measure the checkout in the folder ``argv[0]``, by default the checkout of this file."""
    return measure(Path(argv[0]) if argv else Path(__file__).parents[2])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
