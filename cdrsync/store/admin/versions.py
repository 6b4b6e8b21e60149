"""Which versions of the schema this program knows. They lie in `migrations/`, in the wheel as in a checkout."""

from __future__ import annotations

from pathlib import Path

UNRELEASED = ("0001_tables", "0002_erasure", "0003_views", "0004_quick_readers")
"""Schemas of before the first release, which nothing leads on from."""


def migrations_directory() -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def versions() -> list[str]:
    """Every version, oldest first: the file names of `migrations/versions`."""
    return sorted(path.stem for path in (migrations_directory() / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The version this program needs."""
    return versions()[-1]
