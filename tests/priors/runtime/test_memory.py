"""Free memory from files the kernel writes, and plans that must fit."""

import resource

import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from priors.runtime.system.memory import PROGRAM_BYTES, MemoryPlan, available_bytes, human, lack_of_memory

GIB = 1 << 30


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


@pytest.fixture
def machine(tmp_path):
    """A machine with 8 GiB available."""
    write(tmp_path / "proc/meminfo", f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\n")
    write(tmp_path / "proc/self/cgroup", "")
    return tmp_path


def free(machine) -> int:
    return available_bytes(proc=machine / "proc", cgroup=machine / "cgroup")


def test_without_groups_it_is_what_the_machine_has(machine):
    assert free(machine) == 8 * GIB


def test_version_two_groups_limit_at_every_level(machine):
    write(machine / "proc/self/cgroup", "0::/outer/inner\n")
    write(machine / "cgroup/outer/memory.max", 3 * GIB)
    write(machine / "cgroup/outer/memory.current", 2 * GIB)
    write(machine / "cgroup/outer/memory.stat", f"anon 5\ninactive_file {GIB // 2}\n")
    write(machine / "cgroup/outer/inner/memory.max", "max\n")
    write(machine / "cgroup/outer/inner/memory.current", GIB)
    assert free(machine) == GIB + GIB // 2


def test_version_one_groups_limit_and_their_largest_number_means_none(machine):
    write(machine / "proc/self/cgroup", "4:memory:/job\n1:cpu:/job\n0::/\n")
    write(machine / "cgroup/memory/job/memory.limit_in_bytes", 2 * GIB)
    write(machine / "cgroup/memory/job/memory.usage_in_bytes", GIB)
    write(machine / "cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    write(machine / "cgroup/memory/memory.usage_in_bytes", 4 * GIB)
    assert free(machine) == GIB


def test_a_group_over_its_limit_leaves_nothing_rather_than_less(machine):
    write(machine / "proc/self/cgroup", "0::/\n")
    write(machine / "cgroup/memory.max", GIB)
    write(machine / "cgroup/memory.current", 2 * GIB)
    assert free(machine) == 0


def test_the_address_space_limit_counts(machine):
    write(machine / "proc/self/status", f"VmSize: {1 << 20} kB\n")
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (5 * GIB, old[1]))
    try:
        assert free(machine) == 4 * GIB
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def test_this_machine_has_some():
    assert 0 < available_bytes() < 1 << 50


def test_a_plan_that_fits_passes_and_one_that_does_not_names_its_largest_part():
    plan = MemoryPlan({"volume": 2 * GIB, "network": 3 * GIB})
    assert plan.own == 5 * GIB
    assert plan.total == 5 * GIB + PROGRAM_BYTES
    plan.require(available=5 * GIB)
    with pytest.raises(InputError, match=r"5\.0 GiB .* 4\.0 GiB .*network"):
        plan.require(available=4 * GIB)


def test_the_table_ends_with_the_total():
    lines = MemoryPlan({"volume": GIB, "network graph": 512}).table().splitlines()
    assert lines[0].startswith("program and libraries")
    assert lines[1].split() == ["volume", "1.0", "GiB"]
    assert lines[-1].startswith("total")
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes_read_well(size, text):
    assert human(size) == text


@pytest.mark.parametrize("make", [lambda: torch.empty(1 << 60), lambda: np.empty(1 << 59, np.float32)])
def test_what_libraries_raise_says_what_was_needed(make):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        make()
    assert "were needed at once" in lack_of_memory(caught.value)


def test_other_errors_are_no_lack_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) + torch.ones(3)
    assert lack_of_memory(caught.value) is None
    assert lack_of_memory(ValueError("can't allocate memory")) is None
