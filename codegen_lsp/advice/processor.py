"""The processor's name, and those of its instructions that int8 kernels use."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
"""CPU instructions that int8 kernels use, as Linux names them."""


def cpu_name() -> str:
    """Return the processor's name."""
    match = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Return those of `FEATURES` that the processor has; empty where the system does not list them."""
    match = re.search(r"^(?:flags|Features)\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    words = match[1].split() if match else _mac_features()
    return [feature for feature in FEATURES if feature in words]


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mac_features() -> list[str]:
    if sys.platform != "darwin":
        return []
    if platform.machine() == "arm64":
        return ["asimd", "asimddp"]
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, env=dict(os.environ), check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return result.stdout.lower().split()
