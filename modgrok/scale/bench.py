"""`python -m modgrok bench`: each shortcut against the plain computation, and a training step in every way there is.

A researcher would write the plain computation first: logits at every position, rotary positions applied on the fly,
float32, not compiled.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from modgrok.config import Config, preset
from modgrok.data import Data, sequences
from modgrok.evaluate import query_grid, targets
from modgrok.model import Transformer, flops_per_step
from modgrok.storage.provenance import environment
from modgrok.train import Training
from modgrok.training import engine

SHAPES = {
    "d 2, width 64": Config(n_embd=64, n_head=2, n_tasks=128, batch_size=128, mixed_precision="no"),
    "d 2, width 128": Config(n_embd=128, n_tasks=128, batch_size=128, mixed_precision="no"),
    "d 4, width 256": Config(depth=4, n_embd=256, n_tasks=128, batch_size=128, mixed_precision="no"),
}
"""Training shapes for a CPU, all at p = 29 with 32 examples."""

CURRICULUM_SHAPES = {
    f"p 29, {pairs}, width {width}": preset(
        "p19", p=29, n_tasks=512, alpha=0.6, n_examples=32, n_embd=width, curriculum=curriculum
    )
    for pairs, curriculum in {"1 line × 4 examples": "1x4:100", "uniform × 32 examples": ""}.items()
    for width in (128, 256)
}
"""First and last phase of a curriculum at p = 29: two blocks, 512 sequences a step."""

PAPER_SHAPES = {
    "paper d 2": preset("paper"),
    "paper d 4": preset("paper", depth=4, n_tasks=384, alpha=0.8, batch_size=1536),
}

Figures = dict[str, float]
"""What a row says: the name of a figure → its value."""


def bench(name_parts: Sequence[str]) -> None:
    """Measure the rows whose names contain one of the parts, without parts all, one after the other; print each.

    ValueError if there is none.
    """
    rows = available_rows()
    names = [name for name in rows if not name_parts or any(part in name for part in name_parts)]
    if not names:
        raise ValueError(
            f"no row is named like {' or '.join(name_parts)}; choose parts of: {'; '.join(rows)}."
        )
    print(environment())
    for name in ("laptop", "desk"):
        print(f"{name} trains in {engine.arithmetic(preset(name))}.")
    print(f"{len(names)} rows, a minute each or less.", flush=True)
    for name in tqdm(names, desc="bench", unit="row"):
        figures = "  ".join(f"{figure} {number:.4g}" for figure, number in rows[name]().items())
        tqdm.write(f"{name:66} {figures}")


def available_rows() -> dict[str, Callable[[], Figures]]:
    """Name of each row that this machine can measure → the function that measures it."""
    rows = {f"training step, {name}": partial(compare_steps, c) for name, c in SHAPES.items()}
    rows["query grid, d 4, 0 … 31 shots"] = compare_grids
    rows["2 processes for 1, d 2, width 128"] = compare_processes
    if torch.cuda.is_available():
        return rows | {name: partial(time_step, config) for name, config in PAPER_SHAPES.items()}
    for name in ("laptop", "desk"):
        for way in candidates(preset(name)):
            rows[f"{name}: {way}"] = partial(time_step, preset(name), way)
    return rows | {name: partial(time_step, config) for name, config in CURRICULUM_SHAPES.items()}


# --- in this process, on as many threads as torch uses ---------------------------------------------------------


def alternate(plain: Callable, fast: Callable, repetitions: int) -> Figures:
    """Median seconds of two computations that run in turn after one warm-up each, and the median of plain / fast."""
    plain(), fast()
    times = [(seconds(plain), seconds(fast)) for _ in range(repetitions)]
    plain_s, fast_s = (statistics.median(column) for column in zip(*times, strict=True))
    return {"plain_s": plain_s, "fast_s": fast_s, "ratio": statistics.median(a / b for a, b in times)}


def seconds(call: Callable) -> float:
    """Seconds that a call takes; on a GPU until its work is done."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare_steps(config: Config) -> Figures:
    """Forward and backward with logits at every position, and with logits only where a loss is."""
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0))
    tokens = Data(config).batch(0)

    def step(logits: Callable[[Tensor], Tensor]) -> None:  # the optimizer's cost does not depend on them
        F.cross_entropy(logits(tokens).flatten(0, 1), targets(tokens).flatten()).backward()
        model.zero_grad()

    return alternate(partial(step, model.plain_logits), partial(step, model), 7)


def compare_grids() -> Figures:
    """All p² queries after 0 … 31 shots as sequences of their own, and after one pass over the context."""
    config = Config(depth=4, n_embd=64, mixed_precision="no")
    model, p = Transformer(config).init_weights(torch.Generator().manual_seed(0)), config.p
    context, shots = Data(config).pairs["train"][:31], list(range(32))
    queries = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = sequences(torch.tensor([[6, 6]]), context[None], p).expand(p * p, -1)

    @torch.no_grad()
    def plain_grid() -> None:
        for k in shots:
            model.plain_logits(torch.cat([tokens[:, : 3 * k], queries], dim=1))[:, -1].argmax(-1)

    return alternate(plain_grid, lambda: query_grid(model, [[6, 6]], context, shots), 2)


# --- the training loop, in processes of its own ----------------------------------------------------------------


def compare_processes() -> Figures:
    """Seconds of a training step in one process (plain) and in two (fast), and their ratio."""
    config = SHAPES["d 2, width 128"]
    plain_s, fast_s = (statistics.median(step_seconds(config, n) for _ in range(3)) for n in (1, 2))
    return {"plain_s": plain_s, "fast_s": fast_s, "ratio": plain_s / fast_s}


def time_step(config: Config, arithmetic: engine.Arithmetic | None = None) -> Figures:
    """Milliseconds of a training step, and the share of the GPU's peak FLOPs if there is a GPU of a known peak."""
    step_s, peak = step_seconds(config, arithmetic=arithmetic), engine.peak_flops()
    figures = {"step_ms": 1000 * step_s}
    return figures | ({"model_flop_utilisation": flops_per_step(config) / step_s / peak} if peak else {})


def candidates(config: Config) -> list[engine.Arithmetic]:
    """The ways in which this CPU can compute a step of a config."""
    used = engine.arithmetic(config)
    float32 = engine.Arithmetic(bf16=False, explicit=False, compiled=False)
    ways = [used, float32]
    if engine.compile_failure("cpu") is None:
        ways += [float32._replace(compiled=True), float32._replace(compiled=True, explicit=True)]
        ways += [engine.Arithmetic(bf16=True, explicit=True, compiled=True)] * engine.bf16_hardware()
    return list(dict.fromkeys(ways))


def step_seconds(config: Config, n_processes: int = 1, arithmetic: engine.Arithmetic | None = None) -> float:
    """Seconds of a step of the real training loop, the mean of 10; each process has a GPU if there are GPUs.

    Raises RuntimeError if a process failed.
    """
    job = json.dumps({"config": config.to_dict(), "arithmetic": arithmetic or engine.arithmetic(config)})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={n_processes}", "-m", "modgrok.scale.bench", job]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"the training processes failed: {result.stderr[-2000:]}")
    return float(result.stdout.split()[-1])


def worker(job: dict) -> None:
    """One process of `step_seconds`."""
    config = Config.from_dict(job["config"])
    engine.arithmetic = lambda config: engine.Arithmetic(*job["arithmetic"])
    with tempfile.TemporaryDirectory() as folder:
        accelerator = engine.make_accelerator(config, Path(folder))
        training = Training(config, Path(folder), accelerator)
        for _ in range(3):  # compiles, if need be
            training.update()
        accelerator.wait_for_everyone()
        accelerator.print(seconds(lambda: [training.update() for _ in range(10)]) / 10)
    accelerator.end_training()


if __name__ == "__main__":
    worker(json.loads(sys.argv[1]))
