"""The training loop: Accelerate distributes it, the disk remembers it.

`train` is "ensure", not "do": it returns a finished run, resumes a half-done one, else starts.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import accelerate
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_cuda_available
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from modgrok import engine, runs
from modgrok.config import SETS, Config, nearest_multiple, preset
from modgrok.data import Data
from modgrok.evaluate import count_kinds, questions, score, targets
from modgrok.model import Transformer, flops_per_step
from modgrok.process import die_with_parent
from modgrok.runs import Run

ASK_EVERY = 10
"""Seconds between two words among processes that wait for another trainer; a group that is silent is given up."""

STOP_EVERY = 20
"""Steps between agreements of several processes on whether one of them was asked to stop."""


def train(
    config: Config,
    root: str | Path = "runs",
    accumulate: int = 1,
    log_with: str | None = None,
    anew: bool = False,
) -> Run:
    """Make sure that the run of a config exists under a root, and return it.

    Args:
        config: what to train; also decides the folder of a new run, root/config.name.
        root: folder that holds runs; a finished one is found at any depth, such as a shipped one.
        accumulate: micro-batches a step is split into, to save memory; the result stays, but for rounding.
        log_with: a tracker that Accelerate knows ("tensorboard", "wandb"), besides the run's own metrics.
        anew: train also if the finished run lies elsewhere under the root than in root/config.name.

    Raises:
        ValueError: the folder holds something else, the run there is damaged, the batch does not divide among the
            processes, or the training does not fit in memory; nothing is created then.
        FloatingPointError: the loss is no longer finite; the message names the step.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved, the same call continues.
        OSError: the disk is full; what was saved before is whole.
    """
    path = Path(root) / config.name
    check_divides(config, 1, accumulate)
    accelerator = make_accelerator(config, path, accumulate, log_with)
    threads = engine.one_thread() if accelerator.device.type == "cpu" else contextlib.nullcontext()
    try:
        check_divides(config, accelerator.num_processes, accumulate)
        found = path if is_finished(path, config) or anew else finished_elsewhere(config, root) or path
        done = torch.tensor([is_finished(found, config)], dtype=torch.int, device=accelerator.device)
        if accelerator.gather(done).all():  # all, lest one process goes ahead while another one waits for it
            return finished_run(found)  # before any lock is touched: a shipped root may be read-only
        check_memory(config, accelerator)
        with held(path, accelerator), threads:
            if is_finished(path, config):
                return finished_run(path)
            return Training(config, path, accelerator).run()
    finally:
        accelerator.end_training()  # leaves the process group; a rank that does not may abort at exit


def import_authors(
    file: str | Path, root: str | Path = "runs", n_head: int = 4, p: int | None = None, **fields
) -> Run:
    """Make a finished run of one of the authors' checkpoints: its weights, scored on our four sets.

    Which tasks and inputs the authors trained on is not in the file. The run draws its own, so what its
    metrics call id and ood, training and test, is our split; its provenance says so.

    Args:
        file: the `.pth` file.
        root: folder that will hold the run; it takes the place of a training run of the same config.
        n_head, p, **fields: see `Transformer.from_authors`.

    Raises:
        ValueError: the file does not fit, or the folder holds a run that is not of this file.
    """
    model = Transformer.from_authors(file, n_head, p, **fields)
    config, path = model.config, Path(root) / model.config.name
    digest = f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    accelerator = make_accelerator(config, path)
    with held(path, accelerator):
        if is_finished(path, config) and Run(path).provenance.get("file") == digest:
            return Run(path)
        if is_finished(path, config) or any(path.glob("*.safetensors")):
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


def make_accelerator(
    config: Config, path: Path, accumulate: int = 1, log_with: str | None = None
) -> Accelerator:
    AcceleratorState._reset_state()  # a process may train one config in float32 and the next in bf16
    arithmetic = engine.arithmetic(config)
    return Accelerator(
        cpu=not torch.cuda.is_available(),  # without it Accelerate overlooks torchrun on CPUs
        mixed_precision="bf16" if arithmetic.bf16 else "no",
        gradient_accumulation_steps=accumulate,
        log_with=log_with,
        project_dir=path,
        dynamo_backend="inductor" if arithmetic.compiled else "no",
    )


def is_finished(path: Path, config: Config) -> bool:
    """Whether a folder holds the finished run of a config.

    Raises:
        ValueError: it holds a run of another config, or something else.
    """
    if not os.path.lexists(path / "config.json"):
        return False
    run = Run(path)
    if not runs.same_result(run.config, config):
        raise ValueError(runs.collision(config, run))
    return run.finished


def finished_elsewhere(config: Config, root: str | Path) -> Path | None:
    """The folder of the finished run of a config in a subfolder of a root."""
    with contextlib.suppress(FileNotFoundError):
        return runs.find_run(config, root).path


def finished_run(path: Path) -> Run:
    """A finished run, whose resume point is still there if the process that finished it was killed right then.

    Raises:
        ValueError: something is missing from it or damaged; the message says what helps.
    """
    resume = path / "resume.safetensors"
    if resume.exists():
        resume.unlink(missing_ok=True)
    run = Run(path)
    run.check()
    return run


def check_memory(config: Config, accelerator: Accelerator) -> None:
    """Refuse what cannot fit, before anything is created.

    Raises:
        ValueError: one sentence naming the field that needs most, how much, and what there is.
    """
    needs = memory(config, accelerator.num_processes, accelerator.gradient_accumulation_steps)
    if accelerator.device.type == "cuda":
        free = torch.cuda.mem_get_info(accelerator.device)[0]
    else:
        free = psutil.virtual_memory().available / accelerator.num_processes
    if sum(needs.values()) > free:
        name = max(needs, key=needs.get)
        raise ValueError(
            f"{name}={getattr(config, name)} needs at least {sum(needs.values()) / 1e9:.3g} GB with the other fields "
            f"as they are, and {free / 1e9:.3g} GB are free; lower it, or use more processes or micro-batches."
        )


def memory(config: Config, processes: int = 1, accumulate: int = 1) -> dict[str, float]:
    """Bytes that a process needs at the least, by the field that they grow with."""
    c, length = config, 3 * config.n_examples
    width = 2 if c.mixed_precision == "bf16" else 4
    parameters = c.depth * 12 * c.n_embd**2 + c.p * c.n_embd
    sequences = c.batch_size / processes / accumulate
    return {
        "n_embd": 16.0 * parameters,  # weights, gradients and two moments, float32
        "batch_size": sequences * length * (c.depth * 10 * c.n_embd * width + 24)
        + sequences * c.n_examples * c.p * 8
        + c.batch_size * length * 8,  # every process draws the whole batch
        "eval_sequences": c.eval_sequences / processes * c.n_examples * 4 * 4 * (c.p * 4 + 8),
        "p": 64.0 * c.p**2,
    }


def check_divides(config: Config, processes: int, accumulate: int) -> None:
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate={accumulate!r} is not allowed; choose a whole number from 1.")
    parts = processes * accumulate
    if config.batch_size % parts:
        unit = math.lcm(parts, config.n_tasks)
        nearest = nearest_multiple(config.batch_size, unit)
        raise ValueError(
            f"batch_size={config.batch_size} does not divide into {processes} processes × {accumulate} "
            f"micro-batches; sizes that do are the multiples of {unit}, the nearest is {nearest}."
        )


@contextlib.contextmanager
def held(path: Path, accelerator: Accelerator):
    """Hold a run's folder against other trainers; the system lets go of a dead process's lock."""
    if not accelerator.is_main_process:
        while not _together(True, accelerator):
            pass
        yield
        return
    holder = path / "holder"
    path.mkdir(parents=True, exist_ok=True)
    lock, said = FileLock(path / "lock"), False
    while not _together(_acquired(lock, ASK_EVERY if said else 0), accelerator):
        if not said:
            who = "another process"
            with contextlib.suppress(OSError, ValueError):  # it has only just come, or is about to go
                who = runs.read_bytes(holder, 1000).decode()
            print(f"{path.name} is being trained by {who}; waiting for it.", flush=True)
        said = True
    try:
        runs.write_atomically(holder, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _acquired(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
        return True
    except Timeout:
        return False


def _together(ready: bool, accelerator: Accelerator) -> bool:
    """Whether all processes are ready; asked again and again, since no process may be silent for long."""
    return bool(accelerator.gather(torch.tensor([int(ready)], device=accelerator.device)).all())


class Training:
    """One pass through the loop: the state that a step changes, and how it is saved and restored."""

    def __init__(self, config: Config, path: Path, accelerator: Accelerator):
        self.config, self.path, self.accelerator = config, path, accelerator
        self.data = Data(config, accelerator.device)
        model = Transformer(config).init_weights(torch.Generator().manual_seed(config.seed))
        self.arithmetic = engine.arithmetic(config)
        model.explicit = self.arithmetic.explicit
        self.model, *self.optimizers = accelerator.prepare(model, *make_optimizers(config, model))
        self.weights = accelerator.unwrap_model(self.model, keep_torch_compile=False)
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.questions = {
            name: questions(tokens[rank::processes], config.p, self.data.tasks["id"])
            for name, tokens in self.data.evaluation_sets().items()
        }
        self.asked = {
            name: accelerator.reduce(count_kinds(own.kinds), "sum").cpu()
            for name, own in self.questions.items()
        }
        self.step = 0
        self.loss_sum = torch.zeros(
            (), dtype=torch.float64, device=accelerator.device
        )  # since last evaluation
        self.bad_step = torch.full(
            (), math.inf, device=accelerator.device
        )  # the first with a loss not finite
        self.rows: list[dict[str, float]] = []
        # by set: right answers (kinds, K) and mean divergences (references, K) of each evaluation
        self.right: dict[str, list[Tensor]] = {name: [] for name in SETS}
        self.divergence: dict[str, list[Tensor]] = {name: [] for name in SETS}
        self.seconds = 0.0
        self.sessions: list[int] = []  # number of processes of each session
        self.arithmetics: list[
            str
        ] = []  # how the steps were computed, and on what; one a session unless the same
        self.origin: dict[str, str] = {}  # of weights that were not trained here
        self.environment = environment()  # now, since the source tree may change while we train

    def run(self) -> Run:
        config, main = self.config, self.accelerator.is_main_process
        self.begin()
        keep = checkpoint_steps(config)
        started = time.monotonic() - self.seconds
        bar = tqdm(
            total=config.steps,
            initial=self.step,
            desc=config.name,
            unit="step",
            disable=not main,
            mininterval=1,
        )
        with signals() as received, bar:
            while True:
                due = self.step % config.eval_every == 0 or self.step == config.steps
                if due and not (self.rows and self.rows[-1]["step"] == self.step):  # made before a resume
                    self.check_finite()
                    self.evaluate()
                    bar.set_postfix(self.summary(bar.format_dict["rate"]))
                self.seconds = time.monotonic() - started
                if self.step in keep and main:
                    file = Run(self.path).checkpoint_file(self.step)
                    runs.save_tensors(file, self.weights.state_dict(), config.name)
                if self.step == config.steps:
                    break
                if stop := self.agree(received):
                    self.save()
                    raise KeyboardInterrupt(
                        f"stopped by {signal.Signals(stop).name} at step {self.step} of {config.steps}; "
                        "all is saved, and the same command continues."
                    )
                if self.step and self.step % config.checkpoint_every == 0:
                    self.save()
                self.update()
                bar.update()
        if main:
            Run(self.path).finish(json.dumps(self.provenance(), indent=1).encode())
            (self.path / "resume.safetensors").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return Run(self.path)

    def update(self) -> None:
        """One optimizer step on the batch of this step, or on this process's share of it."""
        accelerator, optimizers = self.accelerator, self.optimizers
        factor = lr_factor(self.config, self.step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
        for part in self.share().chunk(accelerator.gradient_accumulation_steps):
            with accelerator.accumulate(self.model):
                loss = F.cross_entropy(self.model(part).flatten(0, 1), targets(part).flatten())
                accelerator.backward(loss)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            share = accelerator.num_processes * accelerator.gradient_accumulation_steps
            self.loss_sum += loss.detach() / share
            # kept on the device: reading it every step would stall the GPU
            self.bad_step = torch.where(
                loss.isfinite() | (self.bad_step < math.inf), self.bad_step, self.step
            )
        self.step += 1

    def share(self) -> Tensor:
        """This process's part of the batch of this step."""
        parts = self.data.batch(self.step).chunk(self.accelerator.num_processes)
        return parts[self.accelerator.process_index]

    def evaluate(self) -> None:
        """Score the four sets, add a row to the metrics, and write them."""
        row = {
            "step": self.step,
            "lr": self.config.lr * lr_factor(self.config, min(self.step, self.config.steps)),
        }
        since = self.step - self.rows[-1]["step"] if self.rows else 0
        total = float(self.accelerator.reduce(self.loss_sum, "sum"))
        row["train_loss"] = total / since if since else math.nan
        self.loss_sum.zero_()
        self.weights.eval()
        for name, own in self.questions.items():
            sums = score(self.predict, own, self.config.batch_size)
            loss, right, divergence = (self.accelerator.reduce(each, "sum").cpu() for each in sums)
            asked = self.asked[name]
            n = asked[:, -1].sum()
            row |= {
                f"{name}_loss": float(loss.mean() / n),
                f"{name}_acc": float(right[:, -1].sum() / n),
                f"{name}_novel": float(right[1:, -1].sum() / asked[1:, -1].sum()),
            }
            self.right[name].append(right.int())
            self.divergence[name].append((divergence / n).float())
        self.weights.train()
        self.rows.append(row)
        self.accelerator.log(row, step=self.step)
        if self.accelerator.is_main_process:
            scores = {f"{name}.asked": asked.int() for name, asked in self.asked.items()}
            scores |= {f"{name}.right": torch.stack(each) for name, each in self.right.items()}
            scores |= {f"{name}.divergence": torch.stack(each) for name, each in self.divergence.items()}
            runs.save_tensors(self.path / "scores.safetensors", scores, self.config.name)
            runs.write_csv(self.path / "metrics.csv", self.rows)

    def predict(self, tokens: Tensor) -> Tensor:
        """The model's logits in float32, whatever the arithmetic of training: what analyses will see."""
        return Transformer.forward(self.weights, tokens)

    def check_finite(self) -> None:
        """Stop if a loss so far was not finite, or the next will not be: such weights are not worth keeping."""
        with torch.no_grad():
            parts = self.share().chunk(self.accelerator.gradient_accumulation_steps)
            ahead = torch.stack([self.predict(part).sum() for part in parts])
        bad_step = torch.where(ahead.isfinite().all() | (self.bad_step < math.inf), self.bad_step, self.step)
        first = float(self.accelerator.gather(bad_step.reshape(1)).min())
        if first < math.inf:
            resume = "none" if not (self.path / "resume.safetensors").exists() else "the last good one"
            raise FloatingPointError(
                f"the loss is not finite since step {int(first)} of {self.config.name}; kept resume point: {resume}. "
                "Lower lr or muon_lr, or lengthen warmup_steps."
            )

    def begin(self) -> None:
        """Claim an empty folder, or take up what a former session left in it."""
        if (self.path / "config.json").exists():
            Run(self.path)  # refuses a folder that holds another config
        elif self.accelerator.is_main_process:
            runs.write_atomically(self.path / "config.json", json.dumps(self.config.to_dict(), indent=1))
        if self.accelerator.is_main_process:
            for leftover in self.path.rglob(".part-*"):
                leftover.unlink()  # of a process that was killed while it wrote
        if (self.path / "resume.safetensors").exists():
            self.load()
        self.sessions.append(self.accelerator.num_processes)
        here = str(self.arithmetic)
        if self.accelerator.device.type == "cpu":
            here += f" on {engine.processor()}"
        if self.arithmetics and self.arithmetics[-1] != here:
            self.accelerator.print(
                f"{self.config.name} was computed in {self.arithmetics[-1]} so far and continues in {here}: "
                "the same training, but not bit for bit."
            )
        if self.arithmetics[-1:] != [here]:
            self.arithmetics.append(here)
        self.accelerator.init_trackers("modgrok", config={k: str(v) for k, v in asdict(self.config).items()})
        self.accelerator.print(
            f"{'importing' if self.origin else 'training'} {self.config.name} "
            f"on {self.accelerator.num_processes} process(es), {self.accelerator.device.type}, from step {self.step}",
        )
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write everything that the next step depends on."""
        self.check_finite()
        loss_sum = self.accelerator.reduce(self.loss_sum, "sum")
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.weights.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{index}.{key}": value for key, value in state.items()}
        tensors["loss_sum"] = loss_sum
        notes = {"step": self.step, "seconds": self.seconds, "sessions": self.sessions}
        notes["arithmetic"] = self.arithmetics
        runs.save_tensors(self.path / "resume.safetensors", tensors, self.config.name, notes)

    def load(self) -> None:
        """The inverse of `save`; evaluations after the resume point are dropped, to be made again.

        Raises:
            ValueError: a file that is damaged or does not belong, or a table that ends before the resume point.
        """
        tensors, notes = runs.load_state(self.path / "resume.safetensors", self.config.name)
        self.weights.load_state_dict(
            {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    index, key = name.split(".")[2:]
                    state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        if self.accelerator.is_main_process:  # sums of all processes are added at the next evaluation
            self.loss_sum += tensors["loss_sum"].to(self.loss_sum.device)
        self.step, self.seconds, self.sessions = notes["step"], notes["seconds"], notes["sessions"]
        self.arithmetics = notes["arithmetic"]
        run, n = Run(self.path), self.step // self.config.eval_every + 1  # evaluations up to here
        for step in checkpoint_steps(self.config):
            if step <= self.step:  # lest the run be finished without it
                runs.load_tensors(run.checkpoint_file(step), run.name, run.repair)
        expected = np.arange(n) * self.config.eval_every
        if not np.array_equal(run.metrics["step"][:n], expected) or min(map(len, run.right.values())) < n:
            raise ValueError(
                f"{self.path} was edited: its metrics do not reach step {self.step}, where its resume point "
                "stands; restore them, or remove resume.safetensors to start over."
            )
        for i in range(n):
            self.rows.append({name: values[i].item() for name, values in run.metrics.items()})
            for name in SETS:
                self.right[name].append(torch.from_numpy(run.right[name][i]))
                self.divergence[name].append(torch.from_numpy(run.divergence[name][i]))

    def agree(self, received: list[int]) -> int:
        """The signal that any process was sent, or 0; asked of the others only now and then."""
        mine = received[0] if received else 0
        if self.accelerator.num_processes == 1:
            return mine
        if self.step % STOP_EVERY:
            return 0
        signal_number = torch.tensor([mine], device=self.accelerator.device)
        return int(self.accelerator.gather(signal_number).max())

    def summary(self, speed: float | None) -> dict[str, str]:
        """What the progress bar shows; speed in steps/s."""
        row = self.rows[-1]
        peak = peak_flops()
        use = {"MFU": f"{speed * flops_per_step(self.config) / peak:.0%}"} if speed and peak else {}
        return (
            use
            | {"loss": f"{row['train_loss']:.3f}"}
            | {name: f"{row[f'{name}_novel']:.2f}" for name in SETS}
        )

    def provenance(self) -> dict:
        own = {"seconds": round(self.seconds, 1), "processes": self.sessions, "arithmetic": self.arithmetics}
        return own | self.environment | self.origin


def environment() -> dict[str, str | int | None]:
    """What a measurement depends on besides its config: device, threads, versions and commit."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "accelerate": accelerate.__version__,
        "commit": commit(),
    }


def peak_flops() -> float | None:
    """Dense bf16 operations a second of the GPU in use, by its data sheet; None for others and for CPUs."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peaks = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
    return next((peak for kind, peak in peaks.items() if kind in name), None)


def make_optimizers(config: Config, model: Transformer) -> list[torch.optim.Optimizer]:
    """AdamW over everything, or Muon over block matrices and AdamW over the rest; no decay on LayerNorm."""
    matrices = [w for w in model.blocks.parameters() if w.ndim == 2]
    norms = [w for w in model.parameters() if w.ndim == 1]
    decayed = [model.embed.weight] + (matrices if config.optimizer == "adamw" else [])
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=1e-8, fused=True)
    ]
    if config.optimizer == "muon":
        decay = config.weight_decay * config.lr / config.muon_lr  # the same lr · weight_decay as AdamW's
        kind = torch.optim.Muon if torch.cuda.is_available() else engine.Muon
        optimizers.append(kind(matrices, lr=config.muon_lr, weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def lr_factor(config: Config, step: int) -> float:
    """Learning rate at a step in units of its peak: 1 % to 100 % during warm-up, then the schedule."""
    if step < config.warmup_steps:
        return 0.01 + 0.99 * step / config.warmup_steps
    if config.lr_schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.55 + 0.45 * math.cos(math.pi * progress)


def checkpoint_steps(config: Config) -> set[int]:
    """The steps whose weights are kept: n_checkpoints, log-spaced, at evaluations, always the last."""
    spaced = np.geomspace(min(config.eval_every, config.steps), config.steps, config.n_checkpoints)
    rounded = {round(step / config.eval_every) * config.eval_every for step in spaced[:-1]}
    return {step for step in rounded if 0 < step < config.steps} | {config.steps}


@contextlib.contextmanager
def signals():
    """Collect SIGINT and SIGTERM instead of dying of them, so that a step ends before we stop."""
    received: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    old = [signal.signal(kind, lambda number, frame: received.append(number)) for kind in kinds]
    try:
        yield received
    finally:
        for kind, handler in zip(kinds, old, strict=True):
            signal.signal(kind, handler)


def commit() -> str | None:
    """The commit of this source tree, marked where files differ from it; None outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def obtain(
    source: str, preset_name: str, root: str | Path = "runs", num_processes: int = 1, **overrides
) -> Run:
    """The run a notebook asks for by its parameters.

    Args:
        source: "shipped" finds a finished run under root, at any depth; "train" trains it there if it finds none.
        preset_name, **overrides: name and fields of the config.
        root: where runs are.
        num_processes: training processes, one a GPU, or CPU processes where there is no GPU.

    Raises:
        ValueError: a parameter that is not allowed.
        FileNotFoundError: source="shipped" and no such run; the message says how to train it.
    """
    if source not in ("shipped", "train"):
        raise ValueError(f'source={source!r} is not allowed; choose "shipped" or "train".')
    if isinstance(num_processes, bool) or not isinstance(num_processes, int) or num_processes < 1:
        raise ValueError(f"num_processes={num_processes!r} is not allowed; choose 1 or more.")
    config = preset(preset_name, **overrides)
    try:
        return runs.find_run(config, root)
    except FileNotFoundError:
        if source == "shipped":
            raise
    if num_processes == 1:
        return train(config, root)
    check_divides(config, num_processes, 1)
    AcceleratorState._reset_state(True)  # the launchers insist on starting afresh
    # asked this way, CUDA is not started, which a process could not be forked after
    launch = accelerate.notebook_launcher if is_cuda_available() else accelerate.debug_launcher
    launch(_train_forked, (config, root), num_processes=num_processes)
    return runs.find_run(config, root)


def _train_forked(config: Config, root: str | Path) -> None:
    """`train` in a fork: the parent's OpenMP threads do not exist here, and to wait for them is to hang."""
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"  # or Accelerate raises it again
    torch.set_num_threads(1)
    train(config, root)
