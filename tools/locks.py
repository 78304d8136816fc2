"""Write requirements/*.txt: for each set of packages the exact files, by version and hash, for every platform.

The sets are made from the lists in pyproject.toml. `check` holds everything; all other sets take their versions from
it, so that one package has one version everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
CLOUDS = ("aws", "azure", "gcp")
# What the demonstration never loads; a test runs it without them. It deploys nothing, so it reads no variables of
# Terraform modules. Of Google's client library it uses the discovery documents, which set-up extracts.
NOT_IN_DEMO = (
    *("python-hcl2", "lark", "regex"),
    *("google-api-python-client", "google-auth-httplib2", "httplib2", "pyparsing", "uritemplate"),
    # The functions framework's servers for asynchronous functions and for restarts after a change of the source.
    *("starlette", "uvicorn", "uvicorn-worker", "anyio", "h11", "watchdog"),
    # rich's rendering of Markdown and source code; gRPC messages; a token cache on disk.
    *("markdown-it-py", "mdurl", "pygments", "proto-plus", "msal-extensions"),
)

# Environments of their own: their packages are never installed beside the others.
APART = ("infra_check", "release")
# The releases with which a test sets up: the oldest that Python 3.11 carried, that of Python 3.11.7, and a new one.
PIPS = {"23.0": "pip==23.0", "23.2.1": "pip==23.2.1", "newest": "pip"}
# One package, installed without what it depends on.
ALONE = ("discovery", *(f"pip_{release}" for release in PIPS))


def name_of(requirement: str) -> str:
    """Return the distribution's name in a requirement."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def sets(pyproject: dict[str, Any]) -> dict[str, list[str]]:
    """Return what each lock file is made from: its name without ending → requirements. The widest set comes first."""
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    extras = project["optional-dependencies"]
    base = [one for one in project["dependencies"] if name_of(one) != project["name"]]
    run = [*base, *(one for extra in (*CLOUDS, "local") for one in extras[extra]), *groups["build"]]
    test = [*run, *groups["test"]]
    demo = [one for one in run if one not in groups["build"]]
    return {
        "check": [*test, *groups["check"], *groups["docs"]],
        "test": test,
        "run": run,
        "demo": demo,
        "discovery": [one for one in extras["local"] if name_of(one) == "google-api-python-client"],
        "aws_lambda": extras["aws"],
        "azure_function": extras["azure"],
        "gcp_function": extras["gcp"],
        "infra_check": groups["infra-check"],
        "release": groups["release"],
        **{f"pip_{release}": [requirement] for release, requirement in PIPS.items()},
    }


def _takes_versions(name: str) -> bool:
    return name != "check" and name not in APART and not name.startswith("pip_")


def lock(name: str, requirements: list[str], options: list[str]) -> None:
    """Write one lock file. Raises CalledProcessError where uv finds no solution; it has said why."""
    target = REQUIREMENTS / f"{name}.txt"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--no-config", "--no-progress"),
        *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-strip-markers"),
        *("--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"),
        *("--no-annotate", "--no-python-downloads", "--output-file", str(target)),
    ]
    if name in ALONE:
        command.append("--no-deps")
    if _takes_versions(name):
        command += ["--constraint", str(REQUIREMENTS / "check.txt")]
    subprocess.run([*command, *options], input="\n".join(requirements), text=True, check=True, cwd=ROOT)
    if name == "demo":
        entries = re.split(r"^(?=\w)", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
        kept = [entry for entry in entries if name_of(entry) not in NOT_IN_DEMO]
        target.write_text("".join(kept), encoding="utf-8")


def main() -> int:
    """Write every lock file, passing the arguments (for example ``--upgrade``) on to uv."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, requirements in sets(pyproject).items():
        try:
            # A constraint already settles the versions: to upgrade as well would ask the index again for nothing.
            settled = _takes_versions(name)
            lock(name, requirements, [] if settled else sys.argv[1:])
        except subprocess.CalledProcessError as error:
            print(f"requirements/{name}.txt could not be made; the other files are as they were.", file=sys.stderr)
            return error.returncode
    return 0


if __name__ == "__main__":
    os.environ.pop("VIRTUAL_ENV", None)
    sys.exit(main())
