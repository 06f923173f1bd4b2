"""The format ``sentence-transformers``: a folder that ``SentenceTransformer(DIR)`` loads.

A model that a RoFormer of transformers expresses is written as one, followed by modules of the
library: pooling, the linear pooler, the norm. Otherwise the encoder and its tokenizer are one
module of their own, :mod:`univae.sentence.portable`, whose file is copied into the folder, so that
the folder needs no univae. The classifier of the supervised stage is left out, and of such a module
the head that generates texts.
"""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile

from safetensors.torch import save_file

from experiments.exports.huggingface_folder import is_roformer, open_run
from univae.checkpoint import JsonObject, write_json
from univae.huggingface import write_roformer
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

LIBRARY = "sentence_transformers.models"  # the modules' package, which every version resolves
# Folder and class of each module of a model that a RoFormer expresses.
ROFORMER_MODULES = {
    "": "Transformer",
    "1_Pooling": "Pooling",
    "2_Dense": "Dense",
    "3_Normalize": "Normalize",
}
POOLING_MODES = {"first": "cls", "mean": "mean"}

HEADER = """\
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
"""

ROFORMER_CARD = """
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("DIR")
vectors = model.encode(["a text", "another text"])
```

The layers are a RoFormer of transformers: `AutoModel.from_pretrained("DIR")`.
"""

MODULE_CARD = """
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
    run = open_run(folder)
    if is_roformer(run):
        write_modules(run, out)
    else:
        write_encoder(run.model, run.text, out)
    files = (path for path in out.rglob("*") if path.is_file())
    return {"files": sorted(path.relative_to(out).as_posix() for path in files)}


def write_modules(run: TrainedSimilar, out: Path) -> None:
    """Write a model that a RoFormer expresses as modules of sentence-transformers."""
    model = run.model
    width = model.config.width
    write_roformer(model, run.tokenizer, out, lowercase=run.text.lowercase)
    modules = []
    for i, (path, name) in enumerate(ROFORMER_MODULES.items()):
        modules.append({"idx": i, "name": str(i), "path": path, "type": f"{LIBRARY}.{name}"})
        (out / path).mkdir(exist_ok=True)
    write_json(out / "modules.json", modules)
    write_json(out / "config_sentence_transformers.json", SETTINGS)
    limits = {"max_seq_length": model.config.max_length + 1, "do_lower_case": False}
    write_json(out / "sentence_bert_config.json", limits)
    mode = POOLING_MODES[model.config.pooling]
    pooling = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": mode == "cls",
        "pooling_mode_mean_tokens": mode == "mean",
    }
    write_json(out / "1_Pooling" / "config.json", pooling)
    dense = {
        "in_features": width,
        "out_features": width,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    write_json(out / "2_Dense" / "config.json", dense)
    pooler = {f"linear.{name}": value for name, value in model.pooler.state_dict().items()}
    save_file(pooler, out / "2_Dense" / "model.safetensors", {"format": "pt"})
    write_json(out / "3_Normalize" / "config.json", {})
    (out / "README.md").write_text(_header(model, run.text) + ROFORMER_CARD, encoding="utf-8")


def _header(model: RoFormerSim, text: SimilarText) -> str:
    return HEADER.format(
        width=model.config.width,
        tokens=model.config.max_length - 1,
        tokenizer=text.tokenizer.kind,
    )


def write_encoder(model: RoFormerSim, text: SimilarText, out: Path) -> None:
    """Write the encoder of a model, and its tokenizer, into an empty folder."""
    weights = {}
    for name, weight in model.state_dict().items():
        if name.startswith(PARTS):
            weights[name] = weight.float().contiguous()
    card = _header(model, text) + MODULE_CARD.format(module=MODULE)

    save_file(weights, out / "model.safetensors", {"format": "pt"})
    write_json(out / "config.json", {"lowercase": text.lowercase, **asdict(model.config)})
    write_json(out / "univae_tokenizer.json", text.tokenizer.to_json())
    write_json(out / "modules.json", MODULES)
    write_json(out / "config_sentence_transformers.json", SETTINGS)
    (out / "README.md").write_text(card, encoding="utf-8")
    copyfile(_module_file(), out / f"{MODULE}.py")


def _module_file() -> Path:
    """Return the file of the module, without importing it and with it sentence-transformers."""
    spec = find_spec("univae.sentence.portable")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)
