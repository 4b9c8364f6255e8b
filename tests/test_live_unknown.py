"""What is published of bundles with many classes, or with one that says unknown."""

import json

import pytest

from detach.edge.decide import UNKNOWN, Decision
from detach.edge.live.config import LARGEST_PAYLOAD, Deciding, Publishing
from detach.edge.live.discovery import discovery, state_body
from detach.edge.live.outcomes import Outcome, Settled
from detach.edge.live.sinks import HomeAssistant
from detach.errors import DataError

from .live_home import home_manifest  # type: ignore[import-not-found]

NAMED = ("cooking", "sleeping", UNKNOWN)
"""As `detach name` makes them."""


class Link:
    """Keeps what is sent."""

    up = True

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def publish(self, topic: str, payload: str, *, retain: bool) -> bool:
        assert retain
        self.sent[topic] = payload
        return True


def answer(*probabilities: float) -> Decision:
    best = max(range(len(NAMED)), key=lambda i: probabilities[i])
    return Decision(
        start_s=0.0, end_s=2.0, label=NAMED[best], confidence=probabilities[best],
        probabilities=probabilities, place=0, place_confidence=1.0, live_share=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_the_class_unknown_is_never_a_state(windows: int) -> None:
    settled = Settled(Deciding(windows=windows), NAMED)
    rows = [*4 * [(0.01, 0.0, 0.99)], (0.6, 0.0, 0.4), (0.01, 0.0, 0.99)]
    for row in rows:
        settled.take(answer(*row))
        if row[2] > 0.5 or windows > 1:
            assert settled.state is None
    for _ in range(4):
        settled.take(answer(0.98, 0.01, 0.01))
    assert settled.state == "cooking"
    for _ in range(4):
        settled.take(answer(0.01, 0.0, 0.99))
    assert settled.state is None


def test_the_class_unknown_is_no_entity_and_no_option() -> None:
    found = dict(discovery("home", home_manifest(classes=NAMED), Publishing()))
    assert not [topic for topic in found if UNKNOWN in topic]
    (activity,) = [body for topic, body in found.items() if topic.endswith("/activity/config")]
    assert activity["options"] == ["cooking", "sleeping"]
    for state in (None, "cooking"):
        assert set(state_body(NAMED, state)["on"]) == {"cooking", "sleeping"}


def named(count: int, letters: int) -> tuple[str, ...]:
    return tuple(f"{'ü' * 4}{'walk' * letters}"[: letters - 4] + f" {n:03d}" for n in range(count))


def published(classes: tuple[str, ...], state: str | None) -> dict[str, str]:
    link = Link()
    home = HomeAssistant(link, "home", home_manifest(classes=classes, places=99), Publishing())
    home.connected(up=True)
    home.take(
        Outcome(
            number=1,
            kind="abstention",
            start_s=0.0,
            end_s=2.0,
            utc_s=1.7e9 + 0.123,
            state=state,
            changed=True,
            reason="silent_sensor",
            decision=answer(0.1234, 0.2, 0.3),
        )
    )
    home.idle(0.0)
    return link.sent


def test_what_is_too_long_to_be_sent_is_said_at_the_start() -> None:
    fits = next(n for n in range(140, 50, -1) if _fits(named(n, 30)))
    sent = published(named(fits, 30), named(fits, 30)[0])
    sizes = {topic: len(text.encode()) for topic, text in sent.items()}
    assert max(sizes.values()) <= LARGEST_PAYLOAD
    assert sizes["detach/home/state"] > LARGEST_PAYLOAD - 60  # and no sooner than needed
    assert json.loads(sent["detach/home/state"])["activity"] == named(fits, 30)[0]
    with pytest.raises(
        DataError, match=rf"{fits + 1} classes .* 4\d\d\d bytes, more than the 4096"
    ):
        published(named(fits + 1, 30), None)
    with pytest.raises(DataError, match=r"of walkwalk\w+ for .* has \d+ bytes.*shorter name"):
        published(("walk" * 1000,), None)


def _fits(classes: tuple[str, ...]) -> bool:
    try:
        published(classes, None)
    except DataError:
        return False
    return True
