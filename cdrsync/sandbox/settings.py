"""What can be set about the stand-in: what the reference page leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Login(NamedTuple):
    """A stand-in login. These are no secrets: they open nothing but this sandbox."""

    username: str
    password: str
    vkey: str


DEMO_LOGIN = Login("demo@example.com", "demo-password", "demo-vkey")


@dataclass(frozen=True, slots=True)
class Settings:
    """Shares are 0..1, times are seconds. `World.configure` replaces fields while the sandbox runs."""

    # What the operator's answers look like
    date_order: Literal["ascending", "descending"] = "ascending"  # of pages asked by date
    last_id_order: Literal["ascending", "shuffled", "descending", "newest-first"] = "ascending"
    # shuffled, descending: within the page of the next records; newest-first: the newest page first, against the page
    end_date_included: bool = True
    limit_clamp: int | None = None  # a silent maximum of `limit`
    empty_page: Literal["pair", "self-closing", "absent"] = "pair"  # how <CDRs> without records is written
    mins_unit: Literal["seconds", "minutes"] = "seconds"  # of MinsTotalNoFormat
    week_begins: Literal["monday", "sunday"] = "monday"  # of GetTotals' period `week`
    separators: bool = False  # totals as "7,859" and "£10.00"

    # Sessions and refusals
    session_life: float = 1800
    session_slides: bool = False  # whether use prolongs it
    refusal_status: int = 200  # HTTP status of a document whose login or session is refused
    refusal_code: str = "401"  # Code of such a response
    allowed_addresses: tuple[str, ...] | None = None  # source addresses of the VKey; None: any

    # How calls come about
    rate: float = 0.0  # live calls per second over all logins
    appear: Literal["at-end", "at-start"] = "at-end"
    # when the uid is handed out; at-start: a long call appears after younger calls with higher uids
    late_share: float = 0.0
    late_delay: tuple[float, float] = (5.0, 7200.0)
    change_share: float = 0.0  # later re-rated, or a flag flips
    change_delay: tuple[float, float] = (10.0, 86400.0)
    absent_flags_share: float = 0.1
