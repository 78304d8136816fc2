"""Billing accounts and their sub-accounts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

ID = re.compile(r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}")


def account_id(number: int, seed: int = 0) -> str:
    """Return an account id derived from number and seed, in Google's form: three groups of six hexadecimal digits."""
    digits = hashlib.sha256(f"billing account {seed}/{number}".encode()).hexdigest().upper()
    return "-".join(digits[start : start + 6] for start in (0, 6, 12))


@dataclass
class BillingAccount:
    """One account; `master` is the id of its parent account, "" for an ordinary one."""

    id: str
    display_name: str
    parent: str
    open: bool = True
    master: str = ""
    currency: str = "USD"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": f"billingAccounts/{self.id}",
            "open": self.open,
            "displayName": self.display_name,
            "masterBillingAccount": f"billingAccounts/{self.master}" if self.master else "",
            "parent": f"billingAccounts/{self.master}" if self.master else self.parent,
            "currencyCode": self.currency,
        }


class Billing:
    """All billing accounts, in order of creation."""

    def __init__(self) -> None:
        self.accounts: dict[str, BillingAccount] = {}
        self.of_parent: dict[str, list[BillingAccount]] = {}

    def add(self, account: BillingAccount) -> BillingAccount:
        """Add an account. Raises ValueError for a malformed or duplicate id."""
        if not ID.fullmatch(account.id):
            raise ValueError(f"{account.id!r} is not the id of a billing account")
        if account.id in self.accounts:
            raise ValueError(f"billing account {account.id} exists")
        self.accounts[account.id] = account
        self.of_parent.setdefault(account.parent, []).append(account)
        return account
