"""What happens beside the learning: the true return is measured while the policy practises in its dream."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from procosm.world_model.progress import Progress

TRUTH_SEED = 7_000_000
"""Each measurement begins with the same MuJoCo episodes, far from the seeds of collecting and of judging."""

LOOK_STEPS = 50
"""Steps in MuJoCo between two drawings of the bar: about a second."""


class TruthCallback(EvalCallback):
    """SB3's EvalCallback on the truth env, able to go on after a kill. It selects nothing: the last policy counts.

    Args:
        env: the truth env. episodes: in each measurement. every: calls (steps of the batch) between two.
        folder: where ``evaluations.npz`` goes, SB3's usual record. bar: shows how far a measurement is.
    """

    def __init__(self, env: VecEnv, episodes: int, every: int, folder: Path, bar: Progress) -> None:
        self._bar, self._looked = bar, 0
        super().__init__(env, n_eval_episodes=episodes, eval_freq=every, log_path=str(folder), verbose=0)

    def _init_callback(self) -> None:
        """Nothing: SB3 warns here that both worlds are not of one type, which is the point of them."""

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq == 0:
            self.eval_env.seed(TRUTH_SEED)
            self._looked = 0
        return super()._on_step()

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """SB3 calls this after each step in MuJoCo; a look takes many seconds, so the bar says where it is."""
        super()._log_success_callback(locals_, globals_)
        self._looked += 1
        if self._looked % LOOK_STEPS == 0:
            self._bar.show({}, note=f"a look at MuJoCo: step {self._looked}")
            self._bar.refresh()

    def records(self) -> list[dict[str, Any]]:
        """Each measurement: imagined steps before it, true returns, and the real steps that it took."""
        rows = zip(self.evaluations_timesteps, self.evaluations_results, self.evaluations_length, strict=True)
        return [
            {"imagined_steps": int(at), "returns": [float(r) for r in returns], "real_steps": int(sum(lengths))}
            | {"lengths": [int(length) for length in lengths]}
            for at, returns, lengths in rows
        ]

    def restore(self, records: list[dict[str, Any]], calls: int) -> None:
        """Go on after ``calls`` calls with the measurements made so far."""
        self.n_calls = calls
        self.evaluations_timesteps = [record["imagined_steps"] for record in records]
        self.evaluations_results = [record["returns"] for record in records]
        self.evaluations_length = [record["lengths"] for record in records]
