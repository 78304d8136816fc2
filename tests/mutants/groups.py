"""What is mutated, and with which tests: the engine, and what each cloud's function decides."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Group(NamedTuple):
    """Modules that are mutated, and the tests that have to find the mutants; both are paths below the root."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the modules as sorted files."""
        found: set[Path] = set()
        for one in self.modules:
            path = ROOT / one
            found |= set(path.rglob("*.py")) if path.is_dir() else {path}
        return sorted(str(one.relative_to(ROOT)) for one in found)

    def packages(self) -> list[str]:
        """Return all files of the packages that the modules are in, sorted: they use what the modules define."""
        tops = {ROOT / one.split("/")[0] for one in self.modules}
        return sorted(str(one.relative_to(ROOT)) for top in tops for one in top.rglob("*.py"))


GROUPS = {
    "engine": Group(
        (
            *(f"shared/{one}.py" for one in ("apply", "case", "coverage", "guard", "model", "observe", "plan")),
            *(f"shared/{one}.py" for one in ("publish", "reconcile", "resources", "rules", "staleness")),
            *(f"shared/{one}.py" for one in ("periods", "target_state")),
            "shared/state",
            *(f"shared/runtime/{one}.py" for one in ("calls", "clock", "context", "pool", "rate_limit")),
        ),
        ("tests/shared", "tests/contracts/test_inmemory.py"),
    ),
    "aws": Group(
        (
            *(f"aws_lambda/{one}.py" for one in ("targets", "scopes")),
            *(f"aws_lambda/resources/{one}.py" for one in ("export_health", "export_definition", "bucket_policy")),
            "aws_lambda/resources/member_role_health.py",
        ),
        ("tests/aws_lambda", "tests/contracts/test_aws.py"),
    ),
    "azure": Group(
        (
            *(f"azure_function/{one}.py" for one in ("targets", "scopes", "billing_scopes")),
            *(f"azure_function/resources/{one}.py" for one in ("export_health", "export_document", "permissions")),
            *(f"azure_function/resources/{one}.py" for one in ("billing_overlap", "evidence")),
        ),
        ("tests/azure_function", "tests/contracts/test_azure.py"),
    ),
    "gcp": Group(
        (
            *(f"gcp_function/{one}.py" for one in ("targets", "scopes")),
            *(f"gcp_function/resources/{one}.py" for one in ("export_health", "copy_health", "dataset_restrictions")),
            "gcp_function/resources/copy_listing.py",
        ),
        ("tests/gcp_function", "tests/contracts/test_gcp.py"),
    ),
}
