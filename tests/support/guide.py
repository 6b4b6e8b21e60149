"""The settings that deploy/clusters.md tells its reader to type."""

from __future__ import annotations

import configparser
import re

from tests.support.processes import REPOSITORY

GUIDE = REPOSITORY / "deploy" / "clusters.md"


def told(language: str) -> str:
    """The guide's block in a language. There is one of each that is asked for."""
    (found,) = blocks(language)
    return found


def blocks(language: str) -> list[str]:
    """All of the guide's blocks in a language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def settings(language: str, section: str) -> dict[str, str]:
    """What a section of an INI file of the guide sets."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(told(language))
    return dict(parser[section])
