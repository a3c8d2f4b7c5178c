"""Tasks z = a·x + b·y mod p, the split of inputs, and sequences of examples.

Everything random is a function of (seed, purpose, step), never of a generator's history, so that a resumed
run, or one on another number of processes, sees the same batches.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

from modgrok.config import SETS, Config, n_training_pairs

MAX_OOD_TASKS = 256
"""At most so many out-of-distribution tasks are evaluated, as in the paper."""

MAX_MOVES = 100_000
"""Rectangles placed or taken back before the search gives up; seldom more than a few thousand are needed."""


def generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """The random numbers for one purpose at one step."""
    return np.random.default_rng((seed, zlib.crc32(purpose.encode()), step))


def grid(p: int) -> np.ndarray:
    """All p² vectors over Z_p, (p², 2), in the order of p·first + second: all tasks, and all input pairs."""
    return np.stack(np.divmod(np.arange(p * p), p), axis=1)


def pretraining_tasks(config: Config) -> np.ndarray:
    """The n_tasks pre-training task vectors (a, b), shape (n_tasks, 2), by the config's rule (F2, A1).

    Raises:
        ValueError: the rectangular rule finds no room for so many tasks.
    """
    rng = generator(config.seed, "tasks")
    if config.task_rule == "random":
        return grid(config.p)[rng.permutation(config.p**2)[: config.n_tasks]]
    free = np.ones((config.p, config.p), dtype=bool)
    rectangles: list[np.ndarray] = []
    for _ in range(MAX_MOVES):
        if 4 * len(rectangles) == config.n_tasks:
            return np.concatenate(rectangles)
        rectangle = _rectangle(free, rng)
        if rectangle is not None:
            free[tuple(rectangle.T)] = False
            rectangles.append(rectangle)
        else:  # stuck, which happens when almost all is taken: give up one rectangle and go on
            free[tuple(rectangles.pop(rng.integers(len(rectangles))).T)] = True
    raise ValueError(
        f"n_tasks={config.n_tasks} found no room under the rectangular rule at p={config.p}; the nearest valid "
        f'choice is {config.n_tasks - 4}, or task_rule="random".'
    )


def _rectangle(free: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random axis-parallel rectangle of free cells (a, b), or None where there is no more.

    Its corners, (4, 2): the base (a, b), then (a, b'), (a', b) and (a', b').
    """
    p = len(free)
    for base in rng.permutation(np.flatnonzero(free)):
        a, b = divmod(int(base), p)
        fits = free & free[:, [b]] & free[[a], :]  # (a', b') with (a', b) and (a, b') free as well
        fits[a, :] = fits[:, b] = False
        if fits.any():
            a2, b2 = divmod(int(rng.choice(np.flatnonzero(fits))), p)
            return np.array([(a, b), (a, b2), (a2, b), (a2, b2)])
    return None


def ood_tasks(config: Config) -> np.ndarray:
    """All task vectors outside pre-training, (p² - n_tasks, 2), in random order."""
    used = pretraining_tasks(config) @ (config.p, 1)
    rest = np.setdiff1d(np.arange(config.p**2), used)
    return grid(config.p)[generator(config.seed, "ood").permutation(rest)]


def split_inputs(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Training and test input pairs (x, y), shapes (m, 2) and (p² - m, 2), m = round(alpha·p²)."""
    order = generator(config.seed, "inputs").permutation(config.p**2)
    m = n_training_pairs(config.p, config.alpha)
    return grid(config.p)[order[:m]], grid(config.p)[order[m:]]


def sequences(tasks: Tensor, pairs: Tensor, p: int) -> Tensor:
    """Token sequences x₁ y₁ z₁ x₂ y₂ z₂ … of every task on every row of pairs.

    Args:
        tasks: (n, 2) task vectors (a, b).
        pairs: (s, k, 2) input pairs, shared by all tasks.
        p: the modulus.

    Returns:
        (n·s, 3·k) tokens, the s rows of the first task first.
    """
    n, s = len(tasks), len(pairs)
    return paired_sequences(tasks.repeat_interleave(s, 0), pairs.repeat(n, 1, 1), p)


def paired_sequences(tasks: Tensor, pairs: Tensor, p: int) -> Tensor:
    """Token sequences (n, 3·k) of tasks (n, 2), each on its own row of pairs (n, k, 2)."""
    z = (tasks[:, None] * pairs).sum(-1, keepdim=True) % p
    return torch.cat([pairs, z], dim=-1).flatten(1)


class Data:
    """The tasks and inputs of a config on one device, its training batches and its four evaluation sets.

    Attributes:
        tasks: dict "id" → (n_tasks, 2) pre-training tasks, "ood" → (≤ 256, 2) held-out tasks.
        pairs: dict "train" → (m, 2), "test" → (p² - m, 2) input pairs.
    """

    def __init__(self, config: Config, device: torch.device | str = "cpu"):
        self.config, self.device = config, torch.device(device)
        ood = ood_tasks(config)[:MAX_OOD_TASKS]
        train, test = split_inputs(config)
        self.tasks = {"id": self._tensor(pretraining_tasks(config)), "ood": self._tensor(ood)}
        self.pairs = {"train": self._tensor(train), "test": self._tensor(test)}

    def batch(self, step: int) -> Tensor:
        """The training batch of a step, (batch_size, 3·n_examples), whatever the number of processes.

        Every task has the same number of sequences, one after another; with `shared_pairs` on the same pairs for
        every task, else each sequence on pairs of its own.
        """
        tasks, c = self.tasks["id"], self.config
        rows = c.batch_size // c.n_tasks
        if c.shared_pairs:
            return sequences(tasks, self._pairs("train", rows, "batch", step), c.p)
        pairs = self._pairs("train", c.batch_size, "batch", step)
        return paired_sequences(tasks.repeat_interleave(rows, 0), pairs, c.p)

    def evaluation_set(self, name: str, n: int | None = None) -> Tensor:
        """The first n sequences of one of the four sets, (n, 3·n_examples), by default eval_sequences of them.

        They are independent: each has input pairs of its own, and the tasks take turns. The same at every
        evaluation, a function of (seed, name). Without o.o.d. tasks the set is empty.
        """
        which, inputs = name.split("_")
        tasks, n = self.tasks[which], self.config.eval_sequences if n is None else n
        n = n if len(tasks) else 0
        turn = torch.arange(n, device=self.device) % max(len(tasks), 1)
        return paired_sequences(tasks[turn], self._pairs(inputs, n, name), self.config.p)

    @property
    def sets(self) -> list[str]:
        """The evaluation sets that hold something: all four, or two where every task is a pre-training task."""
        return [name for name in SETS if len(self.tasks[name.split("_")[0]])]

    def held_out(self, tasks: np.ndarray) -> np.ndarray:
        """Which of some tasks (n, 2) are not among the pre-training ones: (n,) bool."""
        known = self.tasks["id"].cpu().numpy()
        return ~np.isin(tasks @ (self.config.p, 1), known @ (self.config.p, 1))

    def evaluation_sets(self) -> dict[str, Tensor]:
        """All four evaluation sets by name."""
        return {name: self.evaluation_set(name) for name in SETS}

    def _pairs(self, inputs: str, rows: int, purpose: str, step: int = 0) -> Tensor:
        """Rows of pairs (rows, n_examples, 2), drawn independently; fewer rows are a prefix of more."""
        pairs = self.pairs[inputs]
        rng = generator(self.config.seed, purpose, step)
        return pairs[self._tensor(rng.integers(len(pairs), size=(rows, self.config.n_examples)))]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)
