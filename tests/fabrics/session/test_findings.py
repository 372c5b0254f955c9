"""The certificate of a run in progress: recorded again when a reason arises, not when a figure in one grows."""

from __future__ import annotations

from gannet.fabrics.session.findings import Findings
from gannet.netem.measure.certificate import Certificate


def test_a_reason_is_recorded_when_it_arises_and_not_for_its_figures() -> None:
    reasons: list[str] = []
    recorded: list[list[str]] = []
    findings = Findings(
        Certificate(reasons=["link 0 → 1: slow"]),
        lambda: reasons,
        lambda certificate: recorded.append(certificate.reasons),
    )
    for _ in range(3):
        findings.look(at_once=True)
    assert recorded == [["link 0 → 1: slow"]]
    reasons.append("node 2: 12 of 400 packets were late")
    findings.look(at_once=True)
    reasons[0] = "node 2: 13 of 410 packets were late"
    findings.look(at_once=True)
    assert recorded[1:] == [["link 0 → 1: slow", "node 2: 12 of 400 packets were late"]]
    reasons += ["links were changed by hand at 1.6 s: clear"] * 2  # one text, one reason
    findings.look(at_once=True)
    assert recorded[-1][2:] == ["links were changed by hand at 1.6 s: clear"]
    reasons[-1] = "links were changed by hand at 2.5 s: clear"  # the same operation once more
    findings.look(at_once=True)
    assert recorded[-1][2:] == [f"links were changed by hand at {t_s} s: clear" for t_s in (1.6, 2.5)]
    assert findings.certificate().reasons[1] == "node 2: 13 of 410 packets were late"


def test_it_looks_once_a_second_unless_there_is_news() -> None:
    asked: list[bool] = []

    def reasons() -> list[str]:
        asked.append(True)
        return []

    findings = Findings(Certificate(), reasons, lambda certificate: None)
    findings.look()
    for _ in range(100):
        findings.look()
    assert len(asked) <= 2  # on a machine that stood still for a second meanwhile
    findings.look(at_once=True)
    assert len(asked) <= 3
