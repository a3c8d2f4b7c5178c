"""Training: against a plain loop, on several processes, and as notebooks ask for it."""

import dataclasses
import itertools
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import (
    assert_identical,
    assert_same_metrics,
    command,
    evaluations,
    finish,
    sentence,
    start,
    tiny,
    wait_for,
)

from modgrok.config import SETS, preset
from modgrok.data import Data
from modgrok.evaluate import accuracy_by_shot
from modgrok.model import Transformer
from modgrok.storage.files import load_state
from modgrok.storage.runs import Run
from modgrok.train import Training, checkpoint_steps, train
from modgrok.training import engine
from modgrok.training.optimizers import lr_factor, make_optimizers

CONFIG = tiny()
TORCHRUN = [Path(sys.executable).with_name("torchrun"), "--nproc_per_node"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    """CONFIG trained in one process."""
    return train(CONFIG, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_is_the_plain_loop(schedule, tmp_path):
    """AdamW, decay on matrices only, warm-up and cosine, cross-entropy over all z, each written out."""
    config = tiny(lr_schedule=schedule)
    data, model = Data(config), Transformer(config).init_weights(torch.Generator().manual_seed(config.seed))
    matrices = [w for w in model.parameters() if w.ndim == 2]
    vectors = [w for w in model.parameters() if w.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), eps=1e-8)
    losses, curves = [], {name: [] for name in SETS}
    for step in range(13):
        if step in (0, 5, 10, 12):
            for name in SETS:
                curves[name].append(accuracy_by_shot(model, data.evaluation_set(name)))
        if step < 2:
            rate = 3e-3 * [0.01, 0.505][step]
        else:
            rate = 3e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - 2) / 10)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 if schedule == "constant" and step >= 2 else rate
        tokens = data.batch(step)
        loss = F.cross_entropy(
            model.logits_everywhere(tokens)[:, 1::3].flatten(0, 1), tokens[:, 2::3].flatten()
        )
        losses.append(loss.item())
        if step < 12:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run = train(config, tmp_path)
    for name, weight in run.model().state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], atol=1e-5, rtol=0)
    means = [np.mean(losses[a:b]) for a, b in ((0, 5), (5, 10), (10, 12))]
    np.testing.assert_allclose(run.metrics["train_loss"][1:], means, atol=1e-5)
    for name in SETS:
        np.testing.assert_allclose(run.accuracy_by_shot[name], torch.stack(curves[name]), atol=0.02)


def test_a_finished_run_is_returned_as_it_is(alone, monkeypatch):
    monkeypatch.setattr(Training, "__init__", lambda *args: pytest.fail("it trained"))
    assert train(dataclasses.replace(CONFIG, checkpoint_every=4), alone.path.parent).path == alone.path


@pytest.mark.parametrize("accumulate", [3, 12])
def test_accumulation_leaves_the_metrics(accumulate, tmp_path, alone):
    assert_same_metrics(train(CONFIG, tmp_path, accumulate=accumulate), alone)


@pytest.fixture
def captured(monkeypatch):
    """Compile as on a GPU; but graphs are only captured, not turned into kernels."""
    plugin = engine.TorchDynamoPlugin
    monkeypatch.setattr(
        engine, "TorchDynamoPlugin", lambda backend, **options: plugin("aot_eager", **options)
    )
    monkeypatch.setattr(engine, "check_accelerator", lambda *arguments: None)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def test_a_compiled_model_trains_to_the_same_metrics(tmp_path, alone, captured):
    compiled = train(CONFIG, tmp_path)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert_same_metrics(compiled, alone)
    for step in alone.steps:
        for ours, theirs in zip(
            compiled.model(step).parameters(), alone.model(step).parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_curriculum_compiles_once_for_each_length_of_its_sequences(tmp_path, captured):
    train(tiny(depth=1, curriculum="1x1:2 2x2:2 1x1:2 4x2:2"), tmp_path)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 3 and not counters["graph_break"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_curriculum_is_the_plain_loop_over_its_phases(optimizer, tmp_path):
    """Each phase has its own sequences and its own rate, and the last one goes on to the end."""
    config = tiny(optimizer=optimizer, curriculum="1x2:3::0.5 2+0x3:4 0x3:::0.25", lr_schedule="constant")
    data, model = Data(config), Transformer(config).init_weights(torch.Generator().manual_seed(config.seed))
    optimizers = make_optimizers(config, model)
    for step in range(12):
        phase, factor = [(0, 0.5), (1, 1.0), (2, 0.25)][(step >= 3) + (step >= 7)]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak_lr"] * factor * (0.01, 0.505, 1)[min(step, 2)]
        tokens = data.batch(step, config.phases[phase])
        assert tokens.shape == (12, 6 if step < 3 else 9)
        F.cross_entropy(model(tokens).flatten(0, 1), tokens[:, 2::3].flatten()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    run = train(config, tmp_path)
    assert run.provenance["phases"] == [0, 3, 7]
    for name, weight in run.model().state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], atol=1e-5, rtol=0)
    np.testing.assert_allclose(run.metrics["lr"], [0.5 * 3e-5, 3e-3, 0.25 * 3e-3, 0.25 * 3e-3])


def test_a_phase_ends_early_where_its_loss_is_near_its_floor(tmp_path, monkeypatch):
    """A margin of 9 nats is met at the first look, one of a thousandth never."""
    monkeypatch.setattr("modgrok.train.PHASE_CHECK", 2)
    assert train(tiny(curriculum="1x1:5:9 2x2:6:0.001 0x3"), tmp_path).provenance["phases"] == [0, 2, 8]


def test_one_training_does_not_rub_off_on_the_next(tmp_path, alone):
    """Accelerate keeps its state in singletons."""
    train(dataclasses.replace(CONFIG, mixed_precision="bf16"), tmp_path, accumulate=3)
    assert_identical(train(CONFIG, tmp_path), alone)
    half = tiny(mixed_precision="bf16", n_embd=64)
    ours, theirs = train(half, tmp_path), train(tiny(n_embd=64), tmp_path)
    assert not np.array_equal(ours.metrics["id_train_loss"], theirs.metrics["id_train_loss"])


@pytest.mark.parametrize(
    "accumulate, sizes",
    [(5, "multiples of 20, the nearest is 20"), (24, "multiples of 24, the nearest is 24")],
)
def test_a_batch_that_does_not_divide_is_refused(accumulate, sizes, tmp_path):
    with pytest.raises(ValueError, match="batch_size=12 does not divide") as error:
        train(CONFIG, tmp_path, accumulate=accumulate)
    assert sizes in sentence(error) and not list(tmp_path.iterdir())


def test_three_processes_train_as_one_does(tmp_path):
    """Also from phase to phase: the margin is met at the first look, 50 steps into the first phase of 90. Two
    processes do it under other launchers: see test_chapter, test_jobs and test_multinode."""
    config = tiny(steps=100, eval_every=50, curriculum="1x1:90:9 0x3", batch_size=3, balanced=False)
    result = finish(command(config, tmp_path, *TORCHRUN, "3"))
    assert result.returncode == 0, result.stderr
    assert "on 3 process(es), cpu, from step 0" in result.stdout
    assert "step 50: phase 2 of 2 begins, 3 examples from uniform pairs." in result.stdout
    assert result.stdout.count("finished: ") == 1
    run, alone = Run(tmp_path / config.name), train(config, tmp_path / "alone")
    assert run.provenance["processes"] == [3] and run.provenance["phases"] == [0, 50]
    assert_same_metrics(run, alone)
    for name, weight in run.model().state_dict().items():
        torch.testing.assert_close(weight, alone.model().state_dict()[name], atol=1e-4, rtol=0)


def test_several_processes_stop_together_and_another_number_goes_on(tmp_path):
    """SIGTERM, as a scheduler sends it; every process must agree on the step at which to stop."""
    config = tiny(
        p=2, n_tasks=1, batch_size=2, alpha=0.5, depth=1, steps=800, eval_every=50, checkpoint_every=10**6
    )
    process = start(command(config, tmp_path, *TORCHRUN, "2"))
    path = tmp_path / config.name
    wait_for(lambda: evaluations(path) > 1, process)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    step = load_state(path / "resume.safetensors", config.name)[1]["step"]
    assert 0 < step < 800 and f"stopped by SIGTERM at step {step}" in errors
    run = train(config, tmp_path)
    assert run.provenance["processes"] == [2, 1]
    assert_same_metrics(run, train(config, tmp_path / "straight"), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400), st.integers(1, 40))
def test_checkpoints_are_at_evaluations_and_the_end(steps, eval_every, n_checkpoints):
    config = tiny(steps=steps, eval_every=eval_every, n_checkpoints=n_checkpoints, warmup_steps=0)
    saved_steps = checkpoint_steps(config)
    assert steps in saved_steps and len(saved_steps) <= n_checkpoints
    assert all(0 < step <= steps and (step % eval_every == 0 or step == steps) for step in saved_steps)
    if steps % eval_every == 0 and n_checkpoints > 1:
        assert min(saved_steps) == min(eval_every, steps)


def test_checkpoints_are_log_spaced():
    saved_steps = sorted(checkpoint_steps(preset("paper")))
    assert len(saved_steps) >= 10 and saved_steps[0] == 1000 and saved_steps[-1] == 200_000
    ratios = [b / a for a, b in itertools.pairwise(saved_steps)]
    assert max(ratios) < 2.1 and saved_steps[1] - saved_steps[0] < (saved_steps[-1] - saved_steps[-2]) / 10


def test_says_that_it_still_guesses(tmp_path, capsys):
    train(tiny(steps=300, eval_every=200, warmup_steps=0, lr=1e-9), tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("still on the first plateau") == 1 and "step 200: " in printed


def test_the_progress_bar_shows_accuracy_over_all_queries_as_metrics_do(alone):
    training = SimpleNamespace(
        config=CONFIG, rows=[{name: values[-1] for name, values in alone.metrics.items()}]
    )
    texts = Training.summary(training, None)
    assert texts == {"loss": f"{alone.metrics['train_loss'][-1]:.3f}"} | {
        name: f"{alone.metrics[f'{name}_acc'][-1]:.2f}" for name in SETS
    }
    training.rows = [{name: values[0] for name, values in alone.metrics.items()}]
    assert "loss" not in Training.summary(training, None)  # there was no step yet


def test_learning_rate_of_the_paper():
    config = preset("paper")
    assert lr_factor(config, 0) == pytest.approx(0.01)
    assert lr_factor(config, 5000) == pytest.approx(0.505)
    assert lr_factor(config, 10_000) == pytest.approx(1)
    assert lr_factor(config, 105_000) == pytest.approx(0.55)
    assert lr_factor(config, 200_000) == pytest.approx(0.1)
    factors = [lr_factor(config, step) for step in range(0, 200_001, 500)]
    assert factors == sorted(factors[:21]) + sorted(factors[21:], reverse=True)
    flat = dataclasses.replace(config, lr_schedule="constant", warmup_steps=0)
    assert {lr_factor(flat, step) for step in (0, 1, 200_000)} == {1.0}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_has_one_optimizer_and_matrices_alone_decay(optimizer):
    config = tiny(optimizer=optimizer, lr=1e-3, muon_lr=0.02)
    model = Transformer(config)
    weights = []
    for kind in make_optimizers(config, model):
        for group in kind.param_groups:
            shrink = group["lr"] * group["weight_decay"]
            for weight in group["params"]:
                assert shrink == pytest.approx(1e-3 * 0.3 if weight.ndim == 2 else 0)
            if isinstance(kind, torch.optim.Muon):
                assert all(weight is not model.embed.weight for weight in group["params"])
            else:
                assert group["betas"] == (0.9, 0.98) and group["eps"] == 1e-8
            weights += group["params"]
    assert sorted(map(id, weights)) == sorted(map(id, model.parameters()))
