"""RTSP for tests: as much of it as a camera needs to be read, over TCP (RFC 2326, 3550 and 6416).

Debian's GStreamer server is spoken to as well where it is installed; see `gstreamer`.
"""

import contextlib
import shutil
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from .live_home import free_port  # type: ignore[import-not-found]

METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
LARGEST = 1300
GSTREAMER = ("gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-good", "python3-gi")
PIPELINES = {
    "mpeg4": "qtdemux ! mpeg4videoparse config-interval=-1 ! rtpmp4vpay",
    "h264": "qtdemux ! h264parse config-interval=-1 ! rtph264pay",
}
GSTREAMER_PROGRAM = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(f"( filesrc location={sys.argv[2]} ! {sys.argv[3]} name=pay0 pt=96 )")
server.get_mount_points().add_factory("/film", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class Rtsp(socketserver.ThreadingTCPServer):
    """Plays packets of MPEG-4 part 2 to whoever asks, and can be frozen.

    Args:
        packets: The first a key frame.
        fps: How many a second.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, packets: list[bytes], fps: float) -> None:
        super().__init__(("127.0.0.1", 0), _Player)
        self.packets, self.fps = packets, fps
        self.frozen, self.plays = threading.Event(), 0
        self.address = f"rtsp://127.0.0.1:{self.server_address[1]}/film"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def sdp(self) -> str:
        first = self.packets[0]
        config = first[: first.index(b"\0\0\1\xb6")].hex()
        return "\r\n".join([
            "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=film", "t=0 0", "a=control:*",
            "m=video 0 RTP/AVP 96", "a=rtpmap:96 MP4V-ES/90000",
            f"a=fmtp:96 profile-level-id=1; config={config}", "a=control:track1", "",
        ])  # fmt: skip


class _Player(socketserver.StreamRequestHandler):
    server: Rtsp

    def handle(self) -> None:
        ended = threading.Event()
        with contextlib.suppress(OSError):
            while (request := self._request()) is not None:
                method, number = request
                self._answer(method, number)
                if method == "PLAY":
                    self.server.plays += 1
                    threading.Thread(target=self._play, args=(ended,), daemon=True).start()
                if method == "TEARDOWN":
                    break
        ended.set()

    def _request(self) -> tuple[str, str] | None:
        """Method and sequence number; reports of the receiver are passed over."""
        while (first := self.rfile.read(1)) == b"$":
            (size,) = struct.unpack(">xH", self.rfile.read(3))
            self.rfile.read(size)
        if not first:
            return None
        method, number = (first + self.rfile.readline()).decode().split(" ")[0], "0"
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            number = value.strip() if name.lower() == "cseq" else number
        return method, number

    def _answer(self, method: str, number: str) -> None:
        head, body = [f"CSeq: {number}", "Session: 1"], ""
        if method == "OPTIONS":
            head.append(f"Public: {METHODS}")
        if method == "SETUP":
            head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        if method == "DESCRIBE":
            body = self.server.sdp()
            head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.wfile.write("\r\n".join(["RTSP/1.0 200 OK", *head, "", body]).encode())

    def _play(self, ended: threading.Event) -> None:
        sequence = 0
        with contextlib.suppress(OSError, ValueError):
            for k, packet in enumerate(self.server.packets):
                while self.server.frozen.is_set() and not ended.wait(0.01):
                    pass
                if ended.wait(1 / self.server.fps):
                    return
                for at in range(0, len(packet), LARGEST):
                    part = packet[at : at + LARGEST]
                    last = at + LARGEST >= len(packet)
                    stamp = round(90000 * k / self.server.fps)
                    head = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, stamp, 1)
                    self.wfile.write(struct.pack(">cBH", b"$", 0, 12 + len(part)) + head + part)
                    sequence += 1
            self.connection.shutdown(2)


@contextlib.contextmanager
def gstreamer(film: Path, pipeline: str) -> Iterator[str]:
    """Address of a film at Debian's GStreamer RTSP server."""
    port = free_port()
    command = ["/usr/bin/python3", "-c", GSTREAMER_PROGRAM, str(port), str(film), pipeline]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"rtsp://127.0.0.1:{port}/film"
    finally:
        process.kill()
        process.communicate()


def has_gstreamer() -> bool:
    if shutil.which("/usr/bin/python3") is None:
        return False
    program = "import gi; gi.require_version('GstRtspServer', '1.0'); " \
        "gi.require_version('Gst', '1.0'); from gi.repository import Gst, GstRtspServer; " \
        "Gst.init(None); assert Gst.ElementFactory.find('qtdemux')"  # fmt: skip
    done = subprocess.run(  # noqa: S603 -- Debian's Python
        ["/usr/bin/python3", "-c", program], capture_output=True, check=False
    )
    return done.returncode == 0
