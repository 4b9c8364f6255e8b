"""Descriptions of an earlier bundle are taken back from the broker."""

import os
import subprocess
import sys
from pathlib import Path

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import mosquitto, wait_for, watcher  # type: ignore[import-not-found]

CONFIG = """
schema: 1
name: kitchen
mqtt: {host: 127.0.0.1, port: PORT}
sensors: {sensor0: {topic: t/0}}
publish: {}
"""
OLD = "homeassistant/binary_sensor/detach_kitchen/dance/config"
OTHERS = "homeassistant/binary_sensor/detach_hall/dance/config"
COOK = "homeassistant/binary_sensor/detach_kitchen/cook/config"


def test_what_an_earlier_bundle_announced_is_taken_back(tmp_path: Path) -> None:
    bundle: Path = write_tiny(tmp_path / "tiny.detach")
    with mosquitto(tmp_path) as broker:
        (tmp_path / "live.yaml").write_text(CONFIG.replace("PORT", str(broker.port)))
        with watcher(broker.port) as house:
            for topic in (OLD, OTHERS, COOK):
                house.send(topic, b"{}", retain=True)
            process = subprocess.Popen(  # noqa: S603 -- ourselves
                [sys.executable, "-m", "detach", "live", str(bundle), "--quiet", "--config",
                 str(tmp_path / "live.yaml")],
                env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "python")},
            )  # fmt: skip
            try:
                wait_for(lambda: house.last(OLD) == b"", "the old one going")
                wait_for(lambda: house.last(COOK) not in {b"", b"{}", None}, "the new ones")
            finally:
                process.terminate()
                assert process.wait(20) == 0
        with watcher(broker.port) as later:
            wait_for(lambda: later.last(COOK), "what stays")
            assert later.last(OLD) is None
            assert later.last(OTHERS) == b"{}"
