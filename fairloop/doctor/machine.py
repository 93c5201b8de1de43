"""Processor, memory and disks of this machine."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from fairloop.doctor.finding import Finding

GB = 1e9

LITTLE_MEMORY = 4 * GB
"""Total. The idle local stack has 2.1 GB resident, and a training process another 0.6 GB and its data."""

LITTLE_DISK = 2 * GB
NO_DISK = 0.2 * GB
"""Free. Two rounds of the demo left 0.3 GB; with less than 0.2 GB neither weights nor a round find room."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def processor_and_memory() -> Finding:
    """Cores, and memory in all and now available where the system tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = memory_limit()
    available = _available(Path("/proc/meminfo"))
    detail = f"{cores} cores, {total / GB:.1f} GB"
    facts = {"cores": cores, "memory_bytes": total, "system": platform.platform()}
    if available is not None:
        available = min(available, total)
        detail += f" of memory, {available / GB:.1f} GB available"
        facts["available_bytes"] = available
    if total < LITTLE_MEMORY:
        advice = (
            "the whole stack with a training wants 4 GB: start fewer services, or give the container more; "
            "`fairloop evaluate`, `fairloop stats` and `fairloop audit` need none of it"
        )
        return Finding("machine", "warn", detail, advice, facts)
    return Finding("machine", "ok", detail, facts=facts)


def memory_limit() -> int:
    """Bytes that processes here may use: of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def disk(name: str, folder: Path, mend: str) -> Finding:
    """Room where `folder` is, or will be; `mend` says how to use another place."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    facts = {"folder": str(folder.absolute()), "free_bytes": free}
    detail = f"{free / GB:.1f} GB free for {folder}"
    if not (place.is_dir() and os.access(place, os.W_OK)):
        return Finding(name, "fail", f"{place} is no folder that we may write to", mend, facts)
    if free < NO_DISK:
        return Finding(name, "fail", detail, f"make room, or {mend}", facts)
    if free < LITTLE_DISK:
        return Finding(name, "warn", detail, f"a round of the demo may not fit: make room, or {mend}", facts)
    return Finding(name, "ok", detail, facts=facts)


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(kilobytes) * 1024 if kilobytes else None
