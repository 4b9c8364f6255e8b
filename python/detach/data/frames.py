"""The pictures of all recordings as memory maps, decoded once into a cache on disk."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import video
from detach.data.decoding import decode_apart
from detach.data.recording import Recording, VideoTrack
from detach.data.store import cache_folders, fingerprint, writable_folder, write_array
from detach.data.video import Pictures
from detach.errors import DataError, MachineError

Progress = Callable[[str], None]
SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class Frames:
    """All frames of one recording at the size for training."""

    pictures: Pictures
    """RGB [n, H, W, 3], a memory map."""
    t_s: NDArray[np.float64]
    """Seconds since the start of the recording [n]."""
    path: Path
    """The cache file."""
    folders: tuple[Path, ...] = ()
    """Where else optical flow may lie, should the folder of ``path`` be read-only."""

    def on_screen(
        self, t_s: NDArray[Any], period_s: float
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Index of the frame on screen at each time, of any shape, and whether it is overdue.

        A frame stays on screen until the next; it is overdue more than half a ``period_s`` late.
        """
        index = np.searchsorted(self.t_s, t_s + 1e-3, side="right") - 1
        late = (index < 0) | (t_s - self.t_s[np.maximum(index, 0)] > 1.5 * period_s)
        return np.maximum(index, 0).astype(np.int32), np.asarray(late)

    def flow(self, pairs: NDArray[np.int32]) -> NDArray[np.int8]:
        """Optical flow [P, H, W, 2] between pairs of frames [P, 2] as a memory map, made once.

        In steps of `video.FLOW_STEP_PX`.

        Raises:
            MachineError: No room, or no folder that can be written.
        """
        key = fingerprint(self.path, pairs.tobytes())
        if not len(pairs):
            return np.zeros((0, *self.pictures.shape[1:3], 2), dtype=np.int8)
        name = f"{self.path.name.removesuffix('.npy')}.flow-{key}.npy"
        folders = tuple(dict.fromkeys((self.path.parent, *self.folders)))
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            path = writable_folder(folders) / name
            write_array(path, video.dense_flow(self.pictures, pairs), len(pairs))
        return np.asarray(np.load(path, mmap_mode="r"))


def open_frames(
    recordings: Sequence[Recording],
    config: VideoConfig,
    *,
    dataset: Path,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Frames, ...]:
    """The frames of ``recordings``, decoded into the cache where they are not there yet.

    Args:
        recordings: Each with the camera that ``config`` names.
        config: Camera, size and fit.
        dataset: Folder of the data set; the cache lies in its ``.cache`` or, where that cannot be
            written, in the user's cache folder.
        cache: Another folder for the cache.
        progress: Is told what is being done.

    Raises:
        DataError: A damaged or a wrong video, or pictures of different shapes.
        MachineError: No room, or no cv2.
    """
    tracks = [recording.video(config.camera) for recording in recordings]
    sizes = [video.picture_size(t.width_px, t.height_px, config) for t in tracks]
    for recording, size in zip(recordings, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"{recording.folder}: pictures would be {size[1]}x{size[0]}, but "
                f"{sizes[0][1]}x{sizes[0][0]} in {recordings[0].name}; cameras of one data set "
                "need one aspect. Use video.fit=crop"
            )
    folders = cache_folders(dataset, cache)
    names = [_cache_name(r, t, config) for r, t in zip(recordings, tracks, strict=True)]
    todo = [i for i, name in enumerate(names) if _find(folders, name) is None]
    if todo:
        folder, all_of = writable_folder(folders), frozenset(names)
        jobs = [_Job(recordings[i], tracks[i], sizes[i], folder / names[i], all_of) for i in todo]
        _decode_all(jobs, config, folder, progress)
    return tuple(_load(folders, name, track) for name, track in zip(names, tracks, strict=True))


def open_flow(
    jobs: Sequence[tuple[Frames, NDArray[np.int32]]], progress: Progress | None = None
) -> tuple[NDArray[np.int8], ...]:
    """`Frames.flow` for each recording and its pairs, on a few threads."""
    flows, said = [], time.monotonic()
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1, 8)) as pool:
        for i, flow in enumerate(pool.map(lambda job: job[0].flow(job[1]), jobs), start=1):
            flows.append(flow)
            if progress and time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                progress(f"optical flow: {i} of {len(jobs)} recordings")
    return tuple(flows)


def _cache_name(recording: Recording, track: VideoTrack, config: VideoConfig) -> str:
    height, width = video.picture_size(track.width_px, track.height_px, config)
    made_by = replace(track, start_s=0.0)  # pictures stay when their clock is put right
    key = fingerprint(recording.folder / track.file, made_by, config.fit)
    return f"{recording.name}.{track.name}.{width}x{height}-{config.fit}.{key}.npy"


def _times_path(pictures: Path) -> Path:
    return pictures.with_name(f"{pictures.name.removesuffix('.npy')}.times.npy")


def _find(folders: Sequence[Path], name: str) -> Path | None:
    """The times are written last; a cache that was cut short or damaged is as good as none."""
    return next((folder / name for folder in folders if _is_whole(folder / name)), None)


def _is_whole(path: Path) -> bool:
    try:
        pictures, times = np.load(path, mmap_mode="r"), np.load(_times_path(path), mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(pictures.ndim == 4 and times.shape == pictures.shape[:1])


def _load(folders: Sequence[Path], name: str, track: VideoTrack) -> Frames:
    path = _find(folders, name)
    if path is None:
        raise MachineError(f"{folders[0] / name}: vanished while it was made; run it again")
    pictures = np.asarray(np.load(path, mmap_mode="r"))
    return Frames(pictures, track.at(np.load(_times_path(path))), path, tuple(folders))


@dataclass
class _Job:
    recording: Recording
    track: VideoTrack
    size: tuple[int, int]
    path: Path
    all_of: frozenset[str] = frozenset()
    """Names of all caches of the data set."""
    done: int = 0
    """Frames so far."""

    def run(self, config: VideoConfig, stop: threading.Event) -> None:
        times: list[float] = []
        file = self.recording.folder / self.track.file
        source = decode_apart(file, self.track, config)

        def rows() -> Iterator[Pictures]:
            for t_s, picture in source:
                if stop.is_set():
                    raise DataError("stopped")
                times.append(t_s)
                self.done += 1
                yield picture

        write_array(self.path, rows(), self.track.frames)
        write_array(_times_path(self.path), map(np.asarray, times), len(times))
        _forget_older(self.path, self.all_of)


def _decode_all(
    jobs: Sequence[_Job], config: VideoConfig, folder: Path, progress: Progress | None
) -> None:
    # Threads are enough: cv2 releases the interpreter lock.
    say = progress or (lambda _: None)
    total = sum(job.track.frames for job in jobs)
    size = sum(job.track.frames * job.size[0] * job.size[1] * 3 for job in jobs)
    say(f"pictures: {len(jobs)} recordings, {total} frames, {size / 1e6:.1f} MB to {folder}")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MachineError(
            f"{folder}: {size / 1e6:.1f} MB of pictures do not fit, {free / 1e6:.1f} MB are free; "
            "free some space, choose another cache folder or a smaller video.size_px"
        )
    stop, started = threading.Event(), time.monotonic()
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1, 8)) as pool:
        try:
            waiting = {pool.submit(job.run, config, stop) for job in jobs}
            while waiting:
                ended, waiting = wait(waiting, timeout=SAY_EVERY_S, return_when=FIRST_EXCEPTION)
                for future in ended:
                    future.result()
                done = sum(job.done for job in jobs)
                left_s = (time.monotonic() - started) * (total / max(done, 1) - 1)
                say(f"pictures: {done} of {total} frames, about {max(left_s, 0):.0f} s left")
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _forget_older(path: Path, all_of: frozenset[str]) -> None:
    """Removes caches of the same pictures made from an older content of the file.

    Names of other recordings and cameras may begin alike; whatever is of ``all_of`` stays.
    """
    prefix = path.name.removesuffix(".npy").rsplit(".", 1)[0]
    kept = tuple(name.removesuffix(".npy") for name in (path.name, *all_of))
    for other in path.parent.iterdir():
        if other.name.startswith(f"{prefix}.") and not other.name.startswith(kept):
            other.unlink(missing_ok=True)
