"""The sandbox as a process of its own, and its other end: what happens there can neither help nor hinder the program.

`python -m tests.fault.stand_in '{"settings": …, "calls": …, "days": …, "seed": …}'` prints its URL and ends with its
standard input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.support.canary import LOGIN
from tests.support.operator import Call, Settings, World, running
from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping


class StandIn:
    """A sandbox process; the oracle of everything that is compared with it."""

    def __init__(self, *, calls: int, days: float, seed: int, **settings: Any) -> None:
        told = json.dumps({"settings": settings, "calls": calls, "days": days, "seed": seed})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.stand_in", told],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._client = httpx.Client(base_url=self.url.removesuffix("api/") + "_sandbox/", timeout=60, trust_env=False)

    def records(self) -> list[Call]:
        """The operator's records as they are now, by ascending uid."""
        lines = self._client.get("records").text.split("\n")
        return [_call(json.loads(line)) for line in lines if line]

    def counters(self) -> dict[str, Any]:
        """How often everything happened."""
        found: dict[str, Any] = self._client.get("counters").json()
        return found

    def tell(self, verb: str, **body: Any) -> Any:
        """One of the sandbox's control verbs."""
        answer = self._client.post(verb, json=body)
        answer.raise_for_status()
        return answer.json()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._client.close()
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _call(told: Mapping[str, Any]) -> Call:
    extra = tuple((name, text) for name, text in told["extra"])
    return Call(**{**told, "user_cost": Decimal(told["user_cost"]), "extra": extra})


def serve(settings: dict[str, Any], calls: int, days: float, seed: int) -> None:
    """Be the operator until standard input ends."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    world = World(Settings(**given), logins=[LOGIN], seed=seed)
    world.add_history(calls=calls, days=days)
    with running(world) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
