"""The state of an AWS organization: accounts, units and administrators; see organization_api for operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.partitions import Partition
from shared.runtime.clock import Clock

MANAGEMENT_ACCOUNT = "111122223333"
# The legacy `Status` for each `State`, which replaced it. Source: Account in the Organizations API reference.
_STATUS = {
    "PENDING_ACTIVATION": "ACTIVE",
    "ACTIVE": "ACTIVE",
    "SUSPENDED": "SUSPENDED",
    "PENDING_CLOSURE": "PENDING_CLOSURE",
    "CLOSED": "SUSPENDED",
}
STATES = tuple(_STATUS)


@dataclass
class Account:
    """A member or the management account. `closing_until` is when a pending closure completes."""

    id: str
    name: str
    email: str
    parent: str
    state: str
    method: str
    joined: datetime
    tags: dict[str, str] = field(default_factory=dict)
    closing_until: datetime | None = None

    @property
    def status(self) -> str:
        return _STATUS[self.state]

    @property
    def suspended(self) -> bool:
        return self.state in ("SUSPENDED", "PENDING_CLOSURE", "CLOSED")


@dataclass
class Unit:
    """An organizational unit, or the root (whose parent is None)."""

    id: str
    name: str
    parent: str | None
    tags: dict[str, str] = field(default_factory=dict)


def account_id(number: int) -> str:
    """Return the id of the `number`-th local member: 12 digits, unique; the third begins with a zero."""
    return "012345678912" if number == 2 else f"{210_000_000_000 + number * 48_271_003 % 700_000_000_000:012d}"


class Organization:
    """One organization. Its management account is also its first member.

    `number` tells the organizations of several payers apart. `numbers` count the accounts that are created in all of
    them; without it, only those of this one.
    """

    def __init__(
        self,
        clock: Clock,
        partition: Partition,
        management: str = MANAGEMENT_ACCOUNT,
        number: int = 0,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self._clock = clock
        self._numbers = numbers or itertools.count()
        self.partition = partition
        self.management = management
        self.id = f"o-{number:010d}" if number else "o-a1b2c3d4e5"
        self.feature_set = "ALL"
        self._suffix = f"{number:04d}" if number else "ab12"
        self.root = Unit(f"r-{self._suffix}", "Root", None)
        self.units: dict[str, Unit] = {self.root.id: self.root}
        self.accounts: dict[str, Account] = {}
        self.delegated: dict[str, dict[str, datetime]] = {}
        self.trusted: dict[str, datetime] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.close_delay_s = 0.0
        self.on_join: list[Callable[[Account], None]] = []
        self.on_leave: list[Callable[[Account, str], None]] = []
        # Called for each CloudTrail event with its name, the account and further details.
        self.on_event: list[Callable[[str, Account, dict[str, str]], None]] = []
        self.stacksets_access = "DISABLED"  # of CloudFormation StackSets
        self._add(management, "management", "management@example.com", self.root.id, "INVITED")

    def arn(self, kind: str, identity: str = "") -> str:
        tail = f"/{identity}" if identity else ""
        return f"arn:{self.partition.name}:organizations::{self.management}:{kind}/{self.id}{tail}"

    def add_unit(self, parent: str, name: str) -> Unit:
        """Add a unit. Raises AwsError (ParentNotFoundException, DuplicateOrganizationalUnitException)."""
        self.unit(parent, "ParentNotFoundException")
        if any(unit.parent == parent and unit.name == name for unit in self.units.values()):
            raise AwsError("DuplicateOrganizationalUnitException", "An OU with the same name already exists.")
        unit = Unit(f"ou-{self._suffix}-{len(self.units):08d}", name, parent)
        self.units[unit.id] = unit
        return unit

    def unit(self, identity: str, code: str = "OrganizationalUnitNotFoundException") -> Unit:
        """Return a unit. Raises AwsError with `code`."""
        if identity not in self.units:
            raise AwsError(code, "You specified an organizational unit or root that doesn't exist.")
        return self.units[identity]

    def account(self, identity: str) -> Account:
        """Return an account. Raises AwsError (AccountNotFoundException)."""
        self.settle()
        if identity not in self.accounts:
            raise AwsError("AccountNotFoundException", "You specified an account that doesn't exist.")
        return self.accounts[identity]

    def listed(self) -> list[Account]:
        """Return all accounts in the order they joined."""
        self.settle()
        return list(self.accounts.values())

    def join(
        self, name: str, email: str, parent: str | None = None, identity: str | None = None, method: str = "CREATED"
    ) -> Account:
        """Create an account in the organization, already ACTIVE. Raises AwsError if the email is already used.

        `method` is CREATED, or INVITED for an existing account that accepted an invitation.
        """
        if any(account.email == email for account in self.accounts.values()):
            raise AwsError("EMAIL_ALREADY_EXISTS", email)
        if identity is None:
            identity = account_id(next(self._numbers))
        account = self._add(identity, name, email, parent or self.root.id, method)
        for listener in self.on_join:
            listener(account)
        if method == "CREATED":
            self._notify("CreateAccountResult", account)
        else:
            self._notify("AccountJoinedOrganization", account, joinedMethod=method)
        return account

    def move(self, identity: str, source: str, target: str) -> None:
        """Move an account. Raises AwsError if it is not in `source` or a unit does not exist."""
        account = self.account(identity)
        self.unit(source, "SourceParentNotFoundException")
        self.unit(target, "DestinationParentNotFoundException")
        if account.parent != source:
            raise AwsError("SourceParentNotFoundException", "The account is not in the source parent.")
        if source == target:
            raise AwsError("DuplicateAccountException", "The account is already in this parent.")
        account.parent = target
        for leaving in self.on_leave:
            leaving(account, source)
        for joining in self.on_join:
            joining(account)
        self._notify("MoveAccount", account, sourceParentId=source, destinationParentId=target)

    def set_state(self, identity: str, state: str) -> None:
        """Set an account's state. Raises ValueError for a state that does not exist on AWS."""
        if state not in STATES:
            raise ValueError(f"{state} is not one of {', '.join(STATES)}")
        self.account(identity).state = state

    def close(self, identity: str) -> None:
        """Close a member: PENDING_CLOSURE, then CLOSED after `close_delay_s`; each sends an event. Raises AwsError."""
        account = self.account(identity)
        if identity == self.management:
            raise AwsError("ConstraintViolationException", "You can't close the management account.")
        if account.suspended:
            raise AwsError("AccountAlreadyClosedException", "You attempted to close an account that is already closed.")
        account.state = "PENDING_CLOSURE"
        account.closing_until = self._clock.now() + timedelta(seconds=self.close_delay_s)
        self._notify("CloseAccount", account)
        self.settle()

    def remove(self, identity: str) -> None:
        """Remove a member from the organization. Raises AwsError."""
        account = self.account(identity)
        if identity == self.management:
            raise AwsError("MasterCannotLeaveOrganizationException", "You can't remove the management account.")
        del self.accounts[identity]
        self.delegated.pop(identity, None)
        for listener in self.on_leave:
            listener(account, account.parent)
        self._notify("AccountDepartedOrganization", account, departureMethod="REMOVED")

    def settle(self) -> None:
        """Complete the closures that are due."""
        now = self._clock.now()
        for account in self.accounts.values():
            if account.closing_until is not None and account.closing_until <= now:
                account.state, account.closing_until = "CLOSED", None
                self._notify("CloseAccountResult", account)

    def lineage(self, parent: str) -> Iterator[str]:
        """Yield the ids of a unit and of all units above it, up to the root."""
        current: str | None = parent
        while current is not None:
            yield current
            current = self.units[current].parent

    def below(self, units: set[str]) -> list[Account]:
        """Return all accounts in these units and in the units below them."""
        inside: dict[str, bool] = {}
        for identity in self.units:
            inside[identity] = any(above in units for above in self.lineage(identity))
        return [account for account in self.listed() if inside[account.parent]]

    def _notify(self, name: str, account: Account, **about: str) -> None:
        for listener in self.on_event:
            listener(name, account, about)

    def _add(self, identity: str, name: str, email: str, parent: str, method: str) -> Account:
        account = Account(identity, name, email, parent, "ACTIVE", method, self._clock.now())
        self.accounts[identity] = account
        return account
