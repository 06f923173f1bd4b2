"""The format ``sentence-transformers``: a folder that ``SentenceTransformer(DIR)`` loads.

The encoder and its tokenizer are one module of its own, :mod:`univae.sentence.portable`, whose file
is copied into the folder, so that the folder needs no univae. The head that generates texts and the
classifier of the supervised stage are left out.
"""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile

from safetensors.torch import save_file

from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder
from univae.sentence.model import RoFormerSim
from univae.sentence.tokenizer import SimilarText
from univae.sentence.trained import TrainedSimilar

__all__ = ["write_encoder", "write_folder"]

MODULE = "univae_encoder"
PARTS = ("embedding.", "blocks.", "norm.", "pooler.")  # of the weights, those of the encoder

MODULES = [{"idx": 0, "name": "0", "path": "", "type": f"{MODULE}.UnivaeEncoder"}]
SETTINGS: JsonObject = {
    "model_type": "SentenceTransformer",
    "similarity_fn_name": "cosine",
    "prompts": {},
    "default_prompt_name": None,
}

CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- univae
---

# Sentence vectors

A RoFormer-Sim trained with univae: vectors of {width} numbers and length 1, whose inner product is
the similarity of two texts. A text has at most {tokens} tokens ({tokenizer}); longer ones
are read by their beginning.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("DIR", trust_remote_code=True)
vectors = model.encode(["a text", "another text"])
```

`trust_remote_code` lets it run `{module}.py` of this folder, which is the model. From version
6 on, sentence-transformers asks for it also where the folder is local. Without it:

```python
import sys

sys.path.insert(0, "DIR")
from {module} import UnivaeEncoder

model = SentenceTransformer(modules=[UnivaeEncoder.load("DIR")])
```
"""


def write_folder(folder: RunFolder, out: Path) -> JsonObject:
    """Write a RoFormer-Sim into an empty folder, and return the names of its files."""
    run = TrainedSimilar.open(folder.path, "cpu")
    folder.notes.extend(run.notes)
    write_encoder(run.model, run.text, out)
    return {"files": sorted(path.name for path in out.iterdir())}


def write_encoder(model: RoFormerSim, text: SimilarText, out: Path) -> None:
    """Write the encoder of a model, and its tokenizer, into an empty folder."""
    weights = {}
    for name, weight in model.state_dict().items():
        if name.startswith(PARTS):
            weights[name] = weight.float().contiguous()
    card = CARD.format(
        width=model.config.width,
        tokens=model.config.max_length - 1,
        tokenizer=text.tokenizer.kind,
        module=MODULE,
    )

    save_file(weights, out / "model.safetensors", {"format": "pt"})
    _write_json(out / "config.json", {"lowercase": text.lowercase, **asdict(model.config)})
    _write_json(out / "univae_tokenizer.json", text.tokenizer.to_json())
    _write_json(out / "modules.json", MODULES)
    _write_json(out / "config_sentence_transformers.json", SETTINGS)
    (out / "README.md").write_text(card, encoding="utf-8")
    copyfile(_module_file(), out / f"{MODULE}.py")


def _module_file() -> Path:
    """Return the file of the module, without importing it and with it sentence-transformers."""
    spec = find_spec("univae.sentence.portable")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
