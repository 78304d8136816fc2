"""Write infra/azure/operator-role.json anew from operator.yaml: `python -m tools.azure_operator_role`."""

from __future__ import annotations

import json

from cli.operate.azure_rights import ROLE, grants, role_document


def main() -> None:
    """Write the file."""
    ROLE.write_text(json.dumps(role_document(grants()), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
