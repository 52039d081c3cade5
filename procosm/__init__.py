"""procosm: practise in a learned world, judged by MuJoCo.

The subpackages live at the top of the repository and are linked here, so that a
checkout, an editable install and a wheel all import as ``procosm.<part>``.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_here = Path(__file__).resolve().parent
if not (_here / "envs" / "__init__.py").exists():
    # A checkout that lost its symbolic links (a zip, Windows): look beside the package.
    __path__.append(str(_here.parent))


def _version() -> str:
    for name in ("procosm", "procosm-sparse"):  # the whole, or sparse alone
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "0+uninstalled"


__version__ = _version()
