"""What systemd wants to know: ready, alive, stopping. Nothing where there is no systemd."""

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Tells systemd, for example ``READY=1``. Whether there was somebody to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address)
        return True
    return False
