"""Where an allocation fails while a job runs, the user sees one line with what was needed, and nothing is left."""

from tests.support.limited import Command, run_limited

ROOM = 8 << 20
"""Less than one array of 32 slices of 256 x 256 pixels in double precision takes."""


def test_memory_that_runs_out_while_a_verb_runs(tmp_path):
    small = ["phantom", "--out", str(tmp_path / "small.nii.gz"), "--slices", "1", "--grid", "32"]
    large = ["phantom", "--out", str(tmp_path / "large.nii.gz"), "--slices", "32", "--grid", "256"]
    commands = [Command(small, warms_up=True), Command(large, room=ROOM)]
    # The libraries and their buffers are there before the limit: OpenBLAS ends the process where it gets none.
    (answer,) = run_limited(commands, cwd=tmp_path)
    assert answer.status == 2, answer
    (line,) = answer.err.splitlines()
    assert line.startswith("error: memory: not enough is free: ")
    assert "were needed at once" in line
    assert [path.name for path in tmp_path.iterdir()] == ["small.nii.gz"]
