"""`detach sync`: the lag between camera and sensors measured, drawn, applied or taken back."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from detach import __version__
from detach.data.recording import DATASET_FILE, Recording, read_dataset, read_recording
from detach.data.store import write_whole
from detach.data.sync import Lag, measure_lag
from detach.data.sync_apply import apply_lag, undo_lag
from detach.errors import DataError, UsageError
from detach.report.style import BLUE, GREY, MUTED, ORANGE, TEAL, new_figure, styled, to_svg

PAGE_FILE = "sync.html"
COLOURS = {"motion and activity": BLUE, "trained encoders": ORANGE}

Say = Callable[[str], None]


def sync_folder(
    folder: Path,
    *,
    run: Path | None = None,
    apply: bool = False,
    out: Path | None = None,
    within_s: float | None = None,
    progress: Say | None = None,
) -> tuple[str, Path]:
    """Measures the lag of a recording, or of each of a data set, and writes a page about it.

    Args:
        folder: A recording, or a data set.
        run: A finished run whose encoders are asked too.
        apply: Whether each lag that stands out is written into its recording.json.
        out: File to write; None puts sync.html into ``folder``.
        within_s: Lags up to this are looked for; None is 10 s, or less in short recordings.
        progress: Told in words what is being done.

    Returns:
        What was found, as text, and the page.

    Raises:
        DataError: Neither, or damaged, or there is nothing that can be compared or applied.
        UsageError: ``within_s`` is not a length of time.
    """
    if within_s is not None and not 0.5 <= within_s <= 600:
        raise UsageError(f"within-s must be in [0.5, 600], got {within_s:g}")
    say = progress or (lambda _: None)
    found: list[tuple[Recording, tuple[Lag, ...]]] = []
    for recording in _recordings(folder):
        say(f"looking at the film of {recording.name}")
        lags = [measure_lag(recording, within_s)]
        if run is not None:
            from detach.lag_of_run import lag_of_run  # noqa: PLC0415 -- torch, only where asked for

            lags.append(lag_of_run(run, recording, within_s, say))
        found.append((recording, tuple(lags)))
    lines = [line for recording, lags in found for line in describe(recording, lags)]
    path = out or folder / PAGE_FILE
    write_whole(path, render(found, folder.resolve().name, run is not None).encode())
    if apply:
        lines += [_apply(recording, lags, alone=len(found) == 1) for recording, lags in found]
    return "\n".join(lines), path


def undo_folder(folder: Path) -> str:
    """Takes back what was applied last to a recording, or to each of a data set that has it.

    Raises:
        DataError: Nothing was applied.
    """
    recordings = _recordings(folder)
    if len(recordings) > 1:
        recordings = [r for r in recordings if r.notes.get("sync")]
        if not recordings:
            raise DataError(f"{folder}: nothing was applied by `detach sync` to any recording")
    lines = []
    for recording in recordings:
        track = undo_lag(recording.folder).videos[0]
        lines.append(
            f"{recording.name}: its film starts at {track.start_s:+.3f} s again, drift "
            f"{track.drift_ppm:+.1f} ppm"
        )
    return "\n".join(lines)


def describe(recording: Recording, lags: Sequence[Lag]) -> list[str]:
    """What was found, in lines for the terminal."""
    lines = []
    for lag in lags:
        head = f"{recording.name}, {lag.source}:"
        if not lag.clear:
            lines.append(
                f"{head} no lag stands out (p = {lag.p:.2f} among {lag.chances} stretches of "
                "chance); use a longer recording in which more happens in view"
            )
            continue
        low, high = lag.offset_interval_s
        slow, fast = lag.drift_interval_ppm
        drift = (
            f"drift {lag.drift_ppm:+.1f} ppm [{slow:+.1f}, {fast:+.1f}], "
            f"{lag.end_lag_s:+.3f} s at its end"
            if lag.drift_known
            else "too short to tell a drift"
        )
        verdict = "; as good as none" if lag.in_step else ""
        lines.append(
            f"{head} the film is {abs(lag.offset_s):.3f} s {_late(lag)} [{low:+.3f}, {high:+.3f}] "
            f"at the start, {drift}{verdict}"
        )
    if len(lags) == 2 and all(lag.clear for lag in lags):
        apart = abs(lags[0].offset_s - lags[1].offset_s)
        lines.append(f"{recording.name}: the two ways differ by {apart:.3f} s")
    return lines


def _late(lag: Lag) -> str:
    return "late" if lag.offset_s >= 0 else "early"


def _apply(recording: Recording, lags: Sequence[Lag], *, alone: bool) -> str:
    """Applies what motion says, or the encoders where motion says nothing."""
    lag = next((lag for lag in lags if lag.clear), lags[0])
    try:
        track = apply_lag(recording, lag).videos[0]
    except DataError as error:
        if alone:
            raise
        return f"{recording.name}: not applied: {error}"
    times = len(recording.notes.get("sync", [])) + 1
    again = f", on top of {times - 1} before" if times > 1 else ""
    return (
        f"{recording.name}: applied from {lag.source}{again}: its film starts at "
        f"{track.start_s:+.3f} s, drift {track.drift_ppm:+.1f} ppm; `detach sync --undo` takes it "
        "back"
    )


def _recordings(folder: Path) -> list[Recording]:
    if (folder / DATASET_FILE).is_file():
        return list(read_dataset(folder).recordings())
    return [read_recording(folder)]


def render(found: Sequence[tuple[Recording, Sequence[Lag]]], title: str, with_run: bool) -> str:
    """The page as HTML."""
    folder = resources.files("detach.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = folder.joinpath("lag.html.j2").read_text(encoding="utf-8")
    page = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    style = page[page.index("<style>") : page.index("</style>") + len("</style>")]
    sections = [
        {
            "name": recording.name,
            "lags": lags,
            "words": describe(recording, lags),
            "curve": Markup(curves(lags)),  # noqa: S704  drawn here
            "pieces": Markup(pieces(lags)) if any(_has_line(x) for x in lags) else "",  # noqa: S704
            "applied": recording.notes.get("sync", []),
        }
        for recording, lags in found
    ]
    return environment.from_string(text).render(
        version=__version__,
        style=Markup(style),  # noqa: S704  our own
        title=title,
        sections=sections,
        command=f"detach sync {title}{' --run RUN' if with_run else ''}",
    )


@styled
def curves(lags: Sequence[Lag]) -> str:
    """How well each shift of the film fits, and how well chance does."""
    figure, axes = new_figure(2.4)
    ax = axes[0, 0]
    for lag in lags:
        colour = COLOURS.get(lag.source, TEAL)
        # Fourth powers of correlations are drawn as correlations.
        power = 0.25 if lag.source == "motion and activity" else 1.0
        level = np.sign(lag.curve) * np.abs(lag.curve) ** power
        ax.plot(lag.curve_s, level, color=colour, lw=1.4, label=lag.source)
        height = np.sign(lag.chance) * abs(lag.chance) ** power
        ax.axhline(height, color=colour, lw=1, ls=":")
        if lag.clear:
            middle = lag.offset_s + 0.5e-6 * lag.drift_ppm * lag.duration_s
            ax.axvline(middle, color=MUTED, lw=0.8, ls="--")
    ax.set(xlim=(lags[0].curve_s[0], lags[0].curve_s[-1]))
    ax.set(xlabel="seconds by which the film is late", ylabel="fit, best = 1")
    if len(lags) > 1:
        ax.legend(loc="upper right", fontsize=8)
    return to_svg(figure, "How well each lag fits")


@styled
def pieces(lags: Sequence[Lag]) -> str:
    """Lags of the pieces of a recording, and the line through them."""
    shown = [lag for lag in lags if _has_line(lag)]
    figure, axes = new_figure(2.2 * len(shown) + 0.2, len(shown))
    for ax, lag in zip(axes[:, 0], shown, strict=True):
        t_s = np.array([0.0, lag.duration_s])
        at = lag.offset_s + 1e-6 * lag.drift_ppm * t_s
        slow, fast = (1e-6 * x for x in lag.drift_interval_ppm)
        middle, half = t_s.mean(), lag.duration_s / 2
        centre, wide = float(at.mean()), 0.5 * float(np.diff(lag.offset_interval_s)[0])
        grid = np.linspace(0, lag.duration_s, 50)
        spread = np.abs(grid - middle) / half * max(wide, (fast - slow) / 2 * half)
        line = lag.offset_s + 1e-6 * lag.drift_ppm * grid
        colour = COLOURS.get(lag.source, TEAL)
        ax.fill_between(grid / 60, line - spread, line + spread, color=colour, alpha=0.15, lw=0)
        ax.plot(t_s / 60, at, color=colour)
        ax.plot(lag.piece_s / 60, lag.piece_lag_s, "o", ms=3.5, color=GREY)
        ax.axhline(0, color=MUTED, lw=0.6)
        room = max(0.1, 1.3 * float(np.abs(lag.piece_lag_s - centre).max(initial=0.0)))
        ax.set(ylim=(centre - room, centre + room), xlim=(0, lag.duration_s / 60))
        ax.set(ylabel="lag, s")
        ax.set_title(lag.source)
    axes[-1, 0].set_xlabel("minutes of the recording")
    return to_svg(figure, "Lag of each piece of the recording")


def _has_line(lag: Lag) -> bool:
    return lag.clear and lag.drift_known
