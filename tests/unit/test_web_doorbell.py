"""The doorbell: who may ring it, how often, and what comes of a ring."""

from __future__ import annotations

import threading

import pytest

from cdrsync.web import Doorbell, create_app
from tests.support import plain_http
from tests.support.canary import DOORBELL_TOKEN
from tests.support.web import healthy, serving

BEARER = {"Authorization": f"Bearer {DOORBELL_TOKEN}"}


def doorbell(rings: list[int]) -> Doorbell:
    return Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1), clock=lambda: 0.0)


class TestDoorbell:
    """POST /doorbell makes the next poll happen now, for those who know the token."""

    def test_is_off_without_a_token(self) -> None:
        assert create_app(healthy()).test_client().post("/doorbell", headers=BEARER).status_code == 404

    def test_rings(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        answer = client.post("/doorbell", headers=BEARER, json={"event_type": "call-completed", "ref": "!51FD5E98"})
        assert (answer.status_code, answer.text, rings) == (202, "accepted\n", [1])

    def test_takes_the_token_as_basic_password(self) -> None:
        """Many senders of webhooks know no other way than https://anybody:TOKEN@host/doorbell."""
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post("/doorbell", auth=("anybody", DOORBELL_TOKEN)).status_code == 202
        assert rings == [1]

    @pytest.mark.parametrize(
        "authorization",
        [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {DOORBELL_TOKEN[:-1]}", f"Bearer {DOORBELL_TOKEN}x",
         f"Digest {DOORBELL_TOKEN}", "Basic %%%", "Basic OnRvbw==", "Bearer \u00e9"],
    )  # fmt: skip
    def test_refuses_anything_else(self, authorization: str | None) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = client.post("/doorbell", headers=headers)
        assert (answer.status_code, answer.text, rings) == (401, "refused\n", [])

    def test_takes_no_token_from_the_address(self) -> None:
        """An address ends up in the logs of every proxy on the way."""
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post(f"/doorbell?token={DOORBELL_TOKEN}").status_code == 401
        assert rings == []

    def test_is_never_rung_by_reading(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert (client.get("/doorbell", headers=BEARER).status_code, rings) == (405, [])

    def test_refuses_a_large_body(self) -> None:
        rings: list[int] = []
        client = create_app(healthy(), doorbell=doorbell(rings)).test_client()
        assert client.post("/doorbell", headers=BEARER, data=b"x" * 4097).status_code == 413
        assert rings == []

    def test_refuses_a_large_body_of_unstated_length(self) -> None:
        rings: list[int] = []
        with serving(healthy(), doorbell=doorbell(rings)) as server:
            answer = plain_http.post(f"{server.url}doorbell", headers=BEARER, content=(b"x" * 1000 for _ in range(10)))
        assert (answer.status_code, rings) == (413, [])

    def test_limits_rings_and_guesses_apart(self) -> None:
        """Whoever guesses tokens is slowed down, and can't keep the operator's rings out by it."""
        rings: list[int] = []
        outcomes: list[str] = []
        bell = Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1), counted=outcomes.append, clock=lambda: 0.0)
        client = create_app(healthy(), doorbell=bell).test_client()
        guesses = [client.post("/doorbell", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(25)]
        assert guesses == [401] * 20 + [429] * 5
        answers = [client.post("/doorbell", headers=BEARER) for _ in range(22)]
        bell.close()
        assert [answer.status_code for answer in answers] == [202] * 20 + [429] * 2
        assert answers[-1].headers["Retry-After"] == "1"
        assert outcomes == ["refused"] * 20 + ["limited"] * 5 + ["accepted"] * 20 + ["limited"] * 2

    def test_many_rings_become_two_polls(self) -> None:
        """A storm of rings makes one poll at once and one after it: none of the calls is missed, no storm goes on."""
        rings: list[int] = []
        late = threading.Event()

        def ring(_: str | None) -> None:
            rings.append(1)
            if len(rings) == 2:
                late.set()

        bell = Doorbell(DOORBELL_TOKEN, ring)
        for _ in range(15):
            bell.press(BEARER["Authorization"])
        assert late.wait(30)
        bell.close()
        assert rings == [1, 1]

    def test_does_not_ring_after_the_end(self) -> None:
        rings: list[int] = []
        bell = Doorbell(DOORBELL_TOKEN, lambda _: rings.append(1))
        bell.close()
        bell.press(BEARER["Authorization"])
        assert rings == []

    def test_needs_a_token(self) -> None:
        with pytest.raises(ValueError, match="open to everybody"):
            Doorbell("", lambda _: None)
