"""Finds what has changed since the last look, as hints for a run.

Everything is compared with the state that runs save, and nothing else is stored: an event counts until one of its
targets has been read after it. So a run that is refused, fails or ends early loses no event, and a repeated or late run
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from azure_function.activity_log import Change, read_changes
from azure_function.billing_scopes import pages_of
from azure_function.clients import ARM_READ, Clients
from azure_function.resource_graph import subscription_states
from azure_function.scopes import ACTIVE_STATES, ASK_ONE_BY_ONE, id_of
from azure_function.settings import AzureSettings
from azure_function.targets import CONTAINER, EXPORT, EXPORTS_PROVIDER, container_key, export_name
from shared.errors import Denied, NotApplicable, NotFound, ReportedError
from shared.hints import Hint
from shared.model import Scope, ScopeState
from shared.runtime.context import RunContext
from shared.state.document import StateDocument
from shared.target_state import TargetState

SKEW = timedelta(seconds=5)  # how far the function's clock may be ahead of Azure's
SKIPPED = "not-applicable"  # the state of an export whose costs are in a billing scope's export: no run reads it

Found = TypeVar("Found")


def find_changes(settings: AzureSettings, clients: Clients, run: RunContext, document: StateDocument) -> list[Hint]:
    """Return a hint for each subscription that is new or changed its state, and for each event of the activity log.

    Without a state, there is nothing to compare with and thus no hint. A subscription that is no longer listed gives no
    hint: only complete enumerations decide that it is gone. A source that cannot be read is logged, and the other one
    is still read.
    """
    if not document.owner:
        return []
    hints = [Hint(one) for one in _read(run, lambda: _subscriptions(settings, clients, run, document))]
    if settings.activity_log:
        hints += _unread(_read(run, lambda: read_changes(settings, clients, run)), settings, document)
    return hints


def _read(run: RunContext, source: Callable[[], Sequence[Found]]) -> Sequence[Found]:
    """Return the hints of a source; none, and a line in the log, if it cannot be read."""
    try:
        return source()
    except ReportedError as error:
        run.log("warning", "events-unread", code=error.code, reason=error.message)
        return []


def _subscriptions(settings: AzureSettings, clients: Clients, run: RunContext, document: StateDocument) -> list[str]:
    """Return the subscriptions that the state does not contain, or whose recorded activity differs.

    Resource Graph may lag behind Resource Manager by hours, so a change counts only if both report it: a run for any
    other change would have no effect, and the next look would request it again. Raises CloudError.
    """

    def differs(subscription: str, state: str) -> bool:
        record = document.scopes.get(subscription)
        active = state in ACTIVE_STATES
        return active if record is None else record.counted and active != (record.state == ScopeState.ACTIVE.value)

    states = subscription_states(settings, clients, run, document.owner)
    found = sorted(one for one, state in states.items() if differs(one, state))
    confirmed = _states(found, clients, run) if found else {}
    return [one for one in found if one in confirmed and differs(one, confirmed[one])]


def _states(subscriptions: Sequence[str], clients: Clients, run: RunContext) -> dict[str, str]:
    """Return the states of those subscriptions that Resource Manager lists. Raises CloudError."""
    client = clients.subscriptions.subscriptions
    shown: list[Mapping[str, Any]] = []
    if len(subscriptions) > ASK_ONE_BY_ONE:
        shown += pages_of(run, ARM_READ, client.list)
    else:
        for one in subscriptions:
            with suppress(NotFound, NotApplicable, Denied):
                shown.append(run.calls(ARM_READ, client.get, one))
    return {id_of(one): str(one.get("state", "")) for one in shown}


def _unread(changes: Sequence[Change], settings: AzureSettings, document: StateDocument) -> Iterator[Hint]:
    """Yield a hint for each change to one of our targets that has not been read since.

    The log may contain many changes to other management groups and to exports that are not ours; these are ignored.
    """
    for change in changes:
        record = document.scopes.get(change.scope)
        if record is None or record.state != ScopeState.ACTIVE.value or record.missed:
            continue
        names = [one for one in _names(change, settings) if change.name in ("", one.lower())]
        states = (record.targets.get(f"{change.kind}/{one}") for one in names)
        if any(state is not None and _is_older(state, change) for state in states):
            # Only a full run lists the containers, and every export rests on one.
            yield Hint(at=change.at) if change.kind == CONTAINER.name else Hint(change.scope, change.kind, change.at)


def _is_older(state: TargetState, change: Change) -> bool:
    """Return whether a target that runs read was last read before a change."""
    return state.state != SKIPPED and (state.looked_at is None or state.looked_at < change.at + SKEW)


def _names(change: Change, settings: AzureSettings) -> list[str]:
    """Return the names of all targets of a change's kind in its subscription."""
    if change.kind == EXPORT.name:
        return [export_name(Scope(change.scope), dataset) for dataset in settings.exports]
    owned = [one for one in settings.destination if one.subscription == change.scope]
    if change.kind == CONTAINER.name:
        return [container_key(one, settings).name for one in owned]
    return [EXPORTS_PROVIDER] if owned else []
