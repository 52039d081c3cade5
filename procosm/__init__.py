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

try:
    __version__ = version("procosm")
except PackageNotFoundError:
    __version__ = "0+uninstalled"
