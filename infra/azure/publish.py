"""Publish the function's package as it was built, and prove that Azure runs it; Terraform calls this.

On Flex Consumption the Azure CLI makes Azure install a Python package's requirements again, with a builder that cannot
be chosen (`enable_zip_deploy_flex` in azure-cli: the remote build is always on for Python). The wheels in our archive
are pinned and verified by their hashes, so the archive goes to the app's own publish endpoint, which stores it as is.

Sources: `enable_zip_deploy_flex` (Azure/azure-cli) for the endpoint, its headers and the audience of the token;
Azure/azure-dev issue 3658 for its answer, a deployment's id, and the statuses of a deployment; "Flex Consumption plan"
(Microsoft Learn) for where the package is kept.

It needs Python 3.11 or newer and only its standard library, and signs in with the Azure CLI (az login).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SITES_API = "2024-04-01"
# What the package declares (azure_function/handler.py): only their list proves that Azure could load it.
FUNCTIONS = ("reconcile_http", "reconcile_timer", "status")
# Declared where the app has the setting.
ROUNDS = ("round_begin", "round_end", "rounds", "rounds_timer", "tenant_calls", "tenant_run", "tenants_lane")
OPTIONAL = {
    "EVENT_SCHEDULE": ("changes_timer",),
    "DELTAS": ("delivery_event",),
    "ROUND_SCHEDULE": (*ROUNDS, "tenants_round"),
}
PENDING, BUILDING, DEPLOYING, SUCCESS = 0, 1, 2, 4
# A role takes up to ten minutes until storage knows it, and the app's own role stores the package.
PUBLISHING_S, PROCESSING_S, LISTING_S = 900.0, 600.0, 300.0
AGAIN_S, POLL_S = 45.0, 5.0
ANSWER_S = 230.0  # the platform's load balancer waits no longer
HOPELESS = (400, 413, 415)  # answers that blame the package
LOOPBACK = ("127.0.0.1", "localhost")


class NotPublished(Exception):
    """Why the package is not there; `again` is false where another try cannot help."""

    def __init__(self, why: str, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for the host that was asked."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """One host, called with a bearer token that is never shown."""

    def __init__(self, endpoint: str, token: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        handlers: list[Any] = [_NoRedirect()]
        if urlsplit(endpoint).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> Any:
        """Return the JSON of an answer, None for an empty one. Raises NotPublished."""
        headers = {"Authorization": "Bearer " + self._token, "Content-Type": kind, "Cache-Control": "no-cache"}
        url = self.endpoint + path  # https, or a loopback address that was given
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - see above
        call = f"{method} {self.endpoint}{path.partition('?')[0]}"
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(2000).decode("utf-8", "replace").split())
            said = said.replace(self._token, "…")[:400]
            raise NotPublished(
                f"{call} was answered {error.code} {said}".rstrip(), error.code not in HOPELESS
            ) from None
        except OSError as error:
            raise NotPublished(f"{call} failed: {getattr(error, 'reason', error)}") from None
        try:
            return json.loads(body) if body.strip() else None
        except ValueError:
            raise NotPublished(f"{call} was answered with something that is not JSON") from None


class Publisher:
    """Publishes one package to one app.

    `arm` is Resource Manager, `site` the app's path there, `scm` its own host; `functions` are those of the package.
    """

    def __init__(
        self,
        arm: Api,
        site: str,
        scm: Api,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
        functions: Sequence[str] = FUNCTIONS,
    ) -> None:
        self._arm, self._site, self._scm, self._wait, self._now = arm, site, scm, wait, now
        self._functions = functions

    def close_passwords(self) -> None:
        """Switch publishing by user name and password off: what follows signs in by Microsoft Entra ID."""
        body = json.dumps({"properties": {"allow": False}}).encode()
        for kind in ("scm", "ftp"):
            path = f"{self._site}/basicPublishingCredentialsPolicies/{kind}?api-version={SITES_API}"
            self._arm.ask("PUT", path, body)

    def publish(self, package: bytes) -> None:
        """Publish until it is accepted or time is up. Raises NotPublished."""
        until = self._now() + PUBLISHING_S
        while True:
            try:
                self._publish_once(package)
                return
            except NotPublished as error:
                if not error.again or self._now() >= until:
                    raise
                say(f"not published yet ({error}); trying again in {AGAIN_S:.0f} seconds")
            self._wait(AGAIN_S)

    def _publish_once(self, package: bytes) -> None:
        path = "/api/publish?RemoteBuild=false&Deployer=tailpipe-exports"
        deployment = self._scm.ask("POST", path, package, "application/zip")
        if not isinstance(deployment, str):
            raise NotPublished("the publish endpoint did not answer with a deployment's id")
        until = self._now() + PROCESSING_S
        while True:
            found = self._deployment(deployment)
            status = found.get("status", PENDING)
            if status == SUCCESS:
                return
            if status not in (PENDING, BUILDING, DEPLOYING):
                raise NotPublished(f"deployment {deployment} has status {status}: {self._reason(deployment, found)}")
            if self._now() >= until:
                raise NotPublished(f"deployment {deployment} is still under way")
            self._wait(POLL_S)

    def _deployment(self, deployment: str) -> dict[str, Any]:
        try:
            found = self._scm.ask("GET", f"/api/deployments/{deployment}")
        except NotPublished as error:
            if " was answered 404" in str(error):
                return {}  # not registered yet, or the host that takes deployments has just moved
            raise
        return found if isinstance(found, dict) else {}

    def _reason(self, deployment: str, found: dict[str, Any]) -> str:
        """Return the last words of a deployment's log, else its own."""
        try:
            lines = self._scm.ask("GET", f"/api/deployments/{deployment}/log")
        except NotPublished:
            lines = None
        said = [str(one.get("message") or "") for one in lines or () if isinstance(one, dict)]
        last = next((one for one in reversed(said) if one), "") or str(found.get("status_text") or "")
        return " ".join(last.split())

    def prove(self) -> None:
        """Wait until Azure lists the package's functions. Raises NotPublished.

        A status of success does not prove it: where the host cannot load the package, it lists no function and says
        nothing.
        """
        until = self._now() + LISTING_S
        while True:
            listed = self._arm.ask("GET", f"{self._site}/functions?api-version={SITES_API}") or {}
            names = {str(one.get("name", "")).rpartition("/")[2] for one in listed.get("value") or ()}
            missing = [one for one in self._functions if one not in names]
            if not missing:
                return
            if self._now() >= until:
                raise NotPublished(
                    f"the package was published, and Azure does not list {', '.join(missing)}: its host could not load "
                    "it. See the app's log stream; was the package made by `tailpipe-exports package azure`?"
                )
            self._wait(POLL_S)


def az(*arguments: str) -> Any:
    """Return the JSON that a command of the Azure CLI prints. Raises NotPublished."""
    binary = shutil.which("az")
    if binary is None:
        raise NotPublished("the Azure CLI is needed to sign in: install it, run az login, and apply again")
    command = [binary, *arguments, "--only-show-errors", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the operator's own az
    if done.returncode:
        raise NotPublished(f"az {' '.join(arguments[:2])} failed: {' '.join(done.stderr.split())[:400]}")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise NotPublished(f"az {' '.join(arguments[:2])} did not print JSON") from None


def scm_of(site: dict[str, Any]) -> str:
    """Return the address of an app's own publish endpoint; FUNCTION_ENDPOINT may name a loopback address instead."""
    given = os.environ.get("FUNCTION_ENDPOINT", "")
    if given and urlsplit(given).hostname in LOOPBACK:
        return given
    states = (site.get("properties") or {}).get("hostNameSslStates") or ()
    names = [str(one.get("name")) for one in states if one.get("hostType") == "Repository"]
    if not names:
        raise NotPublished("Azure does not name the address under which the app is published to")
    return f"https://{names[0]}"


def main() -> int:
    """Publish the package of the environment's variables; return 0, or 1 with the reason on standard error."""
    name, subscription = os.environ["FUNCTION_NAME"], os.environ["SUBSCRIPTION"]
    group = f"/subscriptions/{subscription}/resourceGroups/{os.environ['RESOURCE_GROUP']}"
    path = f"{group}/providers/Microsoft.Web/sites/{name}"
    try:
        package = Path(os.environ["PACKAGE"]).read_bytes()
        endpoints = az("cloud", "show")["endpoints"]
        audience = endpoints["activeDirectoryResourceId"]
        asked = ("account", "get-access-token", "--subscription", subscription, "--resource", audience)
        token = az(*asked)["accessToken"]
        arm = Api(endpoints["resourceManager"], token)
        site = arm.ask("GET", f"{path}?api-version={SITES_API}")
        functions = (*FUNCTIONS, *(each for name, some in OPTIONAL.items() if os.environ.get(name) for each in some))
        publisher = Publisher(arm, path, Api(scm_of(site), token), functions=functions)
        publisher.close_passwords()
        publisher.publish(package)
        publisher.prove()
    except OSError as error:
        say(f"the package {os.environ['PACKAGE']} cannot be read: {error.strerror}")
        return 1
    except NotPublished as error:
        say(str(error))
        say(f"The package could not be published to {name}. Apply again to go on from here.")
        return 1
    say(f"{name} has the package, and lists {', '.join(functions)}")
    return 0


def say(text: str) -> None:
    """Print a line for the operator; Terraform shows it."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
