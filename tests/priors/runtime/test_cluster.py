"""Work shared by a Dask cluster of threads: the results of one process in its order, and mistakes as one line."""

import sys

import numpy as np
import pytest

from assimilation.io.archive import write_fields
from assimilation.prepare.settings import EventSource, PrepareSettings
from assimilation.prepare.trajectories import prepare
from priors.runtime.errors import InputError
from priors.runtime.system.cluster import Workers, workers
from recon.prepare.settings import SliceSettings
from recon.prepare.slices import prepare_slices
from tests.recon.prepare.test_patients import hospital
from tests.support.assimilation.observations import HOUR, fields, plane

distributed = pytest.importorskip("distributed", reason="the extra tomocast[dask] is not installed")


@pytest.fixture(scope="module")
def address():
    """The address of two threads that pass for a cluster."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def squared(x):
    if x == 13:
        raise InputError("13: found an unlucky number, expected another")
    return x * x


def test_results_come_in_order_and_a_mistake_is_the_worker_s(address):
    with workers(address) as work:
        assert not work.alone
        assert list(work.ordered(squared, range(12))) == [x * x for x in range(12)]
        with pytest.raises(InputError, match="unlucky"):
            list(work.ordered(squared, range(10, 20)))
    assert list(Workers().ordered(squared, range(3))) == [0, 1, 4]


def test_slices_are_those_of_one_process(address, tmp_path):
    source = hospital(tmp_path / "in")
    settings = SliceSettings(licence="CC0-1.0", validation=0.4)
    alone = prepare_slices(source, tmp_path / "alone", settings)
    with workers(address) as work:
        shared = prepare_slices(source, tmp_path / "shared", settings, work=work)
    assert shared.text() == alone.text()
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "shared").iterdir())
    for name in names:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()


def test_trajectories_are_those_of_one_process(address, tmp_path):
    # More frames than a worker reads at a time, brought to another step and spacing on the way.
    write_fields(fields(grid=plane(8, 12, step=0.5), frames=45, step=HOUR // 2), tmp_path / "a.nc")
    event = EventSource(path="a.nc", split="train", licence="CC0")
    settings = PrepareSettings(events=(event,), step_s=3600.0, spacing=1.0)
    prepare(settings, tmp_path / "alone", data=tmp_path)
    with workers(address) as work:
        prepare(settings, tmp_path / "shared", data=tmp_path, work=work)
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes()
    assert np.load(tmp_path / "shared" / "00-a-train.npy").shape[1] == 23


def test_no_dask_and_no_scheduler_are_one_line(monkeypatch):
    monkeypatch.setattr("priors.runtime.system.cluster.PATIENCE", "1s")
    with (
        pytest.raises(InputError, match="nothing answers at 'tcp"),
        workers("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'tomocast\[dask\]'"), workers("local"):
        pass
