"""As many threads as there are cores for this process, whatever the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cores import THREADS, usable_cores, use_cores_sparingly

V2 = "0::/pod/worker\n"
V1 = "4:memory:/pod\n1:cpu,cpuacct:/pod/worker\n0::/\n"


def machine(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_without_limits_every_core_of_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, affinity=[0, 2, 5]) == 3


def test_hyperthreads_share_a_core(tmp_path: Path) -> None:
    topology = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 2},{n % 2 + 2}\n" for n in range(4)}
    assert usable_cores(machine(tmp_path, topology), affinity=range(4)) == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/pod/worker/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/pod/worker/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/pod/worker/cpu.max": "10000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/pod/worker/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/pod/worker/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/pod/worker/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        (
            {
                "proc/self/cgroup": V1,  # whose folder a container does not see: it has the root alone
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
    ],
    ids=["no limit", "a core and a half", "a tenth", "the one above is tighter", "in a container", "v1, no limit", "v1"],
)
def test_a_quota_limits_the_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert usable_cores(machine(tmp_path, files), affinity=range(8)) == cores


def test_what_the_user_has_set_goes_before() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE", THREADS: "7"}
    use_cores_sparingly(environment)
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE", THREADS: "7"}


def test_torch_takes_it_up() -> None:
    script = (
        "import os; from service.cores import *; use_cores_sparingly(os.environ); import torch; print(torch.get_num_threads())"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_", "KMP_"))}
    shown = {**clean, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", script], env=shown, capture_output=True, text=True, check=True)
    assert int(done.stdout) == usable_cores()
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
