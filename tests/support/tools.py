"""Programs of the system that tests drive for real."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "unshare": "util-linux",
    "groff": "groff",
    "openssl": "openssl",
    "cc": "gcc",
}


def program(name: str) -> str:
    """The path of a program. Without it the test skips, or fails if CDRSYNC_REQUIRE_ALL=1."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return str(found)


def missing(what: str) -> None:
    """Skip the test for want of something, or fail it if CDRSYNC_REQUIRE_ALL=1."""
    if os.environ.get("CDRSYNC_REQUIRE_ALL") == "1":
        pytest.fail(what)
    pytest.skip(what)
