"""The grants of a deployment, read from the file that the Terraform module uses."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from localcloud.common.rights_file import parsed
from tailpipe_exports import FILES

RIGHTS = FILES / "infra" / "aws" / "rights.yaml"
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def policy(holder: str, names: Mapping[str, str], conditions: Collection[str], path: Path = RIGHTS) -> str:
    """Return a holder's policy document as JSON: each grant that holds under `conditions` is one statement.

    `names` are the values of the file's ``${…}`` placeholders. Raises KeyError for a missing name.
    """
    text = _VARIABLE.sub(lambda match: names[match[1]], path.read_text(encoding="utf-8"))
    statements = [
        {"Sid": one["id"], "Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]}
        | ({"Condition": one["condition"]} if "condition" in one else {})
        for one in parsed(text)[holder]
        if one.get("when") is None or one["when"] in conditions
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
