"""The sample recordings that come along, copied to where they may be written to."""

import shutil
from pathlib import Path

from detach import recipes
from detach.data.store import new_folder, only_one
from detach.errors import DataError, MachineError

SAMPLE = "sample"


def copy_sample(out: Path) -> Path:
    """Copies the sample to ``out``/data, if it is not there: the package may be read-only.

    Raises:
        DataError: The package came without it.
        MachineError: There is no room for it, or it cannot be written.
    """
    source, data = recipes.models_folder() / SAMPLE, out / "data"
    if not (source / "dataset.json").is_file():
        raise DataError(
            f"{source}: the sample recordings are not there; install it again, or name data"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out, lambda: None):
            if not (data / "dataset.json").is_file():
                with new_folder(data) as part:
                    _copy(source, part)
    except OSError as error:
        raise MachineError(
            f"{data}: the sample could not be copied: {error.strerror or error}; name another "
            "folder with --out"
        ) from error
    return data


def _copy(source: Path, target: Path) -> None:
    """All files but caches, up to the first that cannot be; `shutil.copytree` tries all others."""
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        if path.is_file() and ".cache" not in place.parts:
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / place)
