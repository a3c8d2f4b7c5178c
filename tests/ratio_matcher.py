"""A transformer built by hand that matches ratios, block by block as `mechanisms` supposes trained ones to do."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from modgrok.config import Config
from modgrok.model import Transformer
from modgrok.predictors import modular_inverse, ratio_classes

P, WIDTH, EXAMPLES = 5, 24, 5
TOKEN, BEFORE, TWO_BEFORE, RATIO, SLOPE, FETCHED, ANSWER = range(
    0, 7 * 6, 6
)  # slots of P + 1 numbers in the stream


class Function(nn.Module):
    """A module that computes a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def number(stream: Tensor, slot: int) -> Tensor:
    """The number that a slot holds, (B, T)."""
    return stream[..., slot : slot + P + 1].argmax(-1)


def stream_with(stream: Tensor, slot: int, numbers: Tensor) -> Tensor:
    """A stream of zeros but for numbers (B, T) in a slot."""
    written = torch.zeros_like(stream)
    written[..., slot : slot + P + 1] = one_hot(numbers, P + 1).float()
    return written


def look_back(stream: Tensor) -> Tensor:
    """Block 0: head 0 reads the token before, head 1 that two before."""
    place = torch.eye(stream.shape[1], WIDTH).expand(len(stream), -1, -1)
    queries = [100 * place.roll(-distance, -1) for distance in (1, 2)]
    values = torch.cat([stream[..., : P + 1], stream.new_zeros(*stream.shape[:2], WIDTH - P - 1)], -1)
    return torch.cat([*queries, place, place, values, values], -1)


def ratio_and_slope(stream: Tensor) -> Tensor:
    """MLP of block 0: the ratio x/y at y and at z, and z/y at z."""
    ratios = torch.tensor(ratio_classes(P)).clamp(min=0)
    token, before, two_before = (number(stream, slot) for slot in (TOKEN, BEFORE, TWO_BEFORE))
    is_z = torch.arange(stream.shape[1]) % 3 == 2
    ratio = torch.where(is_z, ratios[two_before * P + before], ratios[before * P + token])
    slope = token * modular_inverse(P)[before] % P
    return stream_with(stream, RATIO, ratio) + stream_with(stream, SLOPE, slope)


def match(stream: Tensor) -> Tensor:
    """Block 1: head 0 looks for a z of its ratio and fetches its slope; head 1 looks everywhere and fetches nothing."""
    nothing = stream.new_zeros(*stream.shape[:2], WIDTH)
    ratio, slope = nothing.clone(), nothing.clone()
    ratio[..., : P + 1], slope[..., : P + 1] = (
        stream[..., RATIO : RATIO + P + 1],
        stream[..., SLOPE : SLOPE + P + 1],
    )
    is_z = (torch.arange(stream.shape[1]) % 3 == 2)[:, None]
    return torch.cat([100 * ratio, nothing, ratio * is_z, nothing, slope, nothing], -1)


def multiply(stream: Tensor) -> Tensor:
    """MLP of block 1: the token times the fetched slope."""
    return stream_with(stream, ANSWER, number(stream, FETCHED) * number(stream, TOKEN) % P)


def ratio_matcher() -> Transformer:
    """The model; it answers every query that has an example of its ratio, but for x or y = 0."""
    config = Config(
        p=P, n_tasks=8, alpha=0.8, n_examples=EXAMPLES, depth=2, n_embd=2 * WIDTH, n_head=2, batch_size=16
    )
    model = Transformer(config).eval()
    model.rope = torch.stack(
        [torch.ones_like(model.rope[0]), torch.zeros_like(model.rope[0])]
    )  # no positions
    with torch.no_grad():
        model.embed.weight.copy_(torch.eye(P, 2 * WIDTH))
        steps = ((look_back, ratio_and_slope, (BEFORE, TWO_BEFORE)), (match, multiply, (FETCHED,)))
        for block, (attention, mlp, slots) in zip(model.blocks, steps, strict=True):
            block.ln_1, block.ln_2 = nn.Identity(), nn.Identity()
            block.attn.qkv, block.mlp = Function(attention), Function(mlp)
            block.attn.out.weight.zero_()
            for head, slot in enumerate(slots):
                block.attn.out.weight[slot : slot + P + 1, head * WIDTH : head * WIDTH + P + 1] = torch.eye(
                    P + 1
                )
    model.ln_f = Function(lambda stream: stream.roll(-ANSWER, -1)[..., : 2 * WIDTH])
    model.forward = model.plain_logits  # these parts work on whole sequences alone
    return model
