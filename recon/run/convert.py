"""From one volume file to another: read, write, say what changed."""

import sys
from pathlib import Path

from priors.runtime.files.protect import check_output
from recon.io.volumes.registry import ReadOptions, WriteOptions, read_volume, write_volume, writer
from recon.run.checks.nonsense import check_size
from recon.run.outputs import result_path


def convert(source: Path, out: Path, *, read: ReadOptions, write: WriteOptions, name: str | None) -> None:
    """Write the volume in ``source``, a file or a run folder, to ``out``.

    Raises:
        InputError: it cannot be read, or not be written in that format.
    """
    # Asked before reading: a misspelt ending should not cost the time to load a series.
    kind = writer(out, name)
    source = result_path(source)
    check_output(out, [source, write.reference], folder=not kind.endings)
    volume = read_volume(source, read)
    check_size(volume.grid, str(source))
    remarks = write_volume(out, volume, write, name=name)
    z, y, x = volume.values.shape
    print(f"{out}: {z} x {y} x {x} voxels in {volume.unit}", file=sys.stderr)
    for remark in (*volume.warnings, *remarks):
        print(f"note: {remark}", file=sys.stderr)
