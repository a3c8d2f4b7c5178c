"""Whether a run is the evidence it claims to be: its files, its table, and what its weights really score."""

from collections.abc import Sequence

import numpy as np

from modgrok.config import SETS
from modgrok.data import Data
from modgrok.evaluate import KINDS, REFERENCES, count_kinds, questions, score
from modgrok.storage.runs import Run

LOSS_TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
"""Nats between a recorded loss and that of the stored weights: other processors and half precision round otherwise."""

ANSWER_TOLERANCE = {"float32": 0.005, "float16": 0.01}
"""Share of answers, of all shots, that may differ for the same reason."""


def verify(run: Run, checkpoints: int = 2, sets: Sequence[str] = SETS) -> str:
    """Check a run's files against its manifest, its tables against each other, and score some of its checkpoints.

    Args:
        run: a finished run.
        checkpoints: how many are scored anew: the last, and others spread over the training.
        sets: the evaluation sets they are scored on.

    Returns:
        what was done, in words.

    Raises:
        ValueError: the first thing that is wrong.
    """
    if not run.finished:
        raise ValueError(f"{run.path} is not finished; train it to its end.")
    if run.manifest is None:
        raise ValueError(
            f"{run.path} has no manifest; `python -m modgrok export` writes a copy that has one."
        )
    run.check()
    check_manifest(run)
    check_tables(run)
    places = np.linspace(len(run.steps) - 1, 0, checkpoints + 1)[:checkpoints].round().astype(int)
    steps = sorted({run.steps[i] for i in places}) if run.steps else []
    data = Data(run.config)
    asked = {
        name: questions(data.evaluation_set(name), run.config.p, data.tasks["id"])
        for name in sets
        if name in data.sets
    }
    for name, own in asked.items():
        if not np.array_equal(count_kinds(own.kinds).numpy(), run.queries[name]):
            raise ValueError(f"{run.path} was not scored on the sequences of its config ({name}).")
    worst = 0.0
    for step in steps:
        model, dtype = run.model(step), run.manifest[_file(step)]["dtype"]
        row = run.metrics["step"].tolist().index(step)
        for name, own in asked.items():
            n = len(own.tokens)
            sums = score(model, own)
            loss, recorded = float(sums.loss.mean() / n), run.metrics[f"{name}_loss"][row]
            moved = np.abs(sums.correct.numpy() - run.correct[name][row]).sum() / run.queries[name].sum()
            if not (abs(loss - recorded) <= LOSS_TOLERANCE[dtype] and moved <= ANSWER_TOLERANCE[dtype]):
                raise ValueError(
                    f"{run.path / _file(step)} has a loss of {loss:.4f} on {name}, recorded is {recorded:.4f}, "
                    f"and {moved:.1%} of its answers differ; {run.repair}."
                )
            worst = max(worst, abs(loss - recorded))
    scored = f"; scored anew at {', '.join(map(str, steps))}, losses within {worst:.1g}" if steps else ""
    without = "" if run.steps else "; shipped without weights, so nothing could be scored anew"
    return f"{len(run.manifest)} files as recorded{scored}{without}"


def check_manifest(run: Run) -> None:
    """Every checkpoint listed is what the list says, and none is there besides.

    Raises:
        ValueError: the first that is not.
    """
    listed = {name for name in run.manifest if name.startswith("checkpoints/")}
    for name in sorted(listed):
        entry = run.manifest[name]
        if entry.get("dtype") not in LOSS_TOLERANCE or name != _file(entry.get("step")):
            raise ValueError(f"{run.path / 'manifest.json'} is damaged ({name}); {run.repair}.")
        stored = {str(tensor.dtype).removeprefix("torch.") for tensor in run.tensors(name).values()}
        if stored != {entry["dtype"]}:
            raise ValueError(f"{run.path / name} holds {' and '.join(sorted(stored))}, not {entry['dtype']}.")
    there = {f"checkpoints/{file.name}" for file in run.path.glob("checkpoints/*.safetensors")}
    if more := there - listed:
        raise ValueError(
            f"{run.path / min(more)} is no part of the run: its manifest does not list it; remove it."
        )


def check_tables(run: Run) -> None:
    """metrics.csv says of every evaluation what scores.safetensors says, in finite numbers.

    Raises:
        ValueError: the first column that does not.
    """
    rows, K = len(run.metrics["step"]), run.config.n_examples
    shapes = {
        "correct": (rows, len(KINDS), K),
        "divergence": (rows, len(REFERENCES), K),
        "queries": (len(KINDS), K),
    }
    for name in SETS:
        for table, shape in shapes.items():
            if getattr(run, table)[name].shape != shape:
                raise ValueError(
                    f"{run.path / 'scores.safetensors'} has not the shape of its run; {run.repair}."
                )
        with np.errstate(invalid="ignore"):  # a set without tasks, or without novel queries
            last, asked = run.correct[name][..., -1], run.queries[name][:, -1]
            expected = {"acc": last.sum(-1) / asked.sum(), "novel": last[:, 1:].sum(-1) / asked[1:].sum()}
        for what, values in expected.items():
            if not np.allclose(run.metrics[f"{name}_{what}"], values, atol=1e-6, equal_nan=True):
                raise ValueError(
                    f"{run.path / 'metrics.csv'} and scores.safetensors do not agree on {name}_{what}; {run.repair}."
                )
        if asked.sum() and not np.isfinite(run.metrics[f"{name}_loss"]).all():
            raise ValueError(f"{run.path / 'metrics.csv'} has no number for some {name}_loss; {run.repair}.")
    trained = run.metrics["train_loss"][1:]  # nothing was trained yet at the first
    if not (np.isfinite(trained).all() and np.isfinite(run.metrics["lr"]).all()):
        raise ValueError(f"{run.path / 'metrics.csv'} has no number for some lr or train_loss; {run.repair}.")


def _file(step: int) -> str:
    return f"checkpoints/step-{step:07d}.safetensors" if isinstance(step, int) else ""
