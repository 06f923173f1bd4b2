"""The import drawing, enforced: a table of folders, package roots that only re-export, and no cycle."""

import ast
import functools
import importlib
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("univae", "density", "gan", "experiments")

# Folder (or a single module that lies lower than its folder) -> what it may import besides itself.
GROUND = {"univae"}  # the modules that lie directly in univae/
CORE = GROUND | {"univae/attention"}
PARTS = CORE | {"univae/latent", "univae/text", "univae/decoding"}
UNIVAE = PARTS | {"univae/optim", "univae/contrastive", "univae/vae", "univae/sentence"}
UNIVAE |= {"univae/huggingface"}
TRAINED = {"density/trained", "gan/trained"}  # above their packages: they open run folders
DENSITY = {
    "density",
    "density/model",
    "density/data_units",
    "density/likelihoods",
    "density/images",
    "density/estimation",
    "density/coding",
    "density/tables",
}
GAN = {"gan", "gan/metrics", "gan/networks", "gan/normalization"}
MODELS = UNIVAE | DENSITY | GAN | TRAINED
SHARED = {"experiments/version", "experiments/training", "experiments/data", "experiments/reports"}
SHARED |= {"experiments/evaluation", "experiments/training/processes", "experiments/diagnosis"}
SHARED |= {"experiments/training/process_environment"}
FAMILIES = {"experiments/text", "experiments/images", "experiments/gans", "experiments/sentences"}
FAMILIES |= {"experiments/calibration", "experiments/exports"}
COMMANDS = {"experiments", "experiments/cli", "experiments/kinds"}

MAY_IMPORT: dict[str, set[str]] = {
    "univae": set(),
    "univae/attention": GROUND,
    "univae/latent": GROUND,
    "univae/text": GROUND,
    "univae/optim": GROUND,
    "univae/decoding": CORE | {"univae/text"},
    "univae/contrastive": GROUND,
    "univae/vae": PARTS,
    "univae/sentence": PARTS | {"univae/contrastive"},
    "univae/huggingface": PARTS | {"univae/vae", "univae/sentence"},
    "density/model": GROUND,
    "density/likelihoods": GROUND,
    "density/tables": GROUND | {"density/likelihoods", "density/model"},
    "density/data_units": GROUND | {"density/likelihoods", "density/tables"},
    "density/images": GROUND | {"density/likelihoods"},
    "density/estimation": GROUND | {"density/model"},
    "density/coding": GROUND | {"density/model", "density/likelihoods"},
    "density": GROUND | DENSITY,
    "gan/metrics": GROUND,
    "gan/networks": GROUND,
    "gan/normalization": GROUND,
    "density/trained": GROUND | DENSITY | {"density/data_units", "univae/latent"},
    "gan": GROUND | {"gan/metrics", "gan/networks", "gan/normalization"},
    "gan/trained": GROUND | {"gan", "gan/networks"},
    "experiments/version": GROUND,
    "experiments/training/processes": set(),
    "experiments/training/process_environment": set(),
    # black and white from grey levels is drawn by the units of a run's data
    "experiments/data": GROUND
    | {"univae/text", "density/data_units", "density/tables"}
    | {"experiments/training/processes"},
    # training on texts starts from published weights: the models that they become
    "experiments/training": GROUND
    | {"univae/optim", "univae/text", "experiments/version", "experiments/data"}
    | {"univae/attention", "univae/huggingface", "univae/sentence", "univae/vae"}
    | {"experiments/training/processes"},
    "experiments/diagnosis": GROUND
    | {"experiments/version", "experiments/training"}
    | {"experiments/training/process_environment"}
    | {"univae/text", "univae/vae"},
    "experiments/reports": GROUND | {"experiments/training"},
    "experiments/evaluation": MODELS | {"experiments/data"},
    "experiments/text": MODELS | SHARED,
    "experiments/images": MODELS | SHARED,
    "experiments/gans": MODELS | SHARED,
    "experiments/sentences": MODELS | SHARED,
    "experiments/calibration": MODELS | SHARED,
    "experiments/exports": MODELS | SHARED,
    "experiments/explorer": MODELS | SHARED | FAMILIES,
    "experiments/kinds": MODELS | SHARED | FAMILIES,
    "experiments/cli": GROUND
    | {"experiments/version", "experiments/training", "experiments/data"}
    | {"experiments/training/processes", "experiments/training/process_environment"},
    # commands as functions: they find the commands by name, as the command line does
    "experiments/functions": GROUND
    | {"experiments/cli", "experiments/data", "experiments/training"},
    # the commands explore and bench
    "experiments": MODELS
    | SHARED
    | FAMILIES
    | COMMANDS
    | {"experiments/explorer", "experiments/benchmarks/registry"}
    | {"experiments/benchmarks/table", "experiments/benchmarks/runs"},
    "experiments/examples": MODELS | SHARED | FAMILIES | COMMANDS,
    "experiments/examples/stories": MODELS | SHARED | FAMILIES | COMMANDS,
    "experiments/benchmarks/registry": set(),
    "experiments/benchmarks/table": GROUND | {"experiments/benchmarks/registry"},
    "experiments/benchmarks/runs": GROUND | {"experiments/benchmarks/registry"},
    "experiments/benchmarks": MODELS | SHARED | FAMILIES | COMMANDS,
    "experiments/studies": MODELS | SHARED | FAMILIES | COMMANDS | {"experiments/benchmarks"},
}

# Arrows that the drawing does not have, each with its reason.
EXCEPTIONS = {
    (
        "univae/attention",
        "univae/text",
    ): "the embedding puts START in front of a text; univae.text.special imports nothing",
    ("density", "univae/latent"): "objectives draw, detach and re-draw latents",
    ("density/estimation", "univae/latent"): "estimators draw latents, and map noise to them",
    (
        "density/images",
        "univae/latent",
    ): "image models have diagonal Gaussians and hierarchies of latents",
    (
        "density/images",
        "univae/text",
    ): "PatchVAE's words follow the reserved ones of texts; univae.text.special imports nothing",
    ("density/images", "univae/vae"): "PatchVAE is the text model on patches of images",
    ("density/images", "univae/attention"): "AttentionVAE attends over patches through the core",
    ("gan", "univae/optim"): "WGAN keeps a moving average of its generator",
    (
        "gan/networks",
        "univae/attention",
    ): "the attention networks attend over patches through the core",
}

# What `import gan` must not load: a tokenizer, the text VAE, and libraries that no GAN needs.
HEAVY = (
    "tokenizers",
    "univae.vae",
    "univae.text.tokenizers",
    "pyro",
    "scipy",
    "sklearn",
    "matplotlib",
    "constriction",
)


@functools.cache
def paths() -> dict[str, Path]:
    """Return the file of every module."""
    files = {p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in files
    }


@functools.cache
def imports(name: str) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a module, also those inside functions."""
    tree = ast.parse(paths()[name].read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@functools.cache
def modules() -> dict[str, set[str]]:
    """Return the project's modules that each module imports."""
    names = paths()
    found: dict[str, set[str]] = {}
    for name in names:
        imported: set[str] = set()
        for node in imports(name):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            else:
                assert node.level == 0, f"{name}: relative import"
                # `from package import module` names a module, `from module import name` does not.
                imported |= {
                    f"{node.module}.{a.name}"
                    if f"{node.module}.{a.name}" in names
                    else str(node.module)
                    for a in node.names
                }
        found[name] = {i for i in imported if i.split(".")[0] in (*PACKAGES, "tests")}
    return found


def is_package(module: str) -> bool:
    return paths()[module].name == "__init__.py"


def folder(module: str) -> str:
    """Return the row of the table that a module belongs to."""
    place = module.replace(".", "/")
    if place in MAY_IMPORT and not is_package(module):
        return place  # a single module with a row of its own
    return place if is_package(module) else place.rpartition("/")[0]


def test_every_folder_is_a_row_of_the_table() -> None:
    folders = {folder(module) for module in modules()}
    assert folders == MAY_IMPORT.keys()


def test_the_table_has_no_cycle() -> None:
    above = {row: may - {row} for row, may in MAY_IMPORT.items()}
    assert list(TopologicalSorter(above).static_order())


@pytest.mark.parametrize("module", sorted(module for module in modules() if not is_package(module)))
def test_every_import_is_in_the_table(module: str) -> None:
    row = folder(module)
    for imported in modules()[module]:
        assert imported.split(".")[0] != "tests", (
            f"{module} imports {imported}: tests are no part of the library"
        )
        assert imported in modules(), f"{module} imports {imported}, which does not exist"
        assert imported != module.split(".")[0], f"{module} imports its own package root"
        allowed = MAY_IMPORT[row] | {row} | {b for a, b in EXCEPTIONS if a == row}
        assert folder(imported) in allowed, (
            f"{module} imports {imported}: {row} may import {sorted(allowed)}"
        )


def test_every_exception_is_needed() -> None:
    arrows = {
        (folder(a), folder(b))
        for a, imported in modules().items()
        if not is_package(a)
        for b in imported
    }
    assert EXCEPTIONS.keys() <= arrows
    assert not [arrow for arrow in EXCEPTIONS if arrow[1] in MAY_IMPORT[arrow[0]]]


@pytest.mark.parametrize("package", sorted(module for module in modules() if is_package(module)))
def test_a_package_root_only_re_exports_what_lies_in_it(package: str) -> None:
    tree = ast.parse(paths()[package].read_text(encoding="utf-8"))
    if not tree.body:
        return
    docstring, *rest = tree.body
    assert isinstance(docstring, ast.Expr)
    for node in rest:
        assert isinstance(node, ast.ImportFrom | ast.Assign | ast.If), (
            f"{package}: {ast.unparse(node)}"
        )
    for imported in modules()[package] - {"univae._lazy", package}:
        assert imported.startswith(package + "."), f"{package} re-exports {imported}"


@pytest.mark.parametrize("package", sorted(module for module in modules() if is_package(module)))
def test_every_export_resolves_to_what_the_type_checker_sees(package: str) -> None:
    root = importlib.import_module(package)
    exports = getattr(root, "__all__", [])
    tree = ast.parse(paths()[package].read_text(encoding="utf-8"))
    seen: dict[str, object] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module in ("typing", "univae._lazy"):
            continue
        for alias in node.names:
            if node.module == package:
                seen[alias.asname or alias.name] = importlib.import_module(
                    f"{package}.{alias.name}"
                )
            else:
                module = importlib.import_module(str(node.module))
                seen[alias.asname or alias.name] = getattr(module, alias.name)
    assert set(exports) <= seen.keys() <= set(dir(root))
    for name, value in seen.items():
        assert getattr(root, name) is value, f"{package}.{name}"
    if seen:
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            root.nothing  # noqa: B018


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_gan_loads_neither_a_tokenizer_nor_a_text_model() -> None:
    code = f"import gan, sys; print(*({set(HEAVY)!r} & sys.modules.keys()))"
    assert run(f"{code}; gan.build; gan.WGAN; print('tokenizers' in sys.modules)") == "False"


def test_import_univae_and_density_load_nothing_before_a_name_is_read() -> None:
    assert run("import univae, density, sys; print('torch' in sys.modules)") == "False"


@pytest.mark.slow
def test_a_package_that_a_module_became_keeps_its_names() -> None:
    read = "import univae; univae.vae.UniVAE; univae.text.PAD; univae.sentence.RoFormerSim; univae.decoding.generate"
    from_packages = "from univae.latent import VonMisesFisher; from gan.networks import build; from univae import optim"
    assert (
        run(f"{read}; {from_packages}; from univae.text import *; print(END, optim.EMA.__name__)")
        == "2 EMA"
    )
    assert run("import gan.audit, gan; print(callable(gan.audit))") == "True"
    assert run("from gan.audit import Facts; import gan; print(callable(gan.audit))") == "True"


def test_there_is_no_cycle() -> None:
    order = list(TopologicalSorter(modules()).static_order())
    assert len(order) >= len(modules())


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports a test module by its file's name alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_every_import_of_the_project_names_a_module_that_exists() -> None:
    """mypy ignores imports that it cannot find, so a moved module would be missed where no test runs."""
    missing = []
    for name in paths():
        for node in imports(name):
            if isinstance(node, ast.Import) or node.module is None:
                continue
            if node.module.split(".")[0] in PACKAGES and node.module not in paths():
                missing.append(f"{name}: {node.module}")
    assert not missing
