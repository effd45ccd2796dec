"""Downloads continue, are checked, and leave nothing under the final name that is not the published file."""

import errno
import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from priors.datasets.fetch import fetch
from priors.datasets.manifest import DataFile
from priors.runtime.errors import InputError
from tests.support.priors.server import serving

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    with serving(CONTENT) as site:
        yield site


def item(site, **given):
    return DataFile(path="folder/file.bin", url=site.url(), **given)


def left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_arrives_and_is_not_asked_for_again(site, tmp_path, algorithm):
    wanted = item(site, **{algorithm: hashlib.new(algorithm, CONTENT).hexdigest()})
    assert fetch(wanted, tmp_path).read_bytes() == CONTENT
    assert fetch(wanted, tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 1
    assert left(tmp_path) == ["file.bin"]


def test_a_cut_download_continues_where_it_ended(site, tmp_path):
    site.cut_after = 1_200_000
    with pytest.raises(InputError, match="run the same command to continue"):
        fetch(item(site, sha256=SHA256), tmp_path)
    held = (tmp_path / "folder" / "file.bin.part").stat().st_size
    assert 0 < held <= 1_200_000
    assert "file.bin" not in left(tmp_path)
    assert fetch(item(site, sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, f"bytes={held}-"]
    assert left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("published", [True, False])
def test_a_file_that_changed_meanwhile_starts_again(site, tmp_path, published):
    site.cut_after = 1_200_000
    wanted = item(site, **({"sha256": hashlib.sha256(CONTENT[::-1]).hexdigest()} if published else {}))
    with pytest.raises(InputError, match="continue"):
        fetch(wanted, tmp_path)
    site.content, site.etag = CONTENT[::-1], '"two"'
    assert fetch(wanted, tmp_path).read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_everything_again(site, tmp_path):
    site.cut_after, site.ranges = 1_200_000, False
    with pytest.raises(InputError, match="continue"):
        fetch(item(site, sha256=SHA256), tmp_path)
    assert fetch(item(site, sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_only_gets_its_name(site, tmp_path):
    site.cut_after = 1_200_000
    with pytest.raises(InputError, match="continue"):
        fetch(item(site, sha256=SHA256), tmp_path)
    (tmp_path / "folder" / "file.bin.part").write_bytes(CONTENT)
    assert fetch(item(site, sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(site, tmp_path):
    site.cut_after = 1_200_000
    with pytest.raises(InputError, match="continue"):
        fetch(item(site, sha256=SHA256), tmp_path)
    (tmp_path / "folder" / "file.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(InputError, match="no beginning of the file"):
        fetch(item(site, sha256=SHA256), tmp_path)
    assert fetch(item(site, sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_leave_nothing(site, tmp_path):
    site.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(InputError, match=r"is not the published file.*nothing was kept"):
        fetch(item(site, sha256=SHA256), tmp_path)
    assert "file.bin" not in left(tmp_path)
    assert not any(name.endswith(".part") for name in left(tmp_path))


def test_wrong_bytes_do_not_replace_what_is_there(site, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.bin").write_bytes(b"something of mine")
    site.content = b"wrong"
    for site.content in (b"wrong", CONTENT):
        with pytest.raises(InputError, match="not the published file"):
            fetch(item(site, sha256=SHA256), tmp_path)
        assert (tmp_path / "folder" / "file.bin").read_bytes() == b"something of mine"
    (tmp_path / "folder" / "file.bin").unlink()
    (tmp_path / "folder" / "file.bin.part").write_bytes(b"nor this")
    with pytest.raises(InputError, match="no download left it"):
        fetch(item(site, sha256=SHA256), tmp_path)
    (tmp_path / "folder" / "file.bin.part").unlink()
    assert fetch(item(site, sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_a_server_that_sends_more_than_was_published_is_cut(site, tmp_path):
    with pytest.raises(InputError, match="sends more than"):
        fetch(item(site, bytes=1_500_000), tmp_path)
    assert (tmp_path / "folder" / "file.bin.part").stat().st_size <= 1_500_000


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_what_the_server_refuses_is_told(site, tmp_path, status):
    site.status = status
    with pytest.raises(InputError, match=f"answered {status}"):
        fetch(item(site, sha256=SHA256), tmp_path)
    assert left(tmp_path) == []


def test_nobody_at_home(tmp_path):
    with serving(b"") as site:
        url = site.url()
    with pytest.raises(InputError, match="the connection failed"):
        fetch(DataFile(path="a", url=url), tmp_path)


def test_a_disk_that_is_too_small_is_told_before(site, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(InputError, match=r"2\.9 MiB are needed, 1000 B are free"):
        fetch(item(site, sha256=SHA256), tmp_path)
    assert "file.bin" not in left(tmp_path)


def test_a_disk_that_fills_up_keeps_no_wrong_file(site, tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full, which always answers that no space is left")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.bin.part").symlink_to(full)
    (tmp_path / "folder" / "file.bin.part.json").write_text("{}")
    with pytest.raises(InputError, match="No space left") as refused:
        fetch(item(site, sha256=SHA256), tmp_path)
    assert refused.value.__cause__.errno == errno.ENOSPC
    assert not (tmp_path / "folder" / "file.bin").exists()
