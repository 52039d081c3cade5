import numpy as np
import torch

from procosm.world_model.autoregressive.loss import DECAY, STRIDE, token_losses, video_loss
from tests.world_model.autoregressive.test_transformer import N, restless, video

MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.float64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def of(net, z_weight=0.0, medusa_weight=0.0):
    tokens, actions, _ = video(4)
    return video_loss(net, tokens.unflatten(1, (4, N)), actions, MASK, z_weight, medusa_weight, seeded())


def test_gradients_of_cross_entropy_and_z_loss_are_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    targets, step = torch.tensor([0, 3, 6, 2]), 1e-6
    for which in (0, 1):
        upstream = torch.randn(4, dtype=torch.float64, generator=generator)
        (found,) = torch.autograd.grad((token_losses(logits, targets)[which] * upstream).sum(), logits)
        for row in range(4):
            for column in range(7):
                moved = torch.zeros_like(logits)
                moved[row, column] = step
                up, down = (token_losses(logits.detach() + sign * moved, targets)[which] @ upstream for sign in (1, -1))
                assert abs((up - down) / (2 * step) - found[row, column]) < 1e-7


def test_the_loss_is_the_mean_over_tokens_of_frames_that_count_written_out():
    net = restless()
    tokens, actions, _ = video(4)
    logits = net.logits(net(tokens, actions)).numpy()
    entropies, squares = [], []
    for b, p in np.ndindex(3, 4 * N - 1):
        if p + 1 >= N and MASK[b, (p + 1) // N]:
            normaliser = np.log(np.exp(logits[b, p]).sum())
            entropies.append(normaliser - logits[b, p, tokens[b, p + 1]])
            squares.append(normaliser**2)
    loss, metrics = of(net, z_weight=0.1)
    np.testing.assert_allclose(loss.item(), (np.sum(entropies) + 0.1 * np.sum(squares)) / (9 * N), rtol=1e-10)
    np.testing.assert_allclose(metrics["nll"].item(), np.sum(entropies) / (9 * N), rtol=1e-10)


def test_heads_are_trained_on_the_tokens_after_the_next_of_the_same_frame():
    net = restless()
    tokens, actions, _ = video(4)
    hidden, offset = net(tokens, actions), int(torch.randint(STRIDE, (1,), generator=seeded()))
    expected = 0.0
    for b in range(3):
        for p in range(N - 1 + offset, 4 * N - 1, STRIDE):
            places = (p + 2 + torch.arange(3)).clamp_max(4 * N - 1) - N  # of the drafted tokens, a frame earlier
            logits = net.drafts(hidden[b, p], tokens[b, places]).numpy()
            for head in range(3):
                at = p + 2 + head
                if at < 4 * N and at // N == (p + 1) // N and MASK[b, at // N]:
                    normaliser = np.log(np.exp(logits[head]).sum())
                    expected += DECAY**head * (normaliser - logits[head, tokens[b, at]]) * STRIDE / (9 * N)
    loss = of(net, medusa_weight=0.5)[0] - of(net)[0]
    np.testing.assert_allclose(loss.item(), 0.5 * expected, rtol=1e-9)
