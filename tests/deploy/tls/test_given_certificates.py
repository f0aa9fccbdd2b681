"""Certificates that a user gives: found in folders and files, and checked before a run starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from deploy import ClusterSpec, parse_cluster
from deploy.clusters.security import own_security, security_of_existing
from deploy.tls.files import NAMES, NAMES_OF_KUBERNETES
from flows.options.cluster import ClusterOptions
from pipeline.base.errors import ClusterError

NOW = datetime.now(UTC)


class Authority:
    """A CA of a site."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self.signed(self.key, self.name, is_ca=True)

    def signed(self, key, name, *, is_ca=False, until=NOW + timedelta(days=1)):
        """Return a certificate for a key, as PEM."""
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=2))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def write(self, folder, *, names=NAMES, password=None, until=NOW + timedelta(days=1)):
        """Write CA, certificate and key of one cluster into a folder; return it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        how = BestAvailableEncryption(password) if password else NoEncryption()
        texts = (
            self.pem,
            self.signed(key, name, until=until),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how),
        )
        folder.mkdir()
        for file, text in zip(names, texts, strict=True):
            (folder / file).write_bytes(text)
        return folder


@pytest.fixture(scope="module")
def site():
    return Authority("site")


def of(**changes):
    return own_security(ClusterSpec(**changes))


@pytest.mark.parametrize("names", [NAMES, NAMES_OF_KUBERNETES])
def test_a_folder_and_three_files_mean_the_same_certificates(names, site, tmp_path):
    folder = site.write(tmp_path / "tls", names=names)
    ca, certificate, key = (str(folder / name) for name in names)
    for text in (str(folder), f"{ca},{certificate},{key}"):
        spec = ClusterOptions(tls=text).spec()
        assert spec.tls == text
        security = own_security(spec)
        assert security.require_encryption
        assert security.tls_ca_file == ca
        assert {security.tls_scheduler_cert, security.tls_worker_cert} == {certificate}
        assert {security.tls_scheduler_key, security.tls_client_key} == {key}


def test_form_profile_and_python_take_the_same_folder_as_an_absolute_path(
    site, tmp_path, monkeypatch
):
    folder = site.write(tmp_path / "tls")
    (tmp_path / "p.toml").write_text('kind = "slurm"\ntls = "tls"\n')
    monkeypatch.chdir(tmp_path)
    assert parse_cluster("p.toml").tls == ClusterOptions(tls="tls").spec().tls == str(folder)


def test_every_cluster_that_overtile_starts_is_encrypted_unless_it_is_switched_off():
    assert of().require_encryption
    assert of(tls="auto").require_encryption
    assert of(tls="off") is None
    for kind in ("slurm", "lsf", "pbs", "sge", "cuda", "local"):
        assert parse_cluster(kind).tls is None, "the default, auto"


def no_key(site, folder):
    (site.write(folder) / "key.pem").unlink()


def mixed(site, folder):
    site.write(folder.with_name("other"))
    site.write(folder)
    (folder / "key.pem").write_bytes((folder.with_name("other") / "key.pem").read_bytes())


def no_pem(site, folder):
    (site.write(folder) / "ca.pem").write_text("nothing\n")


def another_ca(site, folder):
    (site.write(folder) / "ca.pem").write_bytes(Authority("another").pem)


BAD = {
    "no folder": (lambda site, folder: None, r"expected auto, off, a folder with ca\.pem, cert"),
    "no key": (no_key, r"expected auto, off, a folder with ca\.pem, cert\.pem, key\.pem, or thes"),
    "another key": (mixed, r"are not a certificate and its key: .*mismatch"),
    "no PEM": (no_pem, r"ca\.pem is not a usable CA: "),
    "another CA": (another_ca, r"cert\.pem is not accepted with .*ca\.pem as CA: .*issuer"),
    "a password": (
        lambda site, folder: site.write(folder, password=b"secret"),
        r"are not a certificate and its key: .*; expected PEM files, the key without a password",
    ),
    "expired": (
        lambda site, folder: site.write(folder, until=NOW - timedelta(days=1)),
        r"is not accepted with .* as CA: certificate has expired",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_certificates_that_cannot_work_are_refused_in_one_line_before_anything_starts(
    case, site, tmp_path
):
    write, says = BAD[case]
    write(site, tmp_path / "tls")
    with pytest.raises(ClusterError, match=says) as caught:
        own_security(ClusterOptions(tls=str(tmp_path / "tls")).spec())
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "~nobody-here/tls", "a\0b", "x" * 5000, "a,b,c", "a\nb"])
def test_texts_that_name_no_files_are_refused_in_one_line(text):
    with pytest.raises(ClusterError, match=r"^tls ") as caught:
        ClusterOptions(tls=text).spec()
    assert "\n" not in str(caught.value)


def test_an_existing_cluster_has_its_certificates_already(site, tmp_path):
    folder = str(site.write(tmp_path / "tls"))
    with pytest.raises(ClusterError, match=r"tls auto: tls://h:1 is already running"):
        ClusterOptions(cluster="tls://h:1", tls="auto").spec()
    with pytest.raises(ClusterError, match=r"^tls://h:1 needs certificates: set tls to the folder"):
        security_of_existing(None, address="tls://h:1")
    with pytest.raises(ClusterError, match=r"tcp://h:1 is not encrypted: pass an address like tls"):
        security_of_existing(folder, address="tcp://h:1")
    assert security_of_existing(folder, address="tls://h:1").tls_client_cert == f"{folder}/cert.pem"


def test_an_existing_cluster_takes_the_certificates_of_dasks_own_settings(site, tmp_path):
    import dask

    folder = site.write(tmp_path / "tls")
    files = {"ca-file": "ca.pem", "client.cert": "cert.pem", "client.key": "key.pem"}
    settings = {f"distributed.comm.tls.{name}": str(folder / file) for name, file in files.items()}
    with dask.config.set(settings):
        security = security_of_existing(None, address="tls://h:1")
    assert security.tls_client_key == str(folder / "key.pem")
