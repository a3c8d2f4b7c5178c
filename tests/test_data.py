"""Tasks, the split of inputs, the four sets and the batch, against what the paper says of them."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny

from modgrok.config import SETS, Phase, preset
from modgrok.data import (
    MAX_OOD_TASKS,
    Data,
    generator,
    grid,
    line_numbers,
    ood_tasks,
    pretraining_tasks,
    split_inputs,
)

MOST = {2: 4, 3: 4, 5: 20, 7: 40, 11: 108}  # tasks that the rectangular rule can place

RULES = st.sampled_from(["rectangle", "random"])
quick = settings(max_examples=40, deadline=None)


@st.composite
def settled(draw, rule=RULES):
    """A config that differs in everything the data depends on."""
    p, rule = draw(st.sampled_from(list(MOST))), draw(rule)
    n = 4 * draw(st.integers(1, MOST[p] // 4)) if rule == "rectangle" else draw(st.integers(1, p * p))
    return tiny(
        p=p,
        n_tasks=n,
        task_rule=rule,
        alpha=draw(st.integers(1, p * p - 1)) / p**2,
        n_examples=draw(st.integers(1, 6)),
        batch_size=n * draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def rows(array) -> set[tuple[int, int]]:
    return {tuple(row) for row in np.asarray(array).tolist()}


def examples(config, tokens) -> np.ndarray:
    """(sequences, n_examples, 3): x, y, z."""
    return tokens.numpy().reshape(-1, config.n_examples, 3)


@quick
@given(settled(st.just("rectangle")))
def test_every_four_tasks_of_the_rectangular_rule_make_a_rectangle(config):
    tasks = pretraining_tasks(config)
    assert len(rows(tasks)) == len(tasks) == config.n_tasks
    for (a, b), (c, d), (e, f), (g, h) in tasks.reshape(-1, 4, 2):
        assert (c, f, g, h) == (a, b, e, d)  # (a, b), (a, b'), (a', b), (a', b')
        assert a != e and b != d


@quick
@given(settled())
def test_tasks_and_inputs_are_partitioned(config):
    everything = rows(grid(config.p))
    assert len(everything) == config.p**2
    ours, held_out = pretraining_tasks(config), ood_tasks(config)
    assert len(ours) == config.n_tasks
    assert rows(ours) | rows(held_out) == everything and len(ours) + len(held_out) == config.p**2
    train, test = split_inputs(config)
    assert rows(train) | rows(test) == everything and len(train) + len(test) == config.p**2
    assert len(train) == round(config.alpha * config.p**2)


@quick
@given(settled())
def test_each_set_holds_its_tasks_and_only_its_inputs(config):
    data, (train, test) = Data(config), split_inputs(config)
    for name in SETS:
        tasks = pretraining_tasks(config) if name.startswith("id") else ood_tasks(config)[:MAX_OOD_TASKS]
        tokens = data.evaluation_set(name)
        assert torch.equal(tokens, data.evaluation_sets()[name])
        sequences = examples(config, tokens)
        assert rows(sequences[..., :2].reshape(-1, 2)) <= rows(train if name.endswith("train") else test)
        assert len(sequences) == (config.eval_sequences if len(tasks) else 0)
        for i, (a, b) in enumerate(tasks):  # tasks take turns
            group = sequences[i :: len(tasks)]
            assert (group[..., 2] == (a * group[..., 0] + b * group[..., 1]) % config.p).all()


@quick
@given(settled(), st.integers(1, 100))
def test_fewer_evaluation_sequences_are_the_first_of_more(config, n):
    data = Data(config)
    for name, tokens in data.evaluation_sets().items():
        assert torch.equal(data.evaluation_set(name, n)[: len(tokens)], tokens[:n])


def test_evaluation_sequences_are_independent():
    """Each has pairs of its own, also those of one task, so that a standard error may count them."""
    config = preset("smoke", eval_sequences=2000)
    for name, tokens in Data(config).evaluation_sets().items():
        pairs = examples(config, tokens)[..., :2].reshape(len(tokens), -1)
        repeats = len(tokens) - len(np.unique(pairs, axis=0))
        n_pairs = len(split_inputs(config)[not name.endswith("train")])
        assert repeats <= 3 * len(tokens) ** 2 / n_pairs**config.n_examples + 3, name


@quick
@given(settled(), st.integers(0, 10**6))
def test_a_batch_is_balanced_and_its_pairs_are_shared_by_all_tasks(config, step):
    batch = Data(dataclasses.replace(config, shared_pairs=True)).batch(step)
    assert batch.shape == (config.batch_size, 3 * config.n_examples) and batch.dtype == torch.int64
    sequences = examples(config, batch).reshape(config.n_tasks, -1, config.n_examples, 3)
    assert (sequences[..., :2] == sequences[:1, ..., :2]).all()
    assert rows(sequences[..., :2].reshape(-1, 2)) <= rows(split_inputs(config)[0])
    for (a, b), group in zip(pretraining_tasks(config), sequences, strict=True):
        assert (group[..., 2] == (a * group[..., 0] + b * group[..., 1]) % config.p).all()


@quick
@given(settled(), st.integers(0, 10**6))
def test_a_batch_of_unshared_pairs_is_balanced_too(config, step):
    config = dataclasses.replace(config, shared_pairs=False)
    sequences = examples(config, Data(config).batch(step)).reshape(config.n_tasks, -1, config.n_examples, 3)
    assert rows(sequences[..., :2].reshape(-1, 2)) <= rows(split_inputs(config)[0])
    for (a, b), group in zip(pretraining_tasks(config), sequences, strict=True):
        assert (group[..., 2] == (a * group[..., 0] + b * group[..., 1]) % config.p).all()


def test_unshared_pairs_differ_between_tasks():
    config = preset("smoke", shared_pairs=False)
    pairs = examples(config, Data(config).batch(0))[..., :2]
    assert len(np.unique(pairs.reshape(len(pairs), -1), axis=0)) == len(pairs)


@quick
@given(settled(), st.lists(st.integers(0, 50), min_size=1, max_size=5))
def test_a_batch_depends_on_config_and_step_alone(config, steps):
    data = Data(config)
    np.random.seed(steps[0])  # nor on a global generator
    torch.manual_seed(steps[0])
    batches = {step: data.batch(step) for step in steps}
    for step in reversed(steps):
        assert torch.equal(batches[step], Data(config).batch(step))


def test_steps_seeds_and_purposes_draw_differently():
    config = preset("smoke")
    data, second_seed = Data(config), Data(preset("smoke", seed=1))
    assert not torch.equal(data.batch(0), data.batch(1))
    assert not torch.equal(data.batch(0), second_seed.batch(0))
    assert rows(data.tasks["id"]) != rows(second_seed.tasks["id"])
    assert rows(data.pairs["train"]) != rows(second_seed.pairs["train"])
    assert generator(0, "tasks").integers(2**60) != generator(0, "inputs").integers(2**60)


def test_drawn_pairs_are_uniform():
    """Repeats included: every training pair is as likely at every place."""
    config = tiny(n_tasks=1, batch_size=2000)
    sequences = examples(config, Data(config).batch(0))
    for k in range(config.n_examples):
        counts = np.unique(sequences[:, k, 0] * config.p + sequences[:, k, 1], return_counts=True)[1]
        assert len(counts) == 6 and abs(counts - 2000 / 6).max() < 100  # 6 standard deviations


def test_the_random_rule_draws_every_task_alike():
    counts = np.zeros((5, 5))
    for seed in range(400):
        tasks = pretraining_tasks(tiny(p=5, n_tasks=5, batch_size=5, seed=seed))
        counts[tuple(tasks.T)] += 1
    assert abs(counts - 80).max() < 50  # 6 standard deviations


def test_at_most_256_held_out_tasks_are_evaluated():
    data = Data(preset("paper", n_tasks=256))
    assert len(data.tasks["ood"]) == 256
    assert len(ood_tasks(data.config)) == 29**2 - 256


def test_no_held_out_tasks_leave_two_sets_empty():
    data = Data(tiny(n_tasks=9, batch_size=9))
    assert data.sets == ["id_train", "id_test"] and Data(tiny()).sets == list(SETS)
    assert data.evaluation_set("ood_train").shape == (0, 9)
    assert len(data.evaluation_set("id_test")) == data.config.eval_sequences


@pytest.mark.parametrize("p, n_tasks", [(2, 4), (3, 4), (5, 20), (7, 40), (11, 108), (13, 156), (29, 788)])
def test_the_rectangular_rule_fills_the_plane(p, n_tasks):
    """Choosing blindly gets stuck long before; some rectangles have to be taken back."""
    tasks = pretraining_tasks(tiny(p=p, n_tasks=n_tasks, task_rule="rectangle", batch_size=n_tasks))
    assert len(rows(tasks)) == n_tasks


def test_the_rectangular_rule_gives_up_with_a_way_out(monkeypatch):
    monkeypatch.setattr("modgrok.data.MAX_MOVES", 30)
    with pytest.raises(ValueError, match=r"n_tasks=156 .* nearest valid choice is 152"):
        pretraining_tasks(tiny(p=13, n_tasks=156, task_rule="rectangle", batch_size=156))


def test_held_out_tasks_are_those_that_are_not_trained_on():
    data = Data(tiny(p=5, n_tasks=8, batch_size=8))
    pairs = grid(5)
    assert data.held_out(pairs).sum() == 17 and not data.held_out(data.tasks["id"].numpy()).any()
    assert data.held_out(data.tasks["ood"].numpy()).all()


@pytest.mark.parametrize("p", [2, 3, 5, 7])
def test_a_line_holds_the_multiples_of_a_pair(p):
    pairs = grid(p)
    numbers = line_numbers(pairs, p)
    assert numbers[0] == -1 and sorted(set(numbers[1:])) == list(range(p + 1))
    for pair, number in zip(pairs[1:], numbers[1:], strict=True):
        multiples = np.arange(1, p)[:, None] * pair % p
        assert rows(pairs[numbers == number]) == rows(multiples)


@quick
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(1, 6), st.booleans(), st.integers(0, 99)
)
def test_sequences_of_a_phase_keep_to_their_lines(lines, n_examples, shared, step):
    config = tiny(p=5, n_tasks=8, batch_size=24, alpha=0.9, n_examples=6, shared_pairs=shared)
    data = Data(config)
    tokens = data.batch(step, Phase(tuple(lines), n_examples))
    assert tokens.shape == (24, 3 * n_examples)
    x, y, z = tokens.view(24, -1, 3).numpy().transpose(2, 0, 1)
    a, b = np.repeat(data.tasks["id"].numpy(), 3, axis=0).T[..., None]
    assert (z == (a * x + b * y) % 5).all()
    assert rows(np.stack([x, y], -1).reshape(-1, 2)) <= rows(split_inputs(config)[0])
    if 0 not in lines:
        numbers = line_numbers(np.stack([x, y], -1), 5)
        assert (numbers >= 0).all() and max(len(set(row)) for row in numbers) <= max(lines)
    assert torch.equal(tokens, Data(config).batch(step, Phase(tuple(lines), n_examples)))


def test_lines_and_pairs_on_them_are_drawn_alike():
    config = tiny(p=5, n_tasks=8, batch_size=8000, alpha=0.6, shared_pairs=False)
    data = Data(config)
    x, y, _ = data.batch(0, Phase((2, 4), 3)).view(8000, 3, 3).numpy().transpose(2, 0, 1)
    numbers = line_numbers(np.stack([x, y], -1), 5)
    counts = np.bincount(numbers.ravel(), minlength=6)
    assert abs(counts - 4000).max() < 400
    n_pairs = np.unique(np.stack([x, y], -1)[numbers == 1], axis=0, return_counts=True)[1]
    assert n_pairs.max() / n_pairs.min() < 1.25
    n_same = (numbers == numbers[:, :1]).all(1).mean()  # all three on one of two lines, or on one of four
    assert n_same == pytest.approx((1 / 4 + 1 / 16) / 2, abs=0.02)


def test_a_phase_of_uniform_pairs_is_the_papers_batch():
    data = Data(tiny())
    assert torch.equal(data.batch(7, Phase((0,), 3)), data.batch(7))


@pytest.mark.parametrize("batch_size, n_tasks", [(3, 8), (8, 8), (20, 8)])
@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_that_is_not_balanced_repeats_no_task_before_all_have_come(batch_size, n_tasks, shared):
    config = tiny(
        p=5, n_tasks=n_tasks, batch_size=batch_size, balanced=False, shared_pairs=shared, n_examples=6
    )
    data, counts = Data(config), np.zeros((2, n_tasks), int)
    for step in range(2):
        tokens = data.batch(step).view(batch_size, 6, 3)
        fits = (data.tasks["id"][:, None, None] * tokens[None, ..., :2]).sum(-1) % 5 == tokens[None, ..., 2]
        fits = fits.all(-1).numpy()  # (tasks, sequences)
        assert fits.any(0).all()
        if (fits.sum(0) == 1).all():
            counts[step] = fits.sum(1)
            assert counts[step].max() - counts[step].min() <= 1
    assert not torch.equal(data.batch(0)[:, 2::3], data.batch(1)[:, 2::3])


def brute_force_floor(data, count, n_examples, unit="lines") -> float:
    """The mean loss, over all tasks and all sequences of a phase, of the best predictor that looks at the examples in
    the query's group only: on its line, or with its pair."""
    p, tasks = data.config.p, grid(data.config.p)
    train = data.pairs["train"].numpy()
    numbers = line_numbers(train, p) if unit == "lines" else np.arange(len(train))
    groups = sorted(set(numbers) - {-1})
    if count:
        choices = list(itertools.combinations(groups, count))
        chances = [[(n in choice) / count / (numbers == n).sum() for n in numbers] for choice in choices]
    else:
        chances = [np.full(len(train), 1 / len(train))]
    total = 0.0
    for chance in np.array(chances):
        for sequence in itertools.product(np.flatnonzero(chance), repeat=n_examples):
            weight = chance[list(sequence)].prod() / len(chances)
            loss = 0.0
            for k, query in enumerate(sequence):
                context = [i for i in sequence[:k] if numbers[i] == numbers[query]]
                answers, labels = tasks @ train[query] % p, tasks @ train[context].T % p
                same = (labels[:, None] == labels[None]).all(-1)  # (tasks, tasks): alike in what was shown
                hits = (same & (answers[:, None] == answers[None])).sum(1) / same.sum(1)
                loss -= np.log(hits).mean()
            total += weight * loss / n_examples
    return total


@pytest.mark.parametrize("alpha", [0.6, 0.9])
@pytest.mark.parametrize("n_lines", [0, 1, 2, 3])
@pytest.mark.parametrize("n_examples", [1, 2, 3])
def test_the_floor_of_a_phase_is_that_of_the_best_ratio_matching(alpha, n_lines, n_examples):
    data = Data(tiny(alpha=alpha, seed=1))
    expected = brute_force_floor(data, n_lines, n_examples)
    assert data.floor(Phase((n_lines,), n_examples)) == pytest.approx(expected)
    mixed = (expected + data.floor(Phase((1,), n_examples))) / 2
    assert data.floor(Phase((n_lines, 1), n_examples)) == pytest.approx(mixed)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("n_examples", [1, 2, 3])
def test_the_floor_of_a_phase_of_few_pairs_is_that_of_look_up(count, n_examples):
    data = next(
        data for seed in range(9) if (data := Data(tiny(alpha=0.6, seed=seed))).pairs["train"].any(1).all()
    )
    # without (0, 0), whose answer is always known
    expected = brute_force_floor(data, count, n_examples, "pairs")
    assert data.floor(Phase((count,), n_examples, unit="pairs")) == pytest.approx(expected)


def test_a_sequence_has_as_many_different_pairs_as_its_phase_says():
    config = tiny(p=5, n_tasks=8, batch_size=400, balanced=False, n_examples=12, shared_pairs=False)
    data = Data(config)
    pairs = data.batch(0, Phase((1, 3), 12, unit="pairs")).view(400, 12, 3)[..., :2]
    n_pairs = np.array([len(np.unique(row, axis=0)) for row in pairs.numpy()])
    assert set(n_pairs) == {1, 2, 3} and (n_pairs == 1).mean() == pytest.approx(0.5, abs=0.1)
    drawn_pairs = {tuple(pair) for pair in pairs.flatten(0, 1).tolist()}
    assert drawn_pairs == set(map(tuple, data.pairs["train"].tolist()))


@pytest.mark.parametrize("unit, curriculum", [("lines", "4x1:2"), ("pairs", "4px1:2")])
def test_a_phase_with_more_than_training_may_use_is_refused(unit, curriculum):
    with pytest.raises(
        ValueError,
        match=f"^curriculum='{curriculum}' is impossible: it asks for 4 {unit}, and there are only [123] that",
    ):
        Data(tiny(alpha=0.3, curriculum=curriculum))


@pytest.mark.parametrize("step", [-1, 2.5, "1", True])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(ValueError, match=r"^step=.* must be a whole number, 0 or more\.$"):
        Data(tiny()).batch(step)


@pytest.mark.parametrize(
    ("name", "n"), [("ood", 3), (3, 3), ("ood_train", 0), ("ood_train", -1), ("ood_train", 2.5)]
)
def test_a_set_that_is_none_is_refused(name, n):
    with pytest.raises(
        ValueError, match=r"^set=.* is not known; choose|^n=.* must be a whole number, 1 or more"
    ):
        Data(tiny()).evaluation_set(name, n)
