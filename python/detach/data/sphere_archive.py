"""Unpacks the archive of the SPHERE Challenge beside where the recordings will stand.

Only the few kinds of file that the data set has are written, each under a checked name and by
copying its bytes: no links, no owners, no modes, nothing outside the folder, whatever the archive
says and whatever Python's version.
"""

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from detach.errors import DataError, MachineError

ENDINGS = (".csv", ".json", ".png", ".txt")
LARGEST_BYTES = 2 << 30
"""The data set unpacks to 90 MB; an archive that claims more than this is something else."""


@contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[Path]:
    """``source`` itself when it is a folder, else a temporary folder with the archive's content.

    The temporary folder lies beside ``beside`` and goes when the block ends.

    Raises:
        DataError: Not there, not an archive, damaged, or with members that do not belong.
        MachineError: No room or no permission.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise DataError(f"{source} is not there: expected the SPHERE folder or its archive")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{beside.name}.unpacked.", dir=beside.parent))
    except OSError as error:
        raise MachineError(f"{beside.parent}: cannot be written: {error.strerror}") from error
    try:
        _unpack(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(source: Path, folder: Path) -> None:
    damaged = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)
    try:
        if zipfile.is_zipfile(source):
            _unpack_zip(source, folder)
        else:
            _unpack_tar(source, folder)
    except damaged as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"{source}: damaged, or not a tar or zip archive ({reason}); it may be half a "
            "download: compare its size with the original and fetch it again"
        ) from error
    except OSError as error:
        raise MachineError(f"{folder}: unpacking failed: {error.strerror or error}") from error


def _unpack_tar(source: Path, folder: Path) -> None:
    written = 0
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            if member.isdir():
                continue
            if not member.isfile():
                raise DataError(f"{source}: {member.name!r} is a link or a device; not unpacked")
            stream = archive.extractfile(member)
            if stream is not None:
                written += _write_member(source, folder, member.name, stream, written)
        if not _ends_well(archive):
            raise DataError(f"{source}: ends without the mark of a whole tar; fetch it again")


def _unpack_zip(source: Path, folder: Path) -> None:
    written = 0
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if member.flag_bits & 0x1:
                raise DataError(f"{source}: {member.filename!r} is encrypted; not unpacked")
            if (member.external_attr >> 28) == 0xA:
                raise DataError(f"{source}: {member.filename!r} is a link; not unpacked")
            with archive.open(member) as stream:
                written += _write_member(source, folder, member.filename, stream, written)


def _ends_well(archive: tarfile.TarFile) -> bool:
    """Whether an empty block was read after the last member, and the rest can be read too.

    A tar cut between two members reads like a whole one but for that block; the rest of the
    stream holds the check sums of a compressed one.
    """
    stream = archive.fileobj
    if stream.tell() <= archive.offset:
        return False
    while stream.read(1 << 20):
        pass
    return True


def _write_member(source: Path, folder: Path, name: str, stream: IO[bytes], before: int) -> int:
    """Copies one member, if it is of a kind the data set has; returns its size in bytes.

    Raises:
        DataError: Its name leads out of the folder, or the archive is far too large.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not parts:
        raise DataError(f"{source}: the member name {name!r} points outside; nothing is unpacked")
    if not name.lower().endswith(ENDINGS):
        return 0
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("wb") as file:
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            if before + size > LARGEST_BYTES:
                raise DataError(f"{source}: unpacks to over {LARGEST_BYTES >> 30} GB; not SPHERE")
            file.write(chunk)
    return size
