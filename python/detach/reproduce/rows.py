"""The rows of every table: what is trained, as what differs from a recipe. The only list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detach.config import RunConfig, override, preset
from detach.errors import UsageError

LEAD = "detach"
FALSE_PER_MIN = (2, 10)
"""About as often as things are really used in the simulated home, and five times that."""
GIVEN_PLACES = (2, 4, 12, 16, 24)
AS_RUN = {"rate_hz": 30.0, "length": 128, "zscore": "keep-zero", "lowpass": True}
"""How the authors' code prepares samples, for all of its baselines; of Opportunity++."""
UNCENTRED = {"centre_motion": False}


@dataclass(frozen=True)
class Row:
    """One way to train."""

    title: str
    overrides: Mapping[str, Any]
    baseline: bool = False
    """Whether it is a rival, rather than a variant of the method."""
    note: str = ""
    seeds: int | None = None
    """At most so many, for rows that take long."""


ROWS: Mapping[str, Row] = {
    LEAD: Row("DETACH", {}),
    "imu2clip": Row("IMU2CLIP", {"method": "imu2clip"}, baseline=True),
    "primus": Row("PRIMUS", {"method": "primus"}, baseline=True),
    "comodo": Row("COMODO", {"method": "comodo"}, baseline=True),
    "cav-mae": Row("CAV-MAE (EVI-MAE without graph)", {"method": "cav-mae"}, baseline=True),
    "global": Row("global alignment, encoders of our size", {"method": "global"}, baseline=True),
    "infonce": Row("DETACH with InfoNCE", {"method": "infonce"}, baseline=True),
    "supervised": Row("supervised by the labels", {"method": "supervised"}, baseline=True),
    "imu2clip-as-run": Row(
        "IMU2CLIP, as the authors ran it",
        {
            "method": "imu2clip",
            "sensors": AS_RUN,
            "encoders": UNCENTRED,
            "imu2clip": {"samples": 150, "fit": "pad", "least_steps": 1},
        },
        baseline=True,
        note="filled with zeros to 150 samples, which leaves its GRU one step",
    ),
    "primus-as-run": Row(
        "PRIMUS, as the authors ran it",
        {
            "method": "primus",
            "sensors": AS_RUN,
            "encoders": UNCENTRED,
            "primus": {
                "samples": 128,
                "least_steps": 1,
                "views": ["noise", "scale"],
                "self_share": 0.0,
                "momentum": 0.0,
            },
        },
        baseline=True,
        note="no terms between views, one step repeated 32 times, a queue of fresh features; their "
        "queue of 8192 is longer than the data and is half as long as the data here",
    ),
    "comodo-as-run": Row(
        "COMODO, as the authors ran it",
        {
            "method": "comodo",
            "sensors": AS_RUN,
            "encoders": UNCENTRED,
            "comodo": {"probe": "head", "hidden": 2048, "queue_share": 0.1},
        },
        baseline=True,
        note="recognised from its head of 128 numbers, a queue of a tenth of the data; their "
        "student and teacher were pretrained",
    ),
    "cav-mae-as-run": Row(
        "CAV-MAE, as the authors ran it",
        {
            "method": "cav-mae",
            "sensors": AS_RUN,
            "encoders": UNCENTRED,
            "cav_mae": {"hop": 1, "bins": 128, "patch": 16, "depth": 11},
        },
        baseline=True,
        note="spectrograms of 128 x 128; theirs is 768 wide, this one as wide as the other rows, "
        "and their video side started from pretrained weights",
    ),
    **{
        f"supervised-{n}": Row(
            f"supervised by {n} a class",
            {"method": "supervised", "split": {"labels": n}},
            baseline=True,
        )
        for n in (1, 5, 20)
    },
    **{
        f"{name}-uncentred": Row(
            f"{title}, means left in",
            {**method, "encoders": UNCENTRED},
            baseline=name != LEAD,
            note="sensor windows keep the mean of each channel",
        )
        for name, title, method in (
            (LEAD, "DETACH", {}),
            ("global", "global alignment", {"method": "global"}),
            ("imu2clip", "IMU2CLIP", {"method": "imu2clip"}),
            ("primus", "PRIMUS", {"method": "primus"}),
            ("cav-mae", "CAV-MAE", {"method": "cav-mae"}),
        )
    },
    "no-spatial-weight": Row("w/o W spatial", {"stage2": {"lambda_hard": 1.0}}),
    "no-temporal-weight": Row("w/o W temporal", {"stage2": {"temporal": "none"}}),
    "no-refinement": Row("no refinement, weighted", {"stage1": {"refine": False}}),
    "no-refinement-infonce": Row(
        "no refinement, InfoNCE", {"method": "infonce", "stage1": {"refine": False}}
    ),
    "no-momentum": Row(
        "w/o momentum encoder", {"stage2": {"momentum": 0.0, "momentum_ramp": False}}
    ),
    "confident-50": Row("50 % confident", {"stage1": {"confident_q": 0.5}}),
    "confident-90": Row("90 % confident", {"stage1": {"confident_q": 0.9}}),
    "confident-100": Row(
        "100 % confident",
        {"stage1": {"confident_q": 1.0}},
        note="leaves nothing to refine: the row tests both",
    ),
    "light": Row("A. light (CNN + GRU)", {"encoders": {"motion": "light"}}),
    "transformer": Row("B. heavy (transformer)", {"encoders": {"motion": "transformer"}}),
    "imu": Row("the sensor encoder of IMU2CLIP", {"encoders": {"motion": "imu"}}),
    "odc": Row(
        "ODC alone (sensors cluster, no video)",
        {
            "stage1": {"refine": False, "joint_epochs": 0, "warmup_epochs": 10**6},
            "stage2": {"epochs": 0},
        },
    ),
    "stage1": Row("stage 1 alone", {"stage2": {"epochs": 0}}),
    "random-labels": Row("random pseudo-labels", {"stage1": {"pseudo_labels": "random"}}),
    "shuffled": Row("shuffled pairs", {"augment": {"wrong_pictures": True}}),
    "constant-weight": Row("constant W of the same mean", {"stage2": {"negatives": "constant"}}),
    "hcl": Row("HCL", {"stage2": {"negatives": "hcl"}}),
    "debiased": Row("debiased", {"stage2": {"negatives": "debiased"}}),
    "temporal-logits": Row("temporal logits alone", {"stage2": {"logits": "temporal"}}),
    "masked-overlap": Row("overlapping windows masked", {"stage2": {"mask_overlap": True}}),
    "weight-learns": Row("W not detached", {"stage2": {"detach_weight": False}}),
    "constant-momentum": Row("momentum without ramp", {"stage2": {"momentum_ramp": False}}),
    "own-sensors": Row(
        "switches and accelerometers alone", {"sensors": {"include": ["switch", "acceleration"]}}
    ),
    "other-sensors": Row(
        "sound, light and power alone", {"sensors": {"include": ["sound", "light", "power"]}}
    ),
    "unseen-fridge": Row("the fridge unseen in pretraining", {"split": {"unseen": ["Fridge"]}}),
    "paper-v1": Row(
        "W of arXiv v1",
        {"stage2": {"temporal": "intra", "gate": "none", "power": 2, "transpose": False}},
    ),
    # It is symmetric, so that it is all the same whether it is transposed.
    "authors-code": Row("W of the authors' code", {"stage2": {"temporal": "intra"}}),
    "emphasised": Row("hard negatives emphasised", {"stage2": {"negatives": "emphasised"}}),
    "eased": Row("hard negatives de-emphasised", {"stage2": {"negatives": "eased"}}),
    **{
        f"false-{n}{name}": Row(
            f"{n} false activations a minute{words}",
            {"augment": {"false_per_min": float(n)}, **changes},
            note="of every sensor, in what the encoders learn from; probes and tests see none",
        )
        for n in FALSE_PER_MIN
        for name, words, changes in (
            ("", "", {}),
            ("-no-refinement", ", no refinement", {"stage1": {"refine": False}}),
        )
    },
    **{
        f"noise-{n}": Row(
            f"tested with noise of {n} % of a channel's spread",
            {"tested": {"noise": n / 100}},
        )
        for n in (50, 100)
    },
    **{
        f"dropout-{n}": Row(
            f"tested with {n} % of the sensors silent", {"tested": {"dropout": n / 100}}
        )
        for n in (10, 30)
    },
    "places-auto": Row(
        "K found by stability",
        {"stage1": {"places": "auto", "clusters": None}},
        note="the partition that two halves of the windows agree on best",
    ),
    **{f"places-{k}": Row(f"{k} places", {"stage1": {"clusters": k}}) for k in GIVEN_PLACES},
    **{
        f"{network}{name}": Row(
            f"{title}, {size} px",
            {"video": {"size_px": size}, "encoders": {"video": network}},
            seeds=1,
        )
        for network, title in (
            ("cnn", "small network"),
            ("resnet18", "ResNet-18"),
            ("resnet50", "ResNet-50"),
        )
        for size, name in ((64, ""), (112, "-112"), (224, "-224"))
        if network != "cnn" or size != 64
    },
}


@dataclass(frozen=True)
class Table:
    """A table of the paper, or one of ours."""

    title: str
    rows: tuple[str, ...]
    ours: tuple[str, ...] = ()
    """Rows that the paper lacks, below."""
    for_gpu: bool = False
    """Run only where it is named: a CPU would take days."""


TABLES: Mapping[int, Table] = {
    1: Table(
        "Downstream classification",
        ("imu2clip", "primus", "comodo", "cav-mae", LEAD),
        (
            *("infonce", "global", "supervised"),
            *("imu2clip-as-run", "primus-as-run", "comodo-as-run", "cav-mae-as-run"),
        ),
    ),
    2: Table("Spatial and temporal weight", (LEAD, "no-spatial-weight", "no-temporal-weight")),
    3: Table("Refinement and loss", (LEAD, "infonce", "no-refinement", "no-refinement-infonce")),
    4: Table("Momentum encoder", (LEAD, "no-momentum"), ("constant-momentum", "weight-learns")),
    5: Table("Confidence", (LEAD, "confident-100"), ("confident-50", "confident-90")),
    6: Table("Sensor encoder", ("light", "transformer", LEAD), ("imu",)),
    7: Table("Data that were used", ()),
    8: Table(
        "Controls and other losses (ours)",
        (),
        (
            *(LEAD, "shuffled", "random-labels", "odc", "stage1", "constant-weight", "hcl"),
            *("debiased", "temporal-logits", "masked-overlap"),
        ),
    ),
    9: Table("Forms of the weight (ours)", (), (LEAD, "paper-v1", "authors-code")),
    10: Table(
        "Sensors that err (ours)",
        (),
        (
            *(LEAD, "no-refinement"),
            *(f"false-{n}{name}" for n in FALSE_PER_MIN for name in ("", "-no-refinement")),
            *("noise-50", "noise-100", "dropout-10", "dropout-30"),
        ),
    ),
    11: Table(
        "Hard negatives under control, the mean weight held (ours)",
        (),
        (LEAD, "emphasised", "constant-weight", "eased", "infonce"),
    ),
    12: Table(
        "Number of places (ours)",
        (),
        (LEAD, "places-auto", *(f"places-{k}" for k in GIVEN_PLACES)),
    ),
    13: Table(
        "Video encoders (ours)",
        (),
        (LEAD, "cnn-112", "resnet18", "resnet18-112", "resnet50", "resnet50-112"),
    ),
    14: Table(
        "Video encoders at 224 px (ours)",
        (),
        (LEAD, "cnn-224", "resnet18-224", "resnet50-224"),
        for_gpu=True,
    ),
    15: Table(
        "Means removed from sensor windows, or left in (ours)",
        (),
        (
            *(LEAD, f"{LEAD}-uncentred", "global", "global-uncentred"),
            *("imu2clip", "imu2clip-uncentred", "primus", "primus-uncentred"),
            *("cav-mae", "cav-mae-uncentred"),
        ),
    ),
}


def wanted(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Rows of the tables ``numbers``, each once, the method first, then in the tables' order.

    Raises:
        UsageError: There is no such table.
    """
    if unknown := [n for n in numbers if n not in TABLES]:
        known = ", ".join(f"{n} ({t.title.lower()})" for n, t in TABLES.items())
        raise UsageError(f"there is no table {unknown[0]}; there are {known}")
    names = [name for n in numbers for name in (*TABLES[n].rows, *TABLES[n].ours)]
    lead = [LEAD] if names else []
    return tuple(dict.fromkeys([*lead, *names]))


def chosen(names: Sequence[str], only: Sequence[str]) -> tuple[str, ...]:
    """Rows ``names``, each once; of them those in ``only``, and the method, if that names any.

    Raises:
        UsageError: One of ``only`` is not among them.
    """
    if unknown := [name for name in only if name not in names]:
        there = f"their rows are {', '.join(dict.fromkeys(names))}" if names else "they have none"
        raise UsageError(f"{unknown[0]} is no row of the tables and figures asked for; {there}")
    return tuple(name for name in dict.fromkeys(names) if not only or name in {LEAD, *only})


def configured(name: str, base: RunConfig, seed: int) -> RunConfig:
    """The configuration of a row on a recipe ``base``."""
    changes = {key: _sane(key, value, base) for key, value in ROWS[name].overrides.items()}
    if "labels" in changes.get("split", {}):  # other labels with every seed
        changes["split"] = {**changes["split"], "labels_seed": seed}
    return override(base, {**changes, "seed": seed})


def unchanged(name: str) -> bool:
    """Whether a row is the method as recommended."""
    return override(preset("recommended"), ROWS[name].overrides) == preset("recommended")


def _sane(key: str, value: Any, base: RunConfig) -> Any:
    """Warm-up for ever means: as long as the stage is."""
    if key == "stage1" and value.get("warmup_epochs", 0) > base.stage1.epochs:
        return {**value, "warmup_epochs": base.stage1.epochs}
    return value
