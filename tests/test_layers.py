"""The import drawing, enforced: nothing imports what lies above it, nobody their own package root, and no cycle."""

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("univae", "density", "gan", "experiments")
UNIVAE_LAYERS = {
    0: {
        "errors",
        "rules",
        "batch_statistics",
        "rope",
        "mask",
        "latent",
        "bessel",
        "polar",
        "text",
        "corpus",
        "checkpoint",
        "paths",
    },
    1: {"attention", "optim"},
    2: {"transformer", "decoding", "grid"},
    3: {"vae", "layered", "likelihood", "streams", "objective", "sentence"}
    | {"contrastive", "partition", "gather", "cached", "two_passes", "chunks", "replay", "averaged", "saved"}
    | {"continuation", "corruption", "ranking", "retrieval", "stages"},
}


@functools.cache
def modules() -> dict[str, set[str]]:
    """Module -> the project's modules it imports, also inside functions."""
    paths = {p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                # `from package import module` names a module, `from module import name` does not.
                imported |= {
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in names else str(node.module)
                    for a in node.names
                }
        found[name] = {i for i in imported if i.split(".")[0] in PACKAGES}
    return found


def height(module: str) -> tuple[int, int]:
    package, *rest = module.split(".")
    if package == "univae":
        if not rest:
            return 0, 9  # the root re-exports everything
        layers = [layer for layer, members in UNIVAE_LAYERS.items() if rest[0] in members]
        assert layers, f"{module} is in no layer: put it into the drawing"
        return 0, layers[0]
    return {"density": 1, "gan": 1, "experiments": 2}[package], 0


@pytest.mark.parametrize("module", sorted(modules()))
def test_every_import_points_downward(module: str) -> None:
    package = module.split(".")[0]
    for imported in modules()[module]:
        other = imported.split(".")[0]
        assert imported != package or module == package, f"{module} imports its own package root"
        if other != package:
            assert height(imported)[0] < height(module)[0], f"{module} imports {imported}"
            if package in ("density", "gan"):
                assert other == "univae", f"{module} imports {imported}"
                assert height(imported)[1] <= 2, f"{module} imports {imported}: models meet through Protocols"
        elif package == "univae" and module != "univae":
            assert height(imported)[1] <= height(module)[1], f"{module} imports {imported}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_root_only_re_exports(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    docstring, *rest = tree.body
    assert isinstance(docstring, ast.Expr)
    for node in rest:
        assert isinstance(node, ast.ImportFrom | ast.Assign), f"{package}: {ast.unparse(node)}"


def test_there_is_no_cycle() -> None:
    order = list(TopologicalSorter(modules()).static_order())
    assert len(order) >= len(modules())
