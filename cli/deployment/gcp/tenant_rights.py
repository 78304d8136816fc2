"""What a tenant grants its own service account: the function's permissions of rights.yaml on the exports it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Template

import yaml

from shared.tenants.registry import Tenant
from tailpipe_exports import FILES

FILE = FILES / "infra" / "gcp" / "rights.yaml"
# The scopes of rights.yaml that are in a tenant's cloud; all others concern the deployment itself.
_PLACES = ("project", "dataset", "export_bucket", "organization", "billing_account")


@dataclass(frozen=True)
class Right:
    """One grant: `permissions` of a custom role or a predefined `role`, on a `place` of the tenant.

    `command` is gcloud's, without member and role; `condition` is its flag's value, "" for none.
    """

    id: str
    why: str
    scope: str
    place: str
    role: str
    permissions: tuple[str, ...]
    command: str
    condition: str = ""

    @property
    def testable(self) -> bool:
        """Return whether the account itself can ask Google whether it has the permissions."""
        return self.scope in ("project", "export_bucket") and bool(self.permissions) and not self._only_below

    @property
    def _only_below(self) -> bool:
        # Of a bucket, only permissions on the bucket itself can be tested, not those limited to its objects.
        return self.scope == "export_bucket" and not self.permissions[0].startswith("storage.buckets.")


def rights_of(tenant: Tenant) -> Iterator[Right]:
    """Yield what a tenant has to grant its service account."""
    project = tenant.destination["project"]
    bucket = tenant.destination.get("bucket") or f"tailpipe-billing-export-{project}"
    dataset = tenant.destination.get("dataset") or "billing_export"
    organization = tenant.entry.get("organization", "").removeprefix("organizations/")
    names = dict.fromkeys(("state_bucket", "registry_bucket", "project", "notify_secret"), "")
    text = Template(FILE.read_text(encoding="utf-8")).safe_substitute(names, export_bucket=bucket)
    for grant in yaml.safe_load(text)["function"]:
        scope = str(grant["scope"])
        if scope not in _PLACES or scope == ("billing_account" if organization else "organization"):
            continue
        condition = grant.get("condition")
        if scope == "dataset":
            # Bound on the project with a condition, so that it survives the loss of the dataset.
            own = f"projects/{project}/datasets/{dataset}"
            expression = f'resource.name == "{own}" || resource.name.startsWith("{own}/")'
            condition = {"expression": expression, "title": "billing-dataset"}
        flag = f"expression={condition['expression']},title={condition['title']}" if condition else "None"
        for place, command in _commands(scope, project, organization, tenant.entry.get("billing_accounts", "")):
            yield Right(
                str(grant["id"]),
                str(grant["why"]),
                scope,
                place,
                str(grant.get("role", "")),
                tuple(grant.get("actions", ())),
                command,
                flag if scope in ("project", "dataset", "export_bucket") else "",
            )


def _commands(scope: str, project: str, organization: str, accounts: str) -> Iterator[tuple[str, str]]:
    """Yield each place of a scope with gcloud's command that binds a role there."""
    if scope == "organization":
        yield f"organizations/{organization}", f"gcloud organizations add-iam-policy-binding {organization}"
    elif scope == "billing_account":
        for account in filter(None, accounts.split(",")):
            yield f"billingAccounts/{account}", f"gcloud billing accounts add-iam-policy-binding {account}"
    else:
        yield f"project {project}", f"gcloud projects add-iam-policy-binding {project}"
