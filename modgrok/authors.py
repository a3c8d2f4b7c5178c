"""The checkpoints that the paper's authors published: read as models of ours, and kept as finished runs."""

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from modgrok.config import Config, is_prime
from modgrok.model import Transformer
from modgrok.storage.runs import Run
from modgrok.train import Training
from modgrok.training.engine import make_accelerator
from modgrok.training.session import finished_folder, held

SURPLUS = 18
"""Tokens of the authors' vocabulary that are no numbers below p: their 47 rows are for p = 29."""

FIELDS = {
    2: {"n_tasks": 512, "alpha": 0.6, "batch_size": 1024},
    4: {"n_tasks": 384, "alpha": 0.8, "batch_size": 1536},
}
"""Depth of a public checkpoint → how it was trained."""


def load_authors(source: str | Path | dict[str, Tensor], **fields) -> Transformer:
    """A model with the weights of one of the authors' public checkpoints.

    Depth, width and the rotary base are read off the file. Rows of the embedding beyond p are of tokens that never
    occur, and are cut off.

    Args:
        source: a `.pth` file (opened with `weights_only=True`) or its dictionary; the parameters lie bare or
            under "model", "state_dict" or "model_state_dict", with or without prefixes of DDP and torch.compile.
        fields: of the config, by default those of the public checkpoint of that depth (FIELDS), and p the number of
            rows of the embedding less SURPLUS.

    Raises:
        ValueError: a parameter that is missing, unknown or of the wrong shape, by name.
    """
    state = _state(source)
    rows, width = state["transformer.wte.weight"].shape
    p = fields.get("p", rows - SURPLUS)
    if not (is_prime(p) and p <= rows):
        raise ValueError(
            f"p={p} does not fit transformer.wte.weight, whose {rows} rows are p numbers, p a prime, "
            f"and surplus tokens ({SURPLUS} unless p is given)."
        )
    depth = len({name.split(".")[2] for name in state if name.startswith("transformer.h.")})
    config = Config.from_dict(FIELDS.get(depth, {}) | fields | {"p": p, "depth": depth, "n_embd": width})
    n_head = config.n_head

    names = {name: _their_name(name) for name in Transformer(config).state_dict()}  # ours → theirs
    shapes = {names[name]: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}
    rotary = {f"transformer.h.{i}.attn.rotary_emb.freqs": (width // n_head // 2,) for i in range(depth)}
    head = {name: (rows, width) for name in ("transformer.wte.weight", "lm_head.weight")}
    _check_shapes(state, shapes | rotary | head, f"p={p}, depth={depth}, n_embd={width}, n_head={n_head}")
    if not torch.equal(state["lm_head.weight"], state["transformer.wte.weight"]):
        raise ValueError("lm_head.weight differs from transformer.wte.weight; only a tied head can be read.")
    base = _rope_base({name: state[name] for name in rotary})

    model = Transformer(replace(config, rope_base=base))
    state["transformer.wte.weight"] = state["transformer.wte.weight"][:p]
    model.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    return model


def import_authors(file: str | Path, root: str | Path = "authors-runs", **fields) -> Run:
    """Make a finished run of one of the authors' checkpoints: its weights, scored on our four sets.

    Which tasks and inputs the authors trained on is not in the file. The run draws its own, so what its
    metrics call id and ood, training and test, is our split; its provenance says so.

    Args:
        file: the `.pth` file.
        root: folder that will hold the run; it takes the place of a training run of the same config.
        fields: see `load_authors`.

    Raises:
        ValueError: the file does not fit, or the folder holds a run that is not of this file.
    """
    model = load_authors(file, **fields)
    config, path = model.config, Path(root) / model.config.name
    digest = f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    accelerator = make_accelerator(config, path)
    with held(path, accelerator):
        is_finished = finished_folder(config, root, anew=True) is not None
        if is_finished and Run(path).provenance.get("file") == digest:
            return Run(path)
        if is_finished or (path / "resume.safetensors").exists():
            raise ValueError(f"{path} holds a run that is not of {file}; remove it or choose another root.")
        training = Training(config, path, accelerator)
        training.weights.load_state_dict(model.state_dict())
        training.step = config.steps  # nothing left but to evaluate and to keep
        training.origin = {
            "source": "authors' checkpoint",
            "file": digest,
            "note": "the split into tasks and inputs behind the metrics is ours, not the authors'; "
            "seconds are those of the evaluation",
        }
        return training.run()


def _state(source: str | Path | dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters in a file or dictionary by their bare names, the tied head included."""
    if not isinstance(source, dict):
        try:
            source = torch.load(source, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ValueError(f"{source} does not exist.") from None
        except Exception as error:  # torch raises whatever the bytes lead to
            raise ValueError(f"{source} is damaged, or holds more than tensors, which is refused.") from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(source, dict) and isinstance(source.get(key), dict):
            source = source[key]
    if not isinstance(source, dict) or not all(isinstance(tensor, Tensor) for tensor in source.values()):
        raise ValueError(
            'the checkpoint holds no dictionary of tensors, bare or under "model" or "state_dict".'
        )
    state = {re.sub(r"^((module|_orig_mod)\.)+", "", name): tensor for name, tensor in source.items()}
    embedding = state.get("transformer.wte.weight")
    if embedding is None or embedding.ndim != 2:
        raise ValueError(
            "transformer.wte.weight, a matrix, is missing; this is not one of the authors' checkpoints."
        )
    return {"lm_head.weight": embedding} | state


def _their_name(name: str) -> str:
    """What the authors call a parameter of ours."""
    renamed = {"embed.": "wte.", "blocks.": "h.", ".qkv.": ".to_qkv.", ".out.": ".o."}
    for ours, theirs in (renamed | {"mlp.0.": "mlp.c_fc.", "mlp.2.": "mlp.c_proj."}).items():
        name = name.replace(ours, theirs)
    return f"transformer.{name}"


def _check_shapes(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], description: str) -> None:
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in [*expected, *stored]:
        shape, expected_shape = (shapes.get(name, "nothing") for shapes in (stored, expected))
        if shape != expected_shape:
            raise ValueError(
                f"{name}: the checkpoint has {shape}, a model of {description} has {expected_shape}."
            )


def _rope_base(frequencies: dict[str, Tensor]) -> float:
    """The base θ of rotary frequencies θ^(-2i/D), i < D/2, that all of them must follow."""
    base = 10000.0
    for i, (name, tensor) in enumerate(frequencies.items()):
        freqs, half = tensor.double().cpu(), len(tensor)
        if i == 0 and half > 1:
            base = float(freqs[-1] ** (-half / (half - 1)))
            base = float(f"{base:.5g}")  # all that frequencies in single precision tell
        formula = base ** (-torch.arange(half).double() / half)
        if not (base < math.inf and torch.allclose(freqs, formula, rtol=1e-4, atol=0)):
            raise ValueError(f"{name} does not follow θ^(-2i/{2 * half}), i = 0 … {half - 1}, at θ={base:g}.")
    return base
