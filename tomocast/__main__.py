"""``python -m tomocast`` and ``torchrun -m tomocast``.

Both put the current folder before everything else, and a folder there called recon, priors or configs would be
imported in place of ours: the place this package was found in comes first, the current folder not at all.
"""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_HERE = os.path.realpath(os.curdir)
sys.path[:] = [
    str(_ROOT),
    *(entry for entry in sys.path if os.path.realpath(entry or os.curdir) not in (str(_ROOT), _HERE)),
]

from tomocast.cli import main  # noqa: E402 (after the path is set)

main()
