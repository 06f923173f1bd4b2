"""The installation: versions, and the optional packages that are there."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import NamedTuple

from experiments.diagnosis.findings import Finding
from experiments.version import version

__all__ = ["EXTRAS", "extras", "versions"]

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers")


class Extra(NamedTuple):
    """An optional part of the installation, ``pip install 'univae[NAME]'``."""

    packages: tuple[str, ...]
    purpose: str


EXTRAS: Mapping[str, Extra] = {
    "hub": Extra(("datasets", "huggingface-hub"), "data sets of the Hugging Face hub"),
    "remote": Extra(("fsspec",), "files in object stores and on other machines"),
    "board": Extra(("tensorboard",), "curves of training in TensorBoard"),
    "fid": Extra(("torch-fidelity",), "FID and KID of a GAN as published"),
    "hf": Extra(
        ("transformers", "sentence-transformers", "rjieba"),
        "published checkpoints: Jieba's words, and the libraries that read what export writes",
    ),
    "onnx": Extra(("onnx", "onnxruntime", "onnxscript"), "graphs of models for onnxruntime"),
    "usearch": Extra(("usearch",), "approximate search of vectors by usearch"),
    "faiss": Extra(("faiss-cpu",), "approximate search of vectors by faiss"),
    "trackio": Extra(("trackio",), "metrics of training in a local dashboard"),
    "explore": Extra(("gradio",), "a trained model in the browser"),
    "glyphs": Extra(("matplotlib",), "the built-in images of printed digits"),
    "tables": Extra(("pandas", "pyarrow"), "data frames and .parquet files"),
}


def versions() -> Finding:
    """Find the versions of the library, of Python and of the packages that results depend on."""
    found = {"univae": version(), "python": platform.python_version()}
    for package in PACKAGES:
        found[package] = _version(package) or "missing"
    missing = [package for package in PACKAGES if found[package] == "missing"]
    value = ", ".join(f"{name} {number}" for name, number in found.items())
    advice = f"pip install {' '.join(missing)}" if missing else ""
    system = platform.platform()
    return Finding(f"{value}; {system}", advice, {"versions": found, "platform": system})


def extras() -> Finding:
    """Find the optional packages."""
    present = {}
    for name, extra in EXTRAS.items():
        present[name] = all(_version(package) for package in extra.packages)
    value = ", ".join(f"{name}: {'yes' if present[name] else 'no'}" for name in EXTRAS)
    missing = [name for name in EXTRAS if not present[name]]
    advice = ""
    if missing:
        purposes = "; ".join(f"{name}: {EXTRAS[name].purpose}" for name in missing)
        advice = f"pip install 'univae[{','.join(missing)}]' where you need them ({purposes})"
    return Finding(value, advice, {"extras": present})


def _version(package: str) -> str:
    """Return the version of an installed package; empty where it is missing."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return ""
