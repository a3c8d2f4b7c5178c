"""The training loop: Accelerate distributes it, the disk remembers it.

`train` is "ensure", not "do": it returns a finished run, resumes a half-done one, else starts.
"""

import contextlib
import json
import math
import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from modgrok.config import SETS, Config, Phase, check_config
from modgrok.data import Data
from modgrok.evaluate import PASS, count_kinds, prepare_questions, score, targets
from modgrok.model import Transformer, flops_per_step
from modgrok.storage import files
from modgrok.storage.provenance import environment
from modgrok.storage.runs import Run
from modgrok.training import engine, progress
from modgrok.training.optimizers import lr_factor, make_optimizers
from modgrok.training.session import finished_folder, finished_run, held, signals

STOP_EVERY = 20
"""Steps on GPUs between agreements of several processes on whether one of them was asked to stop; on CPUs, where a step
may take seconds and whoever sent the signal does not wait long, they ask at every step."""

PHASE_CHECK = 50
"""Steps over which the training loss is averaged that ends a phase of the curriculum."""


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
        ValueError: config is none, the folder holds something else, the run there is damaged, the batch does not
            divide among the processes, or the training does not fit in memory; nothing is created then.
        FloatingPointError: the loss is no longer finite; the message names the step.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved, the same call continues.
        OSError: the disk is full; what was saved before is whole.
    """
    check_config(config)
    path = Path(root) / config.name
    engine.check_divides(config, 1, accumulate)
    accelerator = engine.make_accelerator(config, path, accumulate, log_with)
    threads = engine.one_thread() if accelerator.device.type == "cpu" else contextlib.nullcontext()
    try:
        engine.check_divides(config, accelerator.num_processes, accumulate)
        folder = finished_folder(config, root, anew)
        is_found = torch.tensor([folder is not None], dtype=torch.int, device=accelerator.device)
        if accelerator.gather(is_found).all():  # lest one process goes ahead while another one waits for it
            return finished_run(folder)  # before any lock is touched: a shipped root may be read-only
        engine.check_memory(config, accelerator)
        with held(path, accelerator), threads:
            if finished_folder(config, root, anew=True):  # another training finished it meanwhile
                return finished_run(path)
            return Training(config, path, accelerator).run()
    finally:
        accelerator.end_training()  # leaves the process group; a rank that does not may abort at exit


class Training:
    """A run in the making: the loop, the state that a step changes, and how it is saved and restored."""

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
            name: prepare_questions(tokens[rank::processes], config.p, self.data.tasks["id"])
            for name, tokens in self.data.evaluation_sets().items()
        }
        self.queries = {
            name: accelerator.reduce(count_kinds(share.kinds), "sum").cpu()
            for name, share in self.questions.items()
        }
        self.checkpoint_steps = checkpoint_steps(config)
        self.step = 0
        # on the device: the losses since the last evaluation, and the first step whose loss is not finite
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        self.bad_step = torch.full((), math.inf, device=accelerator.device)
        self.phase_starts = [0]  # steps at which the phases so far began
        self.phase_loss = torch.zeros_like(self.loss_sum)  # of the steps since the last look at the phase
        self.rows: list[dict[str, float]] = []  # the metrics of each evaluation
        # by set: correct answers (kinds, K) and mean divergences (references, K) of each evaluation
        tables = [f"{name}.{table}" for name in SETS for table in ("right", "divergence")]
        self.scores: dict[str, list[Tensor]] = {table: [] for table in tables}
        self.plateau_step = 100  # the step of the last message about a plateau
        self.seconds = 0.0
        self.sessions: list[int] = []  # number of processes of each session
        self.arithmetics: list[str] = []  # how the steps were computed, and on what, whenever that changed
        self.origin: dict[str, str] = {}  # of weights that were not trained here
        self.environment = environment()  # now, since the source tree may change while we train

    # --- the loop -----------------------------------------------------------------------------------------

    def run(self) -> Run:
        """Step after step, from wherever the folder stands to the end."""
        self.begin()
        self.started = time.monotonic() - self.seconds
        c, is_quiet = self.config, not self.accelerator.is_main_process
        bar = tqdm(
            total=c.steps, initial=self.step, desc=c.name, unit="step", disable=is_quiet, mininterval=1
        )
        with signals() as received, bar:
            self.observe(bar)
            while self.step < c.steps:
                self.heed(received)
                self.update()
                self.change_phase()
                bar.update()
                self.observe(bar)
        return self.finish()

    def update(self) -> None:
        """One optimisation step: the rate, this process's share of the batch, loss, gradients, weights."""
        factor = self.lr_factor()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
        for tokens in self.micro_batches():  # (B, 3·K)
            with self.accelerator.accumulate(self.model):  # the optimizers wait for the last micro-batch
                logits = self.model(tokens)  # (B, K, p)
                loss = F.cross_entropy(logits.flatten(0, 1), targets(tokens).flatten())
                self.accelerator.backward(loss)
                for optimizer in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            self.note(loss.detach())
        self.step += 1

    @property
    def phase(self) -> Phase:
        """The phase of the curriculum that this step belongs to."""
        return self.config.phases[len(self.phase_starts) - 1]

    def lr_factor(self) -> float:
        """The learning rate of this step in units of its peak."""
        return lr_factor(self.config, self.step) * self.phase.lr_factor

    def micro_batches(self) -> tuple[Tensor, ...]:
        """This process's part of the batch of this step, in as many parts as gradients are accumulated over."""
        parts = self.data.batch(self.step, self.phase).chunk(self.accelerator.num_processes)
        return parts[self.accelerator.process_index].chunk(self.accelerator.gradient_accumulation_steps)

    def note(self, loss: Tensor) -> None:
        """Add a micro-batch's loss to the books, on the device: reading it every step would stall a GPU."""
        parts = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        self.loss_sum += loss / parts
        self.phase_loss += loss / parts
        self.bad_step = torch.where(loss.isfinite() | (self.bad_step < math.inf), self.bad_step, self.step)

    # --- between two steps --------------------------------------------------------------------------------

    def change_phase(self) -> None:
        """Begin the curriculum's next phase if this one has had all its steps, or its loss is close to its floor."""
        phase, n_steps = self.phase, self.step - self.phase_starts[-1]
        if phase.steps is None:
            return
        is_over = n_steps == phase.steps
        if n_steps % PHASE_CHECK == 0:
            loss = float(self.accelerator.reduce(self.phase_loss, "sum")) / PHASE_CHECK
            self.phase_loss.zero_()
            is_over |= phase.margin > 0 and loss < self.data.floor(phase) + phase.margin
        if is_over:
            self.phase_starts.append(self.step)
            self.phase_loss.zero_()
            self.accelerator.print(progress.phase_start(self.config, self.phase_starts))

    def observe(self, bar: tqdm) -> None:
        """Evaluate and keep the weights, whichever is due at this step."""
        due = self.step % self.config.eval_every == 0 or self.step == self.config.steps
        if due and not (self.rows and self.rows[-1]["step"] == self.step):  # made before a resume
            self.check_finite()
            self.evaluate()
            bar.set_postfix(self.summary(bar.format_dict["rate"]))
            message = progress.standing(self.config, self.rows[-1])
            if message and self.step >= 2 * self.plateau_step:
                self.accelerator.print(message)
                self.plateau_step = self.step
        self.seconds = time.monotonic() - self.started
        if self.step in self.checkpoint_steps and self.accelerator.is_main_process:
            file = Run(self.path).checkpoint_file(self.step)
            files.save_tensors(file, self.weights.state_dict(), self.config.name)

    def heed(self, received: list[int]) -> None:
        """Save a resume point, and stop, if a signal asks for it; or only save, if one is due."""
        if stop := self.agree(received):
            self.save()
            raise KeyboardInterrupt(
                f"stopped by {signal.Signals(stop).name} at step {self.step} of {self.config.steps}; "
                "all is saved, and the same command continues."
            )
        if self.step and self.step % self.config.checkpoint_every == 0:
            self.save()

    def agree(self, received: list[int]) -> int:
        """The number of a signal that any process received, or 0; on GPUs exchanged every STOP_EVERY steps."""
        signal_number = received[0] if received else 0
        if self.accelerator.num_processes == 1:
            return signal_number
        if self.accelerator.device.type == "cuda" and self.step % STOP_EVERY:
            return 0
        signal_numbers = torch.tensor([signal_number], device=self.accelerator.device)
        return int(self.accelerator.gather(signal_numbers).max())

    def check_finite(self) -> None:
        """Stop if a loss so far was not finite, or the next will not be: such weights are not worth keeping."""
        with torch.no_grad():
            parts = (part for tokens in self.micro_batches() for part in tokens.split(PASS))
            logit_sums = torch.stack([self.predict(part).sum() for part in parts])
        is_finite = logit_sums.isfinite().all()
        bad_step = torch.where(is_finite | (self.bad_step < math.inf), self.bad_step, self.step)
        first_bad_step = float(self.accelerator.gather(bad_step.reshape(1)).min())
        if first_bad_step < math.inf:
            resume = "none" if not (self.path / "resume.safetensors").exists() else "the last good one"
            raise FloatingPointError(
                f"the loss is not finite since step {int(first_bad_step)} of {self.config.name}; kept resume point: "
                f"{resume}. Lower lr or muon_lr, or lengthen warmup_steps."
            )

    def evaluate(self) -> None:
        """Score the four sets, add a row to the metrics, and write them."""
        n_steps = self.step - self.rows[-1]["step"] if self.rows else 0
        loss_sum = float(self.accelerator.reduce(self.loss_sum, "sum"))
        row = {"step": self.step, "lr": self.config.lr * self.lr_factor()}
        row["train_loss"] = loss_sum / n_steps if n_steps else math.nan
        self.loss_sum.zero_()
        self.weights.eval()
        for name, questions in self.questions.items():
            sums = score(self.predict, questions)
            loss, n_correct, divergence = (self.accelerator.reduce(total, "sum").cpu() for total in sums)
            n_queries = self.queries[name]
            n_sequences = n_queries[:, -1].sum()
            row |= {
                f"{name}_loss": float(loss.mean() / n_sequences),
                f"{name}_acc": float(n_correct[:, -1].sum() / n_sequences),
                f"{name}_novel": float(n_correct[1:, -1].sum() / n_queries[1:, -1].sum()),
            }
            self.scores[f"{name}.right"].append(n_correct.int())
            self.scores[f"{name}.divergence"].append((divergence / n_sequences).float())
        self.weights.train()
        self.rows.append(row)
        self.accelerator.log(row, step=self.step)
        if self.accelerator.is_main_process:
            scores = {f"{name}.asked": n_queries.int() for name, n_queries in self.queries.items()}
            scores |= {table: torch.stack(values) for table, values in self.scores.items()}
            files.save_tensors(self.path / "scores.safetensors", scores, self.config.name)
            files.write_csv(self.path / "metrics.csv", self.rows)

    def predict(self, tokens: Tensor) -> Tensor:
        """The model's logits in float32, whatever the arithmetic of training: what analyses will see."""
        return Transformer.forward(self.weights, tokens)

    def summary(self, speed: float | None) -> dict[str, str]:
        """What the progress bar shows: loss, and accuracy at the last shot on each set; speed in steps/s."""
        row, peak = self.rows[-1], engine.peak_flops()
        texts = {}
        if speed and peak:
            texts["MFU"] = f"{speed * flops_per_step(self.config) / peak:.0%}"
        if not math.isnan(row["train_loss"]):  # as before the first step
            texts["loss"] = f"{row['train_loss']:.3f}"
        return texts | {name: f"{row[f'{name}_acc']:.2f}" for name in SETS}

    # --- the folder ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Claim an empty folder, or take up what a former session left in it."""
        if self.accelerator.is_main_process:
            if not (self.path / "config.json").exists():
                files.write_atomically(self.path / "config.json", json.dumps(self.config.to_dict(), indent=1))
            files.remove_leftovers(self.path)
        if (self.path / "resume.safetensors").exists():
            self.load()
        self.sessions.append(self.accelerator.num_processes)
        arithmetic = str(self.arithmetic)
        if self.accelerator.device.type == "cpu":
            arithmetic += f" on {engine.processor()}"
        if self.arithmetics[-1:] != [arithmetic]:
            self.arithmetics.append(arithmetic)
            if len(self.arithmetics) > 1:
                self.accelerator.print(
                    f"{self.config.name} was computed in {self.arithmetics[-2]} so far and continues in {arithmetic}: "
                    "the same training, but not bit for bit."
                )
        self.accelerator.init_trackers("modgrok", config={k: str(v) for k, v in asdict(self.config).items()})
        self.accelerator.print(
            f"{'importing' if self.origin else 'training'} {self.config.name} "
            f"on {self.accelerator.num_processes} process(es), {self.accelerator.device.type}, from step {self.step}",
        )
        if failure := self.arithmetic.failure:
            self.accelerator.print(
                f"torch.compile does not work here ({failure}); where it does, steps are shorter."
            )
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write everything that the next step depends on."""
        self.check_finite()
        losses = {name: getattr(self, name) for name in ("loss_sum", "phase_loss")}
        tensors = {name: self.accelerator.reduce(loss, "sum") for name, loss in losses.items()}
        if not self.accelerator.is_main_process:
            return
        tensors |= {f"model.{name}": tensor for name, tensor in self.weights.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{index}.{key}": value for key, value in state.items()}
        notes = {"step": self.step, "seconds": self.seconds, "sessions": self.sessions}
        notes |= {"arithmetic": self.arithmetics, "phases": self.phase_starts}
        files.save_tensors(self.path / "resume.safetensors", tensors, self.config.name, notes)

    def load(self) -> None:
        """The inverse of `save`; evaluations after the resume point are dropped, to be made again.

        Raises ValueError for a file that is damaged or does not belong, or a table that ends before the resume point.
        """
        tensors, notes = files.load_state(self.path / "resume.safetensors", self.config.name)
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
            self.phase_loss += tensors["phase_loss"].to(self.phase_loss.device)
        self.step, self.seconds, self.sessions = notes["step"], notes["seconds"], notes["sessions"]
        self.arithmetics, self.phase_starts = notes["arithmetic"], notes["phases"]
        run, n = Run(self.path), self.step // self.config.eval_every + 1  # evaluations up to here
        for step in checkpoint_steps(self.config):
            if step <= self.step:  # lest the run be finished without it
                files.load_tensors(run.checkpoint_file(step), run.name, run.repair)
        expected = np.arange(n) * self.config.eval_every
        n_scores = min(len(run.scores[table]) for table in self.scores)
        if not np.array_equal(run.metrics["step"][:n], expected) or n_scores < n:
            raise ValueError(
                f"{self.path} was edited: its metrics do not reach step {self.step}, where its resume point "
                "stands; restore them, or remove resume.safetensors to start over."
            )
        self.rows = [{name: values[i].item() for name, values in run.metrics.items()} for i in range(n)]
        self.scores = {table: list(torch.from_numpy(run.scores[table][:n])) for table in self.scores}

    def finish(self) -> Run:
        """Write the provenance, which makes the run a finished one."""
        if self.accelerator.is_main_process:
            record = {
                "seconds": round(self.seconds, 1),
                "processes": self.sessions,
                "arithmetic": self.arithmetics,
            }
            if self.config.curriculum:
                record["phases"] = self.phase_starts
            Run(self.path).finish(json.dumps(record | self.environment | self.origin, indent=1).encode())
            (self.path / "resume.safetensors").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return Run(self.path)


def checkpoint_steps(config: Config) -> set[int]:
    """The steps whose weights are kept: n_checkpoints, log-spaced, at evaluations, always the last."""
    spaced = np.geomspace(min(config.eval_every, config.steps), config.steps, config.n_checkpoints)
    rounded = {round(step / config.eval_every) * config.eval_every for step in spaced[:-1]}
    return {step for step in rounded if 0 < step < config.steps} | {config.steps}
