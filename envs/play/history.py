"""What can be gone back to: the scenes of the game being played, within a bounded memory."""

from collections import deque

from procosm.envs.play.pair import Scene

MEMORY_BYTES = 64 * 2**20
"""Memory for the scenes of one visitor; at 64 × 64 pixels more than two thousand of them."""


class History:
    """The scenes of one game, oldest first, and which of them is shown.

    Looking back keeps what came after; a new step from an earlier scene replaces it.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._scenes: deque[Scene] = deque()
        self._shown = 0

    def begin(self, scene: Scene) -> None:
        """Forget everything and hold the first scene of a game."""
        self._scenes = deque([scene])
        self._shown = 0

    def add(self, scene: Scene) -> None:
        """Put a scene after the one that is shown, and show it; the oldest are forgotten when memory runs out."""
        while len(self._scenes) > self._shown + 1:
            self._scenes.pop()
        self._scenes.append(scene)
        if self._too_many(len(self._scenes)):
            self._scenes.popleft()
        self._shown = len(self._scenes) - 1

    def show(self, step: int) -> None:
        """Show the scene at ``step``, or the nearest there is."""
        self._shown = min(max(step - self.oldest, 0), len(self._scenes) - 1)

    @property
    def shown(self) -> Scene:
        """The scene that is shown, and stepped from."""
        return self._scenes[self._shown]

    @property
    def oldest(self) -> int:
        """The first step that can be shown."""
        return self._scenes[0].step

    @property
    def newest(self) -> int:
        """The last step that can be shown."""
        return self._scenes[-1].step

    def recent(self, count: int) -> list[Scene]:
        """The last ``count`` scenes up to the one that is shown, or as many as there are."""
        return [self._scenes[i] for i in range(max(0, self._shown + 1 - count), self._shown + 1)]

    def since(self, step: int) -> list[Scene]:
        """The scenes from ``step``, or the oldest there is, up to the one that is shown."""
        return self.recent(self.shown.step - max(step, self.oldest) + 1)

    @property
    def full(self) -> bool:
        """Whether the next scene makes the oldest be forgotten."""
        return self._too_many(self._shown + 2)

    def _too_many(self, count: int) -> bool:
        return count * self.shown.bytes > self._memory_bytes and count > 2
