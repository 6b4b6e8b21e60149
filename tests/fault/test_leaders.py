"""Who may write: paused leaders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdrsync.store.databases import port
from tests.conftest import KINDS
from tests.fault.fresh import fresh
from tests.fault.leaders import contest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import Servers

LEASE_SECONDS = 6  # in place of 15; less, and who leads on a busy machine is taken for a dead one


@pytest.mark.waits
@pytest.mark.parametrize("kind", KINDS)
def test_a_leader_paused_and_resumed_commits_nothing_more(kind: str, servers: Servers, tmp_path: Path) -> None:
    """SIGSTOP, takeover, SIGCONT, again and again: nothing is ever written under a lease that another one has.

    `python -m tests.fault.leaders --minutes 10` is the long one, with the program's own patience.
    """
    with fresh(servers.get(kind)) as url:
        figures = contest(url, [url, url], tmp_path, pauses=2, seconds=0, lease_seconds=LEASE_SECONDS, seed=1)
    print(figures.line(kind, 1))
    assert figures.double == []
    assert figures.leases >= 2
    assert max(figures.takeovers) < LEASE_SECONDS + 2 * port.SILENT_SECONDS + 5
    assert figures.compared > 300
