"""`python -m modgrok bench`: each shortcut against the plain computation, alternating in one process.

A researcher would write the plain computation first: logits at every position, rotary positions applied on the
fly, float32, not compiled, batches stacked from a Dataset.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from modgrok.config import Config, preset
from modgrok.data import Data, sequences
from modgrok.evaluate import query_grid, targets
from modgrok.model import Transformer, flops_per_step
from modgrok.train import Training
from modgrok.training import engine, optimizers

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


Rows = dict[str, Callable[[], dict[str, float]]]
"""Name of a row → the function that measures its figures."""


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
    """Answers to all p² queries, (shots, p, p), each computed from a sequence of its own."""
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
    """Median seconds of two computations that run in turn after one warm-up each, and the median of plain / fast."""
    plain(), fast()
    times = [(seconds(plain), seconds(fast)) for _ in range(repetitions)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(a / b for a, b in times)
    return {"plain_s": medians[0], "fast_s": medians[1], "ratio": ratio}


def seconds(call: Callable) -> float:
    """Seconds that a call takes; on a GPU until its work is done."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def training_step(
    logits: Callable[[Transformer, Tensor], Tensor], model: Transformer, tokens: Tensor
) -> None:
    """Run forward and backward, without the optimizer, whose cost does not depend on `logits`."""
    F.cross_entropy(logits(model, tokens).flatten(0, 1), targets(tokens).flatten()).backward()
    model.zero_grad()


def shortcuts(repetitions: int) -> Rows:
    """Rows for the shortcuts that are measured in this process, on as many threads as torch uses."""
    return {
        f"training step, {name}": lambda c=c: compare_steps(c, repetitions) for name, c in SHAPES.items()
    } | {
        "query grid, d 4, 0 … 31 shots": lambda: compare_grids(max(1, repetitions // 3)),
        "making a batch": lambda: compare_batches(repetitions),
    }


def compare_steps(config: Config, repetitions: int) -> dict[str, float]:
    """`alternate` forward and backward with logits at every position, and with logits only where a loss is."""
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0))
    tokens = Data(config).batch(0)
    ways = Transformer.plain_logits, Transformer.__call__
    return alternate(*(lambda way=way: training_step(way, model, tokens) for way in ways), repetitions)


def compare_grids(repetitions: int) -> dict[str, float]:
    """`alternate` all queries after 0 … 31 shots as sequences of their own, and after one pass over the context."""
    config = Config(depth=4, n_embd=64, mixed_precision="no")
    model, data = Transformer(config).init_weights(torch.Generator().manual_seed(0)), Data(config)
    context, shots = data.pairs["train"][:31], list(range(32))
    return alternate(
        lambda: plain_grid(model, [6, 6], context, shots),
        lambda: query_grid(model, [[6, 6]], context, shots),
        repetitions,
    )


def compare_batches(repetitions: int) -> dict[str, float]:
    """`alternate` a batch stacked from a Dataset, and a batch made in one go."""
    data = Data(SHAPES["d 2, width 64"])
    loader = DataLoader(SequenceDataset(data), batch_size=data.config.batch_size)
    return alternate(lambda: next(iter(loader)), lambda: data.batch(0), repetitions)


def compare_processes() -> dict[str, float]:
    """Seconds of a training step in one process (plain) and in two (fast), and their ratio."""
    rates = {}
    for processes in (1, 2):
        speeds = [steps_per_second(SHAPES["d 2, width 128"], processes) for _ in range(3)]
        rates[processes] = statistics.median(speeds)
    return {"plain_s": 1 / rates[1], "fast_s": 1 / rates[2], "ratio": rates[2] / rates[1]}


def steps_per_second(
    config: Config,
    processes: int = 1,
    steps: int = 20,
    arithmetic: engine.Arithmetic | None = None,
    torch_muon: bool = False,
    threads: int = 1,
) -> float:
    """Steps per second of the real training loop, timed over `steps`; each process has a GPU if there are GPUs.

    By default training chooses the arithmetic of a step. `torch_muon` takes torch's own Muon instead of ours.

    Raises:
        RuntimeError: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = {"config": config.to_dict(), "steps": steps, "root": folder}
        job |= {"arithmetic": arithmetic, "torch_muon": torch_muon}
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MODGROK_BENCH": json.dumps(job)}
        result = subprocess.run(
            [sys.executable, *command, "-m", "modgrok.scale.bench"],
            env=environment,
            capture_output=True,
            text=True,
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


def candidates(name: str) -> Rows:
    """Rows that measure the milliseconds of a CPU preset's step in each arithmetic; "(used)" marks that of training."""
    config = preset(name)
    used = engine.arithmetic(config)
    float32 = engine.Arithmetic(bf16=False, explicit=False, compiled=False)
    ways: dict[str, dict] = {
        "float32, torch's own Muon, in bf16": {"arithmetic": float32, "torch_muon": True},
        str(float32): {"arithmetic": float32},
    }
    if engine.compile_failure("cpu") is None:
        compiled = [float32._replace(compiled=True), float32._replace(compiled=True, explicit=True)]
        compiled += [engine.Arithmetic(True, True, True)] * engine.bf16_hardware()
        ways |= {str(arithmetic): {"arithmetic": arithmetic} for arithmetic in compiled}
    ways[f"{used}, two threads"] = {"arithmetic": used, "threads": 2}
    return {
        f"{name}: {way}" + " (used)" * (way == str(used)): lambda options=options: {
            "step_ms": 1000 / steps_per_second(config, steps=10, **options)
        }
        for way, options in ways.items()
    }


def on_gpu(config: Config) -> dict[str, float]:
    """Steps per second of a config on one GPU, and the share of the GPU's peak FLOPs if the peak is known."""
    rate = steps_per_second(config, 1, steps=100)
    peak = engine.peak_flops()
    use = {"model_flop_utilisation": rate * flops_per_step(config) / peak} if peak else {}
    return {"steps_per_s": rate} | use


def bench(repetitions: int = 7, name_parts: Iterable[str] = ()) -> dict[str, dict[str, float]]:
    """Measure rows one after the other: name → figures, each with its name.

    Args:
        repetitions: timed pairs of a comparison in this process.
        name_parts: a row is measured if its name contains one of these parts; by default every row.

    Raises:
        ValueError: no row has a name with such a part.
    """
    rows = shortcuts(repetitions) | {"2 processes for 1, d 2, width 128": compare_processes}
    if torch.cuda.is_available():
        rows |= {name: lambda c=c: on_gpu(c) for name, c in PAPER_SHAPES.items()}
    else:
        rows |= candidates("laptop") | candidates("desk")
        rows |= {
            name: lambda c=c: {"step_ms": 1000 / steps_per_second(c, steps=5)}
            for name, c in CURRICULUM_SHAPES.items()
        }
    names = [name for name in rows if not name_parts or any(part in name for part in name_parts)]
    if not names:
        raise ValueError(
            f"no row is named like {' or '.join(name_parts)}; choose parts of: {'; '.join(rows)}."
        )
    for name in () if torch.cuda.is_available() else ("laptop", "desk"):
        if any(row.startswith(name) for row in names):
            print(
                f"{name}: {engine.arithmetic(preset(name))}, for {engine.reason(preset(name))}.", flush=True
            )
    print(f"{len(names)} rows, half a minute each or less.", flush=True)
    bar = tqdm(names, desc="bench", unit="row")
    measured = {}
    for name in bar:
        bar.set_postfix_str(name)
        measured[name] = rows[name]()
    batch, step = measured.get("making a batch"), measured.get("training step, d 2, width 64")
    if batch and step:
        measured["batch making, share of a step"] = {"share": batch["fast_s"] / step["fast_s"]}
    return measured


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows of `bench` as text, one line a row."""
    lines = []
    for name, row in rows.items():
        figures = "  ".join(f"{figure} {value:.4g}" for figure, value in row.items())
        lines.append(f"{name:66} {figures}")
    return "\n".join(lines)


if __name__ == "__main__":
    worker()
