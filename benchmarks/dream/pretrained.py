"""How fast published models run here, beside diffusers with the same configuration and weights.

    OMP_NUM_THREADS=1 python -m procosm.benchmarks.dream.pretrained

Both run in one process, in turn: in a round each works once, and the one that was second before begins. ``faster`` is
the median over rounds of diffusers' time over ours, with the middle half of the rounds; that both compute the same is
checked before. About four minutes on one core.
"""

import statistics
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import record
from procosm.world_model import command
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.cosmos_vae import CosmosVAE, CosmosVAEConfig
from procosm.world_model.pretrained.keys import transformer_names
from procosm.world_model.pretrained.transformer import CosmosTransformer
from procosm.world_model.pretrained.wan_vae import WanVAE, WanVAEConfig
from procosm.world_model.settings import Count

Run = Callable[[], torch.Tensor]
NET = CosmosTransformerConfig(
    in_channels=17, num_attention_heads=4, attention_head_dim=64, num_layers=4, text_embed_dim=256, adaln_lora_dim=64
)
COSMOS = CosmosVAEConfig(encoder_block_out_channels=(32, 64, 128, 128), decode_block_out_channels=(64, 128, 128, 128))
WAN = WanVAEConfig(base_dim=32, num_res_blocks=1)


@dataclass(frozen=True)
class PretrainedConfig(OnDevice):
    """How long everything is timed."""

    rounds: Count = 15
    """How often each works."""


def transformers(per_frame: bool) -> tuple[Run, Run]:
    """One pass of ours and theirs: video to world, 4 latents of 32 by 32, 64 tokens of text."""
    from diffusers import CosmosTransformer3DModel
    from diffusers.models.transformers import transformer_cosmos

    theirs: Any
    near = types.SimpleNamespace(resize=lambda x, size, interpolation: F.interpolate(x, size=size, mode="nearest"))
    modes = types.SimpleNamespace(NEAREST=None)  # torchvision, which diffusers resizes the padding mask with
    transformer_cosmos.transforms = types.SimpleNamespace(functional=near, InterpolationMode=modes)
    theirs, ours = CosmosTransformer3DModel(**asdict(NET)), CosmosTransformer(NET)
    weights = {name: _varied(value) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    names = transformer_names(ours.state_dict(), "diffusers")
    ours.load_state_dict({mine: weights[name] for name, mine in names.items()})
    latents, text = torch.randn(1, 16, 4, 32, 32, requires_grad=True), torch.randn(1, 64, 256)
    given = torch.zeros(1, 1, 4, 32, 32)
    given[:, :, 0] = 1
    levels = torch.tensor([[0.0, 0.5, 0.5, 0.5]]) if per_frame else torch.tensor([0.5])
    shaped = levels[:, None, :, None, None] if per_frame else levels
    told = {"condition_mask": given, "padding_mask": torch.zeros(1, 1, 256, 256), "return_dict": False}
    return (
        lambda: ours(latents, levels, text, fps=16, condition_mask=given),
        lambda: theirs(latents, shaped, text, fps=16, **told)[0],
    )


def vaes(kind: str) -> Iterator[tuple[str, Run, Run]]:
    """Encoding and decoding of 9 frames of 64 by 64 pixels, ours and theirs."""
    from diffusers import AutoencoderKLCosmos, AutoencoderKLWan

    theirs: Any
    ours: CosmosVAE | WanVAE
    if kind == "cosmos":
        theirs, ours = AutoencoderKLCosmos(**asdict(COSMOS)), CosmosVAE(COSMOS)
    else:
        fields = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(WAN).items()}
        theirs, ours = AutoencoderKLWan(**fields), WanVAE(WAN)
    ours.load_state_dict(theirs.state_dict())
    x = (torch.rand(1, 3, 9, 64, 64) * 2 - 1).requires_grad_()
    z = ours.encode(x).detach().requires_grad_()
    yield "encode", lambda: ours.encode(x), lambda: theirs.encode(x).latent_dist.mode()
    yield "decode", lambda: ours.decode(z), lambda: theirs.decode(z, return_dict=False)[0]


def _varied(value: torch.Tensor) -> torch.Tensor:
    return value + 0.02 * torch.randn_like(value)


def works() -> Iterator[tuple[str, str, Run, Run]]:
    """Model, work, ours, theirs."""
    for name, per_frame in (("transformer", False), ("transformer, a noise level for each frame", True)):
        yield name, "pass", *transformers(per_frame)
    for kind in ("cosmos", "wan"):
        for work, ours, theirs in vaes(kind):
            yield f"{kind} VAE", work, ours, theirs


def seconds(run: Run, backward: bool) -> float:
    began = time.perf_counter()
    if backward:
        run().sum().backward()
    else:
        with torch.no_grad():
            run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Rows of every work, forward alone and with the gradient."""
    for model, work, ours, theirs in works():
        with torch.no_grad():
            mine, other = ours(), theirs()
            apart = ((mine - other).abs().max() / other.abs().max()).item()
        assert apart < 1e-4, f"{model} {work}: not the same numbers"
        for backward in (False, True):
            task = f"{model}, {work}, {'forward and backward' if backward else 'forward'}"
            seconds(ours, backward), seconds(theirs, backward)  # what is allocated once
            times: list[tuple[float, float]] = []
            for turn in range(rounds):
                first, second = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
                pair = seconds(first, backward), seconds(second, backward)
                times.append(pair if turn % 2 == 0 else pair[::-1])
            faster = sorted(other / mine for mine, other in times)
            low, high = faster[len(faster) // 4], faster[-1 - len(faster) // 4]
            yield {"metric": "faster", "task": task, "value": statistics.median(faster), "unit": "1", "n": rounds} | {
                "low": low,
                "high": high,
            }
            for who, at in (("ours", 0), ("diffusers", 1)):
                value = statistics.median(each[at] for each in times)
                yield {"metric": f"seconds, {who}", "task": task, "value": value, "unit": "s", "n": rounds}


def main(config: PretrainedConfig) -> None:
    """Measure, print and record."""
    torch.manual_seed(0)
    rows = []
    with config.resolved():  # where both models and what they are given are made
        for row in measure(config.rounds):
            rows.append(row)
            if row["metric"] == "faster":
                print(f"{row['task']:78} {row['value']:5.2f} [{row['low']:.2f}, {row['high']:.2f}]")
    details = {
        "threads": torch.get_num_threads(),
        "transformer": asdict(NET),
        "frames": "9 of 64 by 64 pixels, float32, batch 1",
    }
    record("pretrained_speed", rows, details=details)


if __name__ == "__main__":
    command.main(main, PretrainedConfig, description=__doc__)
