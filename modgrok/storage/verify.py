"""Checks that a run is the evidence it claims to be: its files, its tables, and the scores of its weights."""

from collections.abc import Sequence

import numpy as np

from modgrok.config import SETS
from modgrok.data import Data
from modgrok.evaluate import KINDS, REFERENCES, Questions, count_kinds, prepare_questions, score
from modgrok.storage.runs import TABLES, Run, checkpoint_name

LOSS_TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
"""Nats between a recorded loss and that of the stored weights: other processors and half precision round otherwise."""

ANSWER_TOLERANCE = {"float32": 0.005, "float16": 0.01}
"""Share of answers, of all shots, that may differ for the same reason."""


def check(run: Run) -> None:
    """Compare every file of a finished run with its manifest.

    Raises ValueError, naming the first, if a file is missing, damaged or changed since the run was finished.
    """
    for name in sorted({*run.manifest, *TABLES}):
        run.read(name)


def verify(run: Run, checkpoints: int = 2, sets: Sequence[str] = SETS) -> str:
    """Check a run's files against its manifest, its tables against each other, and score some of its checkpoints.

    Args:
        run: a finished run.
        checkpoints: number of checkpoints to score anew: the last, and others spread over the training.
        sets: the evaluation sets to score them on.

    Returns:
        a sentence that says which checks were made.

    Raises:
        ValueError: the run is not finished, or fails a check; the message names the first failure.
    """
    if not run.finished:
        raise ValueError(f"{run.path} is not finished; train it to its end.")
    check(run)
    _check_checkpoints(run)
    _check_tables(run)
    checked_files = f"{len(run.manifest)} files as recorded"
    set_questions = _questions(run, sets)
    if not run.steps:
        return f"{checked_files}; shipped without weights, so nothing could be scored anew"
    positions = np.linspace(len(run.steps) - 1, 0, checkpoints + 1)[:checkpoints].round().astype(int)
    steps = sorted({run.steps[i] for i in positions})
    if not steps:
        return checked_files
    error = max(_loss_error(run, step, set_questions) for step in steps)
    return f"{checked_files}; scored anew at {', '.join(map(str, steps))}, losses within {error:.1g}"


def _check_checkpoints(run: Run) -> None:
    """Check that every checkpoint can be read, and that there is no other on disk."""
    for step in run.steps:
        _number_format(run, step)
    on_disk = {f"checkpoints/{file.name}" for file in run.path.glob("checkpoints/*.safetensors")}
    if unlisted := on_disk - run.manifest.keys():
        raise ValueError(
            f"{run.path / min(unlisted)} is no part of the run: its manifest does not list it; remove it."
        )


def _number_format(run: Run, step: int) -> str:
    """The type of the numbers in a checkpoint, a key of LOSS_TOLERANCE. Raises ValueError if they have another."""
    tensors = run.read_tensors(checkpoint_name(step))
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= LOSS_TOLERANCE.keys():
        raise ValueError(f"{run.checkpoint_file(step)} holds other numbers than weights have; {run.repair}.")
    return dtypes.pop()


def _check_tables(run: Run) -> None:
    """Check that metrics.csv and scores.safetensors hold every evaluation, in finite numbers, and agree."""
    table, steps = run.path / "metrics.csv", run.metrics["step"]
    expected_steps = np.minimum(np.arange(len(steps)) * run.config.eval_every, run.config.steps)
    is_imported = len(steps) == 1  # weights from elsewhere are evaluated once, at the end
    is_complete = is_imported or (np.array_equal(steps, expected_steps) and (np.diff(steps) > 0).all())
    if not is_complete or steps[-1] != run.config.steps:
        raise ValueError(f"{table} lacks an evaluation, or has one out of order; {run.repair}.")
    for name in SETS:
        shapes, n_shots = (
            ((len(steps), len(KINDS)), (len(steps), len(REFERENCES)), (len(KINDS),)),
            run.config.n_examples,
        )
        tables = run.correct[name], run.divergence[name], run.queries[name]
        if any(scores.shape != (*shape, n_shots) for scores, shape in zip(tables, shapes, strict=True)):
            raise ValueError(
                f"{run.path / 'scores.safetensors'} does not have the shape of its run; {run.repair}."
            )
        correct, queries = tables[0][..., -1], tables[2][:, -1]  # of the last shot, by kind
        with np.errstate(invalid="ignore"):  # a set without tasks, or without novel queries
            expected = {
                "acc": correct.sum(-1) / queries.sum(),
                "novel": correct[:, 1:].sum(-1) / queries[1:].sum(),
            }
        for quantity, values in expected.items():
            if not np.allclose(run.metrics[f"{name}_{quantity}"], values, atol=1e-6, equal_nan=True):
                raise ValueError(
                    f"{table} and scores.safetensors do not agree on {name}_{quantity}; {run.repair}."
                )
        if queries.sum() and not np.isfinite(run.metrics[f"{name}_loss"]).all():
            raise ValueError(f"{table} has no number for some {name}_loss; {run.repair}.")
    losses = run.metrics["train_loss"][1:]  # nothing was trained before the first evaluation
    if not (np.isfinite(losses).all() and np.isfinite(run.metrics["lr"]).all()):
        raise ValueError(f"{table} has no number for some lr or train_loss; {run.repair}.")


def _questions(run: Run, sets: Sequence[str]) -> dict[str, Questions]:
    """The questions of each set, which must be as many of each kind as the run recorded."""
    data = Data(run.config)
    set_questions = {}
    for name in (name for name in sets if name in data.sets):
        questions = prepare_questions(data.evaluation_set(name), run.config.p, data.tasks["id"])
        if not np.array_equal(count_kinds(questions.kinds).numpy(), run.queries[name]):
            raise ValueError(f"{run.path} was not scored on the sequences of its config ({name}).")
        set_questions[name] = questions
    return set_questions


def _loss_error(run: Run, step: int, set_questions: dict[str, Questions]) -> float:
    """The largest difference, in nats, between recorded losses and those of the weights of a step, within tolerance."""
    model, dtype = run.model(step), _number_format(run, step)
    row = run.metrics["step"].tolist().index(step)
    errors = [0.0]
    for name, questions in set_questions.items():
        sums, recorded = score(model, questions), run.metrics[f"{name}_loss"][row]
        loss = float(sums.loss.mean() / len(questions.tokens))
        n_changed = np.abs(sums.correct.numpy() - run.correct[name][row]).sum()
        changed = n_changed / run.queries[name].sum()
        if not (abs(loss - recorded) <= LOSS_TOLERANCE[dtype] and changed <= ANSWER_TOLERANCE[dtype]):
            raise ValueError(
                f"{run.checkpoint_file(step)} has a loss of {loss:.4f} on {name}, recorded is {recorded:.4f}, "
                f"and {changed:.1%} of its answers differ; {run.repair}."
            )
        errors.append(abs(loss - recorded))
    return max(errors)
