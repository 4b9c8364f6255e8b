"""A zip of a few stored members that has exactly one form, so that it hides nothing.

No compression, no folders, links, comments, extra fields or gaps; times are zero. A reader builds
the form again from the names, check sums and sizes and compares: a file that differs in any byte
around its members is refused, whatever a lenient reader would have made of it.
Source: PKWARE APPNOTE 6.3.3, sections 4.3.7, 4.3.12 and 4.3.16.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, DATE_1980, REGULAR_FILE = 20, 0x21, 0o100644 << 16
UNIX = 3 << 8
CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member are."""

    name: str
    crc: int
    size: int
    start: int
    """Offset of the first byte of the content."""


def layout(members: Mapping[str, bytes]) -> Iterator[bytes]:
    """The pieces of the archive, in order.

    Args:
        members: Names (ASCII) and contents, below 4 GiB together.
    """
    directory, start = b"", 0
    for name, content in members.items():
        crc = zlib.crc32(content)
        yield (head := _local(name, crc, len(content)))
        yield content
        directory += _central(name, crc, len(content), start)
        start += len(head) + len(content)
    yield directory
    yield _end(len(members), len(directory), start)


def members_of(file: IO[bytes], largest: Mapping[str, int]) -> dict[str, Member]:
    """The members of an archive in the form of `layout`. Contents are not read yet.

    Args:
        file: Opened for reading, at any place.
        largest: The names that may occur, and how many bytes each may have.

    Raises:
        ValueError: It is anything else; says what.
    """
    total = file.seek(0, os.SEEK_END)
    count, size, offset = _read_end(file, total)
    if count > len(largest) or size > sum(CENTRAL.size + len(name) for name in largest):
        raise ValueError(f"its directory of {count} members and {size} bytes is too large")
    if offset + size + END.size != total:
        raise ValueError("it is cut short, or has bytes that belong to no member")
    directory = _read(file, offset, size)
    members, position, rebuilt = {}, 0, b""
    entries = list(_entries(directory, count, largest))
    names = [name for name, _, _ in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is there twice")
    for name, crc, length in entries:
        head = _local(name, crc, length)
        if position + len(head) + length > offset or _read(file, position, len(head)) != head:
            raise ValueError(f"the entry of {name!r} is damaged, or not as detach writes it")
        members[name] = Member(name, crc, length, position + len(head))
        rebuilt += _central(name, crc, length, position)
        position += len(head) + length
    if position != offset or rebuilt != directory:
        raise ValueError("its directory is damaged, or not as detach writes it")
    return members


def read_member(file: IO[bytes], member: Member) -> bytes:
    """The content of a member.

    Raises:
        ValueError: It is not what the check sum says.
    """
    content = _read(file, member.start, member.size)
    if zlib.crc32(content) != member.crc:
        raise ValueError(f"{member.name!r} is damaged: its check sum is wrong")
    return content


def _entries(
    directory: bytes, count: int, largest: Mapping[str, int]
) -> Iterator[tuple[str, int, int]]:
    """Name, check sum and size of each entry of the directory."""
    at = 0
    for _ in range(count):
        if at + CENTRAL.size > len(directory):
            raise ValueError("its directory is cut short")
        _, _, _, flags, method, _, _, crc, packed, size, length, *_, attributes, _ = (
            CENTRAL.unpack_from(directory, at)
        )
        at += CENTRAL.size + length
        name = directory[at - length : at].decode("ascii", errors="backslashreplace")
        if name not in largest:
            raise ValueError(f"{name[:80]!r} is no member of a bundle")
        if attributes >> 28 == 0xA:
            raise ValueError(f"{name!r} is a link")
        if flags & 1 or method != 0 or packed != size:
            raise ValueError(f"{name!r} is compressed or encrypted; members are stored as they are")
        if size > largest[name]:
            raise ValueError(f"{name!r} claims {size} bytes, more than the {largest[name]} allowed")
        yield name, crc, size


def _read_end(file: IO[bytes], total: int) -> tuple[int, int, int]:
    """Number of members, size and offset of the directory."""
    found = _read(file, max(0, total - END.size), min(total, END.size))
    if len(found) == END.size:
        _, _, _, _, count, size, offset, _ = END.unpack(found)
        if found == _end(count, size, offset):
            return count, size, offset
    raise ValueError("it is no bundle, is cut short, or has something after its end")


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _local(name: str, crc: int, size: int) -> bytes:
    raw = name.encode("ascii")
    return LOCAL.pack(b"PK\3\4", VERSION, 0, 0, 0, DATE_1980, crc, size, size, len(raw), 0) + raw


def _central(name: str, crc: int, size: int, start: int) -> bytes:
    raw = name.encode("ascii")
    made, times, sizes = UNIX | VERSION, (0, DATE_1980), (crc, size, size)
    rest = (len(raw), 0, 0, 0, 0, REGULAR_FILE, start)
    return CENTRAL.pack(b"PK\1\2", made, VERSION, 0, 0, *times, *sizes, *rest) + raw


def _end(count: int, size: int, offset: int) -> bytes:
    return END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)
