"""Configuration: one table of keys (`keys`), their parsers (`values`), and the layers they are read from (`read`)."""

from __future__ import annotations

from cdrsync.config.keys import KEYS, AccountSettings, Settings
from cdrsync.config.read import Inputs, Reading, Value, load, read
from cdrsync.config.values import Listen, Start

__all__ = ["KEYS", "AccountSettings", "Inputs", "Listen", "Reading", "Settings", "Start", "Value", "load", "read"]
