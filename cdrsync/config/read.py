"""Reads the configuration: flag > environment > credential > TOML file > default, every problem at once.

- flag: `--database-url …`, `--set KEY=VALUE`
- environment: CDRSYNC_<KEY>; a secret also as CDRSYNC_<KEY>_FILE, the path of a file that holds it
- credential: $CREDENTIALS_DIRECTORY/<key>.<account> or <key> (systemd's LoadCredential=), secrets only
- file: --config, CDRSYNC_CONFIG, else ./cdrsync.toml or /etc/cdrsync/cdrsync.toml where there is one;
  a secret also as <key>_file; [accounts.NAME], or a file accounts.d/NAME.toml beside it, overrides the account's own
  keys, but not flag or environment
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cdrsync.config import values
from cdrsync.config.keys import CREDENTIALS, DEFAULT_ACCOUNT, KEYS, AccountSettings, Key, Settings
from cdrsync.errors import ConfigError

PREFIX = "CDRSYNC_"
DEFAULT_FILES = (Path("cdrsync.toml"), Path("/etc/cdrsync/cdrsync.toml"))
ACCOUNTS_FOLDER = "accounts.d"  # beside the file
MAX_FILE_BYTES = 1 << 20
PIPE_SECONDS = 5.0  # for whoever writes into a pipe that is named in place of a file

NOT_KEYS = ("CDRSYNC_CONFIG", "CDRSYNC_DEBUG", "CDRSYNC_REQUIRE_ALL", "CDRSYNC_TEST_MYSQL_URL")
"""Ours, but no configuration keys."""

SERVICE_LINKS = re.compile(  # what Kubernetes and Docker set in every container beside a service called cdrsync
    r"CDRSYNC_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def problem_of_name(name: str) -> str | None:
    """What is wrong with the name of an account."""
    if ACCOUNT_NAME.fullmatch(name):
        return None
    return f"account name {name[:40]!r} must begin with a letter or digit; then '_', '-' and '.' too, at most 63"


class Value(NamedTuple):
    """A value with its source: as it is written, or read, then None where that can't be (`problems` says why)."""

    value: Any
    source: str
    file: Path | None = None  # the file that it stands in


class Table(NamedTuple):
    """A table of an account, and the file that it stands in."""

    keys: Mapping[str, Any]
    where: str
    file: Path | None


Layer = Mapping[str, Value]


@dataclass(frozen=True)
class Inputs:
    """Everything configuration is read from. `flags` are texts by key; the environment is the process's by default."""

    flags: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass
class Reading:
    """What was found: values by key for the whole program and for each account, and every problem."""

    file: Path | None = None
    shared: dict[str, Value] = field(default_factory=dict)
    accounts: dict[str, dict[str, Value]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)  # of the accounts that have one
    unread: set[Path | None] = field(default_factory=set)  # files that can't be read: what is in them is not missing

    def settings(self, *, credentials: bool) -> Settings:
        """Return the settings, or raise a ConfigError with every problem. `credentials`: a login is needed, too."""
        problems = [*self.problems, *(self._missing_credentials() if credentials else ())]
        if problems:
            raise ConfigError(problems)
        accounts = tuple(AccountSettings(name=name, **_values(found)) for name, found in self.accounts.items())
        return Settings(accounts=accounts, **_values(self.shared))

    def _missing_credentials(self) -> Iterator[str]:
        for name, found in self.accounts.items():
            if self.unread & {self.file, self.tables[name].file if name in self.tables else None}:
                continue
            unset = [key for key in CREDENTIALS if found[key].value == ""]
            if unset:
                yield self._unset(name, unset)

    def _unset(self, account: str, keys: list[str]) -> str:
        """Say what of an account's login is missing, and where it can be put."""
        written = "it" if len(keys) == 1 else "them"
        file = self.file or DEFAULT_FILES[0]
        if len(self.accounts) > 1:  # a variable would be that of every account
            table = self.tables[account].where if account in self.tables else f"{file} [accounts.{account}]"
            return f"no {', '.join(keys)} for account {account}: write {written} into {table}"
        where = "" if account == DEFAULT_ACCOUNT else f" for account {account}"
        ways = ", ".join(f"{PREFIX}{key.upper()}" for key in keys)
        return f"no {', '.join(keys)}{where}: set {ways} or write {written} into {file}"


def _values(found: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value.value for name, value in found.items()}


def load(inputs: Inputs | None = None, *, credentials: bool = True) -> Settings:
    """Read and check everything; raises ConfigError with every problem at once."""
    return read(inputs or Inputs()).settings(credentials=credentials)


def read(inputs: Inputs) -> Reading:
    """Read everything and collect the problems instead of raising them: what `config show` prints."""
    return _Reader(inputs).read()


class _Reader:
    """Reads the layers, and collects every problem on the way."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._found = Reading()
        self._problem = self._found.problems.append

    def read(self) -> Reading:
        """Put the layers on top of each other, for the program and for each account."""
        found = self._found
        document = self._document()
        found.tables = self._account_tables(document)
        flags, environment, credentials = self._flags(), self._environment(), self._credentials("")
        top = self._table(Table(document, str(found.file or ""), found.file), accounts=False)
        layers = [flags, environment, credentials, top]
        found.shared = self._choose([key for key in KEYS.values() if not key.account], layers)
        of_account = [key for key in KEYS.values() if key.account]
        for name in found.tables or [DEFAULT_ACCOUNT]:
            table = self._table(found.tables[name], accounts=True) if found.tables else {}
            layers = [flags, environment, self._credentials(f".{name}"), table, credentials, top]
            found.accounts[name] = self._choose(of_account, layers)
        self._check_together(environment)
        found.problems = list(dict.fromkeys(found.problems))  # a value that accounts share is said once
        return found

    def _document(self) -> dict[str, Any]:
        """Return the TOML file as a dict, empty where there is none."""
        named = self._inputs.environ.get("CDRSYNC_CONFIG")
        asked = self._inputs.config or (Path(named) if named else None)
        file = self._found.file = asked or next((path for path in DEFAULT_FILES if self._is(stat.S_ISREG, path)), None)
        return {} if file is None else self._toml(file)

    def _toml(self, file: Path) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(_read_text(file))
        except OSError as error:
            self._problem(f"can't read {file}: {error.strerror}")
        except UnicodeDecodeError:
            self._problem(f"{file} is not UTF-8 text")
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self._problem(f"{file} is not valid TOML: {_position(error)}")
        self._found.unread.add(file)
        return {}

    def _secret(self, path: Path, what: str, source: str) -> Value:
        """Read the secret in a file, one line end at its end dropped; None and a problem where it can't be had."""
        found = None
        try:
            found = _read_text(path).removesuffix("\n").removesuffix("\r")
        except OSError as error:
            self._problem(f"{what}: can't read {path}: {error.strerror}")
        except ValueError:
            self._problem(f"{what}: {path!s} is not a text file")
        return Value(found, source, path)

    def _flags(self) -> Layer:
        found = {}
        for name, written in self._inputs.flags.items():
            key = name.strip().lower().replace("-", "_")
            if key in KEYS and KEYS[key].secret and key != "database_url":
                ways = f"set {PREFIX}{key.upper()} or {PREFIX}{key.upper()}_FILE"
                self._problem(f"{key} can't be given by --set: every user of this machine could read it; {ways}")
            elif key in KEYS:
                found[key] = Value(written, "flag")
            else:
                self._problem(f"unknown key {name.strip()!r} given by --set{values.did_you_mean(key, KEYS)}")
        return found

    def _environment(self) -> Layer:
        environ = self._inputs.environ
        found: dict[str, Value] = {}
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable in NOT_KEYS or SERVICE_LINKS.fullmatch(variable):
                continue
            name, written = variable.removeprefix(PREFIX).lower(), environ[variable]
            of_file = KEYS.get(name.removesuffix("_file")) if name.endswith("_file") else None
            if variable.upper() != variable:
                self._problem(f"unknown environment variable {variable}; did you mean {variable.upper()}?")
            elif name in KEYS:
                if written or KEYS[name].empty:
                    found[name] = Value(written, f"environment {variable}")
            elif of_file is not None and of_file.secret:
                if written and environ.get(variable.removesuffix("_FILE")):
                    self._problem(f"both {variable.removesuffix('_FILE')} and {variable} are set: keep one")
                elif written:
                    found[of_file.name] = self._secret(Path(written), variable, f"environment {variable}={written}")
            else:
                meant = values.did_you_mean(name, KEYS, written=lambda key: PREFIX + key.upper())
                self._problem(f"unknown environment variable {variable}{meant}")
        return found

    def _credentials(self, suffix: str) -> Layer:
        """Secrets that the service manager put into $CREDENTIALS_DIRECTORY."""
        directory = self._inputs.environ.get("CREDENTIALS_DIRECTORY")
        paths = {key.name: Path(directory, key.name + suffix) for key in KEYS.values() if directory and key.secret}
        return {
            name: self._secret(path, f"credential {path.name}", f"credential {path.name}")
            for name, path in paths.items()
            if self._is(stat.S_ISREG, path)
        }

    def _account_tables(self, document: Mapping[str, Any]) -> dict[str, Table]:
        """The tables [accounts.NAME] of the file and the files of the folder."""
        tables = document.get("accounts", {})
        if not isinstance(tables, dict):
            self._problem("accounts must be tables like [accounts.sales]")
            tables = {}
        file = self._found.file
        good = {}
        for name, table in tables.items():
            if not isinstance(table, dict):
                hint = f" ({name} of one account goes under [accounts.NAME])" if name in KEYS else ""
                self._problem(f"accounts.{name} must be a table like [accounts.sales]{hint}")
            elif self._is_name(name):
                good[name] = Table(table, f"{file} [accounts.{name}]", file)
        for path in self._account_files():
            name = path.stem
            if name in good:
                self._problem(f"account {name} stands in {good[name].where} and in {path}: keep one")
            elif self._is_name(name):
                good[name] = Table(self._toml(path), str(path), path)
        return good

    def _account_files(self) -> list[Path]:
        """The files of the folder beside the configuration file, or beside where one would be."""
        beside = [self._found.file] if self._found.file else DEFAULT_FILES
        folder = next((f for file in beside if self._is(stat.S_ISDIR, f := file.parent / ACCOUNTS_FOLDER)), None)
        try:
            found = sorted(folder.iterdir()) if folder else []
        except OSError as error:
            self._problem(f"can't read {folder}: {error.strerror}")
            return []
        return [path for path in found if path.suffix == ".toml" and not path.name.startswith(".")]

    def _is(self, kind: Callable[[int], bool], path: Path) -> bool:
        """Whether something of a kind is there. That this user may not look is a problem, but for the working folder.

        That one may be anybody's: root's, where root runs a command as another user.
        """
        try:
            return kind(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if path.parent != Path():
                self._problem(f"can't read {path}: {error.strerror}")
            return False

    def _is_name(self, name: str) -> bool:
        problem = problem_of_name(name)
        if problem:
            self._problem(problem)
        return problem is None

    def _table(self, table: Table, *, accounts: bool) -> Layer:
        """Return the keys of one TOML table; `accounts`: of an account's."""
        found: dict[str, Value] = {}
        where = table.where
        for name, written in table.keys.items():
            if name == "accounts" and not accounts:
                continue
            key, of_file = KEYS.get(name), KEYS.get(name.removesuffix("_file"))
            if key is not None and (key.account or not accounts):
                found[name] = Value(written, where, table.file)
            elif key is None and of_file is not None and of_file.secret and (of_file.account or not accounts):
                if of_file.name in table.keys:
                    self._problem(f"both {of_file.name} and {name} in {where}: keep one")
                elif not isinstance(written, str) or not written:
                    self._problem(f"{name} in {where} must be the path of a file")
                else:
                    path = (table.file or Path()).parent / written
                    found[of_file.name] = self._secret(path, name, f"{where}, {name} = {path}")
            elif key is not None:
                file = self._found.file or DEFAULT_FILES[0]
                self._problem(f"{name} in {where} is for the whole program: write it into {file}, above all tables")
            else:
                allowed = [one.name for one in KEYS.values() if one.account or not accounts]
                self._problem(f"unknown key {name!r} in {where}{values.did_you_mean(name, allowed)}")
        return found

    def _choose(self, keys: list[Key], layers: list[Layer]) -> dict[str, Value]:
        """Take each key from the first layer that has it, parsed; what can't be parsed is a problem and None."""
        chosen: dict[str, Value] = {}
        for key in keys:
            found = next((layer[key.name] for layer in layers if key.name in layer), Value(key.default, "default"))
            if found.source != "default" and found.value is not None:
                try:
                    found = found._replace(value=key.parse(found.value))
                except ValueError as error:
                    self._problem(f"{key.name} {error} (from {found.source})")
                    found = found._replace(value=None)
            chosen[key.name] = found
        return chosen

    def _check_together(self, environment: Layer) -> None:
        """Find what is wrong only in combination."""
        shared = _values(self._found.shared)
        by_pseudonym = shared["retention_months"] and shared["retention_policy"] == "pseudonymise"
        if by_pseudonym and not shared["pseudonym_key"]:
            self._problem("retention_policy pseudonymise needs a pseudonym_key (any long random text, kept for good)")
        tables = self._found.tables
        for key in CREDENTIALS:
            own = [name for name, table in tables.items() if key in table.keys or f"{key}_file" in table.keys]
            if key in environment and own and len(tables) > 1:
                self._problem(
                    f"{environment[key].source.partition('=')[0]} would replace the {key} of accounts "
                    f"{', '.join(own)}: unset it, or use {key}_file in each of them"
                )
        logins: dict[tuple[str, str], str] = {}
        for name, found in self._found.accounts.items():
            url, user = str(found["api_url"].value).rstrip("/"), str(found["username"].value or "").casefold()
            other = logins.setdefault((url, user), name) if user else name
            if other != name:
                self._problem(f"accounts {other} and {name} have the same login: every call would be stored twice")


def _position(error: Exception) -> str:
    """Return what is wrong and where, without the text of the line: it may hold a password."""
    place = re.search(r"\(at ([^()]*)\)$", str(error))
    return f"look at {place[1]} (texts need quotes)" if place else "too deeply nested or malformed"


def _read_text(path: Path) -> str:
    """Read a file, or what somebody writes into a pipe. Raises OSError, UnicodeDecodeError."""
    content, deadline = bytearray(), time.monotonic() + PIPE_SECONDS
    # Without O_NONBLOCK a pipe that nobody writes into would hold us for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        readable = select.poll()
        readable.register(stream, select.POLLIN)
        while len(content) <= MAX_FILE_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not readable.poll(left * 1000):
                raise OSError(errno.ETIMEDOUT, "nobody writes into this pipe to its end")
            piece = stream.read(MAX_FILE_BYTES + 1 - len(content))
            if not piece:
                return content.decode("utf-8-sig")  # Windows' editors begin a file with a mark
            content += piece
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
