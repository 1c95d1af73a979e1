"""Build all that a release has into dist/, from a clean tree.

    python scripts/dist.py            # refuses a tree in which something is not committed
    python scripts/dist.py --dirty    # to try it: what is not committed is in it, but for the image

What lies in dist/ then: the wheels of the three distributions, the npm package, what an image is
built from, the manifests for Kubernetes with this version in them, the bill of materials, and the
checksums of all. There are no source distributions: the repository is the source, and its tag has
all of it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from scripts import make_sbom

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
DISTRIBUTIONS = ("clients/python", "server", "slack_bot")
NPM_PACKAGE = "clients/typescript"
IMAGE = (
    *("requirements.lock", "requirements-model.lock", "migrations", *DISTRIBUTIONS),
    *("deploy/Dockerfile", "deploy/Dockerfile.dockerignore", "deploy/healthcheck.py"),
)
"""What the Dockerfile needs."""

KUBERNETES = "deploy/kubernetes"
_TAG = re.compile(r"(newTag: )\S+")


class Refused(Exception):
    """No release can be made; the message says why."""


def versions() -> dict[str, str]:
    """The version that each file says, and each that it asks of another of ours."""
    found = {}
    for folder in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
        found[folder] = project["version"]
        for wanted in project["dependencies"]:
            if ours := re.fullmatch(r"colloquy(?:\[\w+\])?==(\S+)", wanted):
                found[f"{folder}, for colloquy"] = ours[1]
    package = json.loads((ROOT / NPM_PACKAGE / "package.json").read_text("utf-8"))
    found[NPM_PACKAGE] = package["version"]
    return found


def version() -> str:
    """The one version of everything. Raises Refused when there are several."""
    found = versions()
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{where} {what}" for where, what in found.items())
        raise Refused(f"there is more than one version: {listed}")
    return next(iter(found.values()))


def check_clean() -> None:
    """Raises Refused when something is not committed."""
    changed = _git("status", "--porcelain").decode().strip()
    if changed:
        raise Refused(f"commit first, or say --dirty; not committed:\n{changed}")


def build(number: str) -> None:
    """Fills dist/ anew."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    _build_wheels()
    _build_npm_package()
    _write_archive(f"colloquy-image-{number}", _git("archive", "HEAD", *IMAGE))
    manifests = _git("archive", "HEAD", KUBERNETES)
    _write_archive(f"colloquy-kubernetes-{number}", _tagged(manifests, number))
    make_sbom.write(DIST / "sbom.cdx.json")
    (DIST / "COMMIT").write_bytes(_git("rev-parse", "HEAD"))
    _write_checksums()


def _build_wheels() -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(DIST)]
    subprocess.run([*command, *(str(ROOT / one) for one in DISTRIBUTIONS)], check=True)


def _build_npm_package() -> None:
    npm = str(Path(sys.executable).with_name("npm"))
    clients = ROOT / "clients"
    for command in (
        ["run", "--silent", "build", "--workspace", "typescript"],
        ["pack", "--silent", "--workspace", "typescript", "--pack-destination", str(DIST)],
    ):
        subprocess.run([npm, *command], cwd=clients, check=True, stdout=subprocess.DEVNULL)


def _tagged(archive: bytes, number: str) -> bytes:
    """The same files with the image's version in them."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as reading,
        tarfile.open(fileobj=written, mode="w") as writing,
    ):
        for member in reading:
            data = b""
            if file := reading.extractfile(member):
                data = file.read()
                if member.name.endswith("kustomization.yaml"):
                    data = _TAG.sub(rf"\g<1>{number}", data.decode()).encode()
                member.size = len(data)
            writing.addfile(member, io.BytesIO(data))
    return written.getvalue()


def _write_archive(name: str, archive: bytes) -> None:
    """Compressed, the same each time that the same is in it."""
    (DIST / f"{name}.tar.gz").write_bytes(gzip.compress(archive, mtime=0))


def _write_checksums() -> None:
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(DIST.iterdir())
    ]
    (DIST / "SHA256SUMS").write_text("".join(lines), "utf-8")


def _git(*arguments: str) -> bytes:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout


def main() -> None:
    """Build it, and list it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dirty", action="store_true", help="take what is not committed")
    try:
        number = version()
        if not parser.parse_args().dirty:
            check_clean()
    except Refused as refused:
        sys.exit(f"dist: {refused}")
    build(number)
    sys.stdout.write((DIST / "SHA256SUMS").read_text("utf-8"))


if __name__ == "__main__":
    main()
