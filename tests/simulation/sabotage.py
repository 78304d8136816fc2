"""Faults that are put into the engine one at a time, to show that the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec

from shared import case, coverage, observe, plan, reconcile, report, rules
from shared.deliveries import chain
from shared.deliveries.document import FileSet, Series, is_same, next_document
from shared.model import Absent, Ownership, Present, Result
from shared.runtime import rate_limit
from shared.state import session, update

Patch = Callable[[], Any]


def _completeness_ignored() -> Any:
    """An enumeration that failed half-way counts as complete."""
    record = update.record_scopes

    def wrong(document: Any, enumeration: Any, *rest: Any) -> None:
        record(document, msgspec.structs.replace(enumeration, complete=True), *rest)

    return mock.patch.object(reconcile, "record_scopes", wrong)


def _failed_read_is_absent() -> Any:
    """A read that failed counts as a proof that nothing is there."""
    return mock.patch.object(observe, "as_observation", return_value=Absent())


def _not_before_ignored() -> Any:
    """A target that has to wait is written at once."""
    begin = case.Case.__init__

    def wrong(self: case.Case, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self.waits = False

    return mock.patch.object(case.Case, "__init__", wrong)


def _foreign_is_ours() -> Any:
    """Whatever has our name counts as ours."""
    decide = rules.decide

    def wrong(target: Any, scope: Any, seen: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(seen, Present) and seen.ownership is Ownership.FOREIGN:
            seen = msgspec.structs.replace(seen, ownership=Ownership.OURS)
        return decide(target, scope, seen, *rest, **options)

    return mock.patch.object(plan, "decide", wrong)


def _grace_ignored() -> Any:
    """What was created and is not visible yet is created again."""
    kept = {
        sight: tuple(rule for rule in found if "within the grace" not in rule.condition)
        for sight, found in rules._BY_SIGHT.items()
    }
    return mock.patch.object(rules, "_BY_SIGHT", kept)


def _refusal_is_coverage() -> Any:
    """A scope that the cloud refuses counts as covered."""
    return mock.patch.dict(coverage._RANK, {Result.EXCLUDED: 0})


def _quota_ignored() -> Any:
    """Calls are made as fast as possible."""
    return mock.patch.object(rate_limit.Limiter, "acquire")


def _remedies_missing() -> Any:
    """Failures are reported without what to do."""
    return mock.patch.object(report, "remedy_for", return_value="")


def _compare_and_swap_ignored() -> Any:
    """A run that another one was quicker than takes the lock all the same."""

    def wrong(self: Any) -> None:
        if self._version is None and not self.document.scopes:
            reload(self)
        self._version = self._store.load(1).version

    reload = session.StateSession._reload
    return mock.patch.object(session.StateSession, "_reload", wrong)


def _former_targets_kept() -> Any:
    """What is no target anymore stays in the state."""
    return mock.patch.object(reconcile, "retire")


def _published_before_stored() -> Any:
    """A delivery is published before its document is stored."""
    append = chain.Chain._append

    def wrong(self: Any, series: Series, documents: Any, found: FileSet, stored: Any) -> None:
        current, _ = self.current(series, documents)
        newest = current.newest
        if not is_same(newest, found):
            number = newest.data.sequence + 1 if newest else 1
            document = next_document(self._cloud, series, newest, number, found, self._run.clock.now())
            for topic in self._topics.values():
                topic.publish(document.event(), document.id, document.partitionkey)
        append(self, series, documents, found, stored)

    return mock.patch.object(chain.Chain, "_append", wrong)


def _earlier_documents_skipped() -> Any:
    """What a topic refused is not published later."""
    return mock.patch.object(chain.Chain, "_read", return_value=None)


def _silence_unnoticed() -> Any:
    """Data that is overdue is not reported."""
    return mock.patch.object(report, "find_silence", return_value=coverage.Silence((), ()))


# By name: the fault, and the invariants of which one finds it.
SABOTAGES: Mapping[str, tuple[Patch, frozenset[str]]] = {
    "completeness-ignored": (_completeness_ignored, frozenset({"forgotten"})),
    "failed-read-is-absent": (_failed_read_is_absent, frozenset({"create"})),
    "not-before-ignored": (_not_before_ignored, frozenset({"not-before"})),
    "foreign-is-ours": (_foreign_is_ours, frozenset({"foreign"})),
    "grace-ignored": (_grace_ignored, frozenset({"duplicate"})),
    "refusal-is-coverage": (_refusal_is_coverage, frozenset({"reported"})),
    "quota-ignored": (_quota_ignored, frozenset({"quota"})),
    "remedies-missing": (_remedies_missing, frozenset({"remedy"})),
    "former-targets-kept": (_former_targets_kept, frozenset({"bounded"})),
    "published-before-stored": (_published_before_stored, frozenset({"publish"})),
    "earlier-documents-skipped": (_earlier_documents_skipped, frozenset({"announced"})),
    "silence-unnoticed": (_silence_unnoticed, frozenset({"silence"})),
    "compare-and-swap-ignored": (_compare_and_swap_ignored, frozenset({"lock"})),
}

# By name: a cloud, days, and the shortest story that finds the fault.
STORIES: Mapping[str, tuple[str, int, str]] = {
    "completeness-ignored": (
        "azure",
        3,
        "seed=9 start=2028-01-04 scopes=2 every=12; 0d12:00:00 join s2; 1d12:00:00 fault pages refused 100 51",
    ),
    "failed-read-is-absent": ("gcp", 2, "seed=1 start=2027-12-17 scopes=1 every=24; 0d15:00:00 deny owner"),
    "not-before-ignored": (
        "azure",
        5,
        "seed=1 start=2027-09-23 scopes=1 every=24; 0d09:00:00 agreement s3 new; 3d09:00:00 join s3",
    ),
    "foreign-is-ours": ("gcp", 1, "seed=0 start=2027-11-01 scopes=1 every=24; 0d00:00:00 foreign shared s2"),
    "grace-ignored": (
        "aws",
        1,
        "seed=1 start=2027-09-03 scopes=1 every=24 zone=America/New_York; 0d04:19:49 delete role s0",
    ),
    "refusal-is-coverage": ("azure", 6, "seed=4 start=2027-04-15 scopes=4 every=24; 0d12:00:00 agreement s3 none"),
    "quota-ignored": ("azure", 2, "seed=0 start=2027-05-21 scopes=2 every=24"),
    "remedies-missing": ("gcp", 3, "seed=0 start=2027-10-16 scopes=3 every=24; 2d00:00:00 fault pages refused 40 3.1"),
    "former-targets-kept": ("gcp", 18, "seed=0 start=2027-10-16 scopes=1 every=24"),
    "published-before-stored": ("gcp", 4, "seed=0 start=2027-10-16 scopes=1 every=24"),
    "earlier-documents-skipped": (
        "azure",
        21,
        "seed=0 start=2027-05-21 scopes=1 every=24; 0d11:00:00 fault topic refused 100 74",
    ),
    "silence-unnoticed": ("azure", 14, "seed=0 start=2027-05-21 scopes=1 every=24; 2d00:00:00 silence s0"),
    "compare-and-swap-ignored": ("aws", 4, "seed=1 scopes=2 every=24; 2d10:00:00 burst 8"),
}


@contextmanager
def sabotaged(name: str) -> Iterator[frozenset[str]]:
    """Put a fault into the engine; yield the invariants of which one has to find it."""
    patch, found_by = SABOTAGES[name]
    with patch():
        yield found_by
