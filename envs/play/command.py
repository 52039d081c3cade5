"""``procosm play``: find what is to be played, then serve it until Ctrl-C."""

import asyncio
import contextlib
import difflib
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from annotated_types import Interval

from procosm.envs.dreams.weights import SHIPPED, WEAKNESSES, find_checkpoint, open_model
from procosm.envs.play.game import Stage
from procosm.envs.play.policy import Opens, SavedPilot, find_policy, load_saved
from procosm.envs.play.protocol import PlayError
from procosm.envs.play.server import PlayServer, is_loopback
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.interface import Solver
from procosm.world_model.settings import Device, Settings

DEFAULT = "InvertedPendulum"


@dataclass(frozen=True)
class PlayConfig(Settings):
    """What to play, and where its page is."""

    checkpoint: Annotated[Path, tyro.conf.Positional] = Path(DEFAULT)
    """A run folder, a checkpoint folder, or the name of a world model that ships."""
    policy: Path | None = None
    """A policy's zip, or a planner's settings from `procosm plan`, that steers at first; left out: the run's own
    policy/policy.zip, or the one that ships."""
    solver: Solver = "euler"
    """How the dream draws where the page asks for more than one denoising step: euler, dpm++, unipc, or consistency for
    a model trained with --distill."""
    trust_pickle: bool = False
    """Open a policy that SB3 saved, too: its pickles run whatever code is in them."""
    port: Annotated[int, Interval(ge=0, le=65535)] = 7680
    """Port of the page; 0 takes any that is free."""
    host: str = "127.0.0.1"
    """Address to listen on. Other than this machine's own it needs --open-to-network."""
    open_to_network: bool = False
    """Let other machines steer and record here, if they know the token in the address."""
    out: Path = Path("runs/play")
    """Folder of recordings."""
    device: Device = "auto"
    """Where the dream is computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""


def play(config: PlayConfig, opens: Opens = load_saved) -> None:
    """Serve the page until Ctrl-C; ``opens`` opens the policy that steers.

    Raises:
        ProcosmError: nothing to play, a host or port that cannot be, or a policy that does not fit.
    """
    local = is_loopback(config.host)
    if not local and not config.open_to_network:
        raise PlayError(
            f"--host {config.host} lets other machines steer and record here: add --open-to-network if that is meant "
            "(a token in the address then keeps strangers out), or leave out --host"
        )
    stage = find_stage(config, opens)
    # A batch of one is too small to share: a second thread would only be waited for.
    torch.set_num_threads(1)
    token = "" if local else secrets.token_urlsafe(16)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(stage, config.host, config.port, token))
    print("\nThe page is closed.", file=sys.stderr)


def find_stage(config: PlayConfig, opens: Opens = load_saved) -> Stage:
    """What the config names, opened once to see that it fits together.

    Raises:
        ProcosmError: no checkpoint, a damaged one, or a policy that does not fit it.
    """
    ships = not config.checkpoint.exists() and (SHIPPED / config.checkpoint).is_dir()
    if not ships and not config.checkpoint.exists():
        known = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
        close = difflib.get_close_matches(config.checkpoint.name.lower(), [name.lower() for name in known], n=1)
        meant = next((f"did you mean {name}? " for name in known if name.lower() in close), "")
        raise CheckpointError(
            f"there is no {config.checkpoint}: {meant}Give a run folder, a checkpoint folder, or what ships: "
            f"{', '.join(known)}"
        )
    checkpoint = find_checkpoint(None if ships else config.checkpoint, str(config.checkpoint))
    model = open_model(checkpoint, None, config.device)
    policy = config.policy or find_policy(checkpoint)
    missing = (
        "" if policy else "No policy lies beside the checkpoint, so none can steer: procosm train-policy makes one."
    )
    if policy:
        try:
            SavedPilot(policy, model, config.trust_pickle, opens)
        except ProcosmError as error:
            if config.policy:
                raise
            policy, missing = None, str(error)
    ships = checkpoint.resolve().parent == SHIPPED.resolve()
    weakness = WEAKNESSES.get(checkpoint.name, "") if ships else ""
    kept = config.out, set[str](), config.device, config.trust_pickle, weakness, config.solver, opens
    return Stage(checkpoint, policy, missing, *kept)


async def _serve(stage: Stage, host: str, port: int, token: str) -> None:
    async with PlayServer(stage, token).listen(host, port) as bound:
        name, query = _reachable(host), f"?token={token}" if token else ""
        print(f"Play at http://{name}:{bound}/{query}   (Ctrl-C ends it)", flush=True)
        for lacking in filter(None, (stage.without_policy, stage.weakness)):
            print(lacking, file=sys.stderr)
        await asyncio.get_running_loop().create_future()


def _reachable(host: str) -> str:
    """How to write ``host`` in an address that other machines can open; "all addresses" is none that they can."""
    if host == "0.0.0.0":
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the way out, and so an address of ours
            return asked.getsockname()[0]
    return f"[{host}]" if ":" in host else host
