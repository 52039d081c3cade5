"""Progress on stderr: a bar that fits the terminal, or a line now and then where there is none."""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

SHORTEST_BAR = 10
LINE_SECONDS = 30.0
"""Between two lines in a log file."""


class Progress(tqdm):
    """tqdm with numbers behind it that leave room for the bar: those that do not fit are left out."""

    def __init__(self, total: int, desc: str, unit: str, initial: int = 0) -> None:
        shown = sys.stderr.isatty()
        super().__init__(
            total=total,
            desc=desc,
            unit=unit,
            initial=initial,
            file=sys.stderr,
            mininterval=1.0 if shown else LINE_SECONDS,
            miniters=1,
            dynamic_ncols=shown,
            ncols=None if shown else 100,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]{postfix}",
        )

    def show(self, values: Mapping[str, float | None], digits: int = 4, note: str = "") -> None:
        """Numbers to stand behind the bar from its next drawing on, the first ones first, and a word before them."""
        parts = [note] * bool(note) + [
            f"{key} {value:.{digits}f}" for key, value in values.items() if value is not None
        ]
        columns = self.dynamic_ncols(sys.stderr)[0] if callable(self.dynamic_ncols) else self.ncols
        room = (columns or 80) - self._width() - SHORTEST_BAR - len(", ")
        while parts and len(", ".join(parts)) > room:
            parts.pop()
        self.set_postfix_str(", ".join(parts), refresh=False)

    def _width(self) -> int:
        """Columns of all that is neither bar nor numbers, at the most."""
        total = len(str(self.total))
        return len(f"{self.desc}: 100%|| {'9' * total}/{self.total} {self.unit} [9:59:59<9:59:59]")

    @staticmethod
    def status_printer(file: Any) -> Any:
        """Draws over the last state in a terminal; anywhere else each state is a line of its own."""
        if file.isatty():
            return tqdm.status_printer(file)

        drawn: list[str] = []

        def line(text: str) -> None:
            if text.strip():
                file.write(f"\n{text.strip()}" if drawn else text.strip())  # closing the bar ends the last line
                file.flush()
                drawn.append(text)

        return line
