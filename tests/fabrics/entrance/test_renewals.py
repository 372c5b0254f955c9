"""A cluster's certificates in its files: made, renewed before they expire, taken from a folder, and handed over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from rich.console import Console

from gannet.certs import folder as certificates
from gannet.experiment.serve import ServeError, serve
from gannet.fabrics.containers.make_credentials import make
from gannet.fabrics.containers.membership import Membership
from gannet.fabrics.containers.operators_secret import operators_identity
from gannet.fabrics.containers.renewals import Handing, Newest
from gannet.fabrics.credentials import CredentialError, Credentials, node_credential
from gannet.fabrics.entrance import bundles
from gannet.fabrics.entrance.entrance import Entrance
from gannet.fabrics.session.controller import Controller, Joined
from gannet.node.admission.handed import HandedOver, line
from gannet.node.admission.identity import Identity, IdentityError, reach
from tests.support.patience import wait_until

DAY = timedelta(days=1)
EXPIRED = timedelta(minutes=-1)
SECRET, NODE = "the-trainers-own-secret", "a-node"


def texts(folder: Path) -> dict[str, bytes]:
    return {role: bundles.identity_file(role, folder).read_bytes() for role in bundles.ROLES}


def put(folder: Path, role: str, identity: Identity) -> None:
    file = bundles.identity_file(role, folder)
    new = file.with_name("put")
    new.write_bytes(identity.bundle)
    new.replace(file)


def authority(folder: Path) -> bundles.Authority:
    return bundles.authority_in((folder / "authority" / "authority.pem").read_bytes())


def believe_each_other(controller: Identity, agent: Identity) -> None:
    membership = Membership(SECRET, controller)
    address = membership.start("127.0.0.1:0")
    try:
        reach(address, agent, 120.0)
    finally:
        membership.stop()


def test_what_is_made_is_valid_for_its_role_for_three_months(tmp_path: Path) -> None:
    make(tmp_path)
    for role, named in bundles.ROLES.items():
        certificate = x509.load_pem_x509_certificate(bundles.read_identity(role, tmp_path).certificate)
        assert abs(certificate.not_valid_after_utc - datetime.now(UTC) - 90 * DAY) < timedelta(hours=1)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"gannet://gannet/{named}"]
    believe_each_other(bundles.read_identity("controller", tmp_path), bundles.read_identity("agent", tmp_path))


def test_a_certificate_is_renewed_while_its_cluster_stands(tmp_path: Path) -> None:
    """Those with less than two months; and who has the former one and who has the new one believe each other."""
    make(tmp_path)
    put(tmp_path, "agent", bundles.issue(authority(tmp_path), "agent", 59 * DAY))
    put(tmp_path, "trainer", bundles.issue(authority(tmp_path), "trainer", 61 * DAY))
    before = texts(tmp_path)
    former = bundles.read_identity("agent", tmp_path)
    assert make(tmp_path) == ["certificate of agent"]
    after = texts(tmp_path)
    assert {role for role in after if after[role] != before[role]} == {"agent"}
    assert make(tmp_path) == []
    controller = bundles.read_identity("controller", tmp_path)
    for agent in (former, bundles.read_identity("agent", tmp_path)):
        believe_each_other(controller, agent)


@pytest.mark.parametrize("wrong", ["expired", "another authority's", "damaged", "another role's"])
def test_what_cannot_be_used_is_made_again(tmp_path: Path, wrong: str) -> None:
    make(tmp_path)
    own = authority(tmp_path)
    match wrong:
        case "expired":
            put(tmp_path, "operator", bundles.issue(own, "operator", EXPIRED))
        case "another authority's":
            put(tmp_path, "operator", bundles.fresh()["operator"])
        case "another role's":
            put(tmp_path, "operator", bundles.issue(own, "agent"))
        case _:
            put(tmp_path, "operator", Identity(b"", b"", b"half a cert"))
    assert make(tmp_path) == ["certificate of operator"]
    believe = bundles.read_identity("operator", tmp_path)
    assert believe.authority == bundles.read_identity("controller", tmp_path).authority


def test_without_its_authority_all_are_made_again(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "authority" / "authority.pem").unlink()
    assert make(tmp_path) == [f"certificate of {role}" for role in bundles.ROLES]


def test_a_folder_of_gannet_certs_is_used_instead(tmp_path: Path) -> None:
    (cluster := tmp_path / "cluster").mkdir()
    make(cluster)
    certs = tmp_path / "certs"
    certificates.make(certs, "lab-1", 30 * DAY, ["controller.example.org"])
    assert make(cluster, certs) == [f"certificate of {role}" for role in bundles.ROLES]
    assert make(cluster, certs) == []
    own = bundles.read_identity("trainer", cluster)
    assert own.certificate == (certs / "node.pem").read_bytes() and own.controller == "controller.lab-1.gannet"
    believe_each_other(bundles.read_identity("controller", cluster), bundles.from_certs(certs, "agent"))
    assert make(cluster) == [f"certificate of {role}" for role in bundles.ROLES]  # and its own again without it


def test_a_folder_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (cluster := tmp_path / "cluster").mkdir()
    certs = tmp_path / "certs"
    with pytest.raises(CredentialError, match=r"controller-key\.pem: No such file.*gannet certs make"):
        make(cluster, certs)
    certificates.make(certs, "lab-1", EXPIRED)
    with pytest.raises(CredentialError, match=r"controller\.pem: the certificate expired on .*--overwrite"):
        make(cluster, certs)
    certificates.make(certs, "lab-1", DAY / 2, overwrite=True)
    with pytest.raises(CredentialError, match=r"the certificate of controller expires on .*--overwrite"):
        make(cluster, certs)


@pytest.mark.parametrize("lifetime", [EXPIRED, DAY / 2, None], ids=["expired", "soon", "none"])
def test_a_controller_does_not_start_without_a_certificate_that_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifetime: timedelta | None
) -> None:
    make(tmp_path)
    if lifetime is None:
        bundles.identity_file("controller", tmp_path).unlink()
    else:
        put(tmp_path, "controller", bundles.issue(authority(tmp_path), "controller", lifetime))
    monkeypatch.setattr(Credentials.read.__func__, "__defaults__", (tmp_path,))  # type: ignore[attr-defined]
    monkeypatch.setattr(bundles.read_identity, "__defaults__", (tmp_path, timedelta()))
    with pytest.raises(ServeError, match=r"controller/tls\.pem.*docker compose up (renews|makes) it"):
        serve("cluster", "/nowhere/", {}, Console(quiet=True))


def test_an_operator_has_a_folder_or_a_file(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certificates.make(certs, "lab-1", DAY)
    one = operators_identity("192.0.2.1:7001", {"GANNET_CERTS": str(certs)})
    assert one is not None
    (file := tmp_path / "operator.pem").write_bytes(one.bundle)
    assert operators_identity("192.0.2.1:7001", {"GANNET_CERTS": str(file)}) == one
    assert operators_identity("unix:/somewhere", {"GANNET_CERTS": str(file)}) is None
    file.write_bytes(bundles.from_certs(certs, "agent").bundle)
    with pytest.raises(CredentialError, match="of the role agent, not operator"):
        operators_identity("192.0.2.1:7001", {"GANNET_CERTS": str(file)})
    with pytest.raises(CredentialError, match=r"GANNET_CERTS=/no/such: No such file"):
        operators_identity("192.0.2.1:7001", {"GANNET_CERTS": "/no/such"})


@pytest.mark.parametrize("role", ["controller", "agent", "operator"])
def test_an_identity_is_of_one_role(role: str) -> None:
    with pytest.raises(IdentityError, match=f"pipe: the certificate is of the role {role}, not node"):
        Identity.parse(bundles.fresh()[role].bundle, "node", "pipe")


def test_no_key_is_in_what_is_logged() -> None:
    own = bundles.fresh()["trainer"]
    assert own.key.decode().splitlines()[1] not in repr(own)


def test_what_is_handed_over_comes_whole_and_the_newest_counts() -> None:
    """In pieces of any size; and what runs in the child reads nothing more."""
    own, renewed = bundles.fresh()["trainer"], bundles.fresh()["trainer"]
    read, write = os.pipe()
    first = line("a-node:code", own)
    os.write(write, first + line("a-node:code", renewed)[:100])
    handed = HandedOver(read)
    assert (handed.credential, handed.identity()) == ("a-node:code", own)
    os.write(write, line("a-node:code", renewed)[100:])
    assert handed.identity() == renewed
    os.write(write, first)
    handed.close()
    assert os.read(read, 100) == b"" and handed.identity() == renewed
    os.close(write)
    os.close(read)


@pytest.mark.parametrize("text", [b"", b"\n", b"a-node:code\n", b"[]\n", b'{"credential": ""}\n'])
def test_nothing_else_is_taken_for_a_credential(text: bytes) -> None:
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    with pytest.raises(ValueError, match="no credential on standard input"):
        HandedOver(read)
    os.close(read)


@pytest.fixture
def controller() -> Iterator[Controller]:
    made = Controller("run", "{}", SECRET, [NODE])
    made.entrance = Entrance("node", OWN["controller"])
    yield made
    made.stop()


CLUSTER = bundles.Authority.make("gannet test", DAY)
OWN = {role: bundles.issue(CLUSTER, role, DAY) for role in bundles.ROLES}


def test_a_training_process_joins_once_its_certificate_is_renewed(controller: Controller, tmp_path: Path) -> None:
    """As in a container that outlasted its certificate: it says why it waits, and is let in once it may be."""
    address = controller.start("127.0.0.1:0")
    bundles.identity_file("trainer", tmp_path).parent.mkdir()
    put(tmp_path, "trainer", OWN["trainer"])
    credential = node_credential(SECRET, NODE)
    argv = [sys.executable, "-P", "-m", "gannet.node", "--stay", "--controller", address]
    with (tmp_path / "log").open("wb") as log:
        trainer = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=log)
    try:
        assert trainer.stdin is not None
        trainer.stdin.write(line(credential, bundles.issue(CLUSTER, "trainer", EXPIRED)))
        trainer.stdin.flush()
        wait_until("it says why", lambda: b"this certificate has expired" in (tmp_path / "log").read_bytes())
        assert controller.events.empty()
        Handing(trainer, credential, Newest("trainer", bundles.identity_file("trainer", tmp_path))).hand()
        joined = controller.events.get(timeout=240)
        assert isinstance(joined, Joined) and joined.rank == 0 and joined.pid != trainer.pid
    finally:
        trainer.terminate()
        trainer.wait(60)


def test_a_new_file_is_seen_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    newest = Newest("agent", bundles.identity_file("agent", tmp_path))
    first = newest()
    put(tmp_path, "agent", bundles.issue(authority(tmp_path), "agent", EXPIRED))
    assert newest() is first
    put(tmp_path, "agent", renewed := bundles.issue(authority(tmp_path), "agent"))
    assert newest() == renewed != first
