"""Breaks one call of a round in one way, and judges the broken call and what the next scheduled run makes of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from localcloud.common.wire_faults import WireFault
from tests.crash.breakages import Breakage, breakages
from tests.crash.kills import WAYS as KILLS
from tests.crash.stage import REFUSALS, Ended, Stage, Story, World

TIMEOUT_S = 0.4
DEFECTS = re.compile(r'"(?:internal-error|unexpected|sdk-refused)"|Traceback \(most recent call last\)')
DEFECT_CODES = re.compile(r'\b(?:internal-error|unexpected|sdk-refused)(?:\\?"|: )')
_SECRET_HEADERS = ("authorization", "x-amz-security-token", "x-identity-header", "secret")
ROUNDS = 40  # until a stage is opened anew, so that a round stays within a month
ALWAYS = 1_000_000
RUNS = 2  # scheduled runs after a call that was broken once


@dataclass(frozen=True)
class Case:
    """One call of a story, by its number, and the way in which it is broken: once, or from then on."""

    cloud: str
    story: str
    call: int
    way: str
    name: str = ""
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.cloud}/{self.story}/{self.call}/{self.way}{'/lasting' if self.lasting else ''}"


@dataclass
class Verdict:
    """What became of a case: how the broken call ended, and everything that is wrong."""

    case: Case
    ended: str
    runs: int = 0  # scheduled runs until the world was as it has to be
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as one line of the report."""
        return {**asdict(self.case), "ended": self.ended, "runs": self.runs, "wrong": self.wrong}


def ways_of(stage: Stage | type[Stage], *, lasting: bool = False) -> tuple[str, ...]:
    """Return the ways of breaking an answer, and the kills, of which none can last; the slow ones come last."""
    ways = breakages(stage.form)  # type: ignore[arg-type]  # only the names count here
    found = sorted(ways, key=lambda name: ways[name].slow)
    return tuple(found) if lasting else (*found, *KILLS)


class Trials:
    """The trials of one story on an open stage."""

    def __init__(self, stage: Stage, story: str) -> None:
        self.stage, self._title, self._story = stage, story, stage.stories[story]
        self._ways = breakages(stage.form)
        self.expected: World = {}
        self._clean_writes: list[str] = []
        self.calls: list[str] = []

    def rehearse(self) -> list[str]:
        """Play rounds without a fault until the world is the same twice; return the calls of a round by name."""
        before: World = {}
        world: World = {}
        for _ in range(4):
            ended = self._broken(None)
            problems = _defects(ended)
            assert not problems, problems
            self.calls = [self.stage.call_name(one) for one in self.stage.cloud.faults.wire.seen]
            self._clean_writes = self.stage.written()
            self.stage.recover()
            world = self.stage.world()
            if world == before:
                self.expected = world
                return self.calls
            before = world
        raise AssertionError(f"rounds of {self._title} differ: {differences(before, world)}")

    def writes(self, operation: str) -> bool:
        """Return whether an operation is one of those that write in a round without a fault."""
        return any(one.startswith(operation) or operation.endswith(one) for one in self._clean_writes)

    def cases(self, lasting: bool = False) -> Iterator[Case]:
        """Yield a case for every way of breaking every call, and for each end of the process; or for what can last."""
        for way in ways_of(self.stage, lasting=lasting):
            for number, name in enumerate(self.calls, 1):
                yield Case(self.stage.name, self._title, number, way, name, lasting)

    def play(self, case: Case) -> Verdict:
        """Play one case and judge it."""
        ended = self._kill(case) if case.way in KILLS else self._break(case)
        seen, hits = list(self.stage.cloud.faults.wire.seen), self.stage.cloud.faults.wire.hits
        verdict = Verdict(case, _status(ended), wrong=_defects(ended))
        if not hits:
            verdict.wrong.append("the call was not made")
        verdict.wrong += self._needless()
        secrets = secrets_in(seen)
        if any(one in ended.said for one in secrets):
            verdict.wrong.append("the call's output contains a credential")
        self._recover(verdict, 6 if case.lasting else RUNS)
        return verdict

    def _break(self, case: Case) -> Ended:
        way = self._ways[case.way]
        numbers = range(case.call, ALWAYS) if case.lasting else range(case.call, case.call + 1)
        with pytest.MonkeyPatch.context() as patch:
            if way.slow:
                self.stage.drop_clients()
                self.stage.shorten_timeouts(patch, TIMEOUT_S)
            return self._broken(WireFault(numbers, way.before, way.after))

    def _kill(self, case: Case) -> Ended:
        self.stage.disturb(self._story)
        self.stage.cloud.faults.wire.begin(self.stage.victim.fault(case.way, case.call))
        ended = self.stage.sacrifice(self.stage.victim, self._story.entry)
        self.stage.cloud.faults.wire.end()
        return ended

    def _broken(self, fault: WireFault | None) -> Ended:
        self.stage.disturb(self._story)
        self.stage.drop_clients()
        self.stage.cloud.faults.wire.begin(fault)
        ended = self.stage.invoke(self._story.entry)
        self.stage.cloud.faults.wire.end()
        return ended

    def _needless(self) -> list[str]:
        """Return what is wrong with the writes of the broken call: each must be one of a call that is not broken."""
        left = list(self._clean_writes)
        more = []
        for one in self.stage.written():
            if one in left:
                left.remove(one)
            else:
                more.append(one)
        # A write whose answer is lost may be repeated; it must be harmless, which the world shows.
        usual = () if self._story.steady else (*self._clean_writes, *self.stage.follow_ups)
        needless = [one for one in more if one not in usual]
        return [f"the broken call wrote {one}, which a call that is not broken does not" for one in needless]

    def _recover(self, verdict: Verdict, most: int) -> None:
        """Run as scheduled until the world is as it has to be; the resources must be so after one run.

        What the cloud does after an accepted write, the state shows as pending until the run after, and deliveries of
        an export are announced by the run that finds it.
        """
        found, ended = ["no run"], Ended()
        for number in range(1, most + 1):
            ended = self.stage.recover()
            verdict.runs = number
            found = differences(self.expected, self.stage.world())
            if not found:
                return
            if number == 1 and most == RUNS and any(not one.startswith(("/state/", "/deliveries/")) for one in found):
                break
        verdict.wrong.append(f"after {verdict.runs} runs: {'; '.join(found)[:2000]}")
        verdict.wrong.append(f"the last run ended {_status(ended)}: {_why(ended)[:1500]}")


def _why(ended: Ended) -> str:
    if not ended.reports:
        return ended.said[-1500:]
    report = ended.reports[-1]
    unfinished = [one for one in report["actions"] if one["result"] not in ("done", "kept", "skipped")]
    return str([report["failures"], report["manual"], unfinished])


def _status(ended: Ended) -> str:
    return ended.raised or "/".join(str(one["status"]) for one in ended.reports) or "answered"


def _defects(ended: Ended) -> list[str]:
    wrong = []
    if ended.raised and ended.raised not in REFUSALS:
        wrong.append(f"{ended.raised} was raised: {ended.said[-800:]}")
    found = (DEFECT_CODES if ended.raised else DEFECTS).search(ended.said)
    if found and not wrong:
        wrong.append(f"a defect: {ended.said[max(0, found.start() - 300) : found.end() + 500]}")
    for report in ended.reports:
        wrong += [f"no remedy: {one}" for one in report["failures"] if not str(one["remedy"]).strip()]
        wrong += [f"no steps: {one}" for one in report["manual"] if not all(one["steps"]) or not one["steps"]]
        if report["status"] != "ok" and not (report["failures"] or report["manual"] or _deferred(report)):
            wrong.append(f"{report['status']} without a reason")
    return wrong


def _deferred(report: Mapping[str, Any]) -> bool:
    return any("deferred" in results or "blocked" in results for results in report["outcomes"].values())


def secrets_in(seen: list[Any]) -> set[str]:
    """Return the credentials in the requests' headers, in the notations in which a log may show them."""
    found: set[str] = set()
    for request in seen:
        for name in _SECRET_HEADERS:
            for part in re.split(r"[\s,]+|Signature=|Credential=|:", request.headers.get(name, "")):
                if len(part) >= 16 and not part.startswith(("SignedHeaders", "AWS4-", "AKIALOCA")):
                    found |= {part, base64.b64encode(part.encode()).decode()}
    return found


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Return where two worlds differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            one
            for name in sorted({*expected, *found})
            for one in differences(expected.get(name), found.get(name), f"{path}/{name}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [one for number, pair in pairs for one in differences(*pair, f"{path}/{number}")]
    return [] if expected == found else [f"{path} is {found!r}, not {expected!r}"]


__all__ = ["Breakage", "Case", "Story", "Trials", "Verdict", "differences"]
