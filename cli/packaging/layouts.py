"""The layout of each cloud's archive; nothing else in this package depends on a cloud's name.

Sources: "Working with .zip file archives for Python Lambda functions" and "Lambda runtimes" (AWS Lambda Developer
Guide); "Python developer reference for Azure Functions" and "Build options for Python function apps in Azure
Functions"; "Specify dependencies in Python" and "Cloud Run functions execution environment" (Google Cloud).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cli.packaging.target import Target

# The services in aws_lambda.clients.RATES, and Lambda, which the collector calls. Importing it would need the AWS SDK,
# which packaging does not.
AWS_SERVICES = frozenset(
    {
        "bcm-data-exports",
        "billing",
        "cloudformation",
        "iam",
        "lambda",
        "organizations",
        "s3",
        "secretsmanager",
        "sns",
        "sts",
    }
)


def _reads_all(_name: PurePosixPath) -> bool:
    return False


def _unused_by_aws(name: PurePosixPath) -> bool:
    """Return whether a file describes an AWS service that the function does not use, or boto3's resources."""
    if name.parts[:2] == ("boto3", "data"):
        return True
    return name.parts[:2] == ("botocore", "data") and len(name.parts) > 3 and name.parts[2] not in AWS_SERVICES


@dataclass(frozen=True)
class Layout:
    """The archive of one cloud.

    `folder` is the package of its function, `entries` are the modules in it that the platform calls. `dependencies` is
    the dependencies' folder in the archive; None where the platform installs them. `written` are files that exist only
    in the archive, `copied` are our files by their names in the archive. `requirements`: whether the archive holds the
    lock file as requirements.txt. `unused` returns whether a file of the dependencies is data that the function does
    not read.
    """

    folder: str
    target: Target
    dependencies: str | None
    requirements: bool
    written: Mapping[str, str] = field(default_factory=dict)
    copied: Mapping[str, str] = field(default_factory=dict)
    unused: Callable[[PurePosixPath], bool] = _reads_all
    entries: tuple[str, ...] = ("handler",)


LAYOUTS: Mapping[str, Layout] = {
    # Lambda's image has its own boto3, too old for the exports' API: ours comes first on the path.
    "aws": Layout(
        folder="aws_lambda",
        target=Target.linux("3.13", "aarch64", glibc=34),  # Amazon Linux 2023
        dependencies="",
        requirements=False,
        unused=_unused_by_aws,
        entries=("handler", "collector"),
    ),
    # Built here instead of in Azure, whose remote build ends after 60 s and uses any wheels that it finds.
    "azure": Layout(
        folder="azure_function",
        # The image's glibc is newer and not documented; the wheels require 2.28.
        target=Target.linux("3.12", "x86_64", glibc=28),
        dependencies=".python_packages/lib/site-packages/",
        requirements=True,
        written={"function_app.py": 'from azure_function.handler import app\n\n__all__ = ["app"]\n'},
        copied={"host.json": "azure_function/host.json"},
    ),
    # The platform's builder installs requirements.txt, and pip checks every hash because the file has hashes.
    "gcp": Layout(
        folder="gcp_function",
        target=Target.linux("3.12", "x86_64", glibc=35),  # the stack google-22: Ubuntu 22.04
        dependencies=None,
        requirements=True,
        written={"main.py": 'from gcp_function.handler import reconcile\n\n__all__ = ["reconcile"]\n'},
    ),
}
TARGETS: Mapping[str, Target] = {name: layout.target for name, layout in LAYOUTS.items()}
