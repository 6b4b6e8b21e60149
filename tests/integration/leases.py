"""Stores and replicas that hold leases for a while, and a page to save under one."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.replica import Replica
from tests.support import stores

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = 1.5  # lease_seconds of the tests that wait for one to end

opened = partial(stores.opened, lease_seconds=QUICK)


@contextlib.contextmanager
def replicas(url: str, *seconds: float) -> Iterator[list[Replica]]:
    made = [Replica(url, lease_seconds=one) for one in seconds]
    try:
        yield made
    finally:
        for one in made:
            one.leave()


def page(uid: int) -> Page:
    return Page(Origin.TAIL, [], checkpoint=Checkpoint("tail", uid))
