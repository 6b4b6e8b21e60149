"""A login in the environment, and what `load` makes of it and of a cdrsync.toml in the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdrsync.config import Inputs, Settings, load
from cdrsync.errors import ConfigError
from tests.support.canary import PASSWORD, VKEY

LOGIN = {"CDRSYNC_USERNAME": "canary@example.com", "CDRSYNC_PASSWORD": PASSWORD, "CDRSYNC_VKEY": VKEY}


def settings(
    toml: str = "", /, *, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, **more: str
) -> Settings:
    """The settings that the file, the flags and the environment make beside the login."""
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    return load(Inputs(flags=flags or {}, environ={**LOGIN, **(environ or {}), **more}))


def problems(toml: str = "", flags: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> list[str]:
    """Every problem with them; without `environ` there is the login and no more."""
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(Inputs(flags=flags or {}, environ=LOGIN if environ is None else environ))
    return caught.value.problems
