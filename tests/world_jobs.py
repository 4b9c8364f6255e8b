"""What processes of several do in tests. As a script: forks them, as worlds.py asks on its input.

What a process finds goes to FOLDER/JOB.RANK.json.
"""

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sklearn.cluster
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from detach import cli, course, ops, train
from detach.checkpoint import digest, states
from detach.clustering import OnlineClustering
from detach.config import PRESETS, RunConfig, override, preset
from detach.course import Course
from detach.distributed import Bank, World, contrast, contrastive_loss, joined, share_batch_norms
from detach.distributed import world as world_module
from detach.errors import DetachError
from detach.train_temporal import loss_options

SIZES = (22, 97)
SMALL: dict[str, Any] = {
    "threads": 1,
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125, "motion_size_px": 16},
    "stage1": {
        "epochs": 4,
        "warmup_epochs": 1,
        "joint_epochs": 1,
        "batch_size": 32,
        "clusters": 4,
        "learning_rate": 1e-3,
        "video_gate": 0.0,
    },
    "stage2": {"epochs": 6, "batch_size": 32, "learning_rate": 1e-3},
    "supervised": {"epochs": 3, "least_steps": 1, "batch_size": 32},
    "split": {"by": "dataset"},
}


def features(count: int, dtype: torch.dtype) -> list[Tensor]:
    """Six of windows that have something in common."""
    generator = torch.Generator().manual_seed(count)
    rows = []
    for width in (5, 24, 5, 24, 24, 24):
        own = torch.randn(count, width, generator=generator, dtype=torch.float64)
        common = torch.randn(width, generator=generator, dtype=torch.float64)
        rows.append((own + 0.5 * common).to(dtype))
    return rows


def losses(world: World, _: Path) -> dict[str, list[float]]:
    """Errors of loss and gradient against one process, by case."""
    found = {}
    for count in SIZES:
        for name in PRESETS:
            for dtype in (torch.float64, torch.float32):
                for exchange in ("gather", "ring"):
                    key = f"{count} {name} {str(dtype)[6:]} {exchange}"
                    options = {**loss_options(preset(name).stage2, plain=False)}
                    found[key] = loss_errors(world, count, dtype, exchange, options)
    plain = {"temporal": "none", "lambda_hard": 1.0}
    found["22 infonce float64 ring"] = loss_errors(world, 22, torch.float64, "ring", plain)
    # Rows far apart in length: each row needs a maximum of its own.
    steep = {"temperature": 0.004}
    found["22 steep float64 ring"] = loss_errors(world, 22, torch.float64, "ring", steep)
    return found


def loss_errors(
    world: World, count: int, dtype: torch.dtype, exchange: Any, options: dict[str, Any]
) -> list[float]:
    rows = world.share(count).rows
    whole = [x.requires_grad_(i in (1, 3)) for i, x in enumerate(features(count, dtype))]
    expected = ops.weighted_contrastive_loss(*whole, **options)
    expected.backward()
    own = [x.detach()[rows].clone().requires_grad_(x.requires_grad) for x in whole]
    share = contrastive_loss(world, own, count, exchange=exchange, **options)
    share.backward()
    (total,) = world.sum_numbers([share.item()])
    worst = 0.0
    for i in (1, 3):
        ours, truth = own[i].grad, whole[i].grad
        assert ours is not None
        assert truth is not None
        worst = max(worst, float((ours - truth[rows]).norm() / truth.norm()))
    return [abs(total / expected.item() - 1.0), worst]


def norms(world: World, _: Path) -> dict[str, list[float]]:
    """Errors of output, gradients and running statistics of batch norm, by number of dimensions."""
    found = {}
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    for dims, kind in kinds.items():
        torch.manual_seed(dims)
        whole = (100.0 + torch.randn(9, 3, *[4, 5, 2][: dims - 2])).double().requires_grad_()
        pull = torch.randn_like(whole)
        plain = kind(3).double()
        nn.init.normal_(plain.weight)
        single = nn.Sequential(plain)
        shared = share_batch_norms(nn.Sequential(kind(3).double()), world)
        shared.load_state_dict(single.state_dict())
        (single(whole) * pull).sum().backward()
        rows = world.share(9).rows
        own = whole.detach()[rows].clone().requires_grad_()
        y = shared(own)
        (y * pull[rows]).sum().backward()
        world.sum_gradients(list(shared.parameters()))
        pairs = [(own.grad, whole.grad[rows])]  # type: ignore[index]
        both = zip(shared.parameters(), single.parameters(), strict=True)
        pairs += [(a.grad, b.grad) for a, b in both]
        pairs += list(zip(shared.buffers(), single.buffers(), strict=True))
        found[str(dims)] = [float((a - b).abs().max()) for a, b in pairs]  # type: ignore[operator]
    return found


def banks(world: World, _: Path) -> dict[str, float]:
    """Errors of a bank that is cut, and of clustering on it, against one that is whole."""
    rows = features(23, torch.float64)[1]
    rows[11:] -= 2.0  # two heaps, and a cluster of three that is too small
    mine = world.share(23).rows
    whole = OnlineClustering.start(rows, 3, 0)
    own = OnlineClustering.start(rows[mine], 3, 0, world)
    index = torch.tensor([22, 3, 0, 12, 8])
    refilled = []
    for state in (whole, own):
        state.update(index, rows[index].flip(0), 0.5)
        state.label[state.label == 2] = 1
        state.label[:3] = 2
        state.update_centroids()
        refilled.append(state.refill_small(5, 1))
    one, several = whole.memory_bank, own.memory_bank
    kept = several.state_dict()
    again = Bank(torch.zeros_like(several.rows), world)
    again.load_state_dict(one.state_dict())
    pairs = {
        "labels": (whole.label, own.label),
        "centroids": (whole.centroids, own.centroids),
        "distances": [s.memory_bank.distances(s.centroids, s.label) for s in (whole, own)],
        "rows": (one.rows[mine], several.rows),
        "kept": (one.rows, kept["rows"]) if world.first else (mine.start, mine.start),
        "taken up": (several.rows, again.rows),
    }
    found = {name: float(torch.as_tensor(a - b).abs().max()) for name, (a, b) in pairs.items()}
    return {**found, "refilled": float(refilled[0] - refilled[1]), "small": refilled[0] - 1.0}


def training(world: World, folder: Path, data: str, *words: str) -> dict[str, Any]:
    """A whole run in float64; the clustering of stage 1 is kept too.

    ``words``: changes as JSON, and a folder of its own where a world trains several.
    """
    changes = json.loads(words[0]) if words else {}
    folder = folder.joinpath(*words[1:])
    folder.mkdir(exist_ok=True)
    in_float64()
    kept: list[OnlineClustering] = []
    start, ring_bytes = OnlineClustering.start, contrast.RING_BYTES
    if changes.pop("ring", False):
        contrast.RING_BYTES = 0

    def keep(*arguments: Any) -> OnlineClustering:
        kept.append(start(*arguments))
        return kept[-1]

    OnlineClustering.start = keep  # type: ignore[assignment, method-assign]
    config = configured(changes)
    material = train.load_material(Path(data), config, print)
    samples = material.windows.samples.astype("float64")
    material = replace(material, windows=replace(material.windows, samples=samples))
    train.train(material, folder / "run", config, say=lambda _: None, world=world)
    if world.first and kept:
        state = {k: v.contiguous() for k, v in kept[-1].state_dict().items()}
        save_file(state, folder / "clustering.safetensors")
    OnlineClustering.start, contrast.RING_BYTES = start, ring_bytes  # type: ignore[method-assign]
    return {}


def killable(
    _: World, folder: Path, data: str, epochs: str, place: str = "", line: str = "0"
) -> dict[str, int]:
    """A run that saves after each step, and notes the sum of all its state after each epoch.

    It kills itself at a line of a place of traps.py, or says how many lines each place has.
    """
    import traps  # beside this script, and nowhere else

    course.SAVE_EVERY_S = 0.0
    save = Course.save

    def noted(self: Course) -> None:
        save(self)
        if self.step == 0:
            with (folder / "sums.txt").open("a") as file:
                file.write(f"{self._stage} {self.epoch} {digest(states(self._parts))}\n")

    Course.save = noted  # type: ignore[method-assign]
    length = {"epochs": int(epochs)}
    config = configured({"checkpoints": 4, "stage1": length, "stage2": length})
    material = train.load_material(Path(data), config, lambda _: None)
    found = {name: traps.Trap(name, int(line)) for name in traps.PLACES if place in ("", name)}
    begun = (folder / "run/config.yaml").exists()
    train.train(material, folder / "run", config, resume=begun, say=lambda _: None)
    return {name: trap.seen for name, trap in found.items()}


def verbs(_: World, folder: Path, data: str) -> dict[str, int]:
    """How each verb ends."""
    recipe, run = folder / "recipe.yaml", str(folder / "run")
    recipe.write_text(json.dumps({**SMALL, "stage2": {**SMALL["stage2"], "epochs": 1}}))
    commands = [
        ["doctor"],
        ["inspect", f"{data}/r0", "--out", str(folder / "quality.html")],
        ["train", data, "--out", run, "--config", str(recipe)],
        ["evaluate", run],
        ["report", run],
        ["export", run, "--out", str(folder / "home.detach")],
        ["run", str(folder / "home.detach"), f"{data}/r3"],
    ]
    return {command[0]: cli.main(command) for command in commands}


def in_float64() -> None:
    """What the loops make float32 stays float64, so that 1e-10 can be asked for."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


def configured(changes: dict[str, Any]) -> RunConfig:
    return override(override(preset(changes.pop("preset", "recommended")), SMALL), changes)


def astray(world: World, folder: Path, data: str, how: str) -> dict[str, str | None]:
    """The last process does something else than the others; each says what it notices."""
    short = {"stage1": {"epochs": 1}, "stage2": {"epochs": 1}}
    config = configured(short)
    last = world.rank == world.size - 1
    world_module.ANSWER_S = 1.0
    try:
        if how == "rows":
            world.gather(torch.zeros(5 if last else 3, 2))
        elif how == "dies" and last:
            os._exit(9)
        elif how == "hangs" and last:
            time.sleep(60)
        elif how == "options" and last:
            config = override(config, {"stage2": {"temperature": 0.2}})
        elif how == "weights" and last:
            spoil_one_number()
        elif how == "nan" and last:
            spoil_samples()
        material = train.load_material(Path(data), config, print)
        train.train(material, folder / how, config, say=lambda _: None, world=world)
    except (DetachError, ValueError) as error:
        return {"error": type(error).__name__, "said": str(error)}
    return {"error": None}


def spoil_one_number() -> None:
    """At the end of the first epoch, as a bad memory would."""
    end_epoch = OnlineClustering.end_epoch

    def spoil(self: OnlineClustering, *rest: Any) -> tuple[float, int]:
        OnlineClustering.end_epoch = end_epoch  # type: ignore[method-assign]
        found = self.end_epoch(*rest)
        self.centroids[0, 0] += 1e-6
        return found

    OnlineClustering.end_epoch = spoil  # type: ignore[method-assign, assignment]


def spoil_samples() -> None:
    """The second batch of this process has a value that is no number."""
    steps = Course.steps

    def spoiled(self: Course, *arguments: Any) -> Any:
        for rows, (samples, *more) in steps(self, *arguments):
            if self.step == 1 and self.epoch == 0:
                samples[0, 0, 0] = torch.nan
                Course.steps = steps  # type: ignore[method-assign]
            yield rows, (samples, *more)

    Course.steps = spoiled  # type: ignore[method-assign, assignment]


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job for job in (losses, norms, banks, training, killable, verbs, astray)
}


def member(folder: Path, jobs: list[list[str]]) -> None:
    """One process: its jobs one after the other, in one world."""
    with joined("cpu") as world:
        for name, *arguments in jobs:
            found = JOBS[name](world, folder, *arguments)
            file = "-".join([name, *arguments[1:]])[:40]
            (folder / f"{file}.{world.rank}.json").write_text(json.dumps(found))


def fork(order: dict[str, Any], rank: int) -> int:
    """Starts a process; returns its number here, and never there."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.environ.update(order["env"], RANK=str(rank), LOCAL_RANK=str(rank))
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if order["jobs"][0][0] == "detach":
            status = cli.main(order["jobs"][0][1:])
        else:
            member(Path(order["folder"]), order["jobs"])
            status = 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:  # noqa: BLE001 -- whatever it is goes to the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def serve() -> None:
    """Forks processes for each line of the input: importing torch once serves all."""
    assert sklearn.cluster, "what clustering would import in each"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer: Any = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        else:
            answer = [fork(order, rank) for rank in range(order["size"])]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
