"""Configs: what is valid trains, what is not is refused with the way out; names; presets."""

import ast
import dataclasses
import json
import math
import re
import tempfile
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tiny import sentence, tiny

from modgrok.config import (
    PRESETS,
    SETS,
    Config,
    Phase,
    is_prime,
    nearest_prime,
    parse_curriculum,
    preset,
)
from modgrok.data import Data, pretraining_tasks
from modgrok.evaluate import accuracy_by_shot
from modgrok.model import Transformer
from modgrok.train import train
from modgrok.training.engine import check_memory, memory


@st.composite
def configs(draw):
    """Any valid small config with two steps."""
    p = draw(st.sampled_from([2, 3, 5, 7]))
    rule = draw(st.sampled_from(["rectangle", "random"]))
    n_most = {2: 4, 3: 4, 5: 20, 7: 40}[p]
    n_tasks = 4 * draw(st.integers(1, n_most // 4)) if rule == "rectangle" else draw(st.integers(1, p * p))
    n_head = draw(st.integers(1, 4))
    return Config(
        p=p,
        n_tasks=n_tasks,
        task_rule=rule,
        alpha=draw(st.integers(1, p * p - 1)) / p**2,
        n_examples=draw(st.integers(1, 5)),
        depth=draw(st.integers(1, 3)),
        n_embd=2 * n_head * draw(st.integers(1, 8 // n_head)),
        n_head=n_head,
        rope_base=draw(st.floats(1.5, 1e5)),
        optimizer=draw(st.sampled_from(["adamw", "muon"])),
        lr=draw(st.floats(1e-5, 1e-2)),
        weight_decay=draw(st.floats(0, 2)),
        warmup_steps=draw(st.integers(0, 2)),
        lr_schedule=draw(st.sampled_from(["cosine", "constant"])),
        steps=2,
        batch_size=n_tasks * draw(st.integers(1, 2)),
        mixed_precision=draw(st.sampled_from(["auto", "no", "bf16"])),
        shared_pairs=draw(st.booleans()),
        curriculum=draw(st.sampled_from(["", "1x1:1"])) if p > 2 else "",
        seed=draw(st.integers(0, 2**63 - 1)),
        eval_every=draw(st.integers(1, 3)),
        eval_sequences=48,
        n_checkpoints=draw(st.integers(1, 3)),
        checkpoint_every=draw(st.integers(1, 3)),
    )


@settings(max_examples=10, deadline=None)
@given(configs())
@example(tiny(n_tasks=9, batch_size=9, steps=2))  # no task is left out of distribution
def test_a_valid_config_trains_and_evaluates(config):
    uniform = dataclasses.replace(config, curriculum="")
    assume(not config.curriculum or Data(uniform).pairs["train"].any())  # (0, 0) alone lies on no line
    with tempfile.TemporaryDirectory() as root:
        run = train(config, root)
        assert run.finished and run.config == config and run.steps[-1] == 2
        assert list(run.metrics["step"]) == sorted({0, *range(0, 3, config.eval_every), 2})
        for name in SETS:
            assert run.accuracy_by_shot[name].shape == (len(run.metrics["step"]), config.n_examples)
            empty = name.startswith("ood") and config.n_tasks == config.p**2
            assert (
                np.isnan(run.accuracy_by_shot[name]).all()
                if empty
                else (run.accuracy_by_shot[name] <= 1).all()
            )
        tokens = Data(config).evaluation_set("id_train")
        curve = accuracy_by_shot(run.model(), tokens)  # scored in float32, whatever it was trained in
        np.testing.assert_allclose(curve, run.accuracy_by_shot["id_train"][-1], atol=1e-6)


wrong = st.sampled_from(
    [None, "x", [], {}, True, 1.5, 10**400, -(10**30), math.nan, math.inf, "1" * 10_000, (1, 2)]
)
sizes = st.integers(-2, 12) | st.sampled_from([10**9, 10**12 - 1, 10**31 + 7, 2**63, 2**64, 10**5000])
rates = st.floats(-0.5, 2) | st.sampled_from([1e308, 1e-308, 0, 10**400])
ANYTHING = {
    "p": st.sampled_from([2, 3, 5, 7, 11, 29]) | sizes,
    "n_tasks": st.integers(0, 4).map(lambda n: 4 * n) | sizes,
    "task_rule": st.sampled_from(["rectangle", "random", "Random", ""]),
    "n_embd": st.sampled_from([4, 8, 16]) | sizes,
    "batch_size": st.integers(0, 4).map(lambda n: 16 * n) | sizes | st.just(16 * 10**7),
    "eval_sequences": sizes | st.just(10**8),
    "betas": st.tuples(rates, rates),
    "optimizer": st.sampled_from(["adamw", "muon", "sgd"]),
    "seed": st.integers(0, 9) | sizes,
} | {
    name: sizes
    for name in ("n_examples", "depth", "n_head", "steps", "warmup_steps", "eval_every", "n_checkpoints")
}
ANYTHING |= {name: rates for name in ("alpha", "lr", "muon_lr", "init_std", "weight_decay", "rope_base")}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from([*ANYTHING]), st.none(), max_size=4), st.data())
def test_any_config_gives_a_step_or_one_sentence_within_a_second(names, data):
    """Seconds of this process's own, whatever else the machine is doing."""
    fields = {
        name: data.draw(ANYTHING[name] | wrong if data.draw(st.booleans()) else ANYTHING[name])
        for name in names
    }
    start = time.process_time()
    try:
        config = preset("smoke", **fields)
        check_memory(
            config,
            SimpleNamespace(num_processes=1, gradient_accumulation_steps=1, device=torch.device("cpu")),
        )
        tokens = Data(config).batch(0)
        model = Transformer(config).init_weights(torch.Generator().manual_seed(0))
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens[:, 2::3].flatten())
        loss.backward()
    except ValueError as error:
        assert any(f"{name}=" in sentence(error) for name in KINDS) and len(str(error)) < 400
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "fields, name",
    [
        ({"batch_size": 16 * 10**7}, "batch_size"),
        ({"n_embd": 2**17, "n_head": 1}, "n_embd"),
        ({"eval_sequences": 10**8}, "eval_sequences"),
        ({"n_examples": 10_000, "batch_size": 16 * 1000}, "batch_size"),
    ],
)
def test_what_does_not_fit_in_memory_is_refused_before_anything_is_created(fields, name, tmp_path):
    with pytest.raises(ValueError, match=rf"^{name}=\d+ needs at least .* GB are free; lower it") as error:
        train(preset("smoke", **fields), tmp_path)
    sentence(error)
    assert not list(tmp_path.iterdir())


def test_the_presets_fit_into_a_laptop():
    assert all(sum(memory(preset(name)).values()) < 8e9 for name in PRESETS if name != "paper")
    assert sum(memory(preset("paper")).values()) < 80e9


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True, "2"])
def test_a_step_has_a_whole_number_of_parts(accumulate, tmp_path):
    with pytest.raises(ValueError, match=r"^accumulate=.* must be a whole number, 1 or more") as error:
        train(preset("smoke"), tmp_path, accumulate=accumulate)
    sentence(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("p", [17, 29, 31])
def test_the_most_tasks_of_the_rectangular_rule_are_placed_for_every_seed(p):
    n_placed = int(re.search(r"at most (\d+)", refusal(p=p, n_tasks=p * p, task_rule="rectangle"))[1])
    for seed in range(5):
        config = tiny(p=p, n_tasks=n_placed, task_rule="rectangle", batch_size=n_placed, seed=seed)
        assert len(np.unique(pretraining_tasks(config), axis=0)) == n_placed


not_positive = st.integers(-5, 0)
not_finite = st.sampled_from([math.nan, math.inf, -math.inf])
INVALID = {
    "p": st.integers(-3, 500).filter(lambda n: not is_prime(n)),
    "n_tasks": not_positive | st.integers(10, 10**6),
    "alpha": not_finite | st.floats(-1e308, 1 / 20) | st.floats(18 / 19, 1e308),
    "n_examples": not_positive,
    "depth": not_positive,
    "n_embd": not_positive | st.integers(1, 10**30).filter(lambda n: n % 4),
    "n_head": not_positive,
    "rope_base": not_finite | st.floats(-10, 1),
    "init_std": not_finite | st.floats(-1, 0),
    "lr": not_finite | st.floats(-1, 0),
    "muon_lr": not_finite | st.floats(-1, 0),
    "weight_decay": not_finite | st.floats(-1, -1e-9),
    "betas": st.sampled_from([(0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9)]),
    "warmup_steps": st.integers(-5, -1) | st.integers(13, 100),
    "steps": not_positive,
    "batch_size": not_positive | st.integers(1, 10**30).filter(lambda n: n % 4),
    "seed": st.integers(-(10**6), -1) | st.integers(2**63, 2**70),
    "eval_every": not_positive,
    "eval_sequences": not_positive,
    "n_checkpoints": not_positive,
    "checkpoint_every": not_positive,
}
KINDS = {f.name: f.type for f in dataclasses.fields(Config)}


def refusal(**overrides) -> str:
    with pytest.raises(ValueError) as error:
        tiny(**overrides)
    return sentence(error)


@pytest.mark.parametrize("field", INVALID)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_invalid_value_is_refused_with_the_nearest_valid_one(field, data):
    message = refusal(**{field: data.draw(INVALID[field])})
    assert message.startswith(f"{field}=")
    choice = ast.literal_eval(re.search(r"the nearest valid choice is (.*)\.$", message)[1])
    try:
        tiny(**{field: choice})
    except ValueError as error:  # a field that depends on this one may have to follow
        assert not str(error).startswith(f"{field}="), error


@pytest.mark.parametrize("p", [2, 3, 5, 7, 29, 211])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_nearest_alpha_is_valid_at_every_p(p, alpha):
    message = refusal(p=p, alpha=alpha)
    choice = float(re.search(r"nearest valid choice is (.*)\.$", message)[1])
    tiny(p=p, alpha=choice)


@pytest.mark.parametrize("p", [2, 3, 5, 7, 29])
@pytest.mark.parametrize("n_tasks", [-1, 1, 2, 3, 5, 6, 7, 10**6])
def test_rectangular_rule_names_a_number_that_fits(p, n_tasks):
    message = refusal(p=p, n_tasks=n_tasks, task_rule="rectangle")
    assert message.startswith(f"n_tasks={n_tasks}")
    choice = int(re.search(r"(?:nearest valid choice is|at most) (\d+)", message)[1])
    assert tiny(p=p, n_tasks=choice, task_rule="rectangle", batch_size=choice).n_tasks == choice


@pytest.mark.parametrize("field", KINDS)
def test_a_value_of_the_wrong_type_is_refused_by_name(field):
    right = {float: 1.5, bool: True}.get(KINDS[field])
    for value in (value for value in (None, "many", True, [1], 1.5) if type(value) is not type(right)):
        assert refusal(**{field: value}).startswith(f"{field}={value!r} ")


@pytest.mark.parametrize(
    "field, choices",
    [
        ("task_rule", ("rectangle", "random")),
        ("optimizer", ("adamw", "muon")),
        ("lr_schedule", ("cosine", "constant")),
        ("mixed_precision", ("auto", "no", "bf16")),
    ],
)
def test_a_wrong_word_is_refused_with_the_allowed_ones(field, choices):
    message = refusal(**{field: "rectangel"})
    assert message.startswith(f"{field}='rectangel'") and all(repr(choice) in message for choice in choices)


def test_unknown_names_are_refused_with_the_nearest_known_one():
    for call in (lambda: Config.from_dict({"n_task": 4}), lambda: preset("smoke", n_task=4)):
        with pytest.raises(ValueError, match=r"'n_task' is not a field.*did you mean n_tasks\?"):
            call()
    with pytest.raises(
        ValueError, match=r"preset='big'.*smoke, laptop, desk, p13, p13-lines, p19, p29, paper"
    ):
        preset("big")
    with pytest.raises(ValueError, match="betas=3 must be two numbers"):
        Config.from_dict({"betas": 3})


def test_nearest_prime():
    primes = [n for n in range(2, 140) if not any(n % d == 0 for d in range(2, n))]
    for n in range(-3, 130):
        assert is_prime(n) == (n in primes)
        assert abs(nearest_prime(n) - n) == min(abs(prime - n) for prime in primes)


# Another valid value for every field that determines the result.
CHANGED = dict(
    p=5, n_tasks=6, task_rule="rectangle", alpha=0.5, n_examples=4, depth=1, n_embd=16, n_head=1, rope_base=50.0,
    init_std=0.1, optimizer="muon", lr=1e-3, muon_lr=0.02, weight_decay=0.0, betas=(0.8, 0.98), warmup_steps=3,
    lr_schedule="constant", steps=13, batch_size=24, mixed_precision="bf16", seed=1, eval_every=4, eval_sequences=96,
    n_checkpoints=2, shared_pairs=False, balanced=False, curriculum="1x2:3",
)  # fmt: skip


def test_name_changes_with_every_field_that_determines_the_result():
    assert CHANGED.keys() | {"checkpoint_every"} == KINDS.keys()
    names = {tiny(**{field: value}).name for field, value in CHANGED.items()} | {tiny().name}
    assert len(names) == len(CHANGED) + 1
    assert tiny(checkpoint_every=7).name == tiny().name


def test_names_stay():
    """Shipped runs are found by their names, so a change here orphans them."""
    assert tiny().name == "p3-n4-random-a0.7-d2-w8-adamw-s0-c9df5f34"
    assert Config().name == "p29-n512-rectangle-a0.6-d2-w512-adamw-s0-44136fa3"


def test_a_curriculum_is_read_into_phases():
    config = tiny(curriculum=" 1x1:2:0.1, 1+2+0px2:3::0.5  4x3:4:.25:1.0,0x3:::0.2 ")
    assert config.curriculum == "1x1:2:0.1 1+2+0px2:3::0.5 4x3:4:0.25 0x3:::0.2"
    assert config.phases == (
        Phase((1,), 1, 2, 0.1, 1.0),
        Phase((1, 2, 0), 2, 3, 0.0, 0.5, "pairs"),
        Phase((4,), 3, 4, 0.25, 1.0),
        Phase((0,), 3, None, 0.0, 0.2),
    )
    assert dataclasses.replace(config, curriculum=config.curriculum) == config
    assert tiny().phases == (Phase((0,), 3),)
    assert tiny(curriculum="1x1:2").phases == (Phase((1,), 1, 2), Phase((0,), 3))


@given(
    st.lists(
        st.builds(
            Phase,
            st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
            st.integers(1, 3),
            st.integers(1, 99),
            st.integers(0, 10**8).map(lambda n: n / 10**8),
            st.integers(1, 10**8).map(lambda n: n / 10**8),
            st.sampled_from(["lines", "pairs"]),
        ),
        max_size=6,
    )
)
def test_phases_survive_being_written(phases):
    assert list(parse_curriculum(" ".join(map(str, phases)))) == phases


@pytest.mark.parametrize(
    "curriculum, reason",
    [
        ("5x2:3", "phase 1 asks for 5 lines, and p = 3 has 4"),
        ("1x2:3 1x4:3", "phase 2 asks for 4 examples, and a sequence has n_examples = 3"),
        ("1x2 1x3:2", "phase 1 has no number of steps, which only the last phase may leave out"),
        ("1x2:3 1x3", "phase 2 goes on to the end, so it must be 0x3, the paper's uniform pairs"),
        ("1x2:3 0x2::1", "phase 2 goes on to the end, so it must be 0x3"),
        ("1x2:3 2x2:9", "phase 2 may last to step 12, and steps = 12 must leave some to uniform pairs"),
        ("1x2:3 two", "is not understood at 'two'; write phases LINESxEXAMPLES:STEPS:MARGIN:RATE"),
        ("1x0:3", "is not understood at '1x0:3'"),
        ("1x2:0", "is not understood at '1x2:0'"),
        ("1x2:3::0", "is not understood at '1x2:3::0'"),
        ("1x2:3:1.2.3", "is not understood at '1x2:3:1.2.3'"),
        ("1x2:3:-1", "is not understood at '1x2:3:-1'"),
        ("x" * 10_000, "is not understood"),
    ],
)
def test_an_impossible_curriculum_is_refused(curriculum, reason):
    message = refusal(curriculum=curriculum)
    assert message.startswith("curriculum=") and reason in message and len(message) < 400


def test_a_curriculum_has_few_lengths():
    fields = dict(n_examples=9, curriculum=" ".join(f"1x{k}:1" for k in range(1, 10)))
    assert "more than 8 different lengths" in refusal(**fields)


def test_a_batch_that_is_not_balanced_may_have_any_size():
    assert tiny(batch_size=5, balanced=False).batch_size == 5
    assert "be a multiple of n_tasks = 4 while balanced=True" in refusal(batch_size=5)
    assert "must lie between 1 and 1000000000; the nearest valid choice is 1." in refusal(
        batch_size=0, balanced=False
    )


def test_name_does_not_depend_on_how_a_number_is_written():
    assert (
        tiny(rope_base=100, lr=1, betas=[0, 0.98]).name
        == tiny(rope_base=100.0, lr=1.0, betas=(0.0, 0.98)).name
    )


@given(configs())
@settings(max_examples=20, deadline=None)
def test_survives_json(config):
    copy = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert copy == config and copy.name == config.name


def test_paper_preset_is_the_papers():
    config = preset("paper")
    expected = dict(
        p=29, n_examples=32, task_rule="rectangle", n_embd=512, n_head=4, rope_base=10000, init_std=0.02,
        optimizer="adamw", lr=1.5e-4, betas=(0.9, 0.98), weight_decay=2.0, warmup_steps=10_000,
        lr_schedule="cosine", steps=200_000, mixed_precision="bf16", eval_every=1000, eval_sequences=4096,
        shared_pairs=True, depth=2, n_tasks=512, alpha=0.6, batch_size=1024,
    )  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    deep = preset("paper", depth=4, n_tasks=384, alpha=0.8, batch_size=1536)  # its other model
    assert deep.batch_size == 1536


def test_presets_take_overrides():
    assert set(PRESETS) == {"smoke", "laptop", "desk", "p13", "p13-lines", "p19", "p29", "paper"}
    assert preset("smoke", seed=3, betas=[0.9, 0.95]) == dataclasses.replace(
        preset("smoke"), seed=3, betas=(0.9, 0.95)
    )


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().p = 5


@pytest.mark.parametrize("function", [Data, Transformer, train])
@pytest.mark.parametrize("value", ["smoke", None])
def test_what_takes_a_config_refuses_anything_else(function, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        function(value)
    assert sentence(error) == f'config={value!r} must be a Config, such as preset("smoke").'
    assert not list(tmp_path.iterdir())
