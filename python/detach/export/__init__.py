"""`detach export`: a finished run as one file for small machines, NAME.detach."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from detach.edge.manifest import Precision
from detach.errors import MachineError, UsageError

PACKAGES = ("onnx", "onnxscript", "onnxslim", "onnxruntime")
PRECISIONS = ("fp32", "fp16")


def export(
    run: Path,
    out: Path,
    *,
    precisions: Sequence[str] = PRECISIONS,
    video: bool = True,
    int8: bool = False,
    outputs: Sequence[str] = ("logits", "places", "embedding"),
    data: Path | None = None,
    licence: str = "not stated",
    head: str = "auto",
    least_right: float = 0.95,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Writes the bundle of a run: its graphs as ONNX, checked against torch, and golden windows.

    Args:
        run: A finished run folder; with a head where `detach evaluate` or `detach name` were there.
        out: The file to write; replaced if it is there.
        precisions: Any of fp32 and fp16.
        video: Whether the video graphs are wanted too, where there are any.
        int8: Adds the video graphs in 8-bit integers.
        outputs: Of the sensor graph; those that the run cannot give are left out.
        data: The data the run was trained on; None takes the folder the run names.
        licence: Under which the weights may be used; a name or a sentence.
        head: ``labels``, what `detach evaluate` fitted, ``names``, what `detach name` made, or
            ``auto``: names where there are any.
        least_right: Share of the answers that shall be right on labelled windows which the head was
            not fitted to; sets the confidence below which the bundle says "unknown". It stays 0.5
            where there are no such windows.
        say: Is told what is being done.

    Returns:
        ``out``.

    Raises:
        UsageError: No such precision or output, none of the outputs can be given, or no share.
        DataError: The run is not finished, of another schema or damaged; its data are not there.
        MachineError: A package is missing, or a graph does not compute what torch computes.
    """
    if lacking := missing_packages():
        raise MachineError(lacking)
    if not precisions or set(precisions) - set(PRECISIONS):
        raise UsageError(
            f"precisions must be one or both of fp32 and fp16, got {', '.join(precisions) or None}"
        )
    if int8 and not video:
        raise UsageError("int8 is for the video graphs, which are not wanted")
    if not 0 < least_right <= 1:
        raise UsageError(f"least_right must be a share in (0, 1], got {least_right:g}")
    wanted: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    from detach.export.pack import pack  # noqa: PLC0415 -- after the check for what it imports

    return pack(
        run,
        out,
        precisions=[p for p in wanted if p in precisions or (int8 and p == "int8")],
        video=video,
        outputs=outputs,
        data=data,
        licence=licence,
        head=head,
        least_right=least_right,
        say=say or (lambda _: None),
    )


def missing_packages() -> str:
    """What a graph cannot be made without and is not installed, as an error; empty if all is."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"a graph needs {', '.join(missing)}, which is not installed: pip install 'detach[export]'"
    )
