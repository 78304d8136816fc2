"""The steps that only a person can take, as operators read them: what is wrong, what to do, where it is described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.model import Guide

CONSOLE = "https://console.aws.amazon.com/costmanagement/home#/bcm-data-exports"
POLICY_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-s3-bucket.html"
QUOTAS_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-quotas.html"
STACKSETS_URL = "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-troubleshooting.html"
ROLES_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_manage.html"


def bucket_name_taken(bucket: str) -> Guide:
    """Return what to do where the bucket's name is another account's."""
    return Guide(
        f"the bucket name {bucket} is taken by another account; nothing was written to it",
        ("Set BUCKET_NAME to a free name and deploy again.",),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html",
    )


def policy_unreadable(bucket: str) -> Guide:
    """Return what to do where the bucket's policy is none that could be merged."""
    return Guide(
        f"the policy of bucket {bucket} is not a JSON object; it was left alone",
        ("Correct the bucket's policy by hand; the function then adds its own statements.",),
        POLICY_URL,
    )


def policy_denies(bucket: str, sid: str) -> Guide:
    """Return what to do where a statement of the customer's keeps Data Exports out."""
    return Guide(
        f"the policy of bucket {bucket} denies Data Exports to write, in statement {sid or '(without Sid)'}",
        ("Except the service principal bcm-data-exports.amazonaws.com from that Deny.",),
        POLICY_URL,
    )


def bucket_permission(bucket: str, raw: str) -> Guide:
    """Return what to do where AWS keeps refusing the bucket; `raw` are its words."""
    step = (
        "Look for a Deny in the bucket's policy, an organisation's resource control policy, or a KMS key that does not "
        "admit bcm-data-exports.amazonaws.com."
    )
    return Guide(f"Data Exports may not write to bucket {bucket}: {raw}", (step,), POLICY_URL)


def export_quota(name: str, table: str, existing: Sequence[str]) -> Guide:
    """Return what to do where the account may have no further export of a table; `existing` are those it has."""
    return Guide(
        f"the account has no room for another export of {table}",
        (
            f"Exports of that table: {', '.join(existing) or 'none that can be read'}.",
            f"Delete one that nobody needs, and {name} is created by the next run.",
            "Or let Tailpipe read a compatible one where it is delivered.",
        ),
        QUOTAS_URL,
    )


def export_foreign(name: str, where: str) -> Guide:
    """Return what to do where an export of our name delivers elsewhere."""
    return Guide(
        f"an export named {name} exists that is not ours: it delivers to {where}; it was left alone",
        ("Delete or recreate it under another name; the next run then creates ours.",),
        CONSOLE,
    )


def export_table(name: str, table: str) -> Guide:
    """Return what to do where our export reads another table."""
    return Guide(
        f"the export {name} reads table {table or '(unreadable)'}, and the table of an export cannot be changed",
        ("Delete the export; the next run creates it again.",),
        CONSOLE,
    )


def instance_stuck(stackset: str, account: str, region: str, role: str, reason: str) -> Guide:
    """Return what to do with an instance that StackSets can use no more."""
    command = (
        f"aws cloudformation delete-stack-instances --stack-set-name {stackset} --regions {region} --retain-stacks "
        f"--deployment-targets OrganizationalUnitIds=<root id>,Accounts={account},AccountFilterType=INTERSECTION"
    )
    rest = f"In account {account} delete what is left (the role {role}, the stack); the next run creates it again."
    return Guide(
        f"the instance of {stackset} in account {account} cannot be used any more: {reason or 'no reason given'}",
        (command, rest),
        STACKSETS_URL,
    )


def role_in_the_way(account: str, role: str, reason: str) -> Guide:
    """Return what to do where a member account has a role of our name already."""
    return Guide(
        f"account {account} has a role {role} that the StackSet did not create: {reason}",
        (
            f"In account {account}: aws iam get-role --role-name {role} shows by path and tags whose it is.",
            "Rename or delete it there if nobody needs it; the next run then creates ours.",
        ),
        STACKSETS_URL,
    )


def stackset_foreign(stackset: str, faults: Sequence[str]) -> Guide:
    """Return what to do where a StackSet of our name does something else."""
    return Guide(
        f"a StackSet named {stackset} exists that is not ours ({'; '.join(faults)}); it was left alone",
        ("Deploy ours under another name and set STACKSET_NAME, or remove the foreign one.",),
        STACKSETS_URL,
    )


def role_foreign(role: str, path: str, tags: Mapping[str, str]) -> Guide:
    """Return what to do where the connector role's name is somebody else's role."""
    shown = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())[:10]) or "none"
    return Guide(
        f"a role {role} exists that does not trust Tailpipe and is not marked as ours (path {path}, tags {shown}); "
        "it was left alone",
        ("Deploy the connector role under another name and set CONNECTOR_ROLE_NAME, or remove the foreign role.",),
        ROLES_URL,
    )
