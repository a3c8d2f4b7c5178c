"""`python -m modgrok bench`: each shortcut against the plain computation, alternating in one process.

The plain computation is what a researcher would write first: logits at every position, rotary positions applied on the
fly, float32, not compiled, batches stacked from a Dataset.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from modgrok import engine, optimizers
from modgrok.config import Config, preset
from modgrok.data import Data, sequences
from modgrok.evaluate import query_grid, targets
from modgrok.model import Transformer, flops_per_step
from modgrok.train import Training

SHAPES = {
    "d 2, width 64": Config(n_embd=64, n_head=2, n_tasks=128, batch_size=128, mixed_precision="no"),
    "d 2, width 128": Config(n_embd=128, n_tasks=128, batch_size=128, mixed_precision="no"),
    "d 4, width 256": Config(depth=4, n_embd=256, n_tasks=128, batch_size=128, mixed_precision="no"),
}
"""Training shapes for a CPU, all at p = 29 with 32 examples."""

PAPER_SHAPES = {
    "paper d 2": preset("paper"),
    "paper d 4": preset("paper", depth=4, n_tasks=384, alpha=0.8, batch_size=1536),
}


class SequenceDataset(Dataset):
    """The plain way to make batches: a sequence an item, calculated number by number."""

    def __init__(self, data: Data):
        self.config, self.tasks, self.pairs = data.config, data.tasks["id"], data.pairs["train"]

    def __len__(self) -> int:
        return self.config.batch_size

    def __getitem__(self, index: int) -> Tensor:
        a, b = self.tasks[index % len(self.tasks)]
        chosen = self.pairs[torch.randint(len(self.pairs), (self.config.n_examples,))]
        return torch.tensor([n for x, y in chosen for n in (x, y, (a * x + b * y) % self.config.p)])


def plain_grid(model: Transformer, task: list[int], pairs: Tensor, shots: list[int]) -> Tensor:
    """Every query as a sequence of its own."""
    p = model.config.p
    queries = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    context = sequences(torch.tensor([task]), pairs[None], p)
    with torch.no_grad():
        return torch.stack(
            [
                model.plain_logits(torch.cat([context[:, : 3 * k].expand(p * p, -1), queries], dim=1))[:, -1]
                .argmax(-1)
                .view(p, p)
                for k in shots
            ]
        )


def alternate(plain: Callable, fast: Callable, repetitions: int) -> dict[str, float]:
    """Median seconds of two computations run in turn, after one warm-up each, and their median ratio."""
    plain(), fast()
    times = [(seconds(plain), seconds(fast)) for _ in range(repetitions)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(a / b for a, b in times)
    return {"plain_s": medians[0], "fast_s": medians[1], "ratio": ratio}


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def training_step(
    logits: Callable[[Transformer, Tensor], Tensor], model: Transformer, tokens: Tensor
) -> None:
    """Forward and backward; the optimizer is the same either way."""
    F.cross_entropy(logits(model, tokens).flatten(0, 1), targets(tokens).flatten()).backward()
    model.zero_grad()


def compare(repetitions: int) -> dict[str, dict[str, float]]:
    """The shortcuts in this process, on as many threads as torch uses."""
    rows = {}
    for name, config in SHAPES.items():
        model = Transformer(config).init_weights(torch.Generator().manual_seed(0))
        tokens = Data(config).batch(0)
        rows[f"training step, {name}"] = alternate(
            lambda model=model, tokens=tokens: training_step(Transformer.plain_logits, model, tokens),
            lambda model=model, tokens=tokens: training_step(Transformer.__call__, model, tokens),
            repetitions,
        )
    config = Config(depth=4, n_embd=64, mixed_precision="no")
    model, data = Transformer(config).init_weights(torch.Generator().manual_seed(0)), Data(config)
    context, shots = data.pairs["train"][:31], list(range(32))
    rows["query grid, d 4, 0 … 31 shots"] = alternate(
        lambda: plain_grid(model, [6, 6], context, shots),
        lambda: query_grid(model, [[6, 6]], context, shots),
        max(1, repetitions // 3),
    )
    data = Data(SHAPES["d 2, width 64"])
    loader = DataLoader(SequenceDataset(data), batch_size=data.config.batch_size)
    rows["making a batch"] = alternate(lambda: next(iter(loader)), lambda: data.batch(0), repetitions)
    return rows


def steps_per_second(
    config: Config,
    processes: int = 1,
    steps: int = 20,
    arithmetic: engine.Arithmetic | None = None,
    torch_muon: bool = False,
    threads: int = 1,
) -> float:
    """Speed of the real training loop in so many processes or GPUs, computed as training would or as given."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"config": config.to_dict(), "steps": steps, "root": folder}
        job |= {"arithmetic": arithmetic, "torch_muon": torch_muon}
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MODGROK_BENCH": json.dumps(job)}
        result = subprocess.run(
            [sys.executable, *command, "-m", "modgrok.bench"], env=environment, capture_output=True, text=True
        )
    if result.returncode:
        raise RuntimeError(f"the training processes failed: {result.stderr[-2000:]}")
    return float(result.stdout.split()[-1])


def worker() -> None:
    """One process of `steps_per_second`."""
    job = json.loads(os.environ["MODGROK_BENCH"])
    config = Config.from_dict(job["config"])
    if job["arithmetic"]:
        engine.arithmetic = lambda config: engine.Arithmetic(*job["arithmetic"])
    if job["torch_muon"]:
        optimizers.Muon = torch.optim.Muon
    accelerator = engine.make_accelerator(config, Path(job["root"]))
    training = Training(config, Path(job["root"]), accelerator)
    for _ in range(3):  # compiles, if need be
        training.update()
    accelerator.wait_for_everyone()
    elapsed = seconds(lambda: [training.update() for _ in range(job["steps"])])
    accelerator.print(job["steps"] / elapsed)
    accelerator.end_training()


def candidates(name: str) -> dict[str, dict[str, float]]:
    """Milliseconds of a whole step of a CPU preset, by everything that may compute it; the one that training takes
    is marked (see `engine`)."""
    config = preset(name)
    used = engine.arithmetic(config)
    float32 = engine.Arithmetic(bf16=False, explicit=False, compiled=False)
    ways: dict[str, dict] = {
        "float32, torch's own Muon, in bf16": {"arithmetic": float32, "torch_muon": True},
        str(float32): {"arithmetic": float32},
    }
    if engine.has_compiler():
        made = [float32._replace(compiled=True), float32._replace(compiled=True, explicit=True)]
        made += [engine.Arithmetic(True, True, True)] * engine.bf16_hardware()
        ways |= {str(arithmetic): {"arithmetic": arithmetic} for arithmetic in made}
    ways[f"{used}, two threads"] = {"arithmetic": used, "threads": 2}
    rows = {}
    for way, options in ways.items():
        marked = f"{name}: {way}" + " (used)" * (way == str(used))
        rows[marked] = {"step_ms": 1000 / steps_per_second(config, steps=10, **options)}
    return rows


def bench(repetitions: int = 7) -> dict[str, dict[str, float]]:
    """All rows: name → figures."""
    rows = compare(repetitions)
    shape = SHAPES["d 2, width 128"]
    speed = [statistics.median(steps_per_second(shape, n) for _ in range(3)) for n in (1, 2)]
    rows["2 processes for 1, d 2, width 128"] = {
        "plain_s": 1 / speed[0],
        "fast_s": 1 / speed[1],
        "ratio": speed[1] / speed[0],
    }
    batch, step = rows["making a batch"]["fast_s"], rows["training step, d 2, width 64"]["fast_s"]
    rows["batch making, share of a step"] = {"share": batch / step}
    if not torch.cuda.is_available():
        for name in ("laptop", "desk"):
            print(
                f"{name}: {engine.arithmetic(preset(name))}, for {engine.reason(preset(name))}.", flush=True
            )
            rows |= candidates(name)
    if torch.cuda.is_available():
        for name, config in PAPER_SHAPES.items():
            rate = steps_per_second(config, 1, steps=100)
            rows[name] = {"steps_per_s": rate}
            if peak := engine.peak_flops():
                rows[name]["model_flop_utilisation"] = rate * flops_per_step(config) / peak
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows as text, a figure a column."""
    lines = []
    for name, row in rows.items():
        figures = "  ".join(f"{figure} {value:.4g}" for figure, value in row.items())
        lines.append(f"{name:66} {figures}")
    return "\n".join(lines)


if __name__ == "__main__":
    worker()
