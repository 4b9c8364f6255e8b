"""Archives: whole ones are unpacked and taken away again, others leave nothing behind."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from detach.data.sphere import import_sphere
from detach.errors import DataError

from .sphere_folder import refuse, write_sphere_folder  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = write_sphere_folder(tmp_path_factory.mktemp("sphere"))
    return folder


def packed(source: Path, folder: Path, kind: str) -> Path:
    form, root = {"tar.xz": "xztar", "tar": "tar", "zip": "zip"}[kind], source.parent
    return Path(shutil.make_archive(str(folder / "sphere"), form, root, source.name))


@pytest.mark.parametrize("kind", ["tar.xz", "tar", "zip"])
def test_archives_are_unpacked_beside_and_taken_away(
    kind: str, source: Path, tmp_path: Path
) -> None:
    archive = packed(source, tmp_path, kind)
    made = import_sphere(archive, tmp_path / "made" / "out", limit=1, workers=1)
    assert [r.name for r in made.recordings()] == ["run00001"]
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["tar.xz", "tar", "zip"])
def test_half_an_archive_is_refused(kind: str, source: Path, tmp_path: Path) -> None:
    archive = packed(source, tmp_path, kind)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refuse(DataError, "fetch it again|whole", archive, tmp_path / "out")


def test_a_tar_cut_between_two_members_is_refused(source: Path, tmp_path: Path) -> None:
    archive = packed(source, tmp_path, "tar")
    with tarfile.open(archive) as tar:
        cut = tar.getmembers()[-3].offset
    archive.write_bytes(archive.read_bytes()[:cut])
    refuse(DataError, "whole tar", archive, tmp_path / "out")


def test_an_xz_without_its_last_bytes_is_refused(source: Path, tmp_path: Path) -> None:
    archive = packed(source, tmp_path, "tar.xz")
    archive.write_bytes(archive.read_bytes()[:-20])
    refuse(DataError, "fetch it again", archive, tmp_path / "out")


def test_members_that_point_outside_are_refused(tmp_path: Path) -> None:
    outside, link, zipped = tmp_path / "outside.tar", tmp_path / "link.tar", tmp_path / "a.zip"
    with tarfile.open(outside, "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil.csv"), io.BytesIO(b""))
    with tarfile.open(link, "w") as tar:
        member = tarfile.TarInfo("public_data")
        member.type, member.linkname = tarfile.SYMTYPE, "/"
        tar.addfile(member)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("/evil.csv", "")
    refuse(DataError, "points outside", outside, tmp_path / "out")
    refuse(DataError, "is a link", link, tmp_path / "out")
    refuse(DataError, "points outside", zipped, tmp_path / "out")
    assert not (tmp_path.parent / "evil.csv").exists()


def test_what_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    refuse(DataError, "not a tar or zip", tmp_path / "notes.txt", tmp_path / "out")
    refuse(DataError, "is not there", tmp_path / "nowhere", tmp_path / "out")
