"""`python benchmarks/faults.py HOME ...`: faults planted in simulated homes, and which are found.

In each planting one sensor drawn at random is reversed, one is dead, one fires at other times than
what it is fixed to moves (misplaced), and one is there twice, 0.2 s late. What a simulated home has
of itself, its dead switches, counts as planted; what is said without being sure does not count.
Nothing is written into a HOME that is there; one that is not is simulated first, its name being
the simulator's seed: 13 minutes in 3 recordings, 5 pictures a second, of which no more are looked
at. `--append FILE` adds the figures to FILE.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from detach import ledger
from detach.data import quality_camera
from detach.data.quality import inspect_recordings
from detach.data.recording import (
    Recording,
    SensorTrack,
    read_dataset,
    read_recording,
    write_recording,
    write_sensor,
)
from detach.simulate.record import Options, simulate

FAULTS = ("reversed", "dead", "misplaced", "duplicate")
CHANGES = 20
"""A sensor that changes less often is left as it is."""
MINUTES = 13.0
"""Of a home that is simulated for this; `inspect` is not sure of anything in less than 12."""


def main() -> None:
    """Prints a line for each planting, and precision and recall of each fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("homes", nargs="+", type=Path)
    parser.add_argument("--plantings", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="recordings of each home")
    parser.add_argument("--append", type=Path)
    args = parser.parse_args()
    fps = 1 / quality_camera.STEP_S
    for folder in args.homes:
        if not folder.exists():
            seed = int(folder.name)
            simulate(folder, Options(minutes=MINUTES, seed=seed, runs=3, fps=fps))
    homes = [read_dataset(folder) for folder in args.homes]
    right, wrong, missed = (Counter[str]() for _ in range(3))
    for number, home in enumerate(homes):
        recordings = list(home.recordings())[: args.runs]
        for planting in range(args.plantings):
            truth, found = one(recordings, np.random.default_rng([number, planting]))
            right.update(what for what, _ in found & truth)
            wrong.update(what for what, _ in found - truth)
            missed.update(what for what, _ in truth - found)
            print(f"{home.folder.name} {planting}: not found {truth - found or '-'}; "
                  f"wrong {found - truth or '-'}", flush=True)  # fmt: skip
    data = f"{len(homes)} homes, {homes[0].name} to {homes[-1].name}"
    rows = []
    for what in (*FAULTS, "all"):
        r, w, m = (sum(c.values()) if what == "all" else c[what] for c in (right, wrong, missed))
        print(f"{what:<10} precision {r} of {r + w}, recall {r} of {r + m}")
        shared = {"what": "inspect: planted faults", "data": data, "provider": what}
        for metric, of in (("precision", r + w), ("recall", r + m)):
            rows.append({**shared, "items": of, "metric": metric, "value": f"{r / max(of, 1):.4f}"})
    if args.append is not None:
        ledger.append_lines(args.append, rows, ledger.machine())


def one(
    recordings: list[Recording], rng: np.random.Generator
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The faults of one planting, and those that were found and sure."""
    with tempfile.TemporaryDirectory() as scratch:
        spoiled, truth = plant(recordings, Path(scratch), rng)
        findings = inspect_recordings(spoiled).findings
    return truth, {(f.what, f.about) for f in findings if f.what in FAULTS and f.sure}


def plant(
    recordings: list[Recording], folder: Path, rng: np.random.Generator
) -> tuple[list[Recording], set[tuple[str, str]]]:
    """Copies with one fault of each kind, and all faults that there are."""
    switches = [t for t in recordings[0].sensors if t.binary]
    counts = {t.name: sum(len(r.read_sensor(t)[0]) - 1 for r in recordings) for t in switches}
    busy = [t for t in switches if counts[t.name] >= CHANGES]
    drawn = rng.permutation(len(busy))[: len(FAULTS)]
    chosen = {busy[i].name: what for i, what in zip(drawn, FAULTS, strict=False)}
    truth = {("dead", t.name) for t in switches if counts[t.name] == 0}
    truth |= {(w, f"{n}_too" if w == "duplicate" else n) for n, w in chosen.items()}
    return [_spoil(r, chosen, folder / r.name, rng) for r in recordings], truth


def _spoil(
    recording: Recording, chosen: dict[str, str], folder: Path, rng: np.random.Generator
) -> Recording:
    (folder / "sensors").mkdir(parents=True)
    shutil.copytree(recording.folder / "labels", folder / "labels")
    for video in recording.videos:
        shutil.copy(recording.folder / video.file, folder / video.file)
    tracks: list[SensorTrack] = []
    more: list[SensorTrack] = []
    for track in recording.sensors:
        t_s, values = recording.read_sensor(track)
        what = chosen.get(track.name)
        if what == "reversed":
            values = 1 - values
        elif what == "dead":
            t_s, values = t_s[:1], values[:1]
        elif what == "misplaced":  # its rhythm, but at other times
            turned = (t_s[1:] + recording.duration_s * rng.uniform(0.2, 0.8)) % recording.duration_s
            t_s = np.append(0.0, np.sort(turned))
        elif what == "duplicate":
            late = np.sort(t_s[1:] + 0.2 + rng.normal(0, 0.04, len(t_s) - 1))
            other = replace(track, name=f"{track.name}_too")
            write_sensor(folder, other, np.append(0.0, late), values)
            more.append(other)
        write_sensor(folder, track, t_s, values)
        tracks.append(track)
    write_recording(replace(recording, folder=folder, sensors=(*tracks, *more)))
    return read_recording(folder)


if __name__ == "__main__":
    main()
