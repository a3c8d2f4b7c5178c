"""The optimisers of a config, its learning rate along training, and Muon for a CPU."""

import math

import torch
from torch import Tensor

from modgrok.config import Config
from modgrok.model import Transformer


def make_optimizers(config: Config, model: Transformer) -> list[torch.optim.Optimizer]:
    """AdamW over everything, or Muon over block matrices and AdamW over the rest; no decay on LayerNorm."""
    matrices = [w for w in model.blocks.parameters() if w.ndim == 2]
    norms = [w for w in model.parameters() if w.ndim == 1]
    decayed = [model.embed.weight] + (matrices if config.optimizer == "adamw" else [])
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=1e-8, fused=True)
    ]
    if config.optimizer == "muon":
        decay = config.weight_decay * config.lr / config.muon_lr  # the same lr · weight_decay as AdamW's
        kind = torch.optim.Muon if torch.cuda.is_available() else Muon
        optimizers.append(kind(matrices, lr=config.muon_lr, weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def lr_factor(config: Config, step: int) -> float:
    """Learning rate at a step in units of its peak: 1 % to 100 % during warm-up, then the schedule."""
    if step < config.warmup_steps:
        return 0.01 + 0.99 * step / config.warmup_steps
    if config.lr_schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.55 + 0.45 * math.cos(math.pi * progress)


class Muon(torch.optim.Muon):
    """torch's Muon for a CPU: matrices of one shape go through Newton–Schulz together, and in float32.

    torch's own goes through bf16, which without bf16 instructions takes two thirds of a step.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            same: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    same.setdefault(weight.shape, []).append(weight)
            for (rows, columns), weights in same.items():
                grads = torch.stack([weight.grad for weight in weights])
                for weight in weights:
                    state = self.state[weight]
                    state.setdefault("momentum_buffer", torch.zeros_like(weight))
                    state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                momenta = torch.stack([self.state[weight]["momentum_buffer"] for weight in weights])
                update = grads.lerp(momenta, group["momentum"]) if group["nesterov"] else momenta
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                scale = max(1, rows / columns) ** 0.5
                for weight, change in zip(weights, update, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(change, alpha=-group["lr"] * scale)


def orthogonalised(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton–Schulz: matrices (n, rows, columns) with all singular values brought near 1."""
    if x.shape[-2] > x.shape[-1]:
        return orthogonalised(x.mT, coefficients, steps, eps).mT
    a, b, c = coefficients
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
