"""What the authors report, on their data, to be printed beside ours and never mixed with it.

From arXiv 2512.20409 v1, Tables 1 to 7. Of the camera-ready (CVPR 2026) only public notes could be
read: they give other numbers for the full method and for EVI-MAE, and the same for the rest.
"""

from typing import NamedTuple

from detach.reproduce.rows import LEAD


class Pair(NamedTuple):
    """Weighted F1 and mAP."""

    f1: float
    map: float


class Reported(NamedTuple):
    """On Opportunity++ and on HWU-USP."""

    opportunity: Pair
    hwu: Pair


def _row(a: float, b: float, c: float, d: float) -> Reported:
    return Reported(Pair(a, b), Pair(c, d))


FULL = _row(0.73, 0.83, 0.71, 0.67)
ARXIV: dict[tuple[int, str], Reported] = {
    (1, "imu2clip"): _row(0.39, 0.43, 0.50, 0.64),
    (1, "primus"): _row(0.28, 0.31, 0.48, 0.61),
    (1, "comodo"): _row(0.43, 0.52, 0.50, 0.64),
    (1, "cav-mae"): _row(0.56, 0.58, 0.70, 0.55),
    (2, "no-spatial-weight"): _row(0.56, 0.71, 0.65, 0.61),
    (2, "no-temporal-weight"): _row(0.62, 0.71, 0.60, 0.61),
    (3, "infonce"): _row(0.59, 0.73, 0.49, 0.62),
    (3, "no-refinement"): _row(0.60, 0.70, 0.69, 0.65),
    (3, "no-refinement-infonce"): _row(0.59, 0.70, 0.68, 0.62),
    (4, "no-momentum"): _row(0.59, 0.72, 0.65, 0.61),
    (5, "confident-100"): _row(0.53, 0.71, 0.60, 0.63),
    (6, "light"): _row(0.62, 0.73, 0.71, 0.67),
    (6, "transformer"): _row(0.71, 0.85, 0.71, 0.66),
    **{(n, LEAD): FULL for n in range(1, 7)},
}
CAMERA_READY: dict[tuple[int, str], Reported] = {
    (1, "cav-mae"): _row(0.56, 0.58, 0.60, 0.55),
    **{(n, LEAD): _row(0.73, 0.87, 0.73, 0.67) for n in range(1, 6)},
}
DATA: tuple[tuple[str, str, str], ...] = (
    ("sensors", "13 logic switches, 7 accelerometers", "4 logic switches, 2 motion sensors"),
    ("sensor locations", "doors, drawers, fridge, dishwasher", "cupboards, wall"),
    ("labels", "mid-level", "high-level"),
    ("classes", "14", "5"),
    ("subjects", "single", "16 (one per video)"),
    ("windows", "5324", "3485"),
)
"""Table 7, line by line: what, Opportunity++, HWU-USP."""
