"""How many cores a rank may use, on machines that are made up."""

from __future__ import annotations

import os

import pytest

from hpcnn.errors import HpcnnError
from hpcnn.system.cores import Cores, cpus_of_host, oversubscription, read_cores, share, threads_of


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def siblings(pairs):
    """Return the files of a machine whose cores run several threads each."""
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{numbers}\n"
        for cpu, numbers in pairs.items()
    }


def plain(*cpus, quotas=(), slurm_cpus=None):
    """Return CPUs that are a core each."""
    return Cores(frozenset(cpus), frozenset(cpus), tuple(quotas), slurm_cpus)


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("files", "cpus", "cores"),
    [
        ({}, {0, 1, 2}, {0, 1, 2}),
        (siblings({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}), {0, 1, 2, 3}, {0, 1}),
        (siblings({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}), {0, 1, 2, 3}, {0, 2}),
        (siblings({0: "0-3", 1: "0-3", 2: "0-3", 3: "0-3"}), {1, 2, 3}, {0}),  # four threads a core; not the first
        (siblings({0: "0,2", 2: "0,2"}), {0, 1, 2}, {0, 1}),  # one that can't be read
        (siblings({0: "none"}), {0}, {0}),
        (siblings({0: "0-1", 1: "0-1"}) | {"sys/devices/system/cpu/smt/active": "0\n"}, {0, 1}, {0, 1}),
        (siblings({0: "0-1", 1: "0-1"}) | {"sys/devices/system/cpu/smt/active": "1\n"}, {0, 1}, {0}),
    ],
)
def test_physical_cores(tmp_path, files, cpus, cores):
    write(tmp_path, files)
    assert read_cores(tmp_path, cpus, {}) == Cores(frozenset(cpus), frozenset(cores))


V1 = "4:memory:/job\n3:cpu,cpuacct:/job/step\n2:cpuset:/job\n"


@pytest.mark.parametrize(
    ("group", "limits", "quotas"),
    [
        ("0::/job/step\n", {"job/step/cpu.max": "150000 100000\n"}, [("/job/step", 1.5)]),
        (
            "0::/job/step\n",
            {"job/step/cpu.max": "max 100000\n", "job/cpu.max": "400000 100000\n", "cpu.max": "800000 50000\n"},
            [("/job", 4.0), ("/", 16.0)],
        ),
        ("0::/seen/from/the/host\n", {"cpu.max": "200000 100000\n"}, [("/", 2.0)]),  # in a container
        ("0::/../other\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {"cpu.max": "100000 0\n"}, []),
        ("0::/\n", {"cpu.max": "100000\n"}, []),
        ("0::/\n", {"cpu.max": "0 100000\n"}, []),
        ("0::/\n", {"cpu.max": ""}, []),
        ("nonsense\n\n", {"cpu.max": "max 100000\n"}, []),
        (
            V1,
            {
                "cpu/job/step/cpu.cfs_quota_us": "300000\n",
                "cpu/job/step/cpu.cfs_period_us": "100000\n",
                "cpu/job/cpu.cfs_quota_us": "-1\n",
                "cpu/job/cpu.cfs_period_us": "100000\n",
                "memory/job/cpu.max": "100000 100000\n",
            },
            [("/job/step", 3.0)],
        ),
        (V1, {"cpu/job/cpu.cfs_quota_us": "300000\n"}, []),
        ("1:cpuset:/job\n", {"cpu/job/cpu.cfs_quota_us": "1\n", "cpu/job/cpu.cfs_period_us": "1\n"}, []),
    ],
)
def test_quotas_of_control_groups(tmp_path, group, limits, quotas):
    write(tmp_path, {"proc/self/cgroup": group} | {f"sys/fs/cgroup/{name}": text for name, text in limits.items()})
    assert list(read_cores(tmp_path, {0}, {}).quotas) == quotas


@pytest.mark.parametrize(
    ("group", "limits", "cpus"),
    [
        ("", {}, 8),
        ("0::/job/step\n", {"job/cpuset.cpus.effective": "0-2,5\n"}, 4),
        ("0::/job/step\n", {"job/cpuset.cpus.effective": "0-3\n", "job/step/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/job/step\n", {"job/step/cpuset.cpus.effective": "\n", "cpuset.cpus.effective": "0-31\n"}, 8),
        (V1, {"cpuset/job/cpuset.cpus": "0-3\n", "cpuset/job/cpuset.effective_cpus": "0-1\n"}, 2),
    ],
)
def test_cpus_of_all_ranks(tmp_path, group, limits, cpus):
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    write(tmp_path, {"sys/devices/system/cpu/online": "0-7\n", "proc/self/cgroup": group} | files)
    assert cpus_of_host(tmp_path) == cpus


def test_cpus_of_all_ranks_of_an_unknown_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cpus_of_host(tmp_path) == 3


@pytest.mark.parametrize(("value", "cpus"), [("4", 4), ("", None), ("0", None), ("4(x2)", None), (None, None)])
def test_cpus_of_a_slurm_task(tmp_path, value, cpus):
    environ = {} if value is None else {"SLURM_CPUS_PER_TASK": value}
    assert read_cores(tmp_path, {0}, environ).slurm_cpus == cpus


def test_what_can_not_be_read_sets_no_limit(tmp_path):
    write(tmp_path, siblings({0: "0-1", 1: "0-1"}) | {"proc/self/cgroup": "0::/\n"})
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir(parents=True)
    for name in ("proc/self/cgroup", "sys/devices/system/cpu/cpu0/topology/thread_siblings_list"):
        (tmp_path / name).write_bytes(b"\xff\xfe\n")
    (tmp_path / "sys/devices/system/cpu/cpu1/topology/thread_siblings_list").unlink()
    assert read_cores(tmp_path, {0, 1}, {}) == plain(0, 1)


def test_this_machine(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    found = read_cores()
    assert found.cpus == os.sched_getaffinity(0)
    assert 1 <= len(found.cores) <= len(found.cpus)
    assert all(cpus > 0 for _, cpus in found.quotas)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert read_cores().slurm_cpus == 3


def test_a_system_that_binds_nothing(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert read_cores(tmp_path, environ={}) == plain(0, 1, 2)


# ---------------------------------------------------------------------------------------------------------- sharing

TWO_THREADS_A_CORE = Cores(frozenset(range(8)), frozenset(range(4)))


@pytest.mark.parametrize(
    ("together", "shares"),
    [
        ([plain(0, 1, 2, 3)], [4]),
        ([plain(0, 1, 2, 3)] * 2, [2, 2]),
        ([plain(0, 1, 2, 3)] * 3, [1, 1, 1]),
        ([plain(*range(6))] * 3, [2] * 3),  # six thirds are two, which floating point does not know
        ([plain(0, 1, 2, 3)] * 9, [1] * 9),
        ([plain(0, 1, 2, 3), plain(4, 5)], [4, 2]),  # bound
        ([plain(0, 1, 2, 3), plain(2, 3, 4, 5)], [3, 3]),  # bound, with an overlap
        ([TWO_THREADS_A_CORE], [4]),
        ([TWO_THREADS_A_CORE] * 2, [2, 2]),
        ([plain(*range(4)), Cores(frozenset(range(4, 8)), frozenset(range(4)))], [2, 2]),  # bound to threads of a core
        ([plain(0, 1, 2, 3, quotas=[("/a", 2.5)])], [2]),
        ([plain(0, 1, 2, 3, quotas=[("/a", 0.5)])], [1]),
        ([plain(0, 1, 2, 3, quotas=[("/a/b", 3.0), ("/a", 2.0)])], [2]),
        ([plain(*range(8), quotas=[("/a", 4.0)])] * 2, [2, 2]),  # the group's time is for both
        ([plain(*range(16), quotas=[(f"/a/{task}", 3.0), ("/a", 100.0)]) for task in "xy"], [3, 3]),  # one each
        ([plain(*range(8), slurm_cpus=2)], [2]),
        ([plain(*range(8), slurm_cpus=64)], [8]),
        ([Cores(frozenset(range(8)), frozenset(range(4)), slurm_cpus=3)], [2]),  # Slurm counts threads as CPUs
    ],
)
def test_share(together, shares):
    assert [share(own, together) for own in together] == shares


@pytest.mark.parametrize(
    ("asked", "threads"), [("auto", 4), ("1", 1), ("16", 16), ("", 1), (None, 1)], ids=["auto", "1", "16", "", "unset"]
)
def test_the_environment_has_the_last_word(monkeypatch, asked, threads):
    own = plain(0, 1, 2, 3)
    environ = {} if asked is None else {"HPCNN_THREADS": asked}
    assert threads_of(own, [own], environ) == threads
    monkeypatch.setenv("HPCNN_THREADS", "7")
    assert threads_of(own, [own]) == 7


@pytest.mark.parametrize("asked", ["0", "-1", "two", "2.0", "4,2", "1025", "9" * 5000])
def test_what_is_no_number_of_threads(asked):
    own = plain(0)
    with pytest.raises(HpcnnError, match=rf"HPCNN_THREADS='{asked}' is not a number of threads.*1 to 1024.*'auto'"):
        threads_of(own, [own], {"HPCNN_THREADS": asked})


# ------------------------------------------------------------------------------------------------- oversubscription


def on(host, together):
    return [(host, cores) for cores in together]


@pytest.mark.parametrize(
    "together",
    [
        [plain(0)],
        [plain(0, 1)] * 2,
        [plain(0), plain(1), plain(2)],
        [plain(0), plain(0, 1)],
        [TWO_THREADS_A_CORE] * 8,
        [plain(0, quotas=[("/a", 0.5)])],  # slow, but not for the number of ranks
        [plain(0, 1, 2, 3, quotas=[("/a", 2.0)])] * 2,
        [plain(0, 1, 2, quotas=[(f"/a/{task}", 1.0)]) for task in "xyz"],
    ],
)
def test_enough_cpus(together):
    assert oversubscription(on("a", together)) is None


@pytest.mark.parametrize(
    ("together", "words"),
    [
        ([plain(0, 1)] * 3, "3 ranks share 2 CPUs on a"),
        ([plain(0)] * 4, "4 ranks share 1 CPU on a"),
        ([TWO_THREADS_A_CORE] * 9, "9 ranks share 8 CPUs on a"),
        ([plain(0), plain(0), plain(1, 2, 3)], "2 ranks share 1 CPU on a"),
        ([plain(0), plain(1), plain(0, 1)], "3 ranks share 2 CPUs on a"),
        ([plain(0, 1, 2, 3, quotas=[("/a", 1.5)])] * 2, "2 ranks share 1.5 CPUs on a"),
        ([plain(0, 1, quotas=[("/a/b", 9.0), ("/a", 1.0)])] * 3, "3 ranks share 1 CPU on a"),
    ],
)
def test_too_few_cpus(together, words):
    sentence = oversubscription(on("a", together))
    assert sentence.startswith(f"{words}, so they wait for each other. Start fewer ranks per node")
    assert "\n" not in sentence


def test_the_worst_of_several_nodes_is_named():
    ranks = on("fine", [plain(0, 1)] * 2) + on("bad", [plain(0, 1)] * 3) + on("worse", [plain(0)] * 2)
    sentence = oversubscription(ranks)
    assert sentence.startswith("2 ranks share 1 CPU on worse (2 of 3 nodes have more ranks than CPUs), so ")


def test_equal_numbers_on_two_nodes_are_other_cpus():
    assert oversubscription(on("a", [plain(0, 1)] * 2) + on("b", [plain(0, 1)] * 2)) is None
