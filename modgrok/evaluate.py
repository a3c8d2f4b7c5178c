"""What a predictor gets right, and which algorithm its answers look like: numbers with intervals."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modgrok.algorithms import expected_accuracy
from modgrok.config import SETS, as_list
from modgrok.data import Data, generator, sequences
from modgrok.model import Transformer
from modgrok.runs import Run

Predictor = Callable[[Tensor], Tensor]
"""Anything that maps tokens (B, 3·K) to logits or log-probabilities (B, K, p): the model, or an algorithm."""


def targets(tokens: Tensor) -> Tensor:
    """The z of every example, (B, K), of tokens (B, 3·K)."""
    return tokens[:, 2::3]


@torch.no_grad()
def score_sums(predict: Predictor, tokens: Tensor, batch_size: int = 1024) -> Tensor:
    """Sums over sequences that means are made of: (2, K) float64, cross-entropy (nats) and correct answers."""
    total = torch.zeros(2, tokens.shape[1] // 3, dtype=torch.float64, device=tokens.device)
    for part in tokens.split(batch_size):
        logits, z = predict(part).float(), targets(part)
        total[0] += F.cross_entropy(logits.mT, z, reduction="none").double().sum(0)
        total[1] += (logits.argmax(-1) == z).double().sum(0)
    return total


def accuracy_by_shot(predict: Predictor, tokens: Tensor, batch_size: int = 1024) -> Tensor:
    """Share of correct answers after 0 … K-1 shots, (K,), on tokens (B, 3·K) (F1c)."""
    return score_sums(predict, tokens, batch_size)[1] / len(tokens)


def query_grid(
    model: Transformer, tasks: ArrayLike, pairs: ArrayLike, shots: list[int], chunk: int = 2**12
) -> np.ndarray:
    """The model's answer to every query (x, y) after the first examples of a context (F5).

    Args:
        model: the transformer.
        tasks: (n, 2) task vectors; each answers the same context pairs.
        pairs: (k, 2) context pairs (x, y).
        shots: numbers of examples in front of the query, each 0 … min(k, n_examples - 1).
        chunk: queries a pass, which bounds memory.

    Returns:
        (n, len(shots), p, p) integers, the predicted z at [task, shots, x, y].

    Raises:
        ValueError: a number of shots beyond the context or the model's sequence length.
    """
    p, device = model.config.p, model.embed.weight.device
    most = min(len(pairs), model.config.n_examples - 1)
    if not all(0 <= k <= most for k in shots):
        raise ValueError(f"shots={list(shots)} must lie between 0 and {most}, given this context and model.")
    tasks, pairs = (torch.as_tensor(np.asarray(vectors), device=device) for vectors in (tasks, pairs))
    contexts = sequences(tasks, pairs[None, : max(shots)], p)  # (n, 3·k)
    per_pass = max(1, chunk // p**2)
    answers = [
        torch.cat(
            [
                model.query_logits(context[None], shots[i : i + per_pass]).argmax(-1)
                for i in range(0, len(shots), per_pass)
            ],
            dim=1,
        )
        for context in contexts
    ]
    return torch.cat(answers).cpu().numpy()


def best_step(run: Run) -> int:
    """The kept checkpoint nearest to the best recorded accuracy on o.o.d. tasks, training inputs."""
    metrics = run.metrics
    recorded = np.interp(run.steps, metrics["step"], metrics["ood_train_acc"])
    return run.steps[int(recorded.argmax())]


def independent_sequences(data: Data, name: str, n: int) -> Tensor:
    """Fresh sequences of one of the four sets, every one with input pairs of its own (F1c, F5).

    `Data.evaluation_set` shows all tasks the same few rows of pairs, so that its sequences agree on which
    queries are easy. These are independent draws, their tasks taking turns, which makes curves smooth and
    intervals simple.

    Args:
        data: the tasks and inputs.
        name: one of the four sets.
        n: how many.

    Returns:
        (n, 3·n_examples) tokens; (0, 3·n_examples) if the set has no tasks.
    """
    which, inputs = name.split("_")
    tasks, pairs = data.tasks[which], data.pairs[inputs]
    n = n if len(tasks) else 0
    rng = generator(data.config.seed, f"independent {name}")
    index = rng.integers(len(pairs), size=(n, data.config.n_examples))
    xy = pairs[torch.from_numpy(index).to(pairs.device)]  # (n, K, 2)
    turn = torch.arange(n, device=tasks.device) % max(len(tasks), 1)
    z = (tasks[turn, None] * xy).sum(-1, keepdim=True) % data.config.p
    return torch.cat([xy, z], dim=-1).flatten(1)


def with_wrong_labels(tokens: Tensor, wrong: Tensor, p: int, rng: np.random.Generator) -> Tensor:
    """Tokens (B, 3·K) whose z is another number, all others equally likely, wherever `wrong` (B, K) holds (A5)."""
    shift = torch.from_numpy(rng.integers(1, p, size=tuple(wrong.shape))).to(tokens.device)
    corrupted = tokens.clone()
    corrupted[:, 2::3] = torch.where(wrong, (targets(tokens) + shift) % p, targets(tokens))
    return corrupted


def accuracy_with_wrong_labels(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> np.ndarray:
    """Share of correct answers after examples of which some, chosen at random, have a wrong z (A5).

    Returns:
        (K, K): after k shots (row) of which m (column) are wrong, of tokens (B, 3·K); nan where m > k.
    """
    K = tokens.shape[1] // 3
    accuracy = np.full((K, K), np.nan)
    for k in range(K):
        order = torch.from_numpy(rng.random((len(tokens), k)).argsort(1)).to(tokens.device)
        for m in range(k + 1):
            wrong = F.pad(order < m, (0, 1))  # the query's own answer stays right
            asked = with_wrong_labels(tokens[:, : 3 * (k + 1)], wrong, p, rng)
            accuracy[k, m] = accuracy_by_shot(predict, asked)[-1]
    return accuracy


def accuracy_with_one_wrong(
    predict: Predictor, tokens: Tensor, p: int, rng: np.random.Generator
) -> np.ndarray:
    """Share of correct answers after examples of which just one has a wrong z (A5).

    Returns:
        (K - 1, K): with example j (row) wrong, counted from 0, after k shots (column), of tokens (B, 3·K); nan
        where k ≤ j, before it is wrong.
    """
    K = tokens.shape[1] // 3
    accuracy = np.full((K - 1, K), np.nan)
    for j in range(K - 1):
        wrong = (torch.arange(K, device=tokens.device) == j).expand(len(tokens), K)
        asked = with_wrong_labels(tokens, wrong, p, rng)
        accuracy[j, j + 1 :] = accuracy_by_shot(predict, asked)[j + 1 :]
    return accuracy


@torch.no_grad()
def log_probabilities(predict: Predictor, tokens: Tensor, batch_size: int = 512) -> Tensor:
    """What a predictor believes of every z, natural logarithm: (B, K, p) of tokens (B, 3·K)."""
    parts = [predict(part).float().log_softmax(-1) for part in tokens.split(batch_size)]
    return torch.cat(parts)


def divergence(reference: Tensor, scores: Tensor) -> Tensor:
    """Relative entropy KL(reference ‖ scores) in nats, (…) of two log-probabilities (…, p).

    Zero where both believe the same; what is lost by believing `scores` where `reference` holds.
    """
    terms = reference.exp() * (reference - scores)
    return torch.where(reference > -torch.inf, terms, 0).sum(-1)  # 0 · log 0 = 0


def agreement(reference: Tensor, scores: Tensor) -> Tensor:
    """Probability that the reference's best answer, ties broken at random, is that of `scores`: (…)."""
    return expected_accuracy(reference, scores.argmax(-1))


def certain(reference: Tensor) -> Tensor:
    """Whether a reference knows the answer for sure: bool (…) of log-probabilities (…, p)."""
    return reference.amax(-1) > -1e-4  # one answer has all the probability, but for rounding


def query_kinds(references: list[Tensor]) -> Tensor:
    """The first of some references, in order from weak to strong, that is certain of each answer.

    Args:
        references: log-probabilities (…, p) each, such as of look-up, ratio matching, regression.

    Returns:
        (…) integers: an index of the list, or its length where none is certain.
    """
    knows = torch.stack([certain(reference) for reference in references])
    return torch.where(knows.any(0), knows.byte().argmax(0), len(references))


def share_by_kind(hits: Tensor, kinds: Tensor, n_kinds: int, pooled: bool = False) -> np.ndarray:
    """Share of hits among the queries of each kind, with intervals: (n_kinds, 3, K), or (n_kinds, 3) pooled.

    Args:
        hits: (B, K) bool, such as "the model is right".
        kinds: (B, K) integers 0 … n_kinds - 1.
        n_kinds: how many kinds.
        pooled: all shots together.
    """
    cases = [kinds == i for i in range(n_kinds)]
    pairs = [((hits & of).sum(1), of.sum(1)) if pooled else (hits & of, of) for of in cases]
    return np.stack([clustered_share(*pair, least=10) for pair in pairs])


def clustered_share(hits: Tensor, cases: Tensor | None = None, least: int = 1) -> np.ndarray:
    """A share with its 95 % interval, when cases come in clusters: (3, …), the share, low, high.

    Wilson's score interval at the effective number of cases, which is the number that would give an
    independent sample the variance between clusters (linearised), at most all of them.

    Args:
        hits: (clusters, …) hits per cluster, whole or in expectation; clusters are sequences.
        cases: (clusters, …) cases per cluster, by default 1 each.
        least: with fewer cases than this the result is NaN.
    """
    hits = hits.double().cpu().numpy()
    cases = np.ones_like(hits) if cases is None else cases.double().cpu().numpy()
    n = cases.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(n >= least, hits.sum(0) / n, np.nan)
        variance = ((hits - share * cases) ** 2).sum(0) / n**2
        effective = np.fmin(share * (1 - share) / variance, n)  # fmin: n where the variance is 0
        z2 = 1.96**2 / effective
        middle = (share + z2 / 2) / (1 + z2)
        half = np.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return np.stack([share, middle - half, middle + half])


def clustered_mean(values: Tensor) -> np.ndarray:
    """A mean over sequences (first axis) with its 95 % interval: (3, …), the mean, low, high."""
    values = values.double().cpu().numpy()
    mean, half = values.mean(0), 1.96 * values.std(0, ddof=1) / np.sqrt(len(values))
    return np.stack([mean, mean - half, mean + half])


PHASES = (
    "not learned",
    "i.d. memorisation",
    "i.d. generalisation",
    "o.o.d. memorisation",
    "o.o.d. generalisation",
)
"""What a run can have learned, from nothing to everything; the last four are the paper's phases (F1b)."""


def solves(accuracy: ArrayLike, p: int) -> np.ndarray:
    """Whether accuracies are at least a third of the way from chance, 1/p, to certainty."""
    return np.asarray(accuracy) >= 1 / p + (1 - 1 / p) / 3


def phases(accuracy: dict[str, ArrayLike], p: int) -> np.ndarray:
    """Phases of models, as indices of `PHASES`: each named after the most demanding set that it solves.

    Args:
        accuracy: set → last-shot accuracies, all of one shape, which is that of the result. The sets count in the
            order id_train, id_test, ood_train, ood_test, from the least demanding.
        p: the modulus.
    """
    solved = [solves(accuracy[name], p) * (i + 1) for i, name in enumerate(SETS)]
    return np.max(solved, axis=0)


def typical_points(accuracy: dict[str, ArrayLike], reached: ArrayLike) -> dict[int, tuple[int, int]]:
    """For each phase that all seeds of a point end in, the point that is best on the set that names the phase.

    Args:
        accuracy: set → (seeds, rows, columns) last-shot accuracies.
        reached: their `phases`.

    Returns:
        Index of `PHASES` → (row, column), without the phases that no point is in.
    """
    points = {}
    for i, name in enumerate(("id_train", *SETS)):  # what is not learned is best where it nearly is
        agreed = (np.asarray(reached) == i).all(axis=0)
        if agreed.any():
            mean = np.where(agreed, np.mean(accuracy[name], axis=0), -1)
            points[i] = np.unravel_index(mean.argmax(), mean.shape)
    return points


def map_accuracy(runs: NDArray[np.object_], evaluation: ArrayLike = -1) -> dict[str, np.ndarray]:
    """Last-shot accuracy on the four sets of an array of runs, each in its shape.

    Args:
        runs: array of runs.
        evaluation: which of a run's evaluations, one for all or an array of one each.
    """
    pick = np.vectorize(lambda run, i, name: run.metrics[f"{name}_acc"][i], otypes=[float])
    return {name: pick(runs, evaluation, name) for name in SETS}


def accuracy_curves(runs: Iterable[Run]) -> dict[str, np.ndarray]:
    """Set → (runs, evaluations) last-shot accuracies of runs that were evaluated at the same steps."""
    return {name: np.stack([run.metrics[f"{name}_acc"] for run in runs]) for name in SETS}


class EarlyStop(NamedTuple):
    """Where to stop a run early: index of the evaluation, smoothed accuracy there and at the end."""

    index: int
    best: float
    final: float

    def generalises(self, p: int) -> bool:
        return bool(solves(self.best, p))

    def transient(self, p: int) -> bool:
        """Whether it generalises and then loses more than 0.05 until the end (claim 4)."""
        return self.generalises(p) and self.best - self.final > 0.05


def early_stop(accuracy: ArrayLike) -> EarlyStop:
    """The best moment of a run, by the mean over a tenth of its evaluations, so that noise makes no peak (F4).

    Args:
        accuracy: (evaluations,) accuracies during training.
    """
    accuracy = np.asarray(accuracy)
    width = max(1, len(accuracy) // 10)
    smooth = np.convolve(accuracy, np.full(width, 1 / width), mode="valid")
    best = int(smooth.argmax())
    return EarlyStop(best + (width - 1) // 2, float(smooth[best]), float(smooth[-1]))


def query_setting(
    data: Data, task: list | str = (), pairs: list | str = (), shots: list | str = ()
) -> tuple[list[int], Tensor, list[int]]:
    """The task, context pairs and numbers of shots of query grids, what is not given filled in (F5).

    At p = 29 they default to the paper's: task (6, 6), first pairs (4, 21) and (2, 6), shots 1, 2, 13, 31.
    Lists may also be text, "[1, 2]", as papermill's command line passes them.

    Args:
        data: the tasks and inputs.
        task: (a, b); by default an o.o.d. task without a zero.
        pairs: (≤ n_examples - 1, 2) first context pairs; the rest are drawn from the training inputs.
        shots: numbers of examples, each 0 … n_examples - 1.

    Returns:
        task, context pairs (n_examples - 1, 2), shots.

    Raises:
        ValueError: one sentence saying what is allowed.
    """
    p, most = data.config.p, data.config.n_examples - 1
    task, pairs, shots = (as_list(v, n) for v, n in ((task, "task"), (pairs, "pairs"), (shots, "shots")))
    if p == 29 and not task and not pairs:
        task, pairs = [6, 6], [[4, 21], [2, 6]][:most]
    if not task:
        known = [*data.tasks["ood"].tolist(), *data.tasks["id"].tolist()]
        task = next((vector for vector in known if all(vector)), known[0])
    shots = shots or sorted({min(1, most), min(2, most), round(13 / 31 * most), most})
    if not _are_vectors([task], p):
        raise ValueError(f"task={task} must be two numbers from 0 to p - 1 = {p - 1}, such as [1, 2].")
    if len(pairs) > most or not _are_vectors(pairs, p):
        raise ValueError(f"pairs={pairs} must be at most {most} pairs of numbers from 0 to p - 1 = {p - 1}.")
    if not all(_is_number(k, most + 1) for k in shots):
        raise ValueError(f"shots={shots} must be whole numbers from 0 to n_examples - 1 = {most}.")
    rng = generator(data.config.seed, "query context")
    drawn = data.pairs["train"][torch.from_numpy(rng.integers(len(data.pairs["train"]), size=most))]
    given = drawn.new_tensor(pairs).reshape(-1, 2)
    return task, torch.cat([given, drawn[: most - len(given)]]), shots


def _are_vectors(vectors: list, p: int) -> bool:
    def is_vector(v) -> bool:
        return isinstance(v, list | tuple) and len(v) == 2 and all(_is_number(n, p) for n in v)

    return all(map(is_vector, vectors))


def _is_number(n: object, p: int) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < p
