"""Simulates a home and writes it as a data set of recordings.

For each run: a script, its physics, the sensors, and last the pictures. Sensors and labels follow
from the seed alone; pictures also depend on the machine's OpenGL.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detach.data.processes import in_processes
from detach.data.recording import (
    PRESENCE_TRACK,
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    VideoTrack,
    new_recording,
    read_dataset,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.errors import MachineError, UsageError
from detach.simulate.home import HOMES, THINGS
from detach.simulate.levels import Level, load_level
from detach.simulate.machine import find_gl, import_mujoco
from detach.simulate.person import AWAY_AFTER_S, in_sight, subject_body, walk_through
from detach.simulate.physics import SENSOR_HZ, Traces, run_physics
from detach.simulate.render import Camera, as_filmed, light_over_time
from detach.simulate.script import OTHER_NAMES, Act, action_classes, write_script
from detach.simulate.sensors import (
    accelerometer_tracks,
    home_faults,
    read_accelerometers,
    read_switches,
    switch_tracks,
)

Progress = Callable[[str], None]

MINUTES_A_RUN = 7.5
FEWEST_RUNS = 6
MOST_MINUTES = 100_000
SUBJECTS = 4
LAMP_OFF = 0.35
SOURCE = "simulator"
CODEC = "mp4v"


@dataclass(frozen=True)
class _Job:
    """All one process needs to simulate one run."""

    folder: Path
    home: str
    level: Level
    seed: int
    run: int
    duration_s: float
    size_px: tuple[int, int]
    fps: float
    backend: str

    @property
    def name(self) -> str:
        return f"run{self.run:02d}"

    def rng(self, part: int) -> np.random.Generator:
        """Random numbers of one part of the run, so that parts do not disturb each other."""
        return np.random.default_rng([self.seed, self.run, part])


def simulate(
    out: Path,
    *,
    home: str = "opportunity",
    level: str = "default",
    minutes: float,
    seed: int,
    runs: int | None = None,
    size: tuple[int, int] = (160, 120),
    fps: float = 10.0,
    progress: Progress | None = None,
    workers: int = 1,
) -> Dataset:
    """Simulates ``minutes`` of a home and writes them to the new folder ``out``.

    Args:
        out: Folder to make; must not exist.
        home: Which home; there is one, laid out like the OPPORTUNITY room.
        level: Named difficulty, see `levels`.
        minutes: Length of all runs together.
        seed: The home's faults, and everything that happens, follow from it.
        runs: Into how many recordings to part it; by custom one for 7.5 minutes, at least 6.
        size: Width and height of the pictures, px.
        fps: Pictures per second.
        progress: Called with a line now and then.
        workers: Processes.

    Raises:
        UsageError: An argument is not what it must be, or ``out`` exists.
        MachineError: MuJoCo or OpenGL is missing, or the disk is full.
    """
    chosen = load_level(level)
    count = _check(out, home, minutes, seed, runs, size, fps, workers)
    version = str(import_mujoco().__version__)
    backend = find_gl()
    part = out.parent / f".{out.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        length_s = minutes * 60 / count
        jobs = [
            _Job(part, home, chosen, seed, i + 1, length_s, size, fps, backend)
            for i in range(count)
        ]
        _do(jobs, workers, progress)
        write_dataset(_describe(part, home, chosen, seed, [j.name for j in jobs], version))
        part.replace(out)
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return read_dataset(out)


def _check(
    out: Path,
    home: str,
    minutes: float,
    seed: int,
    runs: int | None,
    size: tuple[int, int],
    fps: float,
    workers: int,
) -> int:
    """Refuses what cannot be done; returns the number of runs."""
    if out.exists():
        raise UsageError(f"{out}: is already there; give another folder or remove it")
    if home not in HOMES:
        raise UsageError(f"home must be one of {', '.join(HOMES)}; found {home!r}")
    if not 0 < minutes <= MOST_MINUTES:
        raise UsageError(f"minutes must be > 0 and at most {MOST_MINUTES}; found {minutes!r}")
    count = max(FEWEST_RUNS, round(minutes / MINUTES_A_RUN)) if runs is None else runs
    rules = (
        ("seed", seed, seed >= 0, ">= 0"),
        ("runs", count, count >= 3, ">= 3, one each to train, validate and test"),
        ("size", size, all(32 <= s <= 2048 for s in size), "32 to 2048 px"),
        ("fps", fps, 0 < fps <= SENSOR_HZ, f"in (0, {SENSOR_HZ}]"),
        ("workers", workers, workers >= 1, ">= 1"),
    )
    for name, value, fine, must in rules:
        if not fine:
            raise UsageError(f"{name} must be {must}; found {value!r}")
    if minutes * 60 / count < 4.0:
        raise UsageError(
            f"minutes must be at least {count * 4 / 60:.2g} for {count} runs, so that each lasts "
            f"4 s; found {minutes!r}"
        )
    return count


def _do(jobs: Sequence[_Job], workers: int, progress: Progress | None) -> None:
    if workers == 1:
        for job in jobs:
            _record(job, progress)
        return
    for i, done in in_processes(_record, [(job,) for job in jobs], workers, finish=False):
        if progress:
            progress(f"{jobs[i].name} of {len(jobs)}: {done}")


def _record(job: _Job, progress: Progress | None = None) -> str:
    """Simulates one run and writes its recording; returns a line about it."""
    acts = write_script(job.rng(0), job.level, job.duration_s)
    traces = run_physics(acts, job.level, job.rng(1), job.duration_s)
    subject = int(job.rng(2).integers(SUBJECTS))
    with new_recording(job.folder, job.name) as folder:
        sensors = _write_sensors(folder, job, traces)
        labels, uses = _write_tracks(folder, job, acts)
        video = _write_video(folder, job, acts, traces, subject, progress)
        write_recording(
            Recording(
                folder=folder,
                name=job.name,
                subject=f"person{subject + 1}",
                run=job.name,
                duration_s=job.duration_s,
                videos=(video,),
                sensors=tuple(sensors),
                labels=tuple(labels),
                notes={"simulated": True, "home": job.home, "seed": job.seed},
            )
        )
    line = f"{video.frames} pictures, {uses} uses"
    if progress:
        progress(f"{job.name}: {line}")
    return line


def _write_sensors(folder: Path, job: _Job, traces: Traces) -> list[SensorTrack]:
    faults = home_faults(np.random.default_rng([job.seed, 0]), job.level)
    series = {
        **read_switches(traces, job.level, faults, job.rng(3)),
        **read_accelerometers(traces, job.level, faults, job.rng(4)),
    }
    tracks = [*switch_tracks(), *accelerometer_tracks()]
    for track in tracks:
        write_sensor(folder, track, *series[track.name])
    return tracks


def _write_tracks(folder: Path, job: _Job, acts: Sequence[Act]) -> tuple[list[LabelTrack], int]:
    """Labels from the script: what is done, with which thing, and when somebody is in view."""
    end_s = job.duration_s
    uses = [a for a in acts if a.kind == "use" and a.start_s < end_s]
    others = [a for a in acts if a.kind in OTHER_NAMES and a.start_s < end_s]
    away = [a for a in acts if a.kind == "away" and a.end_s - a.start_s > 2 * AWAY_AFTER_S]
    edges = [0.0]
    for act in away:
        edges += [act.start_s + AWAY_AFTER_S, act.end_s - AWAY_AFTER_S]
    edges.append(end_s)
    rows = {
        "action": [(a.start_s, min(a.end_s, end_s), a.label) for a in uses],
        "place": [(a.start_s, min(a.end_s, end_s), THINGS[a.thing].name) for a in uses],
        "other": [(a.start_s, min(a.end_s, end_s), OTHER_NAMES[a.kind]) for a in others],
        PRESENCE_TRACK: [
            (a, min(b, end_s), PRESENCE_TRACK)
            for a, b in zip(edges[::2], edges[1::2], strict=True)
            if a < end_s
        ],
    }
    tracks = [LabelTrack(name=name, source=SOURCE) for name in rows]
    for track in tracks:
        write_labels(folder, track, rows[track.name])
    return tracks, len(uses)


def _write_video(
    folder: Path,
    job: _Job,
    acts: Sequence[Act],
    traces: Traces,
    subject: int,
    progress: Progress | None,
) -> VideoTrack:
    frames = int(job.duration_s * job.fps)
    path = walk_through(acts, traces.fraction, job.fps, frames)
    body = subject_body(subject, job.rng(5))
    noise = job.rng(6)
    light = light_over_time(job.rng(7), job.level, frames, job.fps)
    lamp = _lamp(acts, job, frames)
    file = folder / "video.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODEC), job.fps, job.size_px)
    if not writer.isOpened():
        raise MachineError(f"{file}: OpenCV cannot write {CODEC} video here; is the disk full?")
    with closing(Camera(job.backend, job.size_px)) as camera:
        for f in range(frames):
            t_s, act = (f + 0.5) / job.fps, acts[path.act[f]]
            camera.pose(traces.joints[min(len(traces.joints) - 1, int(t_s * SENSOR_HZ))])
            handle = camera.handle(THINGS[act.thing].slug) if act.kind == "use" else None
            limbs = body.limbs(path, f, act, t_s, handle) if in_sight(act, t_s) else []
            picture = camera.picture(limbs, float(lamp[f]), float(light[f, 0]))
            filmed = as_filmed(picture, float(light[f, 1]), job.level.camera_noise, noise)
            writer.write(np.ascontiguousarray(filmed[..., ::-1]))
            if progress and f % 600 == 599:
                progress(f"{job.name}: {t_s:.0f} of {job.duration_s:.0f} s")
    writer.release()
    _check_video(file, frames)
    width, height = job.size_px
    return VideoTrack(
        name="corner",
        file=file.name,
        fps=job.fps,
        frames=frames,
        width_px=width,
        height_px=height,
        start_s=0.5 / job.fps,
    )


def _check_video(file: Path, frames: int) -> None:
    """OpenCV says nothing when a picture could not be written."""
    video = cv2.VideoCapture(str(file))
    found = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if found != frames:
        raise MachineError(
            f"{file}: {frames} pictures were written, {found} are there; is the disk full?"
        )


def _lamp(acts: Sequence[Act], job: _Job, frames: int) -> NDArray[np.float64]:
    """How bright the lamp is at each frame: each toggle turns it on or off."""
    on = np.ones(frames)
    start = 0
    bright = bool(job.rng(8).random() < 0.7)
    for act in acts:
        if act.kind == "toggle":
            turn = min(frames, int((act.start_s + act.end_s) / 2 * job.fps))
            on[start:turn], start, bright = 1.0 if bright else LAMP_OFF, turn, not bright
    on[start:] = 1.0 if bright else LAMP_OFF
    return on


def _describe(
    folder: Path, home: str, level: Level, seed: int, names: Sequence[str], version: str
) -> Dataset:
    held_out = max(1, round(0.15 * len(names)))
    train = tuple(names[: -2 * held_out])
    return Dataset(
        folder=folder,
        name=f"simulated {home} ({level.name}, seed {seed})",
        classes={"action": action_classes(), "place": tuple(t.name for t in THINGS)},
        splits={
            "pretrain": train,
            "train": train,
            "val": tuple(names[-2 * held_out : -held_out]),
            "test": tuple(names[-held_out:]),
        },
        notes={
            "simulated": True,
            "places": len(THINGS),
            "level": level.name,
            "seed": seed,
            "engine": f"MuJoCo {version}",
        },
    )
