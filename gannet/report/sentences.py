"""The verdicts in words: a sentence or two for each measure, with effect, interval and number of seeds, and notes on
runs that were set aside, failed or missed the target. An untrusted arm is called so wherever it is named."""

from __future__ import annotations

from gannet.ledger.reader import Run
from gannet.report import formatting as words
from gannet.report.results import ArmResult, Results, final_score
from gannet.report.verdicts import Conclusion, Contrast, Measure, Verdict
from gannet.spec.notes import different_ends, different_starts


def sentence(results: Results, verdict: Verdict) -> str:
    """A verdict as plain text (escape it before putting it into HTML)."""
    return " ".join(sentence_parts(results, verdict))


def sentence_parts(results: Results, verdict: Verdict) -> list[str]:
    """A verdict's sentences: the claim, how certain it is, and its qualifications."""
    if not verdict.ranked and not verdict.zero:
        return [_nothing(results, verdict.measure)]
    parts = []
    if verdict.ranked:
        start = f"{context(results)}, " if verdict.measure.key == "time" else ""
        # Only if no arm is trusted: a trusted one would have excluded the others.
        start = start if verdict.trusted else f"untrusted result: {start}"
        parts.append(_capital(f"{start}{_claim(results, verdict)}."))
        if verdict.contrasts:
            parts.append(_seeds(verdict))
    for did in dict.fromkeys(_zero(arm, verdict.measure) for arm in verdict.zero):
        names = words.listing([name(arm) for arm in verdict.zero if _zero(arm, verdict.measure) == did])
        parts.append(_capital(f"{names} {did}."))
    return parts + [
        f"{name(arm)} did even better ({_written(arm, verdict.measure)}), but does not count."
        for arm in _would_have_led(results, verdict)
    ]


def _zero(arm: ArmResult, measure: Measure) -> str:
    """Why an arm has no ratio: "sent nothing", or it met the target at once, with all of its seeds or some."""
    found = measure.of(arm)
    assert found is not None
    sent = arm.bytes_per_step or any(score.bytes for run in arm.scored for score in run.scores)
    if measure.key == "bytes" and not sent:
        return "sent nothing"
    seeds = sum(value <= 0 for value in found.values)
    share = "" if seeds == found.n else f" with {seeds} of {words.plural(found.n, 'seed')}"
    return f"met the target {'before it sent anything' if measure.key == 'bytes' else 'from the start'}{share}"


def headline(results: Results, conclusion: Conclusion) -> list[str]:
    """The conclusion in short: time to the target, or final quality if times cannot be ranked; claim first."""
    parts = sentence_parts(results, _first(conclusion))
    apart = [arm.label for arm in results.arms if arm.apart]
    if apart:
        are = "is left out: it is" if len(apart) == 1 else "are left out: they are"
        parts.append(f"{words.listing(apart)} {are} scored otherwise.")
    return parts


def further(results: Results, conclusion: Conclusion) -> list[tuple[str, str]]:
    """(title, text) of what the headline does not say: bytes and quality, no text twice."""
    said, found = {sentence(results, _first(conclusion))}, []
    for title, verdict in (("Bytes", conclusion.bytes), ("Quality", conclusion.quality)):
        text = sentence(results, verdict)
        if text not in said:
            said.add(text)
            found.append((title, text))
    return found


def _first(conclusion: Conclusion) -> Verdict:
    time_says = bool(conclusion.time.ranked or conclusion.time.zero)
    return conclusion.time if time_says or not conclusion.quality.ranked else conclusion.quality


def context(results: Results) -> str:
    """ "on 4 nodes over demo-10mbit links", as far as this is the same for all runs."""
    summaries = [run.summary for run in results.comparison.runs]
    nodes = sorted({summary.nodes for summary in summaries if summary.nodes is not None})
    links = sorted({summary.links for summary in summaries if summary.links})
    over = ""
    if len(links) == 1:  # a name ("demo-10mbit") can be used as an adjective, a list of exceptions cannot
        over = f" over links set to {links[0]}" if set(links[0]) & set(" ,:") else f" over {links[0]} links"
    elif links:
        over = " over links that differ by arm"
    count = f"on {nodes[0]} to {nodes[-1]} nodes" if len(nodes) > 1 else "in this comparison"
    text = (f"on {words.plural(nodes[0], 'node')}" if len(nodes) == 1 else count) + over
    return f"{text} (modelled links: predicted, not measured)" if results.model else text


def short_score_name(score_name: str) -> str:
    """A score's name without its feature network: "Fréchet distance (FashionNet features)" → "Fréchet distance"."""
    return score_name.split(" (")[0]


def goal(results: Results) -> str:
    """ "a Fréchet distance of 60" """
    score = short_score_name(results.score_name)
    article = "an" if score[:1].lower() in "aeiou" else "a"
    level = words.number(results.target.level, 4) if results.target is not None else "–"
    return f"{article} {score} of {level}"


def name(arm: ArmResult) -> str:
    """An arm's label, with "(untrusted)" if a counted run is."""
    return arm.label if arm.trusted or not arm.counted else f"{arm.label} (untrusted)"


def notes(results: Results) -> list[str]:
    """Notes for the reader: untrusted, failed and missing runs with reasons, arms that missed the target, and scores
    based on too few images."""
    found = []
    for arm in results.arms:
        if not arm.arm.runs:
            found.append(f"{arm.label} has no run.")
        for run in (*arm.counted, *arm.set_aside):
            if not run.trusted:
                where = "set aside" if run in arm.set_aside else "shown, but not reliable"
                why = "; ".join(run.distrust)
                found.append(f"{arm.label}, seed {run.seed}, is untrusted ({where}): {why}.")
        for run in arm.unfinished:
            verb = "was stopped" if run.summary.status == "stopped" else "failed"
            reason = f": {run.summary.reason}" if run.summary.reason else ""
            where = f"at step {run.summary.steps:,}"
            found.append(f"{arm.label}, seed {run.seed}, {verb} {where} and is not counted{reason}.")
        found += _scored_otherwise(arm)
        found += _without_score(arm, scored=any(other.scored for other in results.arms))
        if results.target is not None and arm.reached < len(arm.scored):
            seeds = f"only {arm.reached} of {words.plural(len(arm.scored), 'seed')}" if arm.reached else "no seed"
            found.append(f"{arm.label} reached {goal(results)} with {seeds}, so its time and bytes are not ranked.")
        found += [
            f"{arm.label}, seed {run.seed}, diverged: its last model has values that are not finite."
            for run in arm.counted
            if run.scores and final_score(run) is None and not run.scores[-1].fault
        ]
        if arm.at_most:
            found.append(f"{arm.label} met the target at its first snapshot: its time and bytes are upper bounds.")
    found += _settings(results)
    # All arms are scored in the same way, so most share a shortfall: it is reported once.
    lacking = dict.fromkeys(text for run in results.comparison.runs for text in run.summary.score_shortfalls)
    found += [f"Too few images for a score: {text}." for text in lacking]
    return [text if not text.endswith("..") else text[:-1] for text in found]


def _settings(results: Results) -> list[str]:
    """Notes on settings that did nothing, and on arms that ended differently; see gannet.spec.notes."""
    each = {arm.label: [note for run in arm.arm.runs for note in run.summary.notes] for arm in results.arms}
    found = []
    for note in dict.fromkeys(note for notes in each.values() for note in notes):
        whose = [label for label, notes in each.items() if note in notes]
        found.append(f"{'' if len(whose) == len(each) else words.listing(whose) + ': '}{note}.")
    specs = {arm.label: arm.shown.spec for arm in results.arms if arm.shown is not None}
    stops = {label: spec["stop"] for label, spec in specs.items() if isinstance(spec.get("stop"), dict)}
    begun = {arm.label: arm.shown.environment.start for arm in results.arms if arm.shown is not None}
    starts = {label: f"{at.source} (SHA-256 {at.sha256[:16]})" if at else "" for label, at in begun.items()}
    if len(set(starts.values())) == 1 and all(starts.values()):
        which = next(iter(starts)) if len(starts) == 1 else "All arms"
        found.append(f"{which} began from {next(iter(starts.values()))}.")
    return found + [f"{note}." for note in (*different_ends(stops), *different_starts(starts))]


def _scored_otherwise(arm: ArmResult) -> list[str]:
    """Which of the arm's scores are not compared with the others', why, and what to do."""
    if arm.apart:
        return [f"{arm.label} is left out of the ranking: it is {arm.apart}.{_rescore(arm.apart)}"]
    return [
        f"{arm.label}, seed {run.seed}, is left out of the scores of its arm: it is {how}.{_rescore(how)}"
        for run, how in arm.apart_runs
    ]


def _without_score(arm: ArmResult, scored: bool) -> list[str]:
    """Which of the arm's runs lack scores, and why; `scored`: other runs have them."""
    faulty = [run for run in arm.arm.runs if run.summary.score_fault]
    found = [f"{arm.label}, seed {run.seed}, could not be scored: {run.summary.score_fault}." for run in faulty]
    lacking = [run for run in arm.counted if scored and not run.scores and not run.summary.score_fault]
    return found + [f"{arm.label}, seed {run.seed}, has no score and is not ranked." for run in lacking]


def _rescore(how: str) -> str:
    """Scores of other numbers of images, or of another network, can be taken alike; those of other data cannot."""
    again = " `gannet score FOLDER` with --samples and --features scores all runs alike."
    return again if "generated images" in how or "features)" in how else ""


def _claim(results: Results, verdict: Verdict) -> str:
    measure, first = verdict.measure, verdict.ranked[0]
    value = _written(first, measure)
    level = [contrast for contrast in verdict.contrasts if contrast.standing == "level"]
    behind = [contrast for contrast in verdict.contrasts if contrast.standing != "level"]
    gaps = words.listing([_gap(contrast, measure) for contrast in behind])
    if not level:
        done = {
            "time": f"{name(first)} reached {goal(results)} in {value}",
            "bytes": f"{name(first)} sent {value} to reach {goal(results)}",
            "quality": f"{name(first)} ended with a {short_score_name(results.score_name)} of {value}",
        }[measure.key]
        if gaps:
            return f"{done}, {gaps}"
        alone = "the only arm that did" if len(results.arms) > 1 else "no other arm to compare with"
        others = [arm for arm in results.arms if arm is not first]
        if any(arm.counted for arm in others) and not any(arm.scored for arm in others):
            alike = " alike" if any(arm.apart for arm in others) else ""
            alone = f"no other arm is scored{alike}"
        if len(results.arms) > 1 and verdict.shut_out:
            alone = "the only trusted arm that did"
        return f"{done} ({alone})"
    subject = {
        "time": f"in the time to {goal(results)}",
        "bytes": f"in the bytes to {goal(results)}",
        "quality": f"in final {short_score_name(results.score_name)}",
    }[measure.key]
    peers = words.listing(
        [f"{name(first)} ({value})"] + [f"{name(c.other)} ({_written(c.other, measure)}{_doubt(c)})" for c in level]
    )
    unsure = any(contrast.effect.shown is None for contrast in level)
    nothing = "one seed cannot show a difference" if unsure else "these seeds show no difference"
    text = f"between {peers} {nothing} {subject}"
    return f"{text}; {name(first)} {'sent' if measure.key == 'bytes' else 'was'} {gaps}" if gaps else text


def _gap(contrast: Contrast, measure: Measure) -> str:
    """ "1.43× sooner than Ring (58 s; 95% interval 1.2 to 1.6)" """
    value = contrast.effect.value
    amount = {
        "time": lambda: f"{words.times(value)} sooner",
        "bytes": lambda: f"{words.times(value)} less",
        "quality": lambda: f"{words.number(value)} better",
    }[measure.key]()
    return f"{amount} than {name(contrast.other)} ({_written(contrast.other, measure)}{_interval(contrast)})"


def _doubt(contrast: Contrast) -> str:
    effect = contrast.effect
    if effect.shown is None:
        return ""
    what = (
        f"ratio {words.times(effect.value)}" if effect.kind == "ratio" else f"difference {words.number(effect.value)}"
    )
    return f"; {what}{_interval(contrast).replace(';', ',')}"


def _interval(contrast: Contrast) -> str:
    low, high = contrast.effect.low, contrast.effect.high
    if low is None or high is None:
        return ""
    if contrast.effect.kind == "ratio":
        return f"; 95% interval {words.ratio_interval(low, high)}"
    return f"; 95% interval {words.number(low)} to {words.number(high)}"


def _written(arm: ArmResult, measure: Measure) -> str:
    found = measure.of(arm)
    assert found is not None
    at_most = "at most " if arm.at_most and measure.key != "quality" else ""
    return at_most + measure.write(found.mean)


def _seeds(verdict: Verdict) -> str:
    counts = sorted({found.n for arm in verdict.ranked if (found := verdict.measure.of(arm)) is not None})
    if counts[0] == 1:
        start = "One seed per arm" if counts == [1] else "Some arms have one seed"
        if verdict.measure.key != "time":
            return f"{start}: only an indication."
        return f"{start}, so the spread is unknown: this is only an indication."
    return f"{counts[0]} seeds per arm." if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds per arm."


def _would_have_led(results: Results, verdict: Verdict) -> list[ArmResult]:
    """Excluded arms with a better number than the first-ranked trusted arm."""
    if not verdict.ranked:
        return []
    sign = -1.0 if verdict.measure.key == "quality" and results.better == "higher" else 1.0

    def centre(arm: ArmResult) -> float:
        found = verdict.measure.of(arm)
        assert found is not None
        return sign * verdict.measure.centre(found.values)

    return [arm for arm in verdict.shut_out if centre(arm) < centre(verdict.ranked[0])]


def _nothing(results: Results, measure: Measure) -> str:
    if not any(arm.counted for arm in results.arms):
        return "No arm finished a run, so nothing can be concluded."
    if not any(run.scores for run in results.comparison.runs):
        return "No run was scored, so nothing can be concluded about quality."
    if measure.key == "quality":
        return "No arm ended with a score, so final quality cannot be compared."
    return f"No arm improved on its first score with every seed, so {measure.key} to a target cannot be compared."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def run_sentences(results: Results, run: Run) -> list[str]:
    """A single run in words: its result first, then the cost of a step."""
    summary, cost = run.summary, results.arms[0].cost
    start = f"{run.label} {context(results)}"
    if not run.finished:
        verb = "was stopped" if summary.status == "stopped" else "failed"
        reason = f": {summary.reason}" if summary.reason else ""
        return [_capital(f"{start} {verb} at step {summary.steps:,}{reason}.")]
    took = f"{words.plural(summary.steps, 'step')} in {words.seconds(summary.seconds)}"
    score = final_score(run)
    ended = f" and ended with a {short_score_name(results.score_name)} of {words.number(score)}" if score else ""
    parts = [_capital(f"{start} trained {took}{ended}.")]
    if cost is not None and cost.waiting_share is not None:
        bound = f"; the lower bound is {words.seconds(cost.bound_s)}" if cost.bound_s else ""
        share = words.percent(cost.waiting_share)
        parts.append(f"A step took {words.seconds(cost.total_s)} on average, {share} of it waiting{bound}.")
    return parts
