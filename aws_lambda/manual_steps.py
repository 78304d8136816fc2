"""Steps that only a person can take: what is wrong, what to do, and where AWS documents it.

The module is over 350 lines because all texts are kept in one list, so that their wording stays consistent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_lambda.settings import partition_of
from shared.model import ManualStep

# Below the region. Sources: "AWS Management Console endpoints and quotas", AWS General Reference; for aws-eusc, "AWS
# service endpoints", AWS European Sovereign Cloud General Reference (docs.aws.eu), where only this form is listed.
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
SERVICE = "bcm-data-exports.amazonaws.com"
POLICY_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-s3-bucket.html"
QUOTAS_URL = "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-quotas.html"
STACKSETS_URL = "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-troubleshooting.html"
ACCESS_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"
FEATURES_URL = "https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_org_support-all-features.html"
KEYS_URL = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html"
RETRY = "The function tries again once a day. To try now: tailpipe-exports run aws --scope {account}"
ROLES_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_manage.html"


def console_url(region: str, page: str) -> str:
    """Return the address of a page in the console of a region's partition."""
    return f"https://{region}.{CONSOLES.get(partition_of(region), CONSOLES['aws'])}/{page}"


def _exports_url(region: str) -> str:
    return console_url(region, "costmanagement/home#/bcm-data-exports")


def bucket_name_taken(bucket: str) -> ManualStep:
    """Return the step for a bucket name that another AWS account uses."""
    return ManualStep(
        f"the bucket name {bucket} belongs to another AWS account; nothing was written to that bucket",
        ("Set BUCKET_NAME (bucket_name in the deployment) to an unused name, then deploy again.",),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html",
    )


def policy_unreadable(bucket: str) -> ManualStep:
    """Return the step for a bucket policy that cannot be parsed and therefore not merged."""
    return ManualStep(
        f"the policy of bucket {bucket} is not a JSON object; it was not changed",
        ("Correct the bucket policy; the next run adds the function's statements to it.",),
        POLICY_URL,
    )


def policy_too_large(bucket: str, size: int, limit: int) -> ManualStep:
    """Return the step for a bucket policy without room for the function's statements. Sizes are in bytes."""
    return ManualStep(
        f"with the function's statements, the policy of bucket {bucket} would have {size} bytes; S3 accepts at most "
        f"{limit}. The policy was not changed",
        (
            (
                "Remove or merge statements in the bucket policy, for example by replacing lists of accounts with a "
                "condition on aws:PrincipalOrgID."
            ),
        ),
        POLICY_URL,
    )


def policy_refused(bucket: str, gone: Mapping[str, Sequence[str]], others: Sequence[str], said: str) -> ManualStep:
    """Return the steps for a bucket policy that S3 rejects because of a statement that is not the function's.

    `gone` maps statements to principals that no longer exist; `others` names all statements of other owners.
    """
    steps = [
        f"Remove the principal {', '.join(ids)} from statement {sid}: the user or role was deleted, and S3 rejects "
        "every policy that names it."
        for sid, ids in gone.items()
    ]
    steps = steps or [
        f"Correct the statement that S3 rejects. Statements not written by the function: {', '.join(others) or 'none'}."
    ]
    return ManualStep(
        f"S3 rejected the policy of bucket {bucket}, which was not changed: {said}", tuple(steps), POLICY_URL
    )


def lifecycle_harms(bucket: str, prefix: str, harm: str, ids: Sequence[str]) -> ManualStep:
    """Return the steps for lifecycle rules that remove recent exports; `harm` is ``expires`` or ``archives``."""
    rules = ", ".join(one or "(without id)" for one in ids)
    effect = (
        "deletes exports within 90 days"
        if harm == "expires"
        else "moves exports within 90 days to an archive storage class, where they cannot be read without a restore"
    )
    return ManualStep(
        f"the lifecycle rule {rules} of bucket {bucket} {effect}",
        (
            (
                f"Change the rule so that it does not apply to the prefix {prefix}/, or only after 90 days. To show "
                f"the rules: aws s3api get-bucket-lifecycle-configuration --bucket {bucket}"
            ),
            "Deleted files are not restored: request a backfill of past months from AWS Support.",
        ),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-configuration-examples.html",
    )


def bucket_retention(bucket: str, retention: str) -> ManualStep:
    """Return the steps for a bucket with a default retention; `retention` is its duration and mode."""
    return ManualStep(
        f"bucket {bucket} retains every object version for {retention} (Object Lock). Each delivery overwrites the "
        "previous files, S3 keeps all overwritten versions, no lifecycle rule can remove them before the retention "
        "period ends, and S3 rejects uploads without a checksum",
        (
            (
                f"Remove the default retention: aws s3api put-object-lock-configuration --bucket {bucket} "
                "--object-lock-configuration ObjectLockEnabled=Enabled. Versions that are already locked stay until "
                "their retention period ends."
            ),
            (
                "If retention is required, set BUCKET_NAME (bucket_name in the deployment) to a bucket without it, and "
                "replicate from that bucket to one with Object Lock."
            ),
        ),
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html",
    )


def deliveries_unread(bucket: str, name: str, said: str, remedy: str) -> ManualStep:
    """Return the steps for an export whose deliveries cannot be listed."""
    return ManualStep(
        f"the deliveries of export {name} in bucket {bucket} could not be listed: {said}",
        (
            remedy or "Grant s3:ListBucket on the bucket to the function's role (the deployment grants it).",
            "Until then, the function cannot confirm that data arrives.",
        ),
        POLICY_URL,
    )


def policy_denies(bucket: str, statement: str) -> ManualStep:
    """Return the step for a bucket policy with a statement that blocks Data Exports."""
    return ManualStep(
        f"statement {statement} in the policy of bucket {bucket} denies writes by Data Exports",
        (f"Exclude the service principal {SERVICE} from that Deny statement.",),
        POLICY_URL,
    )


def bucket_permission(bucket: str, raw: str, suspects: Sequence[str], key: str) -> ManualStep:
    """Return the steps where Data Exports cannot write, although the bucket policy has the function's statement.

    `raw` is AWS's message, `suspects` the Deny statements that may match the service, `key` the bucket's KMS key.
    """
    steps = [f"Exclude {SERVICE} from the Deny statement {one} in the bucket policy." for one in suspects]
    if key:
        steps.append(f"Allow {SERVICE} to use kms:GenerateDataKey and kms:Decrypt in the key policy of {key}.")
    steps.append(
        f"In the management account, look for a resource control policy that denies {SERVICE}: aws organizations "
        "list-policies --filter RESOURCE_CONTROL_POLICY"
    )
    return ManualStep(f"Data Exports cannot write to bucket {bucket}: {raw}", tuple(steps), POLICY_URL)


def export_recreate(what: str, name: str, arn: str) -> ManualStep:
    """Return the steps to replace an export that cannot be changed; `what` is the reason."""
    region = arn.split(":")[3] if arn.count(":") > 3 else "us-east-1"
    return ManualStep(
        what,
        (
            f"Delete the export: aws bcm-data-exports delete-export --export-arn {arn} --region {region}",
            f"Then run: tailpipe-exports run aws. The run creates {name} again; delivered files are kept.",
        ),
        _exports_url(region),
    )


def export_contested(name: str, arn: str, fields: Sequence[str], times: int) -> ManualStep:
    """Return the steps for an export that is changed again after each repair; `fields` are those that differ."""
    region = arn.split(":")[3] if arn.count(":") > 3 else "us-east-1"
    return ManualStep(
        f"the export {name} was repaired {times} times within 24 hours and differs again ({', '.join(fields)}): a "
        "second deployment of this function or another tool also manages it. The function does not change it for a day",
        (
            (
                "Find out who calls UpdateExport: aws cloudtrail lookup-events --lookup-attributes "
                f"AttributeKey=EventName,AttributeValue=UpdateExport --region {region}"
            ),
            "Remove the second deployment (tailpipe-exports destroy aws), or remove the export from the other tool.",
            "Then run: tailpipe-exports run aws. Without that, the function tries again after a day.",
        ),
        _exports_url(region),
    )


def name_taken(name: str, said: str, region: str) -> ManualStep:
    """Return the steps for an export name that AWS reports as taken although no such export is listed.

    `region` is that of the exports.
    """
    return ManualStep(
        f"the export {name} cannot be created: AWS reports the name as taken, but lists no export with it: {said}",
        (
            (
                f"Look for {name} on the Data Exports page of the billing console, including legacy reports. Delete or "
                "rename it; the next run then creates the export."
            ),
            "If nothing on that page has this name, open an AWS Support case for Data Exports.",
        ),
        _exports_url(region),
    )


def export_quota(name: str, table: str, existing: Sequence[str]) -> ManualStep:
    """Return the steps for an account at its quota of exports of a table; `existing` are those it has."""
    return ManualStep(
        f"the export {name} cannot be created: the account has reached its quota of exports of table {table}",
        (
            f"Existing exports of that table: {', '.join(existing) or 'none that can be read'}.",
            f"Delete one that is no longer used; the next run then creates {name}.",
            "Or configure Tailpipe to read a compatible export from its own bucket.",
        ),
        QUOTAS_URL,
    )


def export_foreign(name: str, where: str, region: str) -> ManualStep:
    """Return the step for an export that has the function's name and delivers elsewhere.

    `region` is that of the exports.
    """
    return ManualStep(
        f"an export named {name} exists that this function did not create: it delivers to {where}. It was not changed",
        ("Delete it, or recreate it under another name; the next run then creates the export.",),
        _exports_url(region),
    )


def instance_stuck(stackset: str, account: str, region: str, role: str, reason: str) -> ManualStep:
    """Return the steps for an instance that StackSets can no longer operate on."""
    command = (
        f"aws cloudformation delete-stack-instances --stack-set-name {stackset} --regions {region} --retain-stacks "
        f"--deployment-targets OrganizationalUnitIds=<root id>,Accounts={account},AccountFilterType=INTERSECTION"
    )
    rest = (
        f"In account {account}, delete the role {role} and the stack if they still exist; the next run recreates them."
    )
    return ManualStep(
        f"StackSets can no longer operate on the instance of {stackset} in account {account}: "
        f"{reason or 'no reason given'}",
        (command, rest),
        STACKSETS_URL,
    )


def role_in_the_way(account: str, role: str, reason: str) -> ManualStep:
    """Return the steps for a member account that already has a role of the same name."""
    return ManualStep(
        f"account {account} has a role {role} that the StackSet did not create: {reason}",
        (
            f"In account {account}, identify the owner by path and tags: aws iam get-role --role-name {role}",
            "Rename the role, or delete it if it is no longer used.",
            RETRY.format(account=account),
        ),
        STACKSETS_URL,
    )


def stackset_foreign(stackset: str, faults: Sequence[str]) -> ManualStep:
    """Return the step for a StackSet that has the deployment's name and another purpose."""
    return ManualStep(
        f"a StackSet named {stackset} exists that this deployment did not create ({'; '.join(faults)}). "
        "It was not changed",
        ("Deploy the StackSet under another name and set STACKSET_NAME, or remove the existing one.",),
        STACKSETS_URL,
    )


def role_foreign(role: str, path: str, tags: Mapping[str, str]) -> ManualStep:
    """Return the step for a role of another owner that has the connector role's name."""
    shown = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())[:10]) or "none"
    return ManualStep(
        f"a role {role} exists that does not trust Tailpipe and does not have the deployment's path or tag (path "
        f"{path}, tags {shown}). It was not changed",
        ("Deploy the connector role under another name and set CONNECTOR_ROLE_NAME, or remove the existing role.",),
        ROLES_URL,
    )


# The cause and the remedy of a denied call, by error code; `refused` adds the call and AWS's message.
REFUSED = {
    "denied-by-scp": (
        "a service control policy of the organization denies it",
        (
            "In the management account, find the policy (aws organizations list-policies --filter "
            "SERVICE_CONTROL_POLICY) and exclude the action or the principal in AWS's message from its Deny statement."
        ),
    ),
    "denied-by-rcp": (
        "a resource control policy of the organization denies it",
        (
            "In the management account, find the policy (aws organizations list-policies --filter "
            "RESOURCE_CONTROL_POLICY) and exclude the action or the principal in AWS's message from its Deny statement."
        ),
    ),
    "denied-by-boundary": (
        "the permissions boundary of the role does not allow it",
        "Add the action in AWS's message to the permissions boundary (permissions_boundary_arn in the deployment).",
    ),
    "denied-by-session-policy": (
        "the session policy does not allow it",
        "Sign in without a session policy, or with one that allows the action in AWS's message.",
    ),
    "denied-by-endpoint-policy": (
        "a VPC endpoint policy does not allow it",
        "Add the action in AWS's message to the policy of the VPC endpoint in the function's network.",
    ),
    "public-policy-blocked": (
        "S3 Block Public Access rejects the bucket policy because one of its statements makes the bucket public",
        (
            "Remove the statement that allows Principal * without a condition, or add a condition to it. Leave Block "
            "Public Access enabled."
        ),
    ),
    "kms-denied": (
        "neither the key policy nor the role allows the use of the KMS key",
        (
            "In the key policy, allow the function's role the action in AWS's message, and set kms_key_arn in the "
            "deployment to that key so that the role gets the permission too."
        ),
    ),
    "denied-by-resource-policy": (
        "a resource-based policy denies it",
        (
            "Exclude the function's role from the Deny statement in the resource's policy. If a bucket policy denies "
            "everyone access, the account's root user can still replace or delete the policy."
        ),
    ),
    "denied-explicitly": (
        "a policy denies it explicitly, which overrides every Allow",
        "Find the Deny statement in the policies of the role in AWS's message, and exclude the action from it.",
    ),
}


def refused(code: str, what: str, said: str) -> ManualStep:
    """Return the step for a call that a policy denies; `what` names the call, `said` is AWS's message."""
    why, step = REFUSED[code]
    return ManualStep(f"{what} was denied: {why}. AWS says: {said}", (step,), ACCESS_URL)


def account_refused(said: str, region: str) -> ManualStep:
    """Return the steps for an account that AWS rejects as a whole; `region` is one of its partition."""
    return ManualStep(
        f"AWS rejects requests of this account: {said}",
        (
            "Complete the account's sign-up (payment method, contact verification) in the billing console.",
            "If the sign-up is complete, open an AWS Support case of the type Account and billing.",
        ),
        console_url(region, "billing/home#/account"),
    )


def key_unusable(said: str) -> ManualStep:
    """Return the steps for a KMS key that is disabled, deleted or of the wrong type."""
    return ManualStep(
        f"the KMS key of the bucket cannot be used: {said}",
        (
            "Enable the key (aws kms enable-key), or cancel its deletion (aws kms cancel-key-deletion).",
            "Or give the bucket another default key and set KMS_KEY_ARN (kms_key_arn in the deployment) to it.",
        ),
        KEYS_URL,
    )


def access_permanently_disabled(account: str) -> ManualStep:
    """Return the steps for an organization whose trusted access of StackSets cannot be activated again."""
    return ManualStep(
        "AWS has permanently disabled the access of CloudFormation StackSets to the organization; "
        "activate-organizations-access fails",
        (
            (
                f"Open an AWS Support case for CloudFormation from management account {account}: ask why organizations "
                "access is DISABLED_PERMANENTLY, and request its activation."
            ),
            "Until then, create the member role in each account with a stack from infra/aws/child-connector.yaml.",
        ),
        STACKSETS_URL,
    )


def all_features_needed() -> ManualStep:
    """Return the steps for an organization with consolidated billing only."""
    return ManualStep(
        "the organization has only the consolidated billing features; StackSets requires all features",
        (
            "In the management account, run: aws organizations enable-all-features (invited accounts must approve).",
            "Then run: aws cloudformation activate-organizations-access",
        ),
        FEATURES_URL,
    )


def account_rejected(stackset: str, account: str, said: str) -> ManualStep:
    """Return the steps for an account that StackSets rejects although it accepts others."""
    return ManualStep(
        f"StackSet {stackset} does not accept account {account}: {said}",
        (
            (
                "Check that the account is ACTIVE in this organization: aws organizations describe-account "
                f"--account-id {account}"
            ),
            (
                f"Then run: tailpipe-exports run aws --scope {account}. If the account needs no role, add it to "
                "EXCLUDE_ACCOUNTS instead."
            ),
        ),
        STACKSETS_URL,
    )


def instance_failing(account: str, role: str, reason: str) -> ManualStep:
    """Return the steps for an account in which the role repeatedly cannot be created."""
    return ManualStep(
        f"several StackSet operations failed to create the role {role} in account {account}: "
        f"{reason or 'no reason given'}",
        (
            f"In account {account}, open the stack's events in the CloudFormation console and fix the cause.",
            RETRY.format(account=account),
        ),
        STACKSETS_URL,
    )


def instance_drifted(stackset: str, account: str, region: str, role: str) -> ManualStep:
    """Return the steps for a role that was changed or deleted outside CloudFormation."""
    return ManualStep(
        f"the role {role} in account {account} was changed or deleted outside CloudFormation; a stack update does "
        "not restore it",
        (
            (
                f"Remove the instance: aws cloudformation delete-stack-instances --stack-set-name {stackset} --regions "
                f"{region} --no-retain-stacks --deployment-targets OrganizationalUnitIds=<root id>,Accounts={account},"
                "AccountFilterType=INTERSECTION"
            ),
            f"Then run: tailpipe-exports run aws --scope {account}. The run creates the instance and the role again.",
            (
                "If the role was corrected manually instead, detect drift again: aws cloudformation "
                f"detect-stack-set-drift --stack-set-name {stackset}"
            ),
        ),
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-drift.html",
    )
