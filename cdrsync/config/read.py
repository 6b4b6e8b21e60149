"""Reads the configuration: flag > environment > credential > TOML file > default, every problem at once.

- flag: `--database-url …`, `--set KEY=VALUE`
- environment: CDRSYNC_<KEY>; a secret also as CDRSYNC_<KEY>_FILE, the path of a file that holds it
- credential: $CREDENTIALS_DIRECTORY/<key>.<account> or <key> (systemd's LoadCredential=), secrets only
- file: --config, CDRSYNC_CONFIG, else ./cdrsync.toml or /etc/cdrsync/cdrsync.toml where there is one;
  a secret also as <key>_file; [accounts.NAME] overrides the account's own keys, but not flag or environment
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdrsync.config import values
from cdrsync.config.keys import CREDENTIALS, DEFAULT_ACCOUNT, KEYS, AccountSettings, Key, Settings
from cdrsync.errors import ConfigError

PREFIX = "CDRSYNC_"
DEFAULT_FILES = (Path("cdrsync.toml"), Path("/etc/cdrsync/cdrsync.toml"))
MAX_FILE_BYTES = 1 << 20

NOT_KEYS = ("CDRSYNC_CONFIG", "CDRSYNC_DEBUG", "CDRSYNC_REQUIRE_ALL")  # ours, but no configuration keys
SERVICE_LINKS = re.compile(  # what Kubernetes and Docker set in every container beside a service called cdrsync
    r"CDRSYNC_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

Layer = Mapping[str, tuple[Any, str]]  # key → the value as written, and where it is written


@dataclass(frozen=True)
class Inputs:
    """Everything configuration is read from. `flags` are texts by key; the environment is the process's by default."""

    flags: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True)
class Value:
    """One value with its source; None as `value` where it could not be read (`problems` says why)."""

    key: Key
    value: Any
    source: str

    def show(self) -> str:
        """Return the value for a person's eyes."""
        return self.key.show(self.value)


@dataclass
class Reading:
    """What was found: values by key for the whole program and for each account, and every problem."""

    file: Path | None = None
    shared: dict[str, Value] = field(default_factory=dict)
    accounts: dict[str, dict[str, Value]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def settings(self, *, credentials: bool) -> Settings:
        """Return the settings, or raise a ConfigError with every problem. `credentials`: a login is needed, too."""
        problems = [*self.problems, *(self._missing_credentials() if credentials else ())]
        if problems:
            raise ConfigError(problems)
        accounts = tuple(
            AccountSettings(name=name, sources=_sources(found), **_values(found))
            for name, found in self.accounts.items()
        )
        return Settings(accounts=accounts, sources=_sources(self.shared), **_values(self.shared))

    def _missing_credentials(self) -> Iterator[str]:
        for name, found in self.accounts.items():
            unset = [key for key in CREDENTIALS if found[key].value == ""]
            if unset:
                where = "" if len(self.accounts) == 1 and name == DEFAULT_ACCOUNT else f" for account {name}"
                ways = ", ".join(f"{PREFIX}{key.upper()}" for key in unset)
                yield f"no {', '.join(unset)}{where}: set {ways} or write them into the configuration file"


def load(inputs: Inputs | None = None, *, credentials: bool = True) -> Settings:
    """Read and check everything; raises ConfigError with every problem at once."""
    return read(inputs or Inputs()).settings(credentials=credentials)


def read(inputs: Inputs) -> Reading:
    """Read everything and collect the problems instead of raising them: what `config show` prints."""
    reading = Reading()
    document = _document(inputs, reading)
    tables = _account_tables(document, reading.problems)
    flags = _flags(inputs.flags, reading.problems)
    environment = _environment(inputs.environ, reading.problems)
    directory = inputs.environ.get("CREDENTIALS_DIRECTORY")
    credentials = _credentials(directory, "", reading.problems)
    top = _table(document, str(reading.file or ""), reading.file, reading.problems, accounts=False)

    reading.shared = _choose(
        [k for k in KEYS.values() if not k.account], [flags, environment, credentials, top], reading
    )
    for name in tables or [DEFAULT_ACCOUNT]:
        where = f"{reading.file} [accounts.{name}]"
        table = _table(tables.get(name, {}), where, reading.file, reading.problems, accounts=True)
        own_credentials = _credentials(directory, f".{name}", reading.problems)
        layers = [flags, environment, own_credentials, table, credentials, top]
        reading.accounts[name] = _choose([k for k in KEYS.values() if k.account], layers, reading)
    _check_together(reading, tables, environment)
    reading.problems = list(dict.fromkeys(reading.problems))  # a value that accounts share is said once
    return reading


def _document(inputs: Inputs, reading: Reading) -> dict[str, Any]:
    """Return the TOML file as a dict, empty where there is none."""
    asked = inputs.config or (Path(inputs.environ["CDRSYNC_CONFIG"]) if inputs.environ.get("CDRSYNC_CONFIG") else None)
    reading.file = asked or next((path for path in DEFAULT_FILES if path.is_file()), None)
    if reading.file is None:
        return {}
    import tomllib

    try:
        return tomllib.loads(_read_text(reading.file))
    except OSError as error:
        reading.problems.append(f"can't read {reading.file}: {error.strerror}")
    except UnicodeDecodeError:
        reading.problems.append(f"{reading.file} is not UTF-8 text")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reading.problems.append(f"{reading.file} is not valid TOML: {_position(error)}")
    return {}


def _position(error: Exception) -> str:
    """Return what is wrong and where, without the text of the line: it may hold a password."""
    place = re.search(r"\(at ([^()]*)\)$", str(error))
    return f"look at {place[1]} (texts need quotes)" if place else "too deeply nested or malformed"


def _read_text(path: Path) -> str:
    with path.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(27, "File too large")
    return content.decode("utf-8")


def _secret_file(path: Path, problems: list[str], what: str) -> str | None:
    """Return the secret in a file, one line end at its end dropped; None and a problem where it can't be had."""
    try:
        content = _read_text(path)
    except OSError as error:
        problems.append(f"{what}: can't read {path}: {error.strerror}")
    except (UnicodeDecodeError, ValueError):
        problems.append(f"{what}: {path!s} is not a text file")
    else:
        return content.removesuffix("\n").removesuffix("\r")
    return None


def _flags(flags: Mapping[str, str], problems: list[str]) -> Layer:
    found = {}
    for name, written in flags.items():
        key = name.strip().lower().replace("-", "_")
        if key not in KEYS:
            problems.append(f"unknown key {name.strip()!r} given by --set{values.did_you_mean(key, KEYS)}")
        else:
            found[key] = (written, "flag")
    return found


def _environment(environ: Mapping[str, str], problems: list[str]) -> Layer:
    found: dict[str, tuple[Any, str]] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_KEYS or SERVICE_LINKS.fullmatch(variable):
            continue
        name, written = variable.removeprefix(PREFIX).lower(), environ[variable]
        of_file = KEYS.get(name.removesuffix("_file")) if name.endswith("_file") else None
        if variable.upper() != variable:
            problems.append(f"unknown environment variable {variable}; did you mean {variable.upper()}?")
        elif name in KEYS:
            if not written and not KEYS[name].empty:
                continue
            if name in found:
                problems.append(f"both {variable} and {variable}_FILE are set")
            found[name] = (written, f"environment {variable}")
        elif of_file is not None and of_file.secret:
            if not written:
                continue
            if environ.get(variable.removesuffix("_FILE")):
                problems.append(f"both {variable.removesuffix('_FILE')} and {variable} are set: keep one")
                continue
            content = _secret_file(Path(written), problems, variable)
            found[of_file.name] = (content, f"environment {variable}={written}")
        else:
            known = [PREFIX + key.upper() for key in KEYS]
            problems.append(f"unknown environment variable {variable}{_meant(variable, known)}")
    return found


def _meant(variable: str, known: list[str]) -> str:
    return (
        values.did_you_mean(variable.lower(), [k.lower() for k in known])
        .upper()
        .replace("; DID YOU MEAN", "; did you mean")
    )


def _credentials(directory: str | None, suffix: str, problems: list[str]) -> Layer:
    """Secrets that the service manager put into $CREDENTIALS_DIRECTORY."""
    found = {}
    for key in KEYS.values():
        path = Path(directory or "", key.name + suffix)
        if directory and key.secret and path.is_file():
            found[key.name] = (_secret_file(path, problems, f"credential {path.name}"), f"credential {path.name}")
    return found


def _account_tables(document: dict[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    tables = document.get("accounts", {})
    if not isinstance(tables, dict):
        problems.append("accounts must be tables like [accounts.sales]")
        return {}
    good = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = f" (is {name} meant for one account? then write it under [accounts.NAME])" if name in KEYS else ""
            problems.append(f"accounts.{name} must be a table like [accounts.sales]{hint}")
        elif not ACCOUNT_NAME.fullmatch(name):
            problems.append(f"account name {name[:40]!r} must be letters, digits, '_', '-' or '.', at most 63")
        else:
            good[name] = table
    return good


def _table(
    table: Mapping[str, Any], where: str, file: Path | None, problems: list[str], *, accounts: bool
) -> dict[str, tuple[Any, str]]:
    """Return the keys of one TOML table; `accounts`: of an [accounts.NAME] table."""
    found: dict[str, tuple[Any, str]] = {}
    allowed = [key.name for key in KEYS.values() if key.account or not accounts]
    for name, written in table.items():
        if name == "accounts" and not accounts:
            continue
        base = name.removesuffix("_file")
        if name in allowed:
            found[name] = (written, where)
        elif name != base and base in allowed and KEYS[base].secret:
            if base in table:
                problems.append(f"both {base} and {name} in {where}: keep one")
            elif not isinstance(written, str) or not written:
                problems.append(f"{name} in {where} must be the path of a file")
            else:
                path = (file.parent if file else Path()) / written
                found[base] = (_secret_file(path, problems, name), f"{where}, {name} = {path}")
        elif name in KEYS:
            problems.append(f"{name} in {where} is for the whole program: move it above the [accounts.…] tables")
        else:
            problems.append(f"unknown key {name!r} in {where}{values.did_you_mean(name, allowed)}")
    return found


def _choose(keys: list[Key], layers: list[Layer], reading: Reading) -> dict[str, Value]:
    """Take each key from the first layer that has it, parsed; what can't be parsed is a problem and None."""
    chosen: dict[str, Value] = {}
    for key in keys:
        value, source = next((layer[key.name] for layer in layers if key.name in layer), (key.default, "default"))
        if source != "default" and value is not None:
            try:
                value = key.parse(value)
            except ValueError as error:
                value = None
                reading.problems.append(f"{key.name} {error} (from {source})")
        chosen[key.name] = Value(key, value, source)
    return chosen


def _check_together(reading: Reading, tables: Mapping[str, Mapping[str, Any]], environment: Layer) -> None:
    """Return what is wrong only in combination."""
    shared, problems = reading.shared, reading.problems
    if (
        shared["retention_months"].value
        and shared["retention_policy"].value == "pseudonymise"
        and not shared["pseudonym_key"].value
    ):
        problems.append("retention_policy pseudonymise needs a pseudonym_key (any long random text, kept for good)")
    for key in CREDENTIALS:
        own = [name for name, table in tables.items() if key in table or f"{key}_file" in table]
        if key in environment and own and len(tables) > 1:
            problems.append(
                f"{environment[key][1].partition('=')[0]} would replace the {key} of accounts {', '.join(own)}: "
                f"unset it, or use {key}_file in each [accounts.NAME]"
            )
    logins: dict[tuple[Any, ...], str] = {}
    for name, found in reading.accounts.items():
        login = tuple(found[key].value for key in ("api_url", "username", "numbers"))
        other = logins.setdefault(login, name) if found["username"].value else name
        if other != name:
            problems.append(f"accounts {other} and {name} have the same login: every call would be stored twice")


def _values(found: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value.value for name, value in found.items()}


def _sources(found: Mapping[str, Value]) -> dict[str, str]:
    return {name: value.source for name, value in found.items()}
