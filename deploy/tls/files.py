"""The certificate files of a cluster, found by the text of its setting ``tls``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

from pipeline.base.errors import ClusterError

AUTO: Final = "auto"
OFF: Final = "off"
NAMES: Final = ("ca.pem", "cert.pem", "key.pem")
NAMES_OF_KUBERNETES: Final = ("ca.crt", "tls.crt", "tls.key")
_EXPECTED: Final = f"a folder with {', '.join(NAMES)}, or these three paths as CA,CERT,KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Paths of PEM files: a CA's certificate, a certificate that it has signed, and its key."""

    ca: str
    certificate: str
    key: str


def names_files(tls: str | None) -> TypeGuard[str]:
    """Return whether a setting ``tls`` names certificate files."""
    return tls not in (None, AUTO, OFF)


def checked_tls(text: str) -> str:
    """Return ``auto`` and ``off`` unchanged, and paths as absolute ones. Raises ClusterError."""
    if not names_files(text):
        return text
    files = find_files(text)
    folder = Path(text).expanduser().absolute()
    return str(folder) if folder.is_dir() else ",".join((files.ca, files.certificate, files.key))


def find_files(text: str) -> CertificateFiles:
    """Return the files in a folder, or of three paths with commas between them.

    In a folder they are called as ``NAMES``, or as in Kubernetes' secrets. Nothing is read.
    Raises ClusterError in one line.
    """
    try:
        paths = _found(text)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        why = getattr(error, "strerror", None) or str(error)
        raise ClusterError(f"tls {text!r}: {why}: expected {_EXPECTED}") from error
    if paths is None or not text.isprintable():
        raise ClusterError(f"tls {text!r}: expected {AUTO}, {OFF}, {_EXPECTED}")
    ca, certificate, key = map(str, paths)
    return CertificateFiles(ca=ca, certificate=certificate, key=key)


def _found(text: str) -> list[Path] | None:
    if not text:
        return None
    folder = Path(text).expanduser().absolute()
    if folder.is_dir():
        for names in (NAMES, NAMES_OF_KUBERNETES):
            paths = [folder / name for name in names]
            if all(path.is_file() for path in paths):
                return paths
        return None
    paths = [Path(part).expanduser().absolute() for part in text.split(",")]
    return paths if len(paths) == len(NAMES) and all(path.is_file() for path in paths) else None
