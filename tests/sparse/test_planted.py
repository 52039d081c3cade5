"""Does selection find the blocks of a sparse teacher? Beside a fixed random pattern, which cannot."""

import torch
from torch import Tensor, nn

from procosm.sparse import matrix
from procosm.sparse.baselines import make
from procosm.sparse.convert import convert


def planted(method: str, seed: int, depth: int) -> tuple[float, float]:
    """Train a sparse student on a sparse teacher; the error left, and the share of the teacher's blocks it found."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    teacher = [matrix.random((256, 256), 16, 0.1, g) for _ in range(depth)]
    weights = [matrix.to_dense(t) * (256 * 0.1) ** -0.5 for t in teacher]
    model = nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Linear(256, 256, bias=False), nn.ReLU())][:-1])
    convert(model, 0.1, 16, keep="balanced", generator=g)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4 if depth == 1 else 1e-3, weight_decay=0.0)
    sparsifier = make(method, model, optimizer, density=0.1)

    def answer(x: Tensor) -> Tensor:
        for i, weight in enumerate(weights):
            x = x @ weight.T
            x = x if i == depth - 1 else x.relu()
        return x

    for step in range(600):
        x = torch.randn(64, 256, generator=g)
        sparsifier.before_step(step)
        nn.functional.mse_loss(model(x), answer(x)).backward()
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
    x = torch.randn(1024, 256, generator=g)
    error = (model(x).detach() - answer(x)).square().mean() / answer(x).square().mean()
    found = matrix.kept_of(teacher[0]) & model[0].kept()
    return float(error), float(found.sum()) / teacher[0].n


def test_stored_blocks_are_selected_as_a_planted_teacher_has_them():
    """Found by chance: 10 %. Nothing but the defaults, and a learning rate at which 600 steps move no weight far."""
    for seed in (0, 1):
        error, found = planted("procrustes", seed, 1)
        chance, random = planted("static", seed, 1)
        assert found > 0.8 and random < 0.25
        assert error < 0.6 * chance


def test_stored_blocks_of_two_layers_learn_more_than_a_random_pattern():
    assert planted("procrustes", 0, 2)[0] < 0.75 * planted("static", 0, 2)[0]
