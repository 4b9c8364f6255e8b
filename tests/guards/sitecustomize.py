"""Read by every Python that tests start: conftest.py puts this folder on PYTHONPATH.

Nothing reaches beyond this machine: whoever tries gets an error, and stands in DETACH_NETWORK_LOG.
DETACH_CORE is another compiled module than the installed one, as tests/core/python.sh makes it.
"""

import os
import sys
from typing import Any

WHERE = {
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.connect": 1,
    "socket.sendto": 1,
}
"""Events of Python's audit, and which argument is the address."""
HERE = {"localhost", "::1", "::", "0.0.0.0", "", "None", os.uname().nodename}  # noqa: S104


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in WHERE:
        return
    address = arguments[WHERE[event]]
    if event in {"socket.connect", "socket.sendto"} and not isinstance(address, tuple):
        return  # a socket in the file system
    host = address[0] if isinstance(address, tuple) else address
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in HERE or name.startswith("127."):
        return
    if log := os.environ.get("DETACH_NETWORK_LOG"):
        with open(log, "a") as file:  # noqa: PTH123 -- as little as possible is imported here
            file.write(f"{event} {address} from {' '.join(sys.argv)[:200]}\n")
    raise OSError(f"tests have no network: {event} {address}")


class OtherCore:
    """Finds the compiled module elsewhere."""

    @staticmethod
    def find_spec(name: str, _: Any = None, __: Any = None) -> Any:
        if name != "detach._C":
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, os.environ["DETACH_CORE"])


sys.addaudithook(refuse)
if "DETACH_CORE" in os.environ:
    sys.meta_path.insert(0, OtherCore)
