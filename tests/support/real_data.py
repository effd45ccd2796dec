"""Where the real data is: the folder in TOMOCAST_DATA, else ../shared/data beside the repository."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("TOMOCAST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def real_data(name: str) -> Path:
    """Return the path of a real file, or skip the test with the reason."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data {name} is not in {DATA} (set TOMOCAST_DATA)")
    return path
