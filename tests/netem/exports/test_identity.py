"""What was exported and is imported again: the same path, for what the format holds."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from gannet.netem.exports import containerlab, tcconfig
from gannet.netem.formats.base import Imported, Options
from gannet.netem.formats.registry import import_file
from gannet.netem.links.profile import LinkProfile, profile_of
from tests.netem.exports.test_settings import least, plans, profiles


def again(text: str, options: Options) -> Imported:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "exported"
        path.write_text(text)
        return import_file(path, options)


def check(imported: Imported, profile: LinkProfile) -> None:
    found = profile_of({"name": "again", **imported.content})
    assert (found.up_bps, found.down_bps) == (least(profile.up_bps, profile.down_bps), None)
    for field in ("jitter_ms", "loss_percent", "corrupt_percent"):
        assert getattr(found, field) == pytest.approx(getattr(profile, field), abs=1e-6), field
    assert found.delay_ms == pytest.approx(profile.up_delay_ms, abs=1e-6)
    assert found.jitter_order == profile.jitter_order


def is_empty(profile: LinkProfile) -> bool:
    rate = least(profile.up_bps, profile.down_bps)
    return not (profile.up_delay_ms or profile.loss_percent or profile.corrupt_percent or rate)


@settings(deadline=None, max_examples=40)
@given(profiles().filter(lambda profile: not is_empty(profile)))
def test_tcconfig(profile: LinkProfile) -> None:
    done = tcconfig.export_network(plans(profile, profile))
    for text in done.files.values():
        check(again(text, Options(round_trip=False)), profile)


@settings(deadline=None, max_examples=40)
@given(profiles().filter(lambda profile: not is_empty(profile)))
def test_containerlab(profile: LinkProfile) -> None:
    done = containerlab.export_network(plans(profile, profile, profile))
    for name in ("node0:eth1", "node2:eth2"):
        check(again(done.files["netem.json"], Options(name=name)), profile)
