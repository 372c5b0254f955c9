"""`gannet certs`: what it makes another implementation of TLS believes, and what is wrong with files is found."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from gannet.certs import folder as certificates
from gannet.certs.run_authority import lifetime_of
from gannet.cli.main import app

FILES = {f"{role}{kind}.pem" for role in ("ca", *certificates.ROLES) for kind in ("", "-key")}


def told(*words: str) -> tuple[int, str]:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
    return done.exit_code, done.output


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    status, output = told("certs", "make", str(folder), "--host", "gpu1.example.org", "--host", "192.0.2.7")
    assert status == 0, output
    return folder


def context(folder: Path, role: str, purpose: int) -> ssl.SSLContext:
    found = ssl.SSLContext(purpose)
    found.verify_flags |= ssl.VERIFY_X509_STRICT
    found.verify_mode = ssl.CERT_REQUIRED
    found.load_verify_locations(folder / "ca.pem")
    found.load_cert_chain(folder / f"{role}.pem", folder / f"{role}-key.pem")
    return found


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[str, ...]:
    """A mutual TLS handshake in memory, by OpenSSL; the names that the server has seen."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = [False, False]
    for _ in range(20):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done[number] = True
            except ssl.SSLWantReadError:
                pass
        if all(done):
            break
    assert all(done)
    peer = ends[1].getpeercert()
    assert peer is not None
    return tuple(str(value) for _, value in peer["subjectAltName"])  # type: ignore[misc]


@pytest.mark.parametrize("role", ["node", "agent", "operator"])
@pytest.mark.parametrize("host", ["controller.gannet.gannet", "gpu1.example.org", "192.0.2.7"])
def test_openssl_believes_them_for_what_they_name(made: Path, role: str, host: str) -> None:
    server, client = (
        context(made, "controller", ssl.PROTOCOL_TLS_SERVER),
        context(made, role, ssl.PROTOCOL_TLS_CLIENT),
    )
    assert f"gannet://gannet/{role}" in handshake(server, client, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "gpu2.example.org")


def test_another_clusters_are_not_believed(made: Path, tmp_path: Path) -> None:
    assert told("certs", "make", str(tmp_path / "other"))[0] == 0
    server = context(made, "controller", ssl.PROTOCOL_TLS_SERVER)
    client = context(tmp_path / "other", "node", ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "controller.gannet.gannet")


def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert told("certs", "make", str(tmp_path / "new"))[0] == 0
    finally:
        os.umask(before)
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert found == dict.fromkeys(FILES, 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_nothing_is_overwritten_unless_asked(made: Path) -> None:
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    (made / "agent.pem").unlink()
    status, output = told("certs", "make", str(made))
    assert status == 2 and "there already" in output and "--overwrite" in output
    assert {file.name: file.read_bytes() for file in made.iterdir()} == {
        name: text for name, text in before.items() if name != "agent.pem"
    }
    status, output = told("certs", "make", str(made), "--overwrite")
    assert status == 0, output
    after = {file.name: file.read_bytes() for file in made.iterdir()}
    assert after.keys() == before.keys() and all(after[name] != text for name, text in before.items())


def test_a_link_is_replaced_and_not_followed(made: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (made / "node-key.pem").unlink()
    (made / "node-key.pem").symlink_to(outside)
    assert told("certs", "make", str(made))[0] == 2
    assert told("certs", "make", str(made), "--overwrite")[0] == 0
    assert outside.read_text() == "mine" and not (made / "node-key.pem").is_symlink()


def test_they_expire_when_asked_and_it_is_shown(tmp_path: Path) -> None:
    status, output = told("certs", "make", str(tmp_path / "short"), "--days", "3", "--cluster", "lab-1")
    assert status == 0
    ends = datetime.now(UTC) + timedelta(days=3)
    assert f"{ends:%Y-%m-%d}" in output and "gannet://lab-1/operator" in output and output.count("in order") == 5
    certificate = x509.load_pem_x509_certificate((tmp_path / "short" / "node.pem").read_bytes())
    assert abs(certificate.not_valid_after_utc - ends) < timedelta(minutes=5)


def replace(made: Path, name: str, other: str) -> None:
    shutil.copy2(made / other, made / name)


def expire(made: Path) -> None:
    shutil.rmtree(made)
    certificates.make(made, "gannet", timedelta(minutes=-1))


FAULTS = {
    "node: another role's certificate": (lambda made: replace(made, "node.pem", "agent.pem"), "not of a node"),
    "node: another's key": (lambda made: replace(made, "node-key.pem", "agent-key.pem"), "is another certificate's"),
    "no key": (lambda made: (made / "node-key.pem").unlink(), "no node-key.pem"),
    "damaged": (lambda made: (made / "node.pem").write_text("-----BEGIN"), "no certificate in PEM"),
    "damaged key": (lambda made: (made / "node-key.pem").write_text("x"), "no private key in PEM"),
    "readable": (lambda made: (made / "node-key.pem").chmod(0o644), "can be read by others: chmod 600"),
    "another authority": (lambda made: certificates._write(made, "ca", *_new_authority()), "not issued by ca.pem"),
    "expired": (expire, "expired"),
}


def _new_authority() -> tuple[x509.Certificate, certificates.ec.EllipticCurvePrivateKey]:
    found = certificates.Authority.make("another", timedelta(days=1))
    return found.certificate, found.key


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_wrong_is_shown(made: Path, what: str) -> None:
    assert told("certs", "show", str(made))[0] == 0
    spoil, says = FAULTS[what]
    spoil(made)
    status, output = told("certs", "show", str(made))
    assert status == 1 and says in output, output


@pytest.mark.parametrize(
    "words",
    [["--host", "not a host"], ["--host", "-x.org"], ["--cluster", "Lab/1"], ["--days", "0"]],
    ids=lambda words: words[1],
)
def test_names_that_are_none_make_nothing(tmp_path: Path, words: list[str]) -> None:
    status, output = told("certs", "make", str(tmp_path / "new"), *words)
    assert status == 2 and words[0] in output
    assert not (tmp_path / "new").exists()


def test_a_folder_without_certificates(tmp_path: Path) -> None:
    status, output = told("certs", "show", str(tmp_path))
    assert status == 2 and "ca.pem: no such file" in output


def test_a_runs_certificates_outlive_it() -> None:
    for stop_s in (1.0, 3600.0, 86400.0, 30 * 86400.0):
        assert lifetime_of(stop_s) >= timedelta(seconds=2 * stop_s) and lifetime_of(stop_s) >= timedelta(days=1)
    assert lifetime_of(None) >= timedelta(days=7)
