"""What packaging/detach-live.service can read, as the page puts it there and as systemd runs it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import (  # type: ignore[import-not-found]
    mosquitto,
    password_file,
    wait_for,
    watcher,
)

ROOT = Path(__file__).parents[1]
PAGE, UNIT = ROOT / "docs/home-assistant.md", ROOT / "packaging/detach-live.service"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
NOBODY = 65534
LARGEST_CREDENTIALS = 1 << 20
"""All of a unit's together, in systemd.exec(5)."""
CONFIG = """
schema: 1
name: kitchen
mqtt: {host: 127.0.0.1, port: PORT, username: detach, password_file: password}
sensors:
  sensor0: {topic: zigbee2mqtt/door}
publish: {}
"""


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder for another user's eyes, with etc/detach as the page says and the credentials."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to be somebody else")
    with tempfile.TemporaryDirectory(prefix="detach-unit-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_the_service_can_read_what_the_page_installs(machine: Path) -> None:
    write_tiny(machine / "home.detach")
    users = password_file(machine, "detach", "the password")
    with mosquitto(machine, "allow_anonymous false", f"password_file {users}") as broker:
        (machine / "live.yaml").write_text(CONFIG.replace("PORT", str(broker.port)))
        installed(machine)
        command = as_systemd_does(machine)
        with watcher(broker.port, username="detach", password="the password") as house:  # noqa: S106
            process = subprocess.Popen(  # noqa: S603 -- our own unit
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                env=ENVIRONMENT,
            )  # fmt: skip
            try:
                wait_for(
                    lambda: (
                        process.poll() is not None
                        or house.last("detach/kitchen/availability") == b"online"
                    ),
                    "the service",
                    60,
                )
            finally:
                process.terminate()
                _, said = process.communicate(timeout=30)
    assert house.last("detach/kitchen/availability") in {b"online", b"offline"}, said
    assert process.returncode == 0, said


def installed(machine: Path) -> None:
    """Runs what the page says, in one shell, into the folder instead of /etc."""
    page = PAGE.read_text()
    (login,) = re.findall(r"^.*printf '%s' .*> password.*$", page, re.MULTILINE)
    install = re.findall(r"^.*(?:install|cp) .* /etc/detach/?$", page, re.MULTILINE)
    assert install, "the page installs nothing"
    text = "\n".join(["umask 022", "mkdir etc", login, *install, "umask"])
    done = subprocess.run(  # noqa: S603 -- lines of our page
        ["/bin/sh", "-e", "-c", text.replace("/etc/", f"{machine}/etc/")],
        cwd=machine, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "0022", "the shell makes no readable files any more"
    for name in ("live.yaml", "password"):
        assert (machine / "etc/detach" / name).stat().st_mode & 0o077 == 0


def as_systemd_does(machine: Path) -> list[str]:
    """The unit's command for a user without any right; the credentials are there, and its own."""
    text = UNIT.read_text().replace("/etc/", f"{machine}/etc/")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    credentials = machine / "credentials"
    credentials.mkdir()
    for name, source in re.findall(r"^LoadCredential=(\S+?):(\S+)$", text, re.MULTILINE):
        shutil.copyfile(source, credentials / name)
        os.chown(credentials / name, NOBODY, NOBODY)
        (credentials / name).chmod(0o400)
    assert sum(path.stat().st_size for path in credentials.iterdir()) < LARGEST_CREDENTIALS
    assert not (credentials / "home.detach").exists(), "bundles are longer than a credential may be"
    os.chown(credentials, NOBODY, NOBODY)
    credentials.chmod(0o500)
    run = machine / "run"
    run.mkdir()
    os.chown(run, NOBODY, NOBODY)
    command = command.replace("${CREDENTIALS_DIRECTORY}", str(credentials))
    words = shlex.split(command.replace("/run/detach/", f"{run}/"))
    nobody = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    python = ["setpriv", *nobody, "--bounding-set=-all", "--inh-caps=-all", sys.executable]
    reads = [*python, "-c", "import detach"]
    if subprocess.run(reads, check=False, capture_output=True, env=ENVIRONMENT).returncode:  # noqa: S603
        pytest.skip("another user cannot run this Python")
    return [*python, "-m", "detach", *words[1:]]
