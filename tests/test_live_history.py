"""The last minutes as the live page draws them."""

from detach.edge.live.config import LiveConfig, SensorSource
from detach.edge.live.history import KEPT_S, MOST_CHANGES, History

from .live_home import home, home_manifest  # type: ignore[import-not-found]

SENSORS = {"fridge": SensorSource(topic="fridge"), "tap": SensorSource(topic="tap")}


def test_history_is_bounded() -> None:
    config = LiveConfig(schema=1, lines=True, sensors=SENSORS)
    manifest = home_manifest({"fridge": None, "tap": 30.0})
    live, _, _, _ = home(config, manifest)
    history = History(manifest, live.kinds, config)
    for k in range(round(2 * KEPT_S)):
        history.push("fridge", "value", [float(k)], [float(k % 2)])
        history.push("tap", "value", [k + j / 30 for j in range(30)], [float(j) for j in range(30)])
    for k in range(3 * MOST_CHANGES):
        history.push("fridge", "value", [2 * KEPT_S], [float(k % 2)])
    history.push("other", "value", [1.0], [1.0])
    found = history.since()
    fridge, tap = found["lanes"][0], found["lanes"][1]
    assert len(fridge) <= MOST_CHANGES
    assert len(tap) == round(KEPT_S / 0.5)
    assert tap[-1] == [2 * KEPT_S - 0.5, 15.0, 29.0]
    news = history.since(2 * KEPT_S - 1.0)["lanes"]
    assert [p[0] for p in news[1]] == [2 * KEPT_S - 1.0, 2 * KEPT_S - 0.5]


def test_a_lane_keeps_what_holds_and_what_is_not_known() -> None:
    config = LiveConfig(schema=1, lines=True, sensors=SENSORS)
    live, _, _, _ = home(config)
    history = History(live.manifest, live.kinds, config)
    rows = [(0.0, 1.0), (1.0, 1.0), (2.0, float("nan")), (1.5, 0.0), (9.0, 1.0)]
    for t_s, value in rows:
        history.push("fridge", "value", [t_s], [value])
    assert history.since()["lanes"][0] == [[0.0, 1.0], [2.0, None], [2.0, 0.0], [9.0, 1.0]]
    assert history.since(5.0)["lanes"] == {0: [[9.0, 1.0]]}
