"""The model against a plain transformer written here from the paper, and its shortcuts against the plain path."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny

from modgrok.data import Data
from modgrok.evaluate import targets
from modgrok.model import Transformer, rope_table, rotate

EXACT = {torch.float32: dict(atol=1e-5, rtol=0), torch.float64: dict(atol=1e-10, rtol=0)}
each_dtype = pytest.mark.parametrize("dtype", EXACT, ids=["float32", "float64"])
each_depth = pytest.mark.parametrize("depth", [1, 2, 3])


def random_model(dtype=torch.float64, seed=0, std=0.3, **overrides) -> Transformer:
    """Weights large enough for attention to have preferences, LayerNorms that do something."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(tiny(**dict(p=7, n_examples=5, n_embd=16, n_head=2) | overrides)).to(dtype)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.ndim == 1), std=std, generator=generator)
    return model


def random_tokens(*shape: int, p: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(p, shape, generator=torch.Generator().manual_seed(seed))


def plain_logits(model: Transformer, sequence: list[int]) -> np.ndarray:
    """Next-token logits at every position of one sequence, in numpy, from the paper's words alone."""
    config = model.config
    w = {name: weight.detach().double().numpy() for name, weight in model.named_parameters()}
    n, width = config.n_head, config.n_embd // config.n_head

    def layer_norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def turned(vector, position):
        """Neighbouring coordinates, as complex numbers, turned by angles that slow down along the vector."""
        pairs = vector[0::2] + 1j * vector[1::2]
        speeds = np.array([config.rope_base ** (-2 * i / width) for i in range(width // 2)])
        pairs = pairs * np.exp(1j * position * speeds)
        return np.stack([pairs.real, pairs.imag], axis=1).ravel()

    x = w["embed.weight"][sequence]
    for i in range(config.depth):
        qkv = layer_norm(x, f"blocks.{i}.ln_1") @ w[f"blocks.{i}.attn.qkv.weight"].T
        mixed = np.zeros_like(x)
        for head in range(n):
            q, k, v = (qkv[:, j * config.n_embd + head * width :][:, :width] for j in range(3))
            q, k = (np.array([turned(row, t) for t, row in enumerate(part)]) for part in (q, k))
            for t in range(len(x)):
                scores = np.array([q[t] @ k[s] / math.sqrt(width) for s in range(t + 1)])
                pattern = np.exp(scores - scores.max())
                mixed[t, head * width : (head + 1) * width] = pattern / pattern.sum() @ v[: t + 1]
        x = x + mixed @ w[f"blocks.{i}.attn.out.weight"].T
        hidden = np.maximum(layer_norm(x, f"blocks.{i}.ln_2") @ w[f"blocks.{i}.mlp.0.weight"].T, 0)
        x = x + hidden @ w[f"blocks.{i}.mlp.2.weight"].T
    return layer_norm(x, "ln_f") @ w["embed.weight"].T


@each_depth
@pytest.mark.parametrize("n_head", [1, 2, 4])
def test_is_the_papers_transformer(depth, n_head):
    model, tokens = random_model(depth=depth, n_head=n_head), random_tokens(2, 15)
    expected = np.stack([plain_logits(model, sequence) for sequence in tokens[:, :-1].tolist()])
    # angles are kept in float32, hence not 1e-10
    np.testing.assert_allclose(model.logits_everywhere(tokens).detach(), expected, atol=1e-5)
    np.testing.assert_allclose(model(tokens).detach(), expected[:, 1::3], atol=1e-5)


@each_dtype
@each_depth
@pytest.mark.parametrize("length", [3, 5, 6, 14, 15])
def test_shortcuts_leave_logits_and_gradients(dtype, depth, length):
    model, tokens = random_model(dtype, depth=depth), random_tokens(4, 15)
    z, K = tokens[:, 2::3], (length + 1) // 3
    tokens, z = tokens[:, :length], z[:, :K]
    short, full = model(tokens), model.logits_everywhere(tokens)[:, 1::3]
    assert short.shape == (4, K, 7)
    torch.testing.assert_close(short, full, **EXACT[dtype])
    gradients = [
        torch.autograd.grad(F.cross_entropy(logits.flatten(0, 1), z.flatten()), list(model.parameters()))
        for logits in (short, full)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT[dtype])
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0])  # there is something to compare


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.sampled_from([2, 3, 5, 7]), st.integers(0, 99)
)
def test_shortcuts_are_exact_for_any_shape(depth, n_head, K, p, seed):
    model = random_model(depth=depth, n_head=n_head, n_embd=4 * n_head, n_examples=K, p=p, seed=seed)
    tokens = random_tokens(3, 3 * K, p=p, seed=seed)
    torch.testing.assert_close(model(tokens), model.logits_everywhere(tokens)[:, 1::3], atol=1e-10, rtol=0)


@pytest.mark.parametrize("path", ["forward", "logits_everywhere"])
def test_the_last_z_makes_no_difference(path):
    model, tokens = random_model(), random_tokens(3, 15)
    run = getattr(model, path)
    assert torch.equal(run(tokens), run(tokens[:, :-1]))


@each_depth
def test_later_tokens_make_no_difference(depth):
    model, tokens = random_model(depth=depth), random_tokens(3, 15)
    before = model(tokens), model.logits_everywhere(tokens)
    for t in range(14):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 7
        answers = model(changed), model.logits_everywhere(changed)
        k = (t + 1) // 3  # the first answer that may look at position t
        torch.testing.assert_close(answers[0][:, :k], before[0][:, :k], atol=1e-12, rtol=0)
        torch.testing.assert_close(answers[1][:, :t], before[1][:, :t], atol=1e-12, rtol=0)
        assert (answers[0][:, k:] - before[0][:, k:]).abs().amax((0, 2)).min() > 1e-4  # all others do


@settings(max_examples=25, deadline=None)
@given(
    depth=st.integers(1, 3),
    K=st.integers(0, 4),
    batch=st.integers(1, 2),
    p=st.sampled_from([2, 3, 5]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_query_logits_are_those_of_one_sequence_a_query(depth, K, batch, p, seed, data):
    model = random_model(depth=depth, p=p, seed=seed)
    context = random_tokens(batch, 3 * K, p=p, seed=seed)
    shots = data.draw(st.lists(st.integers(0, K), min_size=1, max_size=3))
    answers = model.query_logits(context, shots)
    assert answers.shape == (batch, len(shots), p, p, p)
    for b in range(batch):
        for i, k in enumerate(shots):
            for x in range(p):
                for y in range(p):
                    tokens = torch.cat([context[b, : 3 * k], torch.tensor([x, y])])[None]
                    expected = model.logits_everywhere(tokens)[0, -1]
                    torch.testing.assert_close(answers[b, i, x, y], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("length", [0, 1, 4, 13, 16, 17, 18])
@pytest.mark.parametrize("path", ["forward", "logits_everywhere"])
def test_a_length_that_is_no_sequence_is_refused(path, length):
    with pytest.raises(ValueError, match=f"^tokens have length {length};.* has length 3·K"):
        getattr(random_model(), path)(random_tokens(2, length))


@pytest.mark.parametrize("tokens", [[[1, 2, 3]], torch.tensor([1, 2, 3]), torch.tensor([[1.0, 2.0, 3.0]])])
@pytest.mark.parametrize("path", ["forward", "logits_everywhere"])
def test_what_is_no_tokens_is_refused(path, tokens):
    with pytest.raises(ValueError, match=r"^tokens must be a torch tensor of whole numbers"):
        getattr(random_model(), path)(tokens)


@pytest.mark.parametrize("depth, C", [(1, 16), (2, 64), (4, 32)])
def test_number_of_parameters(depth, C):
    """Embedding (also the head), and a block: 4C² of attention, 8C² of MLP, two LayerNorms; no biases."""
    model = Transformer(tiny(p=7, depth=depth, n_embd=C))
    count = sum(weight.numel() for weight in model.parameters())
    assert count == 7 * C + depth * (12 * C**2 + 4 * C) + 2 * C


@pytest.mark.parametrize("depth", [1, 3])
def test_initial_weights(depth):
    config = tiny(p=101, n_tasks=1, batch_size=1, alpha=0.5, depth=depth, n_embd=128, init_std=0.05)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert (weight == float(name.endswith("weight"))).all()
            continue
        std = 0.05 / math.sqrt(2 * depth) if name.endswith("mlp.2.weight") else 0.05
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
    copy = Transformer(config).init_weights(torch.Generator().manual_seed(0))
    assert all(map(torch.equal, model.parameters(), copy.parameters()))


def test_a_training_step_and_a_query_grid_stay_on_their_device():
    """The meta device computes nothing, but as a GPU it refuses to mix with the CPU."""
    data, model = Data(tiny(), "meta"), Transformer(tiny()).to("meta")
    tokens = data.batch(0)
    F.cross_entropy(model(tokens).flatten(0, 1), targets(tokens).flatten()).backward()
    assert {weight.grad.device.type for weight in model.parameters()} == {"meta"}
    with torch.no_grad():
        assert model.query_logits(tokens[:, :6], [0, 2]).is_meta
        assert model.logits_everywhere(tokens).is_meta
    assert all(tokens.is_meta for tokens in data.evaluation_sets().values())


def test_turning_is_the_same_with_and_without_gradients():
    x = torch.randn(3, 4, 9, 8, generator=torch.Generator().manual_seed(0))[..., 1:, :]
    rope = rope_table(8, 8, 10_000.0)
    with torch.no_grad():
        turned = rotate(x, rope)
    torch.testing.assert_close(turned, rotate(x, rope), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
