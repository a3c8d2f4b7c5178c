"""Muon for a CPU, beside torch's own."""

import pytest
import torch

from modgrok.training import optimizers

SHAPES = [(8, 8), (16, 4), (4, 16), (16, 4), (8, 8)]


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_but_for_the_rounding_of_bf16(nesterov):
    """The same ten steps from the same gradients; torch's own goes through bf16, good to about a hundredth."""
    fields = dict(lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=nesterov)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in SHAPES]
    gradients = [[torch.randn(shape, generator=generator) for shape in SHAPES] for _ in range(10)]
    ends = []
    for kind in (torch.optim.Muon, optimizers.Muon):
        weights = [weight.clone().requires_grad_() for weight in start]
        optimizer = kind(weights, **fields)
        for of_step in gradients:
            for weight, gradient in zip(weights, of_step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        ends.append([weight.detach() for weight in weights])
    for before, theirs, ours in zip(start, *ends, strict=True):
        assert (ours - theirs).norm() < 0.02 * (theirs - before).norm()


def test_orthogonalised_matrices_keep_their_directions():
    """Singular values near 1, singular vectors as they were; a matrix alone and among others of its shape alike."""
    group = optimizers.Muon([torch.nn.Parameter(torch.zeros(2, 2))]).param_groups[0]
    arguments = group["ns_coefficients"], group["ns_steps"], group["eps"]
    x = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    orthogonal = optimizers.orthogonalised(x, *arguments)
    assert (torch.linalg.svdvals(orthogonal) - 0.95).abs().max() < 0.3
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    middle = u.mT @ orthogonal @ vt.mT  # diagonal if the directions are kept
    assert (middle - torch.diag_embed(middle.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    torch.testing.assert_close(optimizers.orthogonalised(x[:1], *arguments)[0], orthogonal[0])
    torch.testing.assert_close(optimizers.orthogonalised(x.mT, *arguments), orthogonal.mT)
