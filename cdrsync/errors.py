"""Everything that can go wrong, classed by what the caller must do about it.

    CdrsyncError
    ├── Retry                   passes by itself: try again later, position read again from the database
    │   ├── ApiUnreachable      no answer, HTTP 429 or 5xx, deadline passed                        exit 69
    │   │   ├── Unverified      no certificate that this machine trusts                            exit 69
    │   │   └── BadAnswer       an answer that can't be trusted: refused whole, nothing stored     exit 69
    │   ├── DatabaseUnavailable connection cut, restart, deadlock, lock wait, disk full, read-only exit 69
    │   └── LeaseLost           the connection that held the lease is gone                         exit 75
    ├── Stop                    a person must act; trying again only makes it worse
    │   ├── ConfigError         every problem of the configuration at once                         exit 78
    │   │   └── UnknownAccount  --account names none that there is                             exit 2
    │   ├── LoginRefused        user name, password, VKey or source address                        exit 77
    │   ├── SchemaMismatch      the database's schema is not this program's                        exit 78
    │   ├── LeaseHeld           another instance writes for this account                           exit 75
    │   ├── OutputFailed        where the output should go can't be written                        exit 2
    │   └── SequenceReset       the operator's uids fell: a new sequence has begun                 exit 1
    └── Skip                    this one request or period can't be had; the others go on
        ├── RequestRefused      the operator answered a Code other than 200                        exit 69
        └── NoProgress          a page without a new record where one was promised                 exit 69

Drivers' and libraries' exceptions are translated once, at the edge where they arise. What is not translated is a bug
of ours (exit 70).
"""

from __future__ import annotations

import sys
from typing import ClassVar

EXIT_OK = 0
EXIT_FOUND = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 69
EXIT_BUG = 70
EXIT_LEASE_HELD = 75
EXIT_LOGIN_REFUSED = 77
EXIT_CONFIG = 78


def install_hint(extra: str) -> str:
    """How to install what an extra of pyproject.toml brings, into the environment that this program runs in."""
    return f"{sys.executable} -m pip install 'cdrsync[{extra}]'"


class CdrsyncError(Exception):
    """A failure with a one-line message, a remedy (`hint`) and the process's exit code.

    Messages never carry a secret: no password, VKey, session id, nor a database URL with its password.
    """

    exit_code: ClassVar[int] = EXIT_BUG
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        """Message and remedy on one line."""
        if not self.hint:
            return self.message
        end = "" if self.message.endswith((".", "?", "!")) else "."  # psycopg asks: "Is the server running …?"
        return f"{self.message}{end} {self.hint}"


class Retry(CdrsyncError):
    """Passes by itself. Whoever catches it forgets its position and reads it again from the database."""

    exit_code = EXIT_UNREACHABLE


class Stop(CdrsyncError):
    """A person must act. Trying again is useless or harmful."""


class Skip(CdrsyncError):
    """This one request can't be had. The others go on."""

    exit_code = EXIT_UNREACHABLE


class ApiUnreachable(Retry):
    """No usable answer from the API: network, timeout, HTTP 429 or 5xx.

    `retry_after` is the operator's own wish in seconds (`Retry-After`), None where it sent none. `answered` says that
    the operator's server failed at the question itself: a smaller one may do better.
    """

    default_hint = "Check api_url and the network; cdrsync doctor looks at each step"

    answered = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        answered: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        if answered is not None:
            self.answered = answered


class Unverified(ApiUnreachable):
    """The operator's server, or whoever stands in between, has no certificate that this machine trusts."""

    default_hint = (
        "Check this machine's clock and certificates (package ca-certificates), and proxies in between; a company's "
        "own authority belongs into the system's store, or into a file that SSL_CERT_FILE names"
    )


class BadAnswer(ApiUnreachable):
    """An answer that is not what the reference page describes. It is refused whole."""

    answered = True
    default_hint = "Nothing of it was stored; if it stays, send the message to the operator"


class DatabaseUnavailable(Retry):
    """The database can't be used at the moment."""

    default_hint = "Check what database_url names; cdrsync doctor looks at each step"


class LeaseLost(Retry):
    """The connection that held the lease died, and with it the right to write."""

    exit_code = EXIT_LEASE_HELD
    default_hint = "Another instance may have taken over; nothing of the page in hand was stored"


class ConfigError(Stop):
    """All problems of the configuration at once, one per line in `problems`."""

    exit_code = EXIT_CONFIG
    default_hint = "cdrsync config show prints every value with its source"

    def __init__(self, problems: list[str], *, hint: str | None = None) -> None:
        super().__init__("; ".join(problems), hint=hint)
        self.problems = problems


class UnknownAccount(ConfigError):
    """No account of that name, or one of several has to be named."""

    exit_code = EXIT_USAGE
    default_hint = "--account takes the NAME of a table [accounts.NAME]; cdrsync status lists those that are held"


class LoginRefused(Stop):
    """The operator refused the login. Never retried by itself: storms lock accounts."""

    exit_code = EXIT_LOGIN_REFUSED
    default_hint = (
        "Check username, password and vkey, and that this machine's public address is on the VKey's allow-list "
        "in the operator's control panel"
    )


class SchemaMismatch(Stop):
    """The database's schema is newer, older (with auto_migrate off) or not ours."""

    exit_code = EXIT_CONFIG


class LeaseHeld(Stop):
    """Another instance holds the lease of this account."""

    exit_code = EXIT_LEASE_HELD
    default_hint = "Stop it first, or let it do the work"


class OutputFailed(Stop):
    """The file or stream that an answer should go to can't be written."""

    exit_code = EXIT_USAGE
    default_hint = (
        "Check that its folder is there, that you may write there, and that the disk has space; an .xlsx needs it for "
        "temporary files, too (TMPDIR)"
    )


class SequenceReset(Stop):
    """The operator hands out lower uids than before: going on would overwrite old calls or miss new ones.

    A new account that polled the same login would read the old calls once more, by LastId, and come to stand above
    the new ones like the old one. Only dates tell the two sequences apart.
    """

    exit_code = EXIT_FOUND
    default_hint = (
        "Ask the operator whether its sequence was restarted; if so, LastId leads to the old calls as long as the "
        "operator lists them: don't run this login under its name any more. Fetch what came on the day of the restart "
        "itself, later than is held (cdrsync fetch --account OLD --uid N); free the login (cdrsync account retire OLD "
        "--reason TEXT); give it a new name under [accounts.NAME] and read it by date alone, each day: cdrsync "
        "backfill --account NAME --since DATE, DATE being the day after the restart at first. Where the mark itself "
        "is wrong: cdrsync checkpoint set"
    )


class RequestRefused(Skip):
    """The operator answered this request with a Code other than 200. `code` is that Code, as sent."""

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NoProgress(Skip):
    """A page that brought no new record although it was not empty: going on would never end."""

    default_hint = "Nothing is lost: the position did not move; if it stays, send the message to the operator"
