"""Simulates a home and writes it as a data set of recordings.

For each run: scripts, their physics, the sensors, and last the pictures. Sensors and labels follow
from the seed alone; pictures also depend on the machine's OpenGL.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from detach.data.processes import in_processes
from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    new_recording,
    read_dataset,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.errors import MachineError, UsageError
from detach.simulate.extra_sensors import EXTRAS, Scene, extra_tracks, read_extras
from detach.simulate.film import CAMERAS, Progress, Shot, film, lamp_over_time
from detach.simulate.homes import HOMES, Household, household, label_rows
from detach.simulate.levels import Level, load_level
from detach.simulate.machine import find_gl, import_mujoco
from detach.simulate.path import walk_through
from detach.simulate.person import subject_body
from detach.simulate.physics import Traces, run_physics
from detach.simulate.plan import Act
from detach.simulate.render import light_over_time
from detach.simulate.under_way import finished, part_of, under_way

MINUTES_A_RUN = 7.5
SECONDS_A_SEQUENCE = 44.56
"""Of HWU-USP: 3,485 windows of 80 sequences."""
SPREAD_S = 5.0
"""Sequences last so much longer or shorter, in whole seconds."""
SHORTEST_S = 4.0
FEWEST_RUNS = 6
FEWEST_GROUPS = 3
"""Of people, or runs: one each to train, choose and test."""
MOST_MINUTES = 100_000
MOST_PEOPLE = 3
FASTEST_FPS = 30
EXTRA_HZ = 20.0
SOURCE = "simulator"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is to be simulated."""

    home: str = "opportunity"
    level: str = "default"
    minutes: float
    seed: int
    runs: int | None = None
    """Into how many recordings to part the minutes; None takes one for 7.5 minutes, at least 6, or
    one for 44.56 s where each is one activity."""
    size: tuple[int, int] = (160, 120)
    """Width and height of the pictures, px."""
    fps: float = 10.0
    people: int = 1
    """At once."""
    extra: tuple[str, ...] = ()
    """Kinds of sensors besides the home's own: sound, light, power."""
    camera: str = "corner"
    """corner, fixed as the home has it, or head, worn by the first person."""


@dataclass(frozen=True)
class _Job:
    """All one process needs to simulate one run."""

    folder: Path
    options: Options
    level: Level
    run: int
    name: str
    subject: int | None
    """None draws one."""
    activity: str
    duration_s: float
    backend: str

    def rng(self, part: int) -> np.random.Generator:
        """Random numbers of one part of the run, so that parts do not disturb each other."""
        return np.random.default_rng([self.options.seed, self.run, part])


def simulate(
    out: Path, options: Options, progress: Progress | None = None, workers: int = 1
) -> Dataset:
    """Simulates a home and writes it to the new folder ``out``.

    Where that is interrupted, or the disk is full, finished runs are kept in a hidden folder
    beside ``out``; the same call goes on with them, and any other for ``out`` begins anew.

    Raises:
        UsageError: An option is not what it must be, ``out`` exists, or another process makes it.
        MachineError: MuJoCo or OpenGL is missing, or the disk is full.
    """
    if out.exists():
        raise UsageError(f"{out}: is already there; give another folder or remove it")
    if workers < 1:
        raise UsageError(f"workers must be >= 1; found {workers}")
    level, lengths_s = load_level(options.level), planned_s(options)
    house = household(options.home)
    version = str(import_mujoco().__version__)
    backend = find_gl()
    plan = {"options": asdict(options), "engine": version, "backend": backend}
    try:
        with under_way(out, plan) as part:
            jobs = _jobs(part, options, level, house, lengths_s, backend)
            _do(jobs, workers, progress)
            dataset = _describe(part, options, house, jobs, version)
            write_dataset(dataset)
    except (OSError, MachineError) as error:
        raise MachineError(f"{_said(out, error)}{_kept(out, len(lengths_s))}") from error
    if progress and (shared := _in_several_parts(dataset, jobs)):
        progress(
            f"{', '.join(shared)}: in more than one part, for people are too few to part by; "
            f"{len(house.activities) * FEWEST_GROUPS} sequences have {FEWEST_GROUPS}"
        )
    return read_dataset(out)


def _said(out: Path, error: OSError | MachineError) -> str:
    if isinstance(error, MachineError):
        return str(error)
    return f"{out}: cannot be written: {error.strerror or error}"


def _kept(out: Path, runs: int) -> str:
    kept = len(finished(part_of(out)))
    return f"; {kept} of {runs} runs are kept, the same command goes on" if kept else ""


def planned_s(options: Options) -> list[float]:
    """Seconds of every run.

    Raises:
        UsageError: An option is not what it must be.
    """
    o = options
    if o.home not in HOMES:
        raise UsageError(f"home must be one of {', '.join(HOMES)}; found {o.home!r}")
    if not 0 < o.minutes <= MOST_MINUTES:
        raise UsageError(f"minutes must be > 0 and at most {MOST_MINUTES}; found {o.minutes!r}")
    count = _default_runs(o) if o.runs is None else o.runs
    unknown = next((kind for kind in o.extra if kind not in EXTRAS), None)
    rules = (
        ("seed", o.seed, o.seed >= 0, ">= 0"),
        ("runs", count, count >= 3, ">= 3, one each to train, validate and test"),
        ("size", o.size, all(32 <= s <= 2048 for s in o.size), "32 to 2048 px"),
        ("fps", o.fps, 0 < o.fps <= FASTEST_FPS, f"in (0, {FASTEST_FPS}]"),
        ("people", o.people, 1 <= o.people <= MOST_PEOPLE, f"1 to {MOST_PEOPLE}"),
        ("extra", unknown, unknown is None, f"some of {', '.join(EXTRAS)}"),
        ("camera", o.camera, o.camera in CAMERAS, f"one of {', '.join(CAMERAS)}"),
    )
    for name, value, fine, must in rules:
        if not fine:
            raise UsageError(f"{name} must be {must}; found {value!r}")
    if o.minutes * 60 / count < SHORTEST_S:
        raise UsageError(
            f"minutes must be at least {count * SHORTEST_S / 60:.2g} for {count} runs, so that "
            f"each lasts {SHORTEST_S:g} s; found {o.minutes!r}"
        )
    if household(o.home).activities:
        return _lengths(o, count)
    return [o.minutes * 60 / count] * count


def _default_runs(options: Options) -> int:
    if household(options.home).activities:
        return max(FEWEST_RUNS, round(options.minutes * 60 / SECONDS_A_SEQUENCE))
    return max(FEWEST_RUNS, round(options.minutes / MINUTES_A_RUN))


def _jobs(
    folder: Path,
    options: Options,
    level: Level,
    house: Household,
    lengths_s: Sequence[float],
    backend: str,
) -> list[_Job]:
    """Runs; or sequences, each an activity by one subject after the other."""
    jobs = []
    for i, seconds in enumerate(lengths_s):
        subject: int | None = None
        name, activity = f"run{i + 1:02d}", ""
        if house.activities:
            turn, kind = divmod(i, len(house.activities))
            take, subject = divmod(turn, house.subjects)
            activity = house.activities[kind]
            name = f"{activity}_s{subject + 1:02d}" + (f"_{take + 1}" if take else "")
        jobs.append(_Job(folder, options, level, i + 1, name, subject, activity, seconds, backend))
    return jobs


def _lengths(options: Options, count: int) -> list[float]:
    """Whole seconds that differ a little and add up to the minutes asked for."""
    total = round(options.minutes * 60)
    mean = total / count
    spread = min(SPREAD_S, mean - SHORTEST_S)
    rng = np.random.default_rng([options.seed, 1])
    ends = np.arange(1, count) * mean + rng.uniform(-spread / 2, spread / 2, count - 1)
    whole = np.concatenate([[0], np.round(ends), [total]])
    return [float(x) for x in np.diff(whole)]


def _do(jobs: Sequence[_Job], workers: int, progress: Progress | None) -> None:
    there = finished(jobs[0].folder)
    left = [job for job in jobs if job.name not in there]
    if there and progress:
        progress(f"{len(there)} of {len(jobs)} runs are there from before; going on")
    if workers == 1 or not left:
        for job in left:
            _record(job, progress)
        return
    for i, done in in_processes(_record, [(job,) for job in left], workers, finish=False):
        if progress:
            progress(f"{left[i].name} of {len(jobs)}: {done}")


def _record(job: _Job, progress: Progress | None = None) -> str:
    """Simulates one run and writes its recording; returns a line about it."""
    options, house = job.options, household(job.options.home)
    scripts = house.write(_people(job), job.level, job.duration_s, _activities(job, house))
    traces = run_physics(house.home, scripts, job.level, job.rng(1), job.duration_s)
    drawn = int(job.rng(2).integers(house.subjects))
    first = drawn if job.subject is None else job.subject
    subjects = [(first + i) % house.subjects for i in range(options.people)]
    shot = Shot(
        name=job.name,
        home=house.home,
        level=job.level,
        scripts=scripts,
        traces=traces,
        # The first person's clothes and those of the others do not depend on each other.
        bodies=[subject_body(s, job.rng(5 if i == 0 else 50 + i)) for i, s in enumerate(subjects)],
        seconds=job.duration_s,
        size_px=options.size,
        fps=options.fps,
        camera=options.camera,
        rng=job.rng,
    )
    with new_recording(job.folder, job.name) as folder:
        sensors = _write_sensors(folder, job, house, scripts, traces)
        rows = label_rows(house, scripts, job.duration_s, job.activity)
        labels = [LabelTrack(name=name, source=SOURCE) for name in rows]
        for track in labels:
            write_labels(folder, track, rows[track.name])
        video = film(shot, job.backend, folder / "video.mp4", progress)
        write_recording(
            Recording(
                folder=folder,
                name=job.name,
                subject=_subject(job, subjects[0]),
                run=job.name,
                duration_s=job.duration_s,
                videos=(video,),
                sensors=tuple(sensors),
                labels=tuple(labels),
                notes={"simulated": True, "home": options.home, "seed": options.seed},
            )
        )
    line = f"{video.frames} pictures, {len(rows['action'])} uses"
    if progress:
        progress(f"{job.name}: {line}")
    return line


def _people(job: _Job) -> list[np.random.Generator]:
    """Random numbers of each person's script; the first's are the same however many there are."""
    others = (
        np.random.default_rng([job.options.seed, job.run, 0, i])
        for i in range(1, job.options.people)
    )
    return [job.rng(0), *others]


def _activities(job: _Job, house: Household) -> list[str]:
    """The sequence's own, and of whoever else is there others."""
    if not job.activity:
        return []
    first = house.activities.index(job.activity)
    return [
        house.activities[(first + 2 * i) % len(house.activities)] for i in range(job.options.people)
    ]


def _subject(job: _Job, subject: int) -> str:
    return f"person{subject + 1}" if job.subject is None else f"s{job.subject + 1:02d}"


def _write_sensors(
    folder: Path,
    job: _Job,
    house: Household,
    scripts: Sequence[Sequence[Act]],
    traces: Traces,
) -> list[SensorTrack]:
    options, seconds = job.options, job.duration_s
    series = house.sense(scripts, traces, job.level, options.seed, job.rng, seconds)
    tracks = house.tracks()
    if options.extra:
        frames = int(seconds * EXTRA_HZ)
        home = house.home
        scene = Scene(
            home=home,
            scripts=scripts,
            paths=[walk_through(home, s, traces.fraction, EXTRA_HZ, frames) for s in scripts],
            hz=EXTRA_HZ,
            traces=traces,
            daylight=light_over_time(job.rng(7), job.level, frames, EXTRA_HZ)[:, 0],
            lamp=lamp_over_time(scripts, job.rng(8), frames, EXTRA_HZ),
        )
        series = {**series, **read_extras(scene, options.extra, seconds, job.rng(9))}
        tracks = [*tracks, *extra_tracks(home, options.extra)]
    for track in tracks:
        write_sensor(folder, track, *series[track.name])
    return tracks


def _describe(
    folder: Path, options: Options, house: Household, jobs: Sequence[_Job], version: str
) -> Dataset:
    unusual = {
        "people": (options.people, 1),
        "extra": (list(options.extra), []),
        "camera": (options.camera, "corner"),
    }
    said = {name: value for name, (value, usual) in unusual.items() if value != usual}
    facts = [options.level, f"seed {options.seed}"]
    facts += [f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in said.items()]
    return Dataset(
        folder=folder,
        name=f"simulated {options.home} ({', '.join(facts)})",
        classes=house.classes(),
        splits=_parts(_groups(jobs), house.activities != ()),
        notes={
            "simulated": True,
            **({} if house.places is None else {"places": house.places}),
            "level": options.level,
            "seed": options.seed,
            "engine": f"MuJoCo {version}",
            **said,
        },
    )


def _groups(jobs: Sequence[_Job]) -> list[tuple[str, ...]]:
    """Names of runs that must be in one part: those of one subject, or each by itself."""
    found: dict[str | int, tuple[str, ...]] = {}
    for job in jobs:
        key = job.name if job.subject is None else job.subject
        found[key] = (*found.get(key, ()), job.name)
    groups = list(found.values())
    return groups if len(groups) >= FEWEST_GROUPS else [(job.name,) for job in jobs]


def _in_several_parts(dataset: Dataset, jobs: Sequence[_Job]) -> list[str]:
    """Subjects who both teach and test, or choose."""
    parts: dict[str, set[str]] = {}
    for job in jobs:
        if job.subject is not None:
            for part in ("train", "val", "test"):
                if job.name in dataset.splits[part]:
                    parts.setdefault(_subject(job, 0), set()).add(part)
    return [name for name, found in parts.items() if len(found) > 1]


def _parts(groups: Sequence[tuple[str, ...]], by_people: bool) -> dict[str, tuple[str, ...]]:
    """The last groups test, and those before them choose: 15 % each, or a quarter and an eighth."""
    share = (0.25, 0.125) if by_people else (0.15, 0.15)
    test, val = (max(1, round(s * len(groups))) for s in share)
    train = sum(groups[: -(test + val)], ())
    return {
        "pretrain": train,
        "train": train,
        "val": sum(groups[-(test + val) : -test], ()),
        "test": sum(groups[-test:], ()),
    }
