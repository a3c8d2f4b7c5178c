"""The authors' checkpoints, against a forward pass written here from the paper's description alone."""

import hashlib
import math
import sys

import pytest
import torch

from modgrok.__main__ import main
from modgrok.authors import import_authors, load_authors
from modgrok.config import Config
from modgrok.storage.runs import Run
from modgrok.train import train

P, ROWS, WIDTH, HEADS = 29, 47, 32, 4
SMALL = dict(n_tasks=16, batch_size=16, eval_sequences=48)  # the evaluation of an imported run, kept short


def authors_state(depth: int = 2, seed: int = 0, base: float = 10000.0) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the public checkpoints, large enough weights to tell answers apart."""
    rng = torch.Generator().manual_seed(seed)

    def matrix(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=rng)

    state = {"transformer.wte.weight": matrix(ROWS, WIDTH)}
    D = WIDTH // HEADS
    for i in range(depth):
        h = f"transformer.h.{i}"
        for norm in ("ln_1", "ln_2"):
            state |= {f"{h}.{norm}.weight": 1 + matrix(WIDTH), f"{h}.{norm}.bias": matrix(WIDTH)}
        state |= {
            f"{h}.attn.to_qkv.weight": matrix(3 * WIDTH, WIDTH),
            f"{h}.attn.o.weight": matrix(WIDTH, WIDTH),
            f"{h}.attn.rotary_emb.freqs": 1 / base ** (torch.arange(0, D, 2).float() / D),
            f"{h}.mlp.c_fc.weight": matrix(4 * WIDTH, WIDTH),
            f"{h}.mlp.c_proj.weight": matrix(WIDTH, 4 * WIDTH),
        }
    state |= {"transformer.ln_f.weight": 1 + matrix(WIDTH), "transformer.ln_f.bias": matrix(WIDTH)}
    return state | {"lm_head.weight": state["transformer.wte.weight"]}


def plain_forward(state: dict[str, torch.Tensor], depth: int, tokens: list[int]) -> torch.Tensor:
    """Logits (T, ROWS) of one sequence in float64, one position and one head at a time."""
    w = {name.removeprefix("transformer."): tensor.double() for name, tensor in state.items()}
    D, T = WIDTH // HEADS, len(tokens)

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def turned(vector, position, freqs):  # coordinates (0, 1), (2, 3), … as complex numbers
        pairs = torch.view_as_complex(vector.reshape(-1, 2).contiguous())
        return torch.view_as_real(pairs * torch.exp(1j * position * freqs)).flatten()

    x = w["wte.weight"][tokens]
    for i in range(depth):
        h = f"h.{i}"
        qkv = norm(x, f"{h}.ln_1") @ w[f"{h}.attn.to_qkv.weight"].T
        q, k, v = qkv[:, :WIDTH], qkv[:, WIDTH : 2 * WIDTH], qkv[:, 2 * WIDTH :]
        freqs = w[f"{h}.attn.rotary_emb.freqs"]
        mixed = torch.zeros(T, WIDTH, dtype=torch.double)
        for head in range(HEADS):
            columns = slice(head * D, (head + 1) * D)
            for t in range(T):
                query = turned(q[t, columns], t, freqs)
                scores = torch.stack([query @ turned(k[s, columns], s, freqs) for s in range(t + 1)])
                mixed[t, columns] = (scores / math.sqrt(D)).softmax(0) @ v[: t + 1, columns]
        x = x + mixed @ w[f"{h}.attn.o.weight"].T
        hidden = (norm(x, f"{h}.ln_2") @ w[f"{h}.mlp.c_fc.weight"].T).clamp(min=0)
        x = x + hidden @ w[f"{h}.mlp.c_proj.weight"].T
    return norm(x, "ln_f") @ w["lm_head.weight"].T


@pytest.mark.parametrize(("depth", "base"), [(2, 10000.0), (4, 100.0)])
def test_same_logits_as_the_plain_forward(depth, base):
    state = authors_state(depth, base=base)
    model = load_authors(state)
    assert model.config.rope_base == base and model.config.p == P
    tokens = torch.randint(P, (2, 3 * 5), generator=torch.Generator().manual_seed(1))
    for row, logits in zip(tokens, model(tokens), strict=True):
        expected = plain_forward(state, depth, row.tolist())[1::3, :P]
        torch.testing.assert_close(logits.double(), expected, atol=1e-4, rtol=1e-5)


def test_fields_follow_the_depth_and_can_be_given():
    paper = {2: (512, 0.6, 1024), 4: (384, 0.8, 1536)}
    for depth, expected in paper.items():
        config = load_authors(authors_state(depth)).config
        assert (config.n_tasks, config.alpha, config.batch_size) == expected
        assert (config.depth, config.n_embd, config.n_examples) == (depth, WIDTH, 32)
    config = load_authors(authors_state(), n_tasks=256, alpha=0.7).config
    assert (config.n_tasks, config.alpha) == (256, 0.7)
    config = load_authors(authors_state(), p=31).config
    assert config.p == 31


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_nesting_and_prefixes(key, prefix, tmp_path):
    state = {prefix + name: tensor for name, tensor in authors_state().items()}
    torch.save(state if key is None else {key: state, "step": 7}, tmp_path / "model.pth")
    model = load_authors(tmp_path / "model.pth")
    assert torch.equal(model.embed.weight, authors_state()["transformer.wte.weight"][:P])


def removed(name):
    return lambda state: state.pop(name)


def changed(name, change):
    return lambda state: state.update({name: change(state.get(name))})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed("transformer.wte.weight"), "transformer.wte.weight, a matrix, is missing"),
        (removed("transformer.h.1.mlp.c_fc.weight"), "transformer.h.1.mlp.c_fc.weight: the checkpoint has nothing"),
        (removed("transformer.h.0.attn.rotary_emb.freqs"), "h.0.attn.rotary_emb.freqs: the checkpoint has nothing"),
        (removed("transformer.ln_f.bias"), "transformer.ln_f.bias: the checkpoint has nothing"),
        (changed("transformer.h.0.attn.bias", lambda _: torch.ones(3)), r"h.0.attn.bias: .* has nothing\.$"),
        (changed("transformer.wpe.weight", lambda _: torch.ones(3, 3)), r"transformer.wpe.weight: .* has nothing\.$"),
        (changed("transformer.h.1.attn.o.weight", lambda w: w[:-1]), r"attn.o.weight: the checkpoint has \(31, 32\)"),
        (changed("lm_head.weight", lambda w: w[:P]), r"lm_head.weight: the checkpoint has \(29, 32\)"),
        (changed("lm_head.weight", lambda w: w + 1), "lm_head.weight differs from transformer.wte.weight"),
        (changed("transformer.h.1.attn.rotary_emb.freqs", lambda f: f * 1.01), "h.1.attn.rotary_emb.freqs does not"),
        (changed("transformer.h.0.attn.rotary_emb.freqs", lambda f: f + 0.1), "h.0.attn.rotary_emb.freqs does not"),
        (changed("transformer.h.0.attn.rotary_emb.freqs", torch.zeros_like), "h.0.attn.rotary_emb.freqs does not"),
        (
            lambda state: state.update({name: state["lm_head.weight"][:46] for name in ("lm_head.weight",)}),
            r"lm_head.weight: the checkpoint has \(46, 32\)",
        ),
        (changed("transformer.wte.weight", lambda w: w[:46]), "p=28 does not fit transformer.wte.weight"),
        (changed("transformer.wte.weight", lambda w: [1.0]), "no dictionary of tensors"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(damage, message):
    state = authors_state()
    damage(state)
    with pytest.raises(ValueError, match=message):
        load_authors(state)


def test_other_heads_and_moduli_are_refused():
    with pytest.raises(ValueError, match=r"rotary_emb.freqs: the checkpoint has \(4,\), .* has \(8,\)"):
        load_authors(authors_state(), n_head=2)
    for p in (28, 53):
        with pytest.raises(ValueError, match=f"p={p} does not fit transformer.wte.weight, whose 47 rows"):
            load_authors(authors_state(), p=p)


class Intruder:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_hold_more_than_tensors_are_refused(tmp_path, capsys):
    torch.save({"model": authors_state(), "args": Intruder()}, tmp_path / "intruder.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise" * 100)
    for name in ("intruder", "noise"):
        with pytest.raises(ValueError, match=rf"{name}.pth is damaged, or holds more than tensors"):
            load_authors(tmp_path / f"{name}.pth")
    with pytest.raises(ValueError, match=r"absent.pth does not exist"):
        load_authors(tmp_path / "absent.pth")
    assert "executed" not in capsys.readouterr().out


def test_the_command_makes_a_run_that_predicts_the_same(tmp_path, monkeypatch, capsys):
    file = tmp_path / "authors.pth"
    torch.save(authors_state(), file)
    words = [
        "modgrok",
        "import-authors",
        str(file),
        "--root",
        str(tmp_path / "runs"),
        "--eval-sequences",
        "48",
    ]
    monkeypatch.setattr(sys, "argv", words)
    main()
    (path,) = (tmp_path / "runs").iterdir()
    assert str(path) in capsys.readouterr().out

    run, model = Run(path), load_authors(file, eval_sequences=48)
    assert run.finished and run.config == model.config and run.steps == [run.config.steps]
    tokens = torch.randint(P, (3, 3 * 32), generator=torch.Generator().manual_seed(2))
    assert torch.equal(run.model()(tokens), model(tokens))
    assert run.metrics["step"].tolist() == [run.config.steps]
    assert run.accuracy_by_shot["ood_test"].shape == (1, 32)
    assert run.provenance["source"] == "authors' checkpoint"
    assert run.provenance["file"] == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert "ours" in run.provenance["note"]
    assert train(run.config, tmp_path / "runs").path == path  # "ensure": it is there

    main()
    assert str(path) in capsys.readouterr().out
    (path / "provenance.json").unlink()  # killed before the end, or the disk was full
    main()
    assert Run(path).finished
    torch.save(authors_state(seed=1), file)  # another file, the same config: the first import stays
    with pytest.raises(SystemExit) as stop:
        main()
    assert "remove it or choose another root" in str(stop.value)


def test_an_import_never_overwrites_a_training_run(tmp_path):
    config = Config.from_dict(
        load_authors(authors_state(), **SMALL, steps=1, warmup_steps=0).config.to_dict()
    )
    trained = train(config, tmp_path)
    before = trained.checkpoint_file(1).read_bytes()
    torch.save(authors_state(), tmp_path / "authors.pth")
    with pytest.raises(ValueError, match="remove it or choose another root"):
        import_authors(tmp_path / "authors.pth", tmp_path, **SMALL, steps=1, warmup_steps=0)
    assert trained.checkpoint_file(1).read_bytes() == before
