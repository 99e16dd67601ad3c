"""The memory that the settings allow is summed, held against what there is, and said at a start."""

from pathlib import Path
from typing import Any

import pytest

from app.limits.budget import available, items, lines
from app.messages.units import ByteSize
from app.settings import OPTIONS, Settings, flag
from tests.harness import start_server

GIB = 1 << 30


def test_each_bound_names_settings_that_there_are_and_that_lower_it() -> None:
    flags: dict[str, Any] = {flag(option.name): option for option in OPTIONS}
    default = {item.what: item.nbytes for item in items(Settings())}
    for item in items(Settings()):
        for name in filter(None, item.settings.split(", ")):
            option = flags[name]
            half: Any = type(option.default)(option.default // 2)
            less = Settings(**{option.name: half, "max_message": ByteSize(1 << 16)})
            assert {each.what: each.nbytes for each in items(less)}[item.what] < default[item.what], name


def test_with_the_default_settings_a_server_takes_less_than_5_gib() -> None:
    assert sum(item.nbytes for item in items(Settings())) < 5 * GIB


def test_a_log_on_a_disk_takes_caches_and_what_is_delayed() -> None:
    memory, disk = (
        next(item for item in items(Settings(engine=engine)) if item.what == "the log")
        for engine in ("memory", "sqlite:log.db")
    )
    assert memory.nbytes < disk.nbytes < 2 * memory.nbytes


def test_a_sum_that_is_more_than_there_is_comes_with_a_warning_that_names_the_largest() -> None:
    (enough,) = lines(Settings(), 64 * GIB)
    assert enough.endswith("; there are 64.0GiB")
    said, warning = lines(Settings(), 512 << 20)
    assert said.endswith("; there are 512MiB")
    assert warning.startswith("  warning    the limits allow more memory than there is. The largest: subscribers ")
    assert "(--max-subscribers, --send-buffer)" in warning


def tree(root: Path, groups: str, **limits: str) -> Path:
    """A file system in which this process is in these cgroups; `__` stands for a folder's slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit)
    return root


V1 = "5:cpu,cpuacct:/\n4:memory:/a/b\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/a/b\n", {"a__b__memory.max": "1000\n", "a__memory.max": "2000\n"}, 1_000),
        ("0::/a/b\n", {"a__b__memory.max": "max\n", "a__memory.max": "2000\n"}, 2_000),
        ("0::/host/path\n", {"memory.max": "3000\n"}, 3_000),
        (V1, {"memory__a__b__memory.limit_in_bytes": "4000\n"}, 4_000),
        (V1, {"memory__a__memory.limit_in_bytes": "5000\n"}, 5_000),
        (V1, {"memory__memory.limit_in_bytes": "6000\n"}, 6_000),
    ],
)
def test_the_limit_is_the_smallest_of_the_cgroups_that_it_is_in(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int
) -> None:
    assert available(tree(tmp_path, groups, **limits)) == expected


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("0::/\n", {}),
        ("0::/\n", {"memory.max": "max\n"}),
        (V1, {"memory__a__b__memory.limit_in_bytes": "9223372036854771712\n"}),
    ],
)
def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path, groups: str, limits: dict[str, str]) -> None:
    meminfo = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert available(tree(tmp_path, groups, **limits)) == pytest.approx(int(meminfo.split()[1]) * 1024, rel=0.05)


def test_a_server_says_it_when_it_starts() -> None:
    with start_server("--max-subscribers", "100000000") as server:
        assert "\n  memory     at most " in server.banner
        assert "\n  warning    the limits allow more memory than there is. The largest: subscribers " in server.banner
