"""The paper's transformer, whole: a pre-LayerNorm decoder with rotary positions and tied embeddings.

Three ways to run the same weights, equal to rounding:

- `forward(tokens)`, for training and scoring: only the positions that predict a z leave the last block, and the
  first block's queries, keys and values are looked up in a table of all (position, token) combinations.
- `logits_everywhere(tokens)`, for interpretation: every position of every block, with hook points on the way.
- `query_logits(context, shots)`, for query grids: one pass over a context answers all p² queries after it.

Shape letters: B sequences, T positions, K examples, H heads, C = n_embd, D = C / H, p the modulus.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modgrok.config import Config, check_config


class Attention(nn.Module):
    """Causal multi-head attention. Hook points: `mix` (B, T, H, D), and in the plain path `pattern` (B, H, T, T)."""

    def __init__(self, config: Config):
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)  # rows: q, then k, then v
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.pattern = nn.Identity()
        self.mix = nn.Identity()

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_head, -1)).transpose(-3, -2)  # (…, T, C) → (…, H, T, D)


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm, each added to the stream."""

    def __init__(self, config: Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd, bias=False),
            nn.ReLU(inplace=True),  # its input is needed nowhere else
            nn.Linear(4 * config.n_embd, config.n_embd, bias=False),
        )

    def update(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream after this block, given what its heads gathered, both (…, C)."""
        x = x + self.attn.out(mixed)
        return x + self.mlp(self.ln_2(x))

    def forward(self, x: Tensor, rope: Tensor, past: Sequence[Tensor] = ()) -> Tensor:
        """Every position, attention pattern written out: the path that analyses hook into.

        past: keys and values (B, H, S, D) of the S positions before those of x, if there are any.
        """
        attn = self.attn
        q, k, v = (attn.heads(part) for part in attn.qkv(self.ln_1(x)).chunk(3, dim=-1))
        q, k = rotate(q, rope), rotate(k, rope)
        if past:
            k, v = (torch.cat(parts, -2) for parts in zip(past, (k, v), strict=True))
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S + T)
        future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1 + k.shape[-2] - x.shape[-2])
        pattern = attn.pattern(scores.masked_fill(future, -torch.inf).softmax(dim=-1))
        mixed = attn.mix((pattern @ v).transpose(1, 2))  # (B, T, H, D)
        return self.update(x, mixed.flatten(-2))


class Transformer(nn.Module):
    """The model of the paper's section "Model".

    `model(tokens)` takes tokens (B, 3·K) or (B, 3·K - 1), x₁ y₁ z₁ x₂ y₂ z₂ …, K ≤ n_examples, and returns
    logits (B, K, p): entry k predicts the z of example k+1, that is, the answer after k shots.
    """

    def __init__(self, config: Config):
        super().__init__()
        check_config(config)
        self.config = config
        self.explicit = False  # attention written out while training, see `engine`
        self.embed = nn.Embedding(config.p, config.n_embd)  # also the output head
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.ln_f = nn.LayerNorm(config.n_embd)
        rope = rope_table(3 * config.n_examples, config.n_embd // config.n_head, config.rope_base)
        self.register_buffer("rope", rope, persistent=False)  # (2, T, D/2)
        # keys a z-predicting query may see: the query of example k stands at position 3k + 1
        k, t = torch.arange(config.n_examples), torch.arange(3 * config.n_examples)
        self.register_buffer("seen", t <= 3 * k[:, None] + 1, persistent=False)  # (K, T)
        self.register_buffer("causal", t <= t[:, None], persistent=False)  # (T, T)

    def init_weights(self, generator: torch.Generator) -> "Transformer":
        """Draw the paper's initial weights: N(0, init_std²), MLP outputs narrower by sqrt(2·depth)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                std = self.config.init_std / (math.sqrt(2 * self.config.depth) if "mlp.2" in name else 1)
                nn.init.normal_(weight, std=std, generator=generator)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self._inputs(tokens)
        targets = slice(1, None, 3)  # the y positions, where the next token is a z
        x = self.embed(tokens)  # (B, T, C)
        T, K = tokens.shape[1], tokens.shape[1] // 3 + 1
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            q, k, v = (
                self._first_qkv(tokens) if i == 0 else self._qkv(block, x, targets if last else slice(None))
            )
            if last:
                x, q = x[:, targets], q if i else q[:, :, targets]
                mask = self.seen[:K, :T]
            else:
                mask = None
            if self.explicit and self.training:
                mixed = explicit_attention(q, k, v, self.causal[:T, :T] if mask is None else mask)
            else:
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            mixed = block.attn.mix(mixed.transpose(1, 2))  # (B, T or K, H, D)
            x = block.update(x, mixed.flatten(-2))
        return F.linear(self.ln_f(x), self.embed.weight)  # (B, K, p)

    def _first_qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first block's q, k, v (B, H, T, D): functions of position and token, so a table serves all."""
        block, T = self.blocks[0], tokens.shape[1]
        q, k, v = block.attn.qkv(block.ln_1(self.embed.weight)).chunk(3, dim=-1)  # (p, C) each
        qk = block.attn.heads(torch.stack([q, k]))[:, :, None]  # (2, H, 1, p, D)
        qk = rotate(qk, self.rope[:, :T, None])  # (2, H, T, p, D)
        q, k = qk.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2)  # (T·p, C) each
        place = tokens + len(v) * torch.arange(T, device=tokens.device)
        return tuple(
            block.attn.heads(F.embedding(index, table))
            for index, table in ((place, q), (place, k), (tokens, v))
        )

    def _qkv(self, block: Block, x: Tensor, queries: slice) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, len(queries), D) of some positions and k, v (B, H, T, D) of all, positions turned in."""
        attn, C, T = block.attn, x.shape[-1], x.shape[1]
        x = block.ln_1(x)
        q = attn.heads(F.linear(x[:, queries], attn.qkv.weight[:C]))
        k, v = (attn.heads(part) for part in F.linear(x, attn.qkv.weight[C:]).chunk(2, dim=-1))
        return rotate(q, self.rope[:, :T][:, queries]), rotate(k, self.rope[:, :T]), v

    def logits_everywhere(self, tokens: Tensor) -> Tensor:
        """Next-token logits at every position, (B, T, p), T = 3·K - 1, by the plain computation."""
        tokens = self._inputs(tokens)
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.rope[:, : tokens.shape[1]])
        return F.linear(self.ln_f(x), self.embed.weight)

    def plain_logits(self, tokens: Tensor) -> Tensor:
        """The logits that `forward` gives, (B, K, p), by the plain computation, on which hooks act."""
        return self.logits_everywhere(tokens)[:, 1::3]

    @torch.no_grad()
    def query_logits(self, context: Tensor, shots: list[int]) -> Tensor:
        """Answers to all p² queries after the first 0 … K examples of shared contexts (F5).

        The context passes once and leaves its keys and values behind; a query adds its x (only p different
        ones) and its y.

        Args:
            context: (B, 3·K) tokens of whole examples.
            shots: numbers of examples in front of the query, each 0 … min(K, n_examples - 1).

        Returns:
            (B, len(shots), p, p, p): logits of z for the query x, y.
        """
        p, S = self.config.p, torch.tensor(shots, device=context.device)
        end = 3 * S  # a query's x stands here, its y one further
        visible = torch.arange(context.shape[1], device=context.device) < end[:, None]  # (S, T)
        visible = visible[:, None]  # (S, 1, T): the same for all queries of a shot
        rope_c, rope_x, rope_y = self.rope[:, : context.shape[1]], self.rope[:, end], self.rope[:, end + 1]
        c = self.embed(context)  # (B, T, C)
        x = self.embed.weight.expand(len(context), len(shots), p, -1)  # (B, S, p, C), one row an x
        y = x[:, :, None].expand(-1, -1, p, -1, -1)  # (B, S, p, p, C)
        for block in self.blocks:
            attn = block.attn
            q_c, k_c, v_c = (attn.heads(part) for part in attn.qkv(block.ln_1(c)).chunk(3, dim=-1))
            q_x, k_x, v_x = (attn.heads(part) for part in attn.qkv(block.ln_1(x)).chunk(3, dim=-1))
            q_y, k_y, v_y = (attn.heads(part) for part in attn.qkv(block.ln_1(y)).chunk(3, dim=-1))
            q_c, k_c = rotate(q_c, rope_c), rotate(k_c, rope_c)  # (B, H, T, D)
            q_x, k_x = (rotate(t, rope_x[:, :, None, None]) for t in (q_x, k_x))  # (B, S, H, p, D)
            q_y, k_y = (rotate(t, rope_y[:, :, None, None, None]) for t in (q_y, k_y))  # (B, S, p, H, p, D)
            mixed = F.scaled_dot_product_attention(q_c, k_c, v_c, is_causal=True)
            c = block.update(c, mixed.transpose(-3, -2).flatten(-2))
            query_kv = ((k_x, v_x),)
            mixed = attend(q_x, k_c[:, None], v_c[:, None], visible[:, None], query_kv)
            x = block.update(x, mixed.transpose(-3, -2).flatten(-2))
            # to a y, its own x is the same key for every y of that x
            k_x, v_x = (t.transpose(-3, -2)[..., None, :].expand_as(q_y) for t in (k_x, v_x))
            query_kv = ((k_x, v_x), (k_y, v_y))
            mixed = attend(q_y, k_c[:, None, None], v_c[:, None, None], visible[:, None, None], query_kv)
            y = block.update(y, mixed.transpose(-3, -2).flatten(-2))
        return F.linear(self.ln_f(y), self.embed.weight)

    def _inputs(self, tokens: Tensor) -> Tensor:
        """The tokens in front of the last z, checked: (B, 3·K - 1)."""
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.ndim != 2:
            raise ValueError("tokens must be a torch tensor of whole numbers with one row a sequence.")
        length, longest = tokens.shape[1], 3 * self.config.n_examples
        if length % 3 == 1 or not 2 <= length <= longest:
            raise ValueError(
                f"tokens have length {length}; a sequence of K ≤ {self.config.n_examples} examples has length 3·K "
                "or, without its last z, 3·K - 1."
            )
        return tokens[:, :-1] if length % 3 == 0 else tokens


def flops_per_step(config: Config) -> float:
    """Floating-point operations of one training step of the plain model, every position computed.

    6·B·T·(12·depth·C² + p·C) for the matrices, forward and backward, and 6·B·T²·depth·C for causal attention.
    """
    c = config
    T = 3 * c.n_examples - 1
    return 6.0 * c.batch_size * T * (n_weights(c) + T * c.depth * c.n_embd)


def n_weights(config: Config) -> int:
    """Entries of all matrices of a model, the tied embedding once: 6.3 and 12.6 million of the paper's."""
    return 12 * config.depth * config.n_embd**2 + config.p * config.n_embd


def rope_table(length: int, width: int, base: float) -> Tensor:
    """Cosine and sine of every position's rotation angles, (2, length, width / 2)."""
    angles = torch.outer(torch.arange(length).double(), base ** (-torch.arange(0, width, 2).double() / width))
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn each pair of neighbouring coordinates of x (…, T, D) by its angle; rope (2, …, T, D/2)."""
    cos, sin = rope
    if x.dtype == cos.dtype and not torch.is_grad_enabled():  # equal to rounding, in a quarter of the time
        turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.complex(cos, sin)
        return torch.view_as_real(turned).flatten(-2)
    x_even, x_odd = x[..., 0::2], x[..., 1::2]
    return (
        torch.stack([x_even * cos - x_odd * sin, x_even * sin + x_odd * cos], dim=-1).flatten(-2).type_as(x)
    )


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q (B, H, N, D) to k, v (B, H, T, D) where mask (N, T) allows."""
    scores = (q @ k.mT) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).type_as(v) @ v


def attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, query_kv: tuple[tuple[Tensor, Tensor], ...]
) -> Tensor:
    """Attention of q (…, N, D) to shared keys (…, T, D) where visible, and to a few keys of each query alone.

    query_kv: pairs of a key and a value for every query, both (…, N, D).
    """
    scale = 1 / math.sqrt(q.shape[-1])
    shared = (q @ k.mT).masked_fill(~visible, -torch.inf)  # (…, N, T)
    single = torch.stack([(q * key).sum(-1) for key, _ in query_kv], dim=-1)  # (…, N, len(query_kv))
    pattern = (torch.cat([shared, single], dim=-1) * scale).softmax(dim=-1)
    mixed = pattern[..., : k.shape[-2]] @ v
    return mixed + sum(pattern[..., k.shape[-2] + i, None] * value for i, (_, value) in enumerate(query_kv))
