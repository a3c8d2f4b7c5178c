"""Tasks z = a·x + b·y mod p, the split of inputs, and sequences of examples.

Everything random is a function of (seed, purpose, step), never of a generator's history, so that a resumed
run, or one on another number of processes, sees the same batches.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

from modgrok.config import SETS, Config, Phase, check_config, n_training_pairs

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

    Raises ValueError if the rectangular rule finds no room for so many tasks.
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
    held_out = np.setdiff1d(np.arange(config.p**2), used)
    return grid(config.p)[generator(config.seed, "ood").permutation(held_out)]


def split_inputs(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Training and test input pairs (x, y), shapes (m, 2) and (p² - m, 2), m = round(alpha·p²)."""
    order = generator(config.seed, "inputs").permutation(config.p**2)
    m = n_training_pairs(config.p, config.alpha)
    return grid(config.p)[order[:m]], grid(config.p)[order[m:]]


def line_numbers(pairs: np.ndarray, p: int) -> np.ndarray:
    """The line through the origin on which each of some pairs (…, 2) lies: its ratio x/y mod p, p where y = 0.

    -1 for the pair (0, 0), which lies on all of them.
    """
    x, y = pairs[..., 0], pairs[..., 1]
    inverses = np.array([0, *(pow(divisor, -1, p) for divisor in range(1, p))])
    return np.where(y != 0, x * inverses[y] % p, np.where(x != 0, p, -1))


def sequences(tasks: Tensor, pairs: Tensor, p: int) -> Tensor:
    """Token sequences x₁ y₁ z₁ x₂ y₂ z₂ … of every task (n, 2) on every row of pairs (s, k, 2), the modulus p.

    Returns (n·s, 3·k) tokens, the s rows of the first task first.
    """
    n, s = len(tasks), len(pairs)
    return paired_sequences(tasks.repeat_interleave(s, 0), pairs.repeat(n, 1, 1), p)


def paired_sequences(tasks: Tensor, pairs: Tensor, p: int) -> Tensor:
    """Token sequences (n, 3·k) of tasks (n, 2), each on its own row of pairs (n, k, 2)."""
    z = (tasks[:, None] * pairs).sum(-1, keepdim=True) % p
    return torch.cat([pairs, z], dim=-1).flatten(1)


def check_count(n: int, name: str, lowest: int = 1) -> None:
    """Raise ValueError, calling the number by its name, unless it is a whole number from the lowest on."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < lowest:
        raise ValueError(f"{name}={n!r} must be a whole number, {lowest} or more.")


class Data:
    """The tasks and inputs of a config on one device, its training batches and its four evaluation sets.

    Attributes:
        tasks: dict "id" → (n_tasks, 2) pre-training tasks, "ood" → (≤ 256, 2) held-out tasks.
        pairs: dict "train" → (m, 2), "test" → (p² - m, 2) input pairs.
    """

    def __init__(self, config: Config, device: torch.device | str = "cpu"):
        check_config(config)
        self.config, self.device = config, torch.device(device)
        ood = ood_tasks(config)[:MAX_OOD_TASKS]
        train, test = split_inputs(config)
        self.tasks = {"id": self._tensor(pretraining_tasks(config)), "ood": self._tensor(ood)}
        self.pairs = {"train": self._tensor(train), "test": self._tensor(test)}
        numbers = line_numbers(train, config.p)
        lines = [members for n in range(config.p + 1) if len(members := np.flatnonzero(numbers == n))]
        sizes = np.array([len(members) for members in lines])
        width = sizes.max(initial=0)
        # unit of a phase → how many training pairs each group holds, and which, (groups, most)
        self._groups = {
            "lines": (sizes, np.array([np.resize(members, width) for members in lines])),
            "pairs": (np.ones(len(train), int), np.arange(len(train))[:, None]),
        }
        for unit, (sizes, _) in self._groups.items():
            count = max((max(phase.counts) for phase in config.phases if phase.unit == unit), default=0)
            if count > len(sizes):
                raise ValueError(
                    f"curriculum={config.curriculum!r} is impossible: it asks for {count} {unit}, and there are only "
                    f"{len(sizes)} that training may use at alpha = {config.alpha:g} and seed = {config.seed}."
                )

    def batch(self, step: int, phase: Phase | None = None) -> Tensor:
        """The training batch of a step, (batch_size, 3·n_examples), whatever the number of processes.

        Every task has the same number of sequences, one after another; without `balanced` the tasks come in random
        order until the batch is full, none again before all have come. With `shared_pairs` every task has the same
        pairs, else each sequence has pairs of its own. The phase of the curriculum, by default the last, says where
        pairs come from and how many examples a sequence has.
        """
        check_count(step, "step", lowest=0)
        c, phase = self.config, phase or self.config.phases[-1]
        index = np.arange(c.batch_size)
        if c.balanced:
            task, repetition = np.divmod(index, c.batch_size // c.n_tasks)
        else:
            repetition, place = np.divmod(index, c.n_tasks)
            task = generator(c.seed, "batch tasks", step).permutation(c.n_tasks)[place]
        rng = generator(c.seed, "batch", step)
        if c.shared_pairs:
            pairs = self._phase_pairs(phase, repetition[-1] + 1, rng)[repetition]
        else:
            pairs = self._phase_pairs(phase, c.batch_size, rng)
        pairs = self.pairs["train"][self._tensor(pairs)]
        return paired_sequences(self.tasks["id"][self._tensor(task)], pairs, c.p)

    def _phase_pairs(self, phase: Phase, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of training pairs, (rows, n_examples), drawn as a phase says.

        A row draws a number of lines, then so many different lines, and each example one of these and a pair on it; or
        a number of pairs, likewise.
        """
        shape, (sizes, members) = (rows, phase.n_examples), self._groups[phase.unit]
        pairs = rng.integers(len(self.pairs["train"]), size=shape)
        if phase.counts == (0,):
            return pairs
        counts = rng.choice(phase.counts, size=(rows, 1))
        order = rng.random((rows, len(sizes))).argsort(axis=1)
        group = np.take_along_axis(order, rng.integers(np.maximum(counts, 1), size=shape), axis=1)
        return np.where(counts > 0, members[group, rng.integers(sizes[group])], pairs)

    def floor(self, phase: Phase) -> float:
        """The training loss of the algorithm that a phase asks for, in nats, the mean over the examples of a sequence.

        On lines it is ratio matching, which knows the answer wherever an example on the query's line came before, and
        for (0, 0); on few pairs it is look-up, which knows the answers of pairs that came before. Both guess among p
        numbers elsewhere. So a sequence costs ln p for each line, or each pair, that appears in it.
        """
        sizes, losses = self._groups[phase.unit][0], []
        for count in phase.counts:
            # of an example to lie in each group
            chances = np.full(count, 1 / count) if count else sizes / len(self.pairs["train"])
            expected_groups = (1 - (1 - chances) ** phase.n_examples).sum()
            losses.append(np.log(self.config.p) * expected_groups / phase.n_examples)
        return float(np.mean(losses))

    def evaluation_set(self, name: str, n: int | None = None) -> Tensor:
        """The first n sequences of one of the four sets, (n, 3·n_examples), by default eval_sequences of them.

        They are independent: each has input pairs of its own, and the tasks take turns. The same at every
        evaluation, a function of (seed, name). Without o.o.d. tasks the set is empty. ValueError if there is no such
        set, or n is no whole number of 1 or more.
        """
        if name not in SETS:
            raise ValueError(f"set={name!r} is not known; choose one of {', '.join(SETS)}.")
        if n is not None:
            check_count(n, "n")
        c, (task_set, inputs) = self.config, name.split("_")
        tasks, pairs = self.tasks[task_set], self.pairs[inputs]
        n = 0 if not len(tasks) else c.eval_sequences if n is None else n
        turn = torch.arange(n, device=self.device) % max(len(tasks), 1)
        drawn_pairs = generator(c.seed, name).integers(len(pairs), size=(n, c.n_examples))
        return paired_sequences(tasks[turn], pairs[self._tensor(drawn_pairs)], c.p)

    @property
    def sets(self) -> list[str]:
        """The evaluation sets that hold something: all four, or two where every task is a pre-training task."""
        return [name for name in SETS if len(self.tasks[name.split("_")[0]])]

    def held_out(self, tasks: np.ndarray) -> np.ndarray:
        """Whether tasks (n, 2) are missing from the pre-training tasks: (n,) bool."""
        pretraining = self.tasks["id"].cpu().numpy()
        return ~np.isin(tasks @ (self.config.p, 1), pretraining @ (self.config.p, 1))

    def evaluation_sets(self) -> dict[str, Tensor]:
        """All four evaluation sets by name."""
        return {name: self.evaluation_set(name) for name in SETS}

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)
