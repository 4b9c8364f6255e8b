"""What a home is made of, as data: things that open, spots, items, and where the camera stands.

Metres, kilograms, x to the right along the back wall, y away from the camera, z up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from detach.simulate.levels import Range

Point = tuple[float, float]
Place = tuple[float, float, float]
Colour = tuple[float, float, float]
Gesture = Literal["still", "circle", "mouth"]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that opens: one joint, a handle, and where one stands (closed and open)."""

    name: str
    slug: str
    reach: float
    """Travel between the stops, in rad or m."""
    stand_closed: Point
    stand_open: Point
    face: Point
    """What the person looks at, on the floor plan."""
    right_hand: bool
    switches: tuple[str, ...] = ()
    latch: float = 0.0
    """Torque by which a latch, a magnet or a gasket holds what is nearly closed, in N m."""
    inside: Place | None = None
    """Where a hand takes something out of it."""

    def stand_at(self, fraction: float) -> Point:
        """Where one stands to use it when it is open by ``fraction``."""
        closed, opened = self.stand_closed, self.stand_open
        f = min(1.0, max(0.0, fraction))
        return (
            closed[0] + f * (opened[0] - closed[0]),
            closed[1] + f * (opened[1] - closed[1]),
        )


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where something else is done than opening and closing, and what the hands do there."""

    stand: Point
    face: Point
    lasts_s: Range = (2.0, 5.0)
    label: str = ""
    """Its name in the label track `other`; none without."""
    hand: Place | None = None
    """Where the right hand works; at rest without."""
    gesture: Gesture = "still"
    """``circle``: round about there. ``mouth``: back and forth between there and the mouth."""
    swing_m: Point = (0.2, 0.12)
    """Half axes of the circle."""
    rad_s: float = 3.2
    """How fast."""
    both: bool = False
    """Whether the left hand works along."""
    seated: bool = False
    holds: str = ""
    """Item in the hand."""
    sound_db: float = 0.0
    """How loud it is a metre away."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that is carried about: a capsule, upright."""

    at: Place
    height_m: float
    radius_m: float
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class View:
    """The fixed camera."""

    name: str
    eye: Place
    look_at: Place
    fov_deg: float


class RoomModel(Protocol):
    """Writes a home as MJCF."""

    def __call__(
        self,
        timestep_s: float = ...,
        crosstalk: float = ...,
        size_px: tuple[int, int] = ...,
        furnished: bool = ...,
    ) -> str:
        """See `opportunity_room.room_mjcf`."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """One room with all that is in it."""

    name: str
    things: tuple[Thing, ...]
    spots: Mapping[str, Spot]
    items: Mapping[str, Item]
    view: View
    free_y: float
    """Ways bend towards the free middle of the room, at most so far from the camera."""
    sensor_hz: int
    mjcf: RoomModel
    corners: Mapping[str, Place]
    """Where sensors of sound and light hang."""
    lamp: Place
    plugs: Mapping[str, tuple[float, float]]
    """Things that draw power: watts closed and open."""

    def thing(self, name: str) -> int:
        """Index of a thing."""
        return next(i for i, t in enumerate(self.things) if t.name == name)
