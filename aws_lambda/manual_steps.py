"""The steps that only a person can take: what is wrong, what to do, and where it is described.

The module is long because it is one list of texts: keeping them together keeps their wording alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.model import ManualStep

CONSOLE = "https://console.aws.amazon.com/costmanagement/home#/bcm-data-exports"
SERVICE = "bcm-data-exports.amazonaws.com"
POLICY_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-s3-bucket.html"
QUOTAS_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-quotas.html"
STACKSETS_URL = "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-troubleshooting.html"
ACCESS_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"
FEATURES_URL = "https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_org_support-all-features.html"
KEYS_URL = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html"
ROLES_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_manage.html"


def bucket_name_taken(bucket: str) -> ManualStep:
    """Return what to do where the bucket's name is another account's."""
    return ManualStep(
        f"the bucket name {bucket} is taken by another account; nothing was written to it",
        ("Set BUCKET_NAME to a free name and deploy again.",),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html",
    )


def policy_unreadable(bucket: str) -> ManualStep:
    """Return what to do where the bucket's policy is none that could be merged."""
    return ManualStep(
        f"the policy of bucket {bucket} is not a JSON object; it was left alone",
        ("Correct the bucket's policy by hand; the function then adds its own statements.",),
        POLICY_URL,
    )


def policy_too_large(bucket: str, size: int, limit: int) -> ManualStep:
    """Return what to do where the bucket's policy has no room for the function's statements. Sizes are bytes."""
    return ManualStep(
        f"the policy of bucket {bucket} would have {size} bytes, and S3 takes at most {limit}; it was left alone",
        ("Remove or merge statements of the bucket's policy, for example by aws:PrincipalOrgID in place of lists.",),
        POLICY_URL,
    )


def policy_refused(bucket: str, gone: Mapping[str, Sequence[str]], others: Sequence[str], said: str) -> ManualStep:
    """Return what to do where S3 takes no policy because of a statement that is not the function's.

    `gone` maps statements to principals that no longer exist; `others` names all statements that are not our own.
    """
    steps = [
        f"In statement {sid} remove the principal {', '.join(ids)}: the user or role was deleted, and S3 refuses every "
        "policy that names it."
        for sid, ids in gone.items()
    ]
    steps = steps or [f"Correct what S3 refuses in one of these statements: {', '.join(others) or 'none but our own'}."]
    return ManualStep(
        f"S3 refuses the policy of bucket {bucket}, which was left alone: {said}", tuple(steps), POLICY_URL
    )


def lifecycle_harms(bucket: str, prefix: str, harm: str, ids: Sequence[str]) -> ManualStep:
    """Return what to do where a customer's rules take young exports away; `harm` is ``expires`` or ``archives``."""
    rules = ", ".join(one or "(without id)" for one in ids)
    done = "deletes exports" if harm == "expires" else "archives exports, where nobody can read them,"
    return ManualStep(
        f"the lifecycle rule {rules} of bucket {bucket} {done} within 90 days",
        (
            (
                f"Limit the rule to another prefix than {prefix}/, or to 90 days and more "
                f"(aws s3api get-bucket-lifecycle-configuration --bucket {bucket})."
            ),
            "What a rule has deleted does not come back: ask AWS Support for a backfill of past months.",
        ),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configuration-examples.html",
    )


def bucket_retention(bucket: str, retention: str) -> ManualStep:
    """Return what to do where the bucket keeps every version of a delivery; `retention` is its mode and duration."""
    return ManualStep(
        f"bucket {bucket} retains every object for {retention} (Object Lock): each delivery overwrites the files of "
        "the one before, S3 keeps every version that was overwritten, no lifecycle rule can remove one before that "
        "time is over, and S3 refuses what is written without a checksum",
        (
            (
                f"Remove the default retention: aws s3api put-object-lock-configuration --bucket {bucket} "
                "--object-lock-configuration ObjectLockEnabled=Enabled. Versions that are locked already stay until "
                "their time is over."
            ),
            (
                "Where retention is required, set BUCKET_NAME (bucket_name in the deployment) to a bucket without it, "
                "and replicate from there into one that has it."
            ),
        ),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html",
    )


def deliveries_unread(bucket: str, name: str, said: str, remedy: str) -> ManualStep:
    """Return what to do where it cannot be seen what an export delivers."""
    return ManualStep(
        f"what export {name} delivers to bucket {bucket} could not be listed: {said}",
        (
            remedy or "Grant s3:ListBucket on the bucket to the function's role (the deployment does).",
            "Until then nothing proves that data arrives.",
        ),
        POLICY_URL,
    )


def policy_denies(bucket: str, statement: str) -> ManualStep:
    """Return what to do where a statement of the customer's keeps Data Exports out."""
    return ManualStep(
        f"the policy of bucket {bucket} denies Data Exports to write, in statement {statement}",
        ("Except the service principal bcm-data-exports.amazonaws.com from that Deny.",),
        POLICY_URL,
    )


def bucket_permission(bucket: str, raw: str, suspects: Sequence[str], key: str) -> ManualStep:
    """Return what to do where Data Exports may not write, although the function's own statement is there.

    `raw` are AWS's words, `suspects` the statements with a Deny that may hit the service, `key` the bucket's KMS key.
    """
    steps = [f"Except {SERVICE} from the Deny in statement {one} of the bucket's policy." for one in suspects]
    if key:
        steps.append(f"Allow {SERVICE} kms:GenerateDataKey and kms:Decrypt in the policy of key {key}.")
    steps.append(
        f"In the management account, look for a resource control policy that keeps {SERVICE} out (aws organizations "
        "list-policies --filter RESOURCE_CONTROL_POLICY)."
    )
    return ManualStep(f"Data Exports may not write to bucket {bucket}: {raw}", tuple(steps), POLICY_URL)


def export_recreate(what: str, name: str, arn: str) -> ManualStep:
    """Return how an export that cannot be changed is replaced; `what` says why it has to be."""
    region = arn.split(":")[3] if arn.count(":") > 3 else "us-east-1"
    return ManualStep(
        what,
        (
            f"Delete the export: aws bcm-data-exports delete-export --export-arn {arn} --region {region}",
            f"Then run tailpipe-exports run aws; the run creates {name} again. Files that were delivered stay.",
        ),
        CONSOLE,
    )


def export_contested(name: str, arn: str, fields: Sequence[str], times: int) -> ManualStep:
    """Return what to do where an export is changed again whenever it was repaired; `fields` are those that differ."""
    region = arn.split(":")[3] if arn.count(":") > 3 else "us-east-1"
    return ManualStep(
        f"the export {name} was repaired {times} times within a day and differs again ({', '.join(fields)}): someone "
        "else manages it too, a second deployment of this function or another tool; it is left alone for a day",
        (
            (
                "See who calls UpdateExport: aws cloudtrail lookup-events --lookup-attributes "
                f"AttributeKey=EventName,AttributeValue=UpdateExport --region {region}"
            ),
            "Remove the second deployment (tailpipe-exports destroy aws), or take the export out of the other tool.",
            "Then run tailpipe-exports run aws; within a day the function tries again by itself.",
        ),
        CONSOLE,
    )


def name_taken(name: str, said: str) -> ManualStep:
    """Return what to do where AWS refuses a name as taken, and lists no export that has it."""
    return ManualStep(
        f"the export {name} cannot be created, because its name is taken, but no export of that name is listed: {said}",
        (
            (
                f"Look for {name} on the Data Exports page of the billing console, among legacy reports too; delete or "
                "rename what has the name, and the next run creates ours."
            ),
            "If nothing there has the name, open an AWS Support case for Data Exports.",
        ),
        CONSOLE,
    )


def export_quota(name: str, table: str, existing: Sequence[str]) -> ManualStep:
    """Return what to do where the account may have no further export of a table; `existing` are those it has."""
    return ManualStep(
        f"the account has no room for another export of {table}",
        (
            f"Exports of that table: {', '.join(existing) or 'none that can be read'}.",
            f"Delete one that nobody needs, and {name} is created by the next run.",
            "Or let Tailpipe read a compatible one where it is delivered.",
        ),
        QUOTAS_URL,
    )


def export_foreign(name: str, where: str) -> ManualStep:
    """Return what to do where an export of our name delivers elsewhere."""
    return ManualStep(
        f"an export named {name} exists that is not ours: it delivers to {where}; it was left alone",
        ("Delete or recreate it under another name; the next run then creates ours.",),
        CONSOLE,
    )


def instance_stuck(stackset: str, account: str, region: str, role: str, reason: str) -> ManualStep:
    """Return what to do with an instance that StackSets can use no more."""
    command = (
        f"aws cloudformation delete-stack-instances --stack-set-name {stackset} --regions {region} --retain-stacks "
        f"--deployment-targets OrganizationalUnitIds=<root id>,Accounts={account},AccountFilterType=INTERSECTION"
    )
    rest = f"In account {account} delete what is left (the role {role}, the stack); the next run creates it again."
    return ManualStep(
        f"the instance of {stackset} in account {account} cannot be used any more: {reason or 'no reason given'}",
        (command, rest),
        STACKSETS_URL,
    )


def role_in_the_way(account: str, role: str, reason: str) -> ManualStep:
    """Return what to do where a member account has a role of our name already."""
    return ManualStep(
        f"account {account} has a role {role} that the StackSet did not create: {reason}",
        (
            f"In account {account}: aws iam get-role --role-name {role} shows by path and tags whose it is.",
            "Rename or delete it there if nobody needs it.",
            f"The function tries again once a day; at once with: tailpipe-exports run aws --scope {account}",
        ),
        STACKSETS_URL,
    )


def stackset_foreign(stackset: str, faults: Sequence[str]) -> ManualStep:
    """Return what to do where a StackSet of our name does something else."""
    return ManualStep(
        f"a StackSet named {stackset} exists that is not ours ({'; '.join(faults)}); it was left alone",
        ("Deploy ours under another name and set STACKSET_NAME, or remove the foreign one.",),
        STACKSETS_URL,
    )


def role_foreign(role: str, path: str, tags: Mapping[str, str]) -> ManualStep:
    """Return what to do where another owner's role has the connector role's name."""
    shown = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())[:10]) or "none"
    return ManualStep(
        f"a role {role} exists that does not trust Tailpipe and is not marked as ours (path {path}, tags {shown}); "
        "it was left alone",
        ("Deploy the connector role under another name and set CONNECTOR_ROLE_NAME, or remove the foreign role.",),
        ROLES_URL,
    )


# What lifts a refusal, by its code; `refused` completes it with the call and AWS's own words.
REFUSED = {
    "denied-by-scp": (
        "a service control policy of the organization forbids it",
        (
            "In the management account, find the policy with aws organizations list-policies --filter "
            "SERVICE_CONTROL_POLICY, and except the action or the principal that AWS names from its Deny."
        ),
    ),
    "denied-by-rcp": (
        "a resource control policy of the organization forbids it",
        (
            "In the management account, find the policy with aws organizations list-policies --filter "
            "RESOURCE_CONTROL_POLICY, and except the action or the principal that AWS names from its Deny."
        ),
    ),
    "denied-by-boundary": (
        "the permissions boundary of the role does not allow it",
        "Add the action that AWS names to the permissions boundary (permissions_boundary_arn in the deployment).",
    ),
    "denied-by-session-policy": (
        "the policy of the session does not allow it",
        "Sign in without a session policy, or with one that allows the action that AWS names.",
    ),
    "denied-by-endpoint-policy": (
        "the policy of a VPC endpoint does not allow it",
        "Add the action that AWS names to the policy of the VPC endpoint that the function's network uses.",
    ),
    "public-policy-blocked": (
        "S3 Block Public Access refuses the bucket's policy, because a statement in it makes the bucket public",
        "Remove or narrow the statement that allows Principal * without a condition; do not switch the block off.",
    ),
    "kms-denied": (
        "the KMS key may not be used",
        (
            "Allow the action that AWS names to the function's role in the key's policy, and set kms_key_arn in the "
            "deployment to that key, so that the role is given the right too."
        ),
    ),
    "denied-by-resource-policy": (
        "a policy on the resource itself forbids it",
        (
            "Except the function's role from the Deny in the resource's policy. Where a bucket's policy locks everyone "
            "out, the root user of its account can still replace or delete the policy."
        ),
    ),
    "denied-explicitly": (
        "a policy forbids it explicitly, which no grant outweighs",
        "Find the Deny in the policies of the role that AWS names, and except the action from it.",
    ),
}


def refused(code: str, what: str, said: str) -> ManualStep:
    """Return what to do where a policy forbids a call or step; `said` are AWS's words."""
    why, step = REFUSED[code]
    return ManualStep(f"{what} is refused: {why}. AWS says: {said}", (step,), ACCESS_URL)


def account_refused(said: str) -> ManualStep:
    """Return what to do where AWS objects to the account as a whole."""
    return ManualStep(
        f"AWS does not serve this account: {said}",
        (
            "Complete the sign-up of the account (payment method, contact verification) in the billing console.",
            "If it is complete, open an AWS Support case of type Account and billing.",
        ),
        "https://console.aws.amazon.com/billing/home#/account",
    )


def key_unusable(said: str) -> ManualStep:
    """Return what to do where a KMS key is disabled, deleted or of the wrong kind."""
    return ManualStep(
        f"the KMS key of the bucket cannot be used: {said}",
        (
            "Enable the key (aws kms enable-key), or cancel its deletion (aws kms cancel-key-deletion).",
            "Or set another default key on the bucket, and KMS_KEY_ARN (kms_key_arn in the deployment) to it.",
        ),
        KEYS_URL,
    )


def access_permanently_disabled(account: str) -> ManualStep:
    """Return what to do where trusted access of StackSets cannot be switched on again."""
    return ManualStep(
        "AWS has permanently disabled the access of CloudFormation StackSets to the organization; "
        "activate-organizations-access will be refused",
        (
            (
                f"Open an AWS Support case for CloudFormation from management account {account}: ask why organizations "
                "access is DISABLED_PERMANENTLY, and to lift it."
            ),
            (
                "Until then create the member role in each account by a stack of its own from "
                "infra/aws/child-connector.yaml."
            ),
        ),
        STACKSETS_URL,
    )


def all_features_needed() -> ManualStep:
    """Return what to do in an organization that has consolidated billing only."""
    return ManualStep(
        "the organization has consolidated billing only; StackSets needs all features",
        (
            "In the management account run: aws organizations enable-all-features (invited accounts have to approve).",
            "Then run: aws cloudformation activate-organizations-access",
        ),
        FEATURES_URL,
    )


def account_rejected(stackset: str, account: str, said: str) -> ManualStep:
    """Return what to do where StackSets takes requests for other accounts, but not for this one."""
    return ManualStep(
        f"StackSet {stackset} does not accept account {account}: {said}",
        (
            f"Run aws organizations describe-account --account-id {account}: it must be ACTIVE in this organization.",
            f"If it is to have no role, add it to EXCLUDE_ACCOUNTS; else run again with --scope {account}.",
        ),
        STACKSETS_URL,
    )


def instance_failing(account: str, role: str, reason: str) -> ManualStep:
    """Return what to do where the role cannot be created in an account, again and again."""
    return ManualStep(
        f"the role {role} could not be created in account {account} by several StackSet operations: "
        f"{reason or 'no reason given'}",
        (
            f"In account {account}, open the stack's events in the CloudFormation console and remove the cause.",
            f"The function tries again once a day; at once with: tailpipe-exports run aws --scope {account}",
        ),
        STACKSETS_URL,
    )


def instance_drifted(stackset: str, account: str, region: str, role: str) -> ManualStep:
    """Return what to do where the role was changed or deleted outside CloudFormation."""
    return ManualStep(
        f"the role {role} in account {account} was changed or deleted outside CloudFormation; updating the stack "
        "does not bring it back",
        (
            (
                f"Remove the instance: aws cloudformation delete-stack-instances --stack-set-name {stackset} --regions "
                f"{region} --no-retain-stacks --deployment-targets OrganizationalUnitIds=<root id>,Accounts={account},"
                "AccountFilterType=INTERSECTION"
            ),
            f"Then run: tailpipe-exports run aws --scope {account}; the run creates instance and role again.",
            (
                "If the role was put right by hand instead, have it looked at again: aws cloudformation "
                f"detect-stack-set-drift --stack-set-name {stackset}"
            ),
        ),
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-drift.html",
    )
