"""The clockwork all sparse training methods share: when to probe, when to change the pattern, how to resume.

sparsifier = Procrustes(model, optimizer, ProcrustesConfig(density=0.1))
for step, batch in enumerate(batches):
    sparsifier.before_step(step)
    model(batch).backward()
    optimizer.step()
    sparsifier.after_step(step)      # before zero_grad: it reads the gradients the optimizer used
    optimizer.zero_grad()
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from procosm.sparse.errors import SparseError
from procosm.sparse.generator import Initial, stream_of, words
from procosm.sparse.live import LiveWeight
from procosm.sparse.moments import check_optimizer
from procosm.sparse.prunable import Prunable
from procosm.sparse.sharded import summed, whole


class Sparsifier:
    """Changes patterns at multiples of ``update_every`` and nowhere else; subclasses say how.

    ``exchanged`` is the share of the kept weights that the last change replaced: log it. Near 0 the pattern is as good
    as static, near 1 the model has forgotten what it learnt.

    Under torch.distributed every rank scores with the mean of all ranks' probes, so all decide alike.
    """

    def __init__(
        self, weights: list[Prunable], optimizer: Optimizer, seed: int, update_every: int, probe_every: int
    ) -> None:
        if not weights:
            raise SparseError("the model has no weight to make sparse: convert it with sparse.convert, or skip fewer")
        if probe_every < 1 or update_every % probe_every:
            raise SparseError(f"update_every={update_every} must be a multiple of probe_every={probe_every}, both >= 1")
        check_optimizer(optimizer)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        untrained = [w.name for w in weights if id(w.parameter) not in trained]
        if untrained:
            raise SparseError(f"the optimizer does not train {untrained}: make it after sparse.convert, or skip them")
        self.weights, self.optimizer, self.seed = weights, optimizer, seed
        self.update_every, self.probe_every = update_every, probe_every
        self._probes = [torch.zeros(w.kept().shape, dtype=torch.float32, device=w.parameter.device) for w in weights]
        self._probe_count, self._started, self._armed = 0, False, False
        self.exchanged = 0.0

    def before_step(self, step: int) -> None:
        """Call before the forward pass of ``step`` (from 0). Arms the probes where they are due."""
        if not self._started:
            if step != 0:
                raise SparseError(
                    f"training starts at step {step} without a saved state: call load_state_dict, or start at 0"
                )
            self.start()
            self._started = True
        self._armed = self.probes_at(step)
        if self._armed:
            for weight in self.weights:
                weight.arm()

    def after_step(self, step: int) -> None:
        """Call after optimizer.step() and before zero_grad. Changes the pattern where that is due."""
        if self._armed:
            self._collect()
            self._armed = False
        if self.updates_at(step):
            self.update(step)
            self._probe_count = 0
            for probe in self._probes:
                probe.zero_()

    def measure_whole_gradients(self) -> None:
        """Probe the gradient of a whole step, where several backward passes or ranks make it: all then decide as one
        pass over one batch would. Of block-sparse layers only, see ``LiveWeight.exact``.
        """
        for weight in self.weights:
            if isinstance(weight, LiveWeight):
                weight.exact = True

    def start(self) -> None:
        """First step of a run: choose the first pattern."""

    def probes_at(self, step: int) -> bool:
        """Whether untracked blocks are measured in this step."""
        next_update = -(-step // self.update_every) * self.update_every
        return step % self.probe_every == 0 and self.updates_at(next_update)

    def updates_at(self, step: int) -> bool:
        """Whether the pattern may change after this step."""
        return step % self.update_every == 0

    def update(self, step: int) -> None:
        """Change the pattern."""

    def density(self) -> float:
        """Share of the prunable weights that is kept now."""
        kept = sum(int(w.kept().sum()) * w.block**2 for w in self.weights)
        return kept / sum(w.kept().numel() * w.block**2 for w in self.weights)

    def gradients(self) -> list[Tensor] | None:
        """Mean gradient RMS per element since the last update, per weight (Gm, Gn), scaled as the optimizer saw it
        (after unscaling, clipping and averaging over ranks); None where no finite probe exists.
        """
        return [probe / self._probe_count for probe in self._probes] if self._probe_count else None

    def set_kept(self, masks: list[Tensor], share: float = 0.0) -> None:
        """Apply one mask bool (Gm, Gn) per weight."""
        added = sum(int((m & ~w.kept()).sum()) * w.block**2 for w, m in zip(self.weights, masks, strict=True))
        self.exchanged = added / max(sum(int(w.kept().sum()) * w.block**2 for w in self.weights), 1)
        for weight, mask in zip(self.weights, masks, strict=True):
            if not torch.equal(mask, weight.kept()):
                weight.set_kept(mask, share, self.optimizer)

    def draw(self, densities: list[float], share: float = 0.0) -> None:
        """Give every weight a first pattern of its density, by lottery."""
        for weight, order, density in zip(self.weights, self.lottery("start"), densities, strict=True):
            weight.begin(order, min(round(density * order.numel()), weight.capacity), share)

    def lottery(self, label: str) -> list[Tensor]:
        """A random order per weight: int64 (Gm, Gn), the same on every rank, device and in a resumed run."""
        orders = []
        for weight in self.weights:
            gm, gn = weight.kept().shape
            stream = stream_of(f"{weight.name}/{label}")
            orders.append(words(self.seed, stream, gm * gn, weight.parameter.device).view(gm, gn))
        return orders

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a bit-exact resume needs besides model and optimizer, as a flat dict of tensors."""
        state = {"started": torch.tensor(self._started), "probe_count": torch.tensor(self._probe_count)}
        for weight, probe in zip(self.weights, self._probes, strict=True):
            state[f"probe.{weight.name}"] = probe.clone()
            state.update({f"{key}.{weight.name}": value for key, value in weight.state().items()})
            if weight.initial is not None:
                state[f"scale.{weight.name}"] = torch.tensor(weight.initial.scale, dtype=torch.float64)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resume. The model's and the optimizer's states are loaded by the caller, before or after.

        Raises:
            SparseError: the state is of other weights, another block size or another method.
        """
        changing = ("initial", "share")  # there only while initial weights decay
        for key, value in self.state_dict().items():
            if key.partition(".")[0] not in changing and (key not in state or state[key].shape != value.shape):
                raise SparseError(
                    f"the saved state does not fit at {key!r}: use the model, block and method it was made with"
                )
        shared = ("probe", "scale")
        self._started, self._probe_count = bool(state["started"]), int(state["probe_count"])
        for weight, probe in zip(self.weights, self._probes, strict=True):
            probe.copy_(state[f"probe.{weight.name}"])
            own = (key.partition(".") for key in state)
            weight.load({k: state[f"{k}.{name}"] for k, _, name in own if name == weight.name and k not in shared})
            if weight.initial is not None:
                scale = float(state[f"scale.{weight.name}"])
                weight.initial = Initial(**{**vars(weight.initial), "scale": scale})

    def _collect(self) -> None:
        """Add this step's probes. The optimizer's gradient is the backward pass's times one factor (loss scale,
        clipping, averaging), which kept blocks reveal and untracked ones share.
        """
        measured = [weight.probed() for weight in self.weights]
        gradients = [whole(w.parameter.grad).float() for w in self.weights if w.parameter.grad is not None]
        if not gradients:
            raise SparseError("no gradient is left to compare the probes with: call after_step before zero_grad")
        raw = agreed(torch.stack([r.float() for _, r in measured]).square().sum().sqrt())
        used = torch.stack([gradient.norm() for gradient in gradients]).square().sum().sqrt()
        norms = [agreed(n) for n, _ in measured]
        factor = float(used / raw) if float(raw) > 0 else 1.0
        if not all(bool(torch.isfinite(n).all()) for n in norms) or not 0 <= factor < float("inf"):
            return  # an overflow that the loss scaler skips
        for probe, norm in zip(self._probes, norms, strict=True):
            probe += factor * norm
        self._probe_count += 1


def agreed(tensor: Tensor) -> Tensor:
    """The mean over all ranks of torch.distributed; the tensor itself in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        summed(tensor).div_(torch.distributed.get_world_size())
    return tensor
