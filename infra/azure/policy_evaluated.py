"""Wait until Azure has evaluated a policy assignment for the first time; Terraform calls this before it remediates.

Source: "Remediate non-compliant resources with Azure Policy" and "Get compliance data of Azure resources" (Microsoft
Learn): a new assignment is evaluated within about half an hour; at a management group no evaluation can be asked for.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from publish import Api, NotPublished, az, say

STATES_API = "2019-10-01"
LONGEST_S, POLL_S = 45 * 60.0, 30.0


def evaluated(summary: Any, assignment: str) -> bool:
    """Return whether a summary of policy states counts anything for an assignment."""
    for one in (summary or {}).get("value") or ():
        for found in one.get("policyAssignments") or ():
            counted = (found.get("results") or {}).get("resourceDetails") or ()
            if str(found.get("policyAssignmentId", "")).lower() == assignment.lower():
                return any(part.get("count") for part in counted)
    return False


def wait_for(
    arm: Api,
    group: str,
    assignment: str,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait for the first evaluation and return whether it came. Raises NotPublished where Azure refuses to say."""
    chosen = quote(f"PolicyAssignmentId eq '{assignment}'")
    path = f"{group}/providers/Microsoft.PolicyInsights/policyStates/latest/summarize"
    until = now() + LONGEST_S
    while not evaluated(arm.ask("POST", f"{path}?api-version={STATES_API}&$filter={chosen}", b""), assignment):
        if now() >= until:
            return False
        wait(POLL_S)
    return True


def main() -> int:
    """Wait for the assignment of the environment's variables; return 0, or 1 where Azure refuses to say."""
    assignment = os.environ["ASSIGNMENT"]
    try:
        endpoints = az("cloud", "show")["endpoints"]
        token = az("account", "get-access-token", "--resource", endpoints["activeDirectoryResourceId"])["accessToken"]
        came = wait_for(Api(endpoints["resourceManager"], token), os.environ["MANAGEMENT_GROUP"], assignment)
    except NotPublished as error:
        say(f"Could not read whether Azure has evaluated {assignment}: {error}. Apply again to continue from here.")
        return 1
    if not came:
        say(
            f"Azure has not evaluated {assignment} in {LONGEST_S / 60:.0f} minutes (does its management group hold a "
            "subscription?). Subscriptions that were there before may be left out: once Azure Policy shows them as not "
            "compliant, apply with -replace on azurerm_management_group_policy_remediation.this, or let the function "
            "make their exports, which it does in any case."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
