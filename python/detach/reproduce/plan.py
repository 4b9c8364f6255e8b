"""What there is to do and what is left, in words, with about how long it takes."""

import math
from collections.abc import Callable, Sequence

from detach.reproduce.jobs import Job, Outcome
from detach.reproduce.queue import Queue

Say = Callable[[str], None]


def show_plan(jobs: Sequence[Job], queue: Queue, say: Say) -> None:
    """What there is to do, and about how long it takes."""
    done = [job for job in jobs if job.done]
    waiting = [job for job in jobs if not job.done]
    say(f"{len(jobs)} runs: {len(done)} finished, {len(waiting)} to do")
    for row in dict.fromkeys((job.name, job.row) for job in waiting):
        mine = [job for job in waiting if (job.name, job.row) == row]
        about = "cannot be measured" if row in queue.odd else _about(mine, queue)
        say(f"  {row[0]}  {row[1]:<24}{len(mine)} seeds  {about}")
    if all(math.isnan(queue.estimate(job)) for job in waiting):
        if waiting:
            say("nothing is measured, so that nobody knows how long it takes; give a longer budget")
        return
    say(f"{_about(waiting, queue)} in all, at the most: places may settle sooner")


def show_odd(queue: Queue, say: Say) -> None:
    """Why rows could not be measured, each reason once."""
    for reason in dict.fromkeys(str(error) for error in queue.odd.values()):
        say(f"cannot be measured: {reason}")


def show_left(outcome: Outcome, queue: Queue, say: Say) -> None:
    """What the budget did not suffice for."""
    if not outcome.left:
        return
    rows = dict.fromkeys(f"{job.name} {job.row} seed {job.seed}" for job in outcome.left)
    about = _about(outcome.left, queue)
    say(f"{len(rows)} runs are left, {about}; the same command goes on:")
    for row in rows:
        say(f"  {row}")


def minutes(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _about(jobs: Sequence[Job], queue: Queue) -> str:
    """How long jobs take, as far as something like them was measured."""
    known = [x for x in (queue.estimate(job) for job in jobs) if not math.isnan(x)]
    if not known:
        return "not measured"
    rest = len(jobs) - len(known)
    return f"about {minutes(sum(known))}" + (f" and {rest} not measured" if rest else "")
