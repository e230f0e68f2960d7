"""What the study found, in sentences that are made of its tables.

Every number is a table's, every comparison is decided by numbers: nothing here says what came out, only how to say it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.convergence.arms import OPTIMIZERS, Arm
from benchmarks.convergence.order_statistics import paired
from benchmarks.convergence.recorded_study import RecordedStudy

if TYPE_CHECKING:
    from pandas import DataFrame

UNITS = {"update": "updates", "samples": "samples", "seconds": "time"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """Three significant digits; whole numbers in full."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    if value == 0 or (1 <= abs(value) < 1e7 and value == round(value)):
        text = f"{value:,.0f}"
    elif 1e-3 <= abs(value) < 1e5:
        text = f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1e3 else f"{value:#.3g}".rstrip(".")
    else:
        digits, exponent = f"{value:.2e}".split("e")
        text = f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return text.replace("-", "−")


def rate(value: float) -> str:
    """A learning rate: more digits, as they are powers of two."""
    return f"{value:.6g}"


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """A difference of two shares."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def seconds(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return number(value)
    for least, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= least:
            return f"{value / least:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def reached(show: Callable[[float], str]) -> Callable[[float], str]:
    """The same for a place on an axis that a run may never come to."""
    return lambda value: "not reached" if value == math.inf else show(value)


def listed(words: Iterable[str]) -> str:
    """a, b and c; with semicolons where a comma is part of a word: a; b, decaying rate; and c"""
    *most, last = words
    if any("," in word for word in (*most, last)):
        return "; ".join([*most, f"and {last}"]) if most else last
    return f"{', '.join(most)} and {last}" if most else last


def in_short(study: RecordedStudy) -> Iterator[str]:
    """The study in a few sentences, over all of its problems."""
    first, *others = (OPTIMIZERS[name][2] for name in study.optimizers)
    if others or study.optimizers != ["sgd"]:
        rest = f" The problems say what {listed(others)} ends with." if others else ""
        yield f"Regimes are compared under {first}, and figures show it unless they say otherwise.{rest}"
    compared = [problem for problem in study.problems if len(study.regimes(problem)) > 1]
    if not compared:
        only = listed(sorted({regime for problem in study.problems for regime in study.regimes(problem)}))
        yield f"Only one regime was run ({only}): nothing is compared."
    for axis in UNITS:
        if leaders := [lead for problem in compared if (lead := leader(study, problem, axis))]:
            yield _leaders(axis, leaders)
    ratios = {p: r for p in compared if (r := _work_ratio(study, p))}
    if ratios:
        low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        between = (
            f"{number(ratios[low])} times as many ({title(study, low)})"
            if len(ratios) == 1
            else f"between {number(ratios[low])} ({title(study, low)}) and {number(ratios[high])} "
            f"({title(study, high)}) times as many"
        )
        yield (
            f"The full batch needs more samples to the target than the regime that needs fewest on {len(ratios)} of "
            f"{plural(len(compared), 'problem')}: {between}."
        )
    rows = _against_batch(study)
    if len(rows) and math.isfinite(rows["low"].max()):
        apart = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        where = apart["problem"].value_counts(sort=False).items()
        which = f" ({listed(f'{count} on {title(study, str(p))}' for p, count in where)})" if len(apart) else ""
        chance = float((1 - rows["coverage"]).sum())
        yield (
            f"What they have learned in the end, compared with the full batch seed by seed: in {len(apart)} of "
            f"{plural(len(rows), 'comparison')} the interval of the difference in accuracy or loss excludes zero"
            f"{which}. By chance alone it would in about {chance:.2g}, at a coverage of {coverage(rows)}."
        )
    single = [study.arm(1, schedule="decay").name]
    if told := _lower_or_higher(_against_constant(study, study.problems, single), "on", "problem"):
        yield f"The final training loss of single samples with a decaying rate, compared with a constant one: {told}."


def _leaders(axis: str, leaders: Sequence[Leader]) -> str:
    """Who comes first on an axis, of the problems where some regime gets to the target."""
    first = Counter(lead.arm.regime for lead in leaders if not lead.level)
    fewest = "Least time" if axis == "seconds" else f"Fewest {UNITS[axis]}"
    total, level = plural(len(leaders), "problem"), sum(bool(lead.level) for lead in leaders)
    if not first:
        return f"{fewest} to the target: on {total} the runs do not tell the first regime from another."
    winners = listed(f"{regime} on {count}" for regime, count in first.most_common())
    rest = f"; on {level} the runs do not tell the first regime from another" if level else ""
    return f"{fewest} to the target: {winners} of {total}{rest}."


def survival(study: RecordedStudy) -> list[tuple[str, str]]:
    """Each sentence of `in_short`, and what it is with other last bits of the initial weights: "" if the same, or if
    the study was not repeated."""
    told = list(in_short(study))
    if study.repeated is None:
        return [(sentence, "") for sentence in told]
    again = list(in_short(study.repeated))
    # A sentence begins alike whatever its figures are.
    other = {sentence[:24]: sentence for sentence in again}
    return [
        (sentence, "" if sentence in again else other.get(sentence[:24], "there is no such sentence"))
        for sentence in told
    ]


def coverage(rows: DataFrame) -> str:
    """The coverage of intervals, from their own column."""
    low, high = float(rows["coverage"].min()), float(rows["coverage"].max())
    return f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def title(study: RecordedStudy, problem: str) -> str:
    return str(study.about(problem)["title"])


def summary(study: RecordedStudy, problem: str, arms: Sequence[Arm]) -> dict[Arm, Any]:
    """The rows of `summary` of these arms."""
    rows = study.rows("summary", problem=problem, engine=study.engine)
    by_name = {row["arm"]: row for _, row in rows.iterrows()}
    return {arm: by_name[arm.name] for arm in arms if arm.name in by_name}


@dataclass(frozen=True)
class Leader:
    """The regime that comes to a target first.

    Attributes:
        arm: the plain arm with the least median. median: that.
        level: arms of other regimes that the runs do not tell apart from it: the interval of the sign test for the
            difference of their times, seed by seed, holds zero.
    """

    arm: Arm
    median: float
    level: Sequence[Arm]


def leader(study: RecordedStudy, problem: str, axis: str) -> Leader | None:
    """Who comes first on this axis; None if no arm reaches the target, or there is but one regime.

    Of the seconds nothing is said unless those of every arm are known.
    """
    if len(study.regimes(problem)) < 2 or (axis == "seconds" and not study.timed(problem)):
        return None
    best = quickest(study, problem, axis)
    if best is None:
        return None
    arm, median = best
    others = [other for other in study.plain(problem) if other.regime != arm.regime]
    own = _times(study, problem, arm, axis)
    level = []
    for other in others:
        theirs = _times(study, problem, other, axis)
        seeds = sorted(own.keys() & theirs.keys())
        if seeds:
            difference = paired([own[seed] for seed in seeds], [theirs[seed] for seed in seeds])
            if difference.high >= 0:
                level.append(other)
    return Leader(arm, median, level)


def _times(study: RecordedStudy, problem: str, arm: Arm, axis: str) -> dict[int, float]:
    """When each seed's run came to the target; infinity for one that did not."""
    rows = study.rows("times_to_target", problem=problem, engine=study.engine, arm=arm.name)
    times = rows[axis].astype(float).where(rows["reached"].astype(bool), math.inf)
    return {int(seed): float(time) for seed, time in zip(rows["seed"], times, strict=True)}


def quickest(study: RecordedStudy, problem: str, axis: str) -> tuple[Arm, float] | None:
    """The plain arm with the least median on this axis to the target; None if none reaches it."""
    medians = {
        arm: float(row[f"{axis}_to_target_median"])
        for arm, row in summary(study, problem, study.plain(problem)).items()
    }
    medians = {arm: median for arm, median in medians.items() if math.isfinite(median)}
    return min(medians.items(), key=lambda item: item[1]) if medians else None


def _work_ratio(study: RecordedStudy, problem: str) -> float | None:
    """Samples to the target of the full batch over those of the regime that needs fewest, if the runs tell them
    apart."""
    lead, batch = leader(study, problem, "samples"), summary(study, problem, [study.arm(None)])
    if not lead or not batch or lead.median == 0 or study.arm(None) in (lead.arm, *lead.level):
        return None
    ratio = float(batch[study.arm(None)]["samples_to_target_median"]) / lead.median
    return ratio if math.isfinite(ratio) else None


def _against_batch(study: RecordedStudy) -> DataFrame:
    """The plain arms' paired differences from the full batch in their problem's outcome."""
    rows = study.rows("pairs", engine=study.engine, against="batch")
    outcomes = {problem: study.outcome(problem)[0] for problem in study.problems}
    plain = {(problem, arm.name) for problem in study.problems for arm in study.plain(problem)}
    there = zip(rows["problem"], rows["arm"], rows["measure"], strict=True)
    return rows.loc[[outcomes[problem] == measure and (problem, arm) in plain for problem, arm, measure in there]]


def _against_constant(study: RecordedStudy, problems: Sequence[str], arms: Sequence[str]) -> DataFrame:
    """The paired differences of these arms' final training losses from those at a constant rate."""
    rows = study.rows("pairs", engine=study.engine, against="constant rate", measure="train_loss")
    rows = rows[rows["problem"].isin(problems) & rows["arm"].isin(arms)]
    ends = study.rows("summary", engine=study.engine).set_index(["problem", "arm"])["train_loss_median"]
    rounding = [
        # Of a mean over n samples, added up in any order.
        float(study.about(row.problem)["samples"]) * 2.0**-53 * float(ends[row.problem, row.arm])
        for row in rows.itertuples()
    ]
    return rows.assign(rounding=rounding)


def _lower_or_higher(rows: DataFrame, on: str, noun: str) -> str:
    """How often a difference is told to be below or above zero by more than the rounding of a loss; "" if there are too
    few runs to tell."""
    if rows.empty or rows["low"].max() == -math.inf:
        return ""
    lower, higher = int((rows["high"] < -rows["rounding"]).sum()), int((rows["low"] > rows["rounding"]).sum())
    level, total = len(rows) - lower - higher, plural(len(rows), noun)
    counts = {"lower": lower, "higher": higher}
    if len(rows) == 1:
        return next((word for word, count in counts.items() if count), "the runs do not tell them apart")
    told = " and ".join(f"{word} {on} {count}" for word, count in counts.items() if count)
    if not told:
        return f"{on} none of {total} do the runs tell them apart"
    return f"{told} of {total}{f'; {on} {level} the runs do not tell them apart' if level else ''}"


def loss(study: RecordedStudy, problem: str, value: float) -> float:
    """A training loss as figures show it: above the least one, where that is known."""
    import pandas as pd

    return float(study.excess(problem, pd.Series([value])).iloc[0])


def of_problem(study: RecordedStudy, problem: str) -> Iterator[str]:
    """What was found on one problem."""
    yield from _to_target(study, problem)
    yield from _in_the_end(study, problem)
    yield from _variants(study, problem)
    yield from _optimizers(study, problem)
    yield from _tuning(study, problem)


def _to_target(study: RecordedStudy, problem: str) -> Iterator[str]:
    arms = summary(study, problem, study.plain(problem))
    value = float(study.rows("targets", problem=problem)["target_train_loss"].iloc[0])
    if math.isnan(value):
        yield "No target is fixed for this problem."
        return
    if len(study.regimes(problem)) > 1:
        found = []
        for axis in UNITS:
            if lead := leader(study, problem, axis):
                found.append(_lead(lead, arms[lead.arm], axis))
        told = "; ".join(found) or "no regime gets there"
        yield f"To the target, a training loss of {number(value)}: {told}."
    late = [f"{percent(row['reached'])} of {arm.name}" for arm, row in arms.items() if row["reached"] < 1]
    if late:
        yield (
            f"Not all runs reach it within {study.iterations:,} updates: {listed(late)} do; the others count as later "
            "than all."
        )
    if ratio := _work_ratio(study, problem):
        best = quickest(study, problem, "samples")
        assert best is not None
        yield f"The full batch goes through {number(ratio)} times as many samples to the target as {best[0].name}."


def _lead(lead: Leader, row: Any, axis: str) -> str:
    show = reached(seconds if axis == "seconds" else number)
    band = " to ".join(show(row[f"{axis}_to_target_{part}"]) for part in ("low", "high"))
    least = "least time" if axis == "seconds" else f"fewest {UNITS[axis]}"
    level = f", not told apart from {listed(arm.name for arm in lead.level)}" if lead.level else ""
    return f"{least} with {lead.arm.name}, {show(lead.median)} (20% to 80%: {band}){level}"


def _in_the_end(study: RecordedStudy, problem: str) -> Iterator[str]:
    arms, (measure, words) = summary(study, problem, study.plain(problem)), study.outcome(problem)
    losses = {arm: loss(study, problem, float(row["train_loss_median"])) for arm, row in arms.items()}
    above = _above(study, problem)
    low, high = (best(losses, key=losses.__getitem__) for best in (min, max))
    yield (
        f"After {study.iterations:,} updates the median training loss{above} is lowest for {low.name}, "
        f"{number(losses[low])}, and highest for {high.name}, {number(losses[high])}."
    )
    show = percent if measure.endswith("accuracy") else number
    medians = listed(f"{show(row[measure + '_median'])} ({arm.name})" for arm, row in arms.items())
    yield f"Median {words}: {medians}."
    rows = _against_batch(study)
    rows = rows[rows["problem"] == problem]
    if len(rows) and math.isfinite(rows["low"].max()):
        covered = coverage(rows)
        rows = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        difference = points if measure.endswith("accuracy") else lambda d: ("+" if d > 0 else "") + number(d)
        each = [
            f"{row.arm} ({difference(row.median)}, {difference(row.low)} to {difference(row.high)})"
            for row in rows.itertuples()
        ]
        yield (
            f"Seed by seed, against the full batch, the {covered} interval of the difference in {words} excludes zero "
            f"for {listed(each) if each else 'no regime'}."
        )
    diverged = {
        arm.name: int(row["diverged"]) for arm, row in summary(study, problem, study.every_arm(problem)).items()
    }
    if lost := [f"{count} of {name}" for name, count in diverged.items() if count]:
        yield f"Diverged final runs: {listed(lost)}."


def _above(study: RecordedStudy, problem: str) -> str:
    """What is said of a training loss that `loss` gives."""
    return " above the least possible" if study.least(problem) else ""


def _variants(study: RecordedStudy, problem: str) -> Iterator[str]:
    above = _above(study, problem)
    arms = summary(study, problem, study.arms(problem))
    losses = {arm: loss(study, problem, float(row["train_loss_median"])) for arm, row in arms.items()}
    decays = {arm: study.arm(arm.batch_size, arm.order) for arm in losses if arm.schedule == "decay"}
    decays = {arm: constant for arm, constant in decays.items() if constant in losses}
    if decays:
        smallest = min(decays, key=lambda arm: arm.batch_size or math.inf)
        medians = (
            f"of {decays[smallest].name}: {number(losses[smallest])} with a decaying rate, "
            f"{number(losses[decays[smallest]])} with a constant one{f' ({above.strip()})' if above else ''}"
        )
        names = [arm.name for arm in decays]
        told = _lower_or_higher(_against_constant(study, [problem], names), "for", "batch size")
        compared = f"{told}. Medians" if told else "medians"
        yield f"The final training loss with a decaying rate, compared with a constant one: {compared} {medians}."
    for size in dict.fromkeys(arm.batch_size for arm in losses if arm.order != "epoch"):
        same = [arm for arm in losses if arm.batch_size == size and arm.schedule == "constant"]
        words = {"epoch": "shuffled every epoch", "once": "shuffled once", "replacement": "drawn with replacement"}
        each = listed(f"{number(losses[arm])} {words[arm.order]}" for arm in same)
        yield f"Median final training loss{above}, by the order of the data, {Arm(size).name}: {each}."


def _optimizers(study: RecordedStudy, problem: str) -> Iterator[str]:
    """What each size of batch ends with under each optimizer, and when it is at the target."""
    if len(study.optimizers) < 2:
        return
    arms = summary(study, problem, [arm for arm in study.every_arm(problem) if arm.plain])
    for size in dict.fromkeys(arm.batch_size for arm in arms):
        each = []
        for arm, row in arms.items():
            if arm.batch_size == size:
                updates = float(row["update_to_target_median"])
                there = "" if math.isnan(updates) else f", at the target after {number(updates)} updates"
                there = ", not at the target" if updates == math.inf else there
                end = number(loss(study, problem, float(row["train_loss_median"])))
                each.append(f"{OPTIMIZERS[arm.optimizer][2]} {end}{there}")
        above = _above(study, problem)
        yield f"Final training loss{above} by optimizer, {Arm(size).name}: {'; '.join(each)} (medians)."


def _tuning(study: RecordedStudy, problem: str) -> Iterator[str]:
    rates = study.rows("rates", problem=problem)
    low, high = float(rates["rate"].min()), float(rates["rate"].max())
    grid = f"{rate(rates['lowest_rate_tried'].min())} to {rate(rates['highest_rate_tried'].max())}"
    inside = rates["inside"].astype(bool)
    where = "all of them inside the grid" if inside.all() else f"at the grid’s edge: {'; '.join(rates['arm'][~inside])}"
    yield f"Chosen rates: {rate(low)} to {rate(high)}, of a grid from {grid}; {where}."
    held = rates[rates["rate"] == rates["largest_stable_rate"]]
    if len(held):
        total = plural(len(rates), "arm")
        yield f"The chosen rate is the largest stable one, above which none may be chosen, for {len(held)} of {total}."
    again = study.repeated
    if again is not None:
        then = dict(zip(*(again.rows("rates", problem=problem)[column] for column in ("arm", "rate")), strict=True))
        now = dict(zip(rates["arm"], rates["rate"], strict=True))
        moved = [f"{arm} ({rate(now[arm])}, then {rate(other)})" for arm, other in then.items() if now[arm] != other]
        yield (
            f"With other last bits of the initial weights {len(then) - len(moved)} of {plural(len(then), 'rate')} are "
            f"chosen again{'; another one for ' + listed(moved) if moved else ''}."
        )
    for limit in study.rows("stability", problem=problem).itertuples():
        sweep = study.rows("sweep", problem=problem, arm="batch")
        bound = sweep.groupby("rate")["diverged_at"].apply(lambda at: bool(at.isna().all()))
        below, above = (bound[bound.index < limit.limit_low], bound[bound.index > limit.limit_high])
        if len(below) and len(above):
            yield (
                f"2/L = {limit.limit} (certified): of the rates tried with the full batch, {int(below.sum())} of "
                f"{len(below)} below it stayed finite and {int((~above).sum())} of {len(above)} above it diverged."
            )


def of_theory(study: RecordedStudy) -> Iterator[str]:
    for problem, rows in study.frames["gradient_variance"].groupby("problem", sort=False):
        rows = rows[(rows["batch_size"] < rows["samples"]) & (rows["standard_error"] > 0)]
        ratios = rows["measured"] / rows["predicted"]
        if len(rows):
            worst = ((rows["measured"] - rows["predicted"]).abs() / rows["standard_error"]).max()
            yield (
                f"{title(study, str(problem))}: measured over predicted variance of a batch’s gradient lies between "
                f"{ratios.min():.3f} and {ratios.max():.3f} for {len(rows)} batch sizes and weights; the furthest is "
                f"{worst:.1f} standard errors off."
            )


def of_twin(study: RecordedStudy) -> Iterator[str]:
    rows = study.frames["twin"]
    if rows.empty:
        return
    end = int(rows["update"].max())
    last = rows[rows["update"] == end]["drift_ulps"]
    furthest = rows.loc[rows["drift_ulps"].idxmax()]
    yield (
        f"After {end:,} updates refnet and torch are between {number(last.min())} and {number(last.max())} ULPs of the "
        f"largest weight apart; the furthest at any time is {number(furthest['drift_ulps'])} ULPs "
        f"({title(study, furthest['problem'])}, {furthest['arm']}, update {int(furthest['update']):,}). A weight is "
        f"between {number(2.0**52)} and {number(2.0**53)} of its own ULPs."
    )
    ends = rows.groupby(["problem", "arm"])["certified_updates"].first()
    yield f"Parity’s budget for rounding lasts for {number(ends.min())} to {number(ends.max())} updates."


def of_cost(study: RecordedStudy) -> Iterator[str]:
    """What updates cost: of each problem and engine what could be measured, and what could not."""
    for row in study.frames["cost"].itertuples():
        name = f"{title(study, str(row.problem))}, {row.engine}"
        times = study.rows("timing", problem=row.problem, engine=row.engine)
        known, lost = times[times["unmeasured"] == ""], times[times["unmeasured"] != ""]
        why = Counter(reason.partition(":")[0] for reason in lost["unmeasured"])
        reasons = listed(f"{reason} ({count})" for reason, count in why.most_common()) if why else ""
        if known.empty:
            yield f"{name}: none of {plural(len(times), 'time')} could be measured: {reasons}."
            continue
        crossing = (
            f"the samples cost more than the overhead from a batch of {row.overtakes_at:,.0f} on"
            if math.isfinite(row.overtakes_at)
            else "no cost a sample could be measured"
        )
        told = [
            row.unmeasured
            or f"an update on a given batch costs {seconds(1e-6 * row.overhead_us)}, and "
            f"{seconds(1e-6 * row.per_sample_us)} more a sample; {crossing}"
        ]
        # Where an epoch's last batch is smaller, the mean over an epoch is not that of an update on a full batch.
        whole = known[int(study.about(str(row.problem))["samples"]) % known["batch_size"] == 0]
        both = whole[whole["drawn"]].merge(whole[~whole["drawn"]], on="batch_size", suffixes=("", "_given"))
        if len(both):
            last = both.loc[both["batch_size"].idxmax()]
            told.append(
                f"An update on {plural(int(last['batch_size']), 'sample')} takes "
                f"{seconds(1e-6 * last['microseconds'])} where the batch is drawn, "
                f"{seconds(1e-6 * last['microseconds_given'])} where it is given"
            )
        if len(lost):
            told.append(
                f"{len(lost)} of {plural(len(times), 'time')}, on drawn and on given batches, could not be measured: "
                f"{reasons}"
            )
        yield f"{name}: {'. '.join(told)}."
