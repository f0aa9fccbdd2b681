"""Dask's security settings of a cluster, made from the setting ``tls`` of its specification."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.base.errors import ClusterError

from ..tls.certificate import make_key_pair
from ..tls.files import OFF, CertificateFiles, find_files, names_files
from ..tls.keys import new_keys
from .spec import ClusterSpec

if TYPE_CHECKING:
    from distributed import Security

ENCRYPTED: Final = ("tls://", "wss://")
_ROLES: Final = ("client", "scheduler", "worker")
_ROUNDS: Final = 4
"""Of messages in a handshake; TLS 1.2 has the most."""


@contextmanager
def with_keys(spec: ClusterSpec, parent: Path) -> Iterator[ClusterSpec]:
    """Yield a specification whose ``tls`` is off or names files, for processes that read them.

    parent: where keys are made if none are given; processes on all nodes must see it. They are
    removed on exit.
    """
    if spec.tls == OFF or names_files(spec.tls):
        yield spec
        return
    with new_keys(parent) as folder:
        yield replace(spec, tls=str(folder))


def own_security(spec: ClusterSpec) -> Security | None:
    """Return the settings of a cluster that this process starts; None if it is not encrypted.

    If no files are named, a new key, kept in memory: Dask passes it to the workers that it starts.
    Raises ClusterError in one line for certificates that cannot be used.
    """
    if spec.tls == OFF:
        return None
    if names_files(spec.tls):
        files = find_files(spec.tls)
        security = _security(files)
        _check_trust(files, security)
        return security
    pair = make_key_pair()
    return _security(
        CertificateFiles(ca=pair.certificate, certificate=pair.certificate, key=pair.key)
    )


def security_of_existing(tls: str | None, *, address: str) -> Security:
    """Return the settings with which to connect to an existing cluster.

    tls: names certificate files; by default those in Dask's own settings (``distributed.comm.tls``)
    are used. Raises ClusterError in one line.
    """
    from distributed import Security

    if names_files(tls):
        if not address.startswith(ENCRYPTED):
            raise ClusterError(
                f"tls {tls!r}: {address} is not encrypted: pass an address like tls://HOST:8786"
            )
        return _security(find_files(tls))
    security = Security()
    if address.startswith(ENCRYPTED) and not (security.tls_ca_file and security.tls_client_cert):
        raise ClusterError(
            f"{address} needs certificates: set tls to the folder of this cluster's ca.pem, "
            "cert.pem and key.pem"
        )
    return security


def _security(files: CertificateFiles) -> Security:
    """Return settings in which all roles have the same files, or the same PEM texts."""
    from distributed import Security

    if "\n" not in files.key:
        _check_readable(files)
    return Security(
        require_encryption=True,
        tls_ca_file=files.ca,
        **{f"tls_{role}_cert": files.certificate for role in _ROLES},
        **{f"tls_{role}_key": files.key for role in _ROLES},
    )


def _check_readable(files: CertificateFiles) -> None:
    """Raise ClusterError unless the files can be loaded.

    A key with a password is rejected here: Dask would ask for it on the terminal.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ClusterError(f"tls: {files.ca} is not a usable CA: {_why(error)}") from error
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"tls: {files.certificate} and {files.key} are not a certificate and its key: "
            f"{_why(error)}; expected PEM files, the key without a password"
        ) from error


def _check_trust(files: CertificateFiles, security: Security) -> None:
    """Raise ClusterError unless two processes with these files accept each other."""
    server = security.get_listen_args("scheduler")["ssl_context"]
    client = security.get_connection_args("worker")["ssl_context"]
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for _ in range(_ROUNDS):
            for end in ends:
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
    except ssl.SSLError as error:
        raise ClusterError(
            f"tls: {files.certificate} is not accepted with {files.ca} as CA: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    """Return what OpenSSL or the system found wrong, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
