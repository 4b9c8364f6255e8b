"""Writes simulated recordings in the layout in which Opportunity++ is published.

250 blank-separated columns, subtitles, AVI at 10 frames a second; sensors run on a clock of their
own, by an offset and a drift that are planted, and annotators mark video and rows apart from each
other. What the importer `data.importers.opportunity` reads is proved on it.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detach.data.importers import opportunity_columns as columns
from detach.data.recording import Recording, read_dataset
from detach.data.store import new_folder
from detach.errors import DataError, MachineError
from detach.simulate.opportunity_room import THINGS

RUNS = tuple(f"S{s}-{kind}" for s in range(1, 5) for kind in
             ("ADL1", "ADL2", "ADL3", "ADL4", "ADL5", "Drill"))  # fmt: skip
POSITIONS = {"closed": "S1", "half": "S2", "open": "S3", "any": ""}
OBJECTS = {"fridge": "FRIDGE", "dishwasher": "DISHWASHER", "drawer1": "UPPERDRAWER",
           "drawer2": "MIDDLEDRAWER", "drawer3": "LOWERDRAWER", "door1": "DOOR1",
           "door2": "DOOR2"}  # fmt: skip
WEIGHT_MG = 1000.0
NOTHING = -99999999
"""Stands for NaN until a row is text."""
BLOCKS = 30.0
"""Body-worn channels are noise of so many units; nothing here reads them."""
FPS = 10.0
ON_TIME = 1e-6
"""So that a picture that comes just then is not missed by rounding."""
LEFT_HANDED = {t.name for t in THINGS if not t.right_hand}
VERBS = {404: "close", 405: "reach", 406: "open", 407: "sip", 408: "clean"}
STAND, WALK = 1, 2
WALKS_S = 1.0
"""Whoever does nothing for longer is taken to walk."""
SUBTITLES = {
    "ml_both_arms": columns.MID_LEVEL,
    "locomotion": columns.LOCOMOTION,
    "left_arm": columns.LEFT_ARM,
    "left_arm_object": columns.LEFT_ARM + 1,
    "right_arm": columns.RIGHT_ARM,
    "right_arm_object": columns.RIGHT_ARM + 1,
}
"""Name of each subtitle file, and the column with the same labels."""
Cue = tuple[float, float, int]
"""Start and end in seconds, and code."""


def write_opportunity(
    source: Path,
    out: Path,
    *,
    offset_s: Sequence[float] = (0.0,),
    drift_ppm: Sequence[float] = (0.0,),
    annotator_s: float = 0.1,
    missing: float = 0.03,
    size_px: tuple[int, int] = (640, 480),
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Writes every recording of a simulated data set as a run S1-ADL1, S1-ADL2 and so on.

    Args:
        source: Data set of the home ``opportunity``.
        out: Root to make; must not exist or be empty.
        offset_s: video = sensors (1 + drift) + offset, one a run, in turn.
        drift_ppm: The same for the drift.
        annotator_s: Standard deviation of each mark's start and end, on rows and on subtitles.
        missing: Share of body-worn values that are NaN.
        size_px: Width and height of the video.
        seed: Of noise and marks.

    Returns:
        Offset and drift planted in every run.

    Raises:
        DataError: A recording without video, or more recordings than there are runs.
        MachineError: The video cannot be written.
    """
    recordings = list(read_dataset(source).recordings())
    if len(recordings) > len(RUNS):
        raise DataError(f"{source}: at most {len(RUNS)} recordings fit, found {len(recordings)}")
    planted = {}
    with new_folder(out) as part:
        (part / "data").mkdir()
        (part / "column_names.txt").write_text("\n".join(column_names()) + "\n")
        for i, (name, recording) in enumerate(zip(RUNS, recordings, strict=False)):
            clock = offset_s[i % len(offset_s)], drift_ppm[i % len(drift_ppm)]
            rng = np.random.default_rng([seed, i])
            folder = part / "data" / name
            folder.mkdir()
            _write_rows(folder / f"{name}_sensors_data.txt", recording, clock, rng,
                        annotator_s, missing)  # fmt: skip
            for track, cues in _annotated(recording, annotator_s, rng).items():
                (folder / f"{name}_side.{track}.srt").write_text("\n".join(_srt(cues)))
            _write_avi(folder / f"{name}_side.avi", recording, size_px)
            planted[name] = clock
    return planted


def column_names() -> Iterator[str]:
    """column_names.txt, with true names where the importer looks and kinds elsewhere."""
    names = {
        columns.MILLISEC: "MILLISEC",
        columns.LOCOMOTION: "Locomotion",
        columns.HIGH_LEVEL: "HL_Activity",
        columns.MID_LEVEL: "ML_Both_Arms",
    }
    names |= {columns.LEFT_ARM: "LL_Left_Arm", columns.LEFT_ARM + 1: "LL_Left_Arm_Object"}
    names |= {columns.RIGHT_ARM: "LL_Right_Arm", columns.RIGHT_ARM + 1: "LL_Right_Arm_Object"}
    logical = "; value = original_value, unit = logical (0/1)"
    names |= {n: f"REED SWITCH {label}{logical}" for label, n in columns.SWITCHES.items()}
    for label, first in columns.ACCELEROMETERS.items():
        for i, axis in enumerate("XYZ"):
            scaled = "; value = round(original_value), unit = milli g"
            names[first + i] = f"Accelerometer {label} acc{axis}{scaled}"
    yield "Data columns:"
    yield ""
    for number in range(1, columns.COLUMNS + 1):
        yield f"Column: {number} {names.get(number, f'InertialMeasurementUnit BODY {number}')}"


def _write_rows(
    path: Path,
    recording: Recording,
    clock: tuple[float, float],
    rng: np.random.Generator,
    annotator_s: float,
    missing: float,
) -> None:
    offset_s, drift = clock[0], 1.0 + 1e-6 * clock[1]
    last = (recording.duration_s - offset_s) / drift
    stamp = np.round(1000 * np.arange(max(2, int(last * columns.HZ))) / columns.HZ)
    at = stamp / 1000 * drift + offset_s  # on the video's clock
    noise = np.round(BLOCKS * rng.normal(size=(len(at), columns.COLUMNS)))
    table = np.where(rng.random(noise.shape) < missing, np.nan, noise)
    table[:, columns.MILLISEC - 1] = stamp
    table[:, columns.LOCOMOTION - 1 :] = 0.0
    for label, first in columns.ACCELEROMETERS.items():
        name = next((f"{ours}_accelerometer" for ours, o in OBJECTS.items() if o == label), "")
        table[:, first - 1 : first + 2] = _moved(recording, name, at, rng)
    for label, column in columns.SWITCHES.items():
        table[:, column - 1] = _switched(recording, label, at)
    for track, cues in _annotated(recording, annotator_s, rng).items():
        for start_s, end_s, code in cues:
            table[(at >= start_s) & (at < end_s), SUBTITLES[track] - 1] = code
    whole = np.where(np.isnan(table), NOTHING, table).astype(np.int64).tolist()
    with path.open("w", encoding="ascii") as file:
        for row in whole:
            file.write(" ".join(map(str, row)).replace(str(NOTHING), "NaN") + "\n")


def _moved(
    recording: Recording, name: str, at: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Acceleration in milli g [n, 3]; what stands still has noise and weight."""
    track = next((t for t in recording.sensors if t.name == name), None)
    if track is None:
        return np.asarray(np.round(4 * rng.normal(size=(len(at), 3)) + [0, 0, WEIGHT_MG]))
    t_s, values = recording.read_sensor(track)
    axes = [np.interp(at, t_s, values[:, i], left=np.nan, right=np.nan) for i in range(3)]
    return np.asarray(np.round(np.stack(axes, axis=1)))


def _switched(recording: Recording, label: str, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a switch shows at each moment, 0 before it first spoke."""
    thing, _, position = label.partition(" ")
    ours = next(name for name, other in OBJECTS.items() if other == thing)
    wanted = next(k for k, v in POSITIONS.items() if v == position)
    track = next((t for t in recording.sensors if t.name == f"{ours}_{wanted}"), None)
    if track is None:
        return np.zeros(len(at))
    t_s, values = recording.read_sensor(track)
    index = np.searchsorted(t_s, at, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0), 0], 0.0)


def _annotated(
    recording: Recording, spread_s: float, rng: np.random.Generator
) -> dict[str, list[Cue]]:
    """Marks as one annotator sets them, track by track, in order."""
    code = {name: number for number, name in columns.CODES.items()}
    gestures: list[Cue] = []
    for track in ("action", "other"):
        found = recording.read_labels(track)
        for start_s, end_s, name in zip(found.start_s, found.end_s, found.name, strict=True):
            a, b = (
                min(max(0.0, float(x) + spread_s * rng.normal()), recording.duration_s)
                for x in (start_s, end_s)
            )
            if name in code and b > a + 0.2:
                gestures.append((a, b, code[name]))
    gestures.sort()
    made: dict[str, list[Cue]] = {name: [] for name in SUBTITLES}
    made["ml_both_arms"] = gestures
    made["locomotion"] = _locomotion(gestures, recording.duration_s)
    for start_s, end_s, number in gestures:
        verb, thing = divmod(number, 1000)
        arm, less = ("left", 200) if _name(number) in LEFT_HANDED else ("right", 0)
        made[f"{arm}_arm"].append((start_s, end_s, verb - less))
        made[f"{arm}_arm_object"].append((start_s, end_s, thing - less))
    return made


def _locomotion(gestures: Sequence[Cue], seconds: float) -> list[Cue]:
    """Standing while something is done, walking in long gaps."""
    made, last_s = [], 0.0
    for start_s, end_s, _ in [*gestures, (seconds, seconds, 0)]:
        if start_s - last_s > WALKS_S:
            made.append((last_s, start_s, WALK))
        if end_s > max(start_s, last_s):
            made.append((max(start_s, last_s), end_s, STAND))
        last_s = max(last_s, end_s)
    return made


def _name(code: int) -> str:
    """The object of a gesture: Door 1 of Open Door 1."""
    return columns.CODES[code].split(" ", 1)[1].removeprefix("from ")


def _text(code: int) -> str:
    """What the subtitle says after the code."""
    if code in columns.CODES:
        return columns.CODES[code]
    if code in columns.LOCOMOTIONS:
        return columns.LOCOMOTIONS[code]
    right = code if code > 400 else code + 200
    if right in VERBS:
        return VERBS[right]
    return next(_name(c) for c in columns.CODES if c % 1000 == right)


def _srt(cues: Sequence[Cue]) -> Iterator[str]:
    for number, (start_s, end_s, code) in enumerate(cues, start=1):
        yield str(number)
        yield f"{_stamp(start_s)} --> {_stamp(end_s)}"
        yield f"{code} - {_text(code)}"
        yield ""


def _stamp(seconds: float) -> str:
    whole = round(1000 * seconds)
    minutes, rest = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def _write_avi(path: Path, recording: Recording, size_px: tuple[int, int]) -> None:
    """The recording's video at 10 frames a second of its clock, each the last given by then."""
    track = recording.video()
    reader = cv2.VideoCapture(str(recording.folder / track.file))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size_px)
    if not (reader.isOpened() and writer.isOpened()):
        raise MachineError(f"{path}: the video cannot be written; is there room, and a codec?")
    try:
        good, picture = reader.read()
        shown = 0
        for i in range(int(recording.duration_s * FPS)):
            wanted = math.floor((i / FPS - track.start_s) * track.fps + ON_TIME)
            while good and shown < wanted:
                more, following = reader.read()
                if not more:
                    break
                picture, shown = following, shown + 1
            writer.write(cv2.resize(picture, size_px))
    finally:
        reader.release()
        writer.release()
