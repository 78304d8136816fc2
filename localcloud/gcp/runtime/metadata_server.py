"""The metadata server that issues the function's token; Google's auth library finds it through GCE_METADATA_HOST."""

from __future__ import annotations

import json

from localcloud.common.http_server import Request, Response
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.faults import Faults
from localcloud.gcp.iam.policies import ISSUED

ROOT = "/computeMetadata/v1"
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


class MetadataServer:
    """Answers for one identity in one project (https://cloud.google.com/compute/docs/metadata/overview).

    A fault for the method ``metadata`` makes it fail, as the real one does briefly.
    """

    def __init__(self, identity: str, project: str, number: str, faults: Faults) -> None:
        self.identity = identity
        self._faults = faults
        self._project = project
        self._number = number

    def owns(self, request: Request) -> bool:
        return request.path.startswith("/computeMetadata/") or request.path == "/"

    def answer(self, request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google":
            return Response(403, dict(_FLAVOR), b"Missing Metadata-Flavor:Google header.")
        try:
            if self._faults.apply("metadata", request.path):
                return Response(hang=True)
        except GoogleError as error:
            return Response(error.status, dict(_FLAVOR), error.message.encode())
        path = request.path.removeprefix(ROOT).rstrip("/")
        account = "/instance/service-accounts/default"
        for name in (self.identity, self.identity.replace("@", "%40")):
            path = path.replace(f"/instance/service-accounts/{name}", account)
        texts = {
            "": "computeMetadata/",
            "/project/project-id": self._project,
            "/project/numeric-project-id": self._number,
            "/universe/universe-domain": "googleapis.com",
            f"{account}/email": self.identity,
        }
        token = f"{ISSUED}{self.identity}"
        documents = {
            account: {
                "aliases": ["default"],
                "email": self.identity,
                "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            },
            f"{account}/token": {
                "access_token": token,
                "expires_in": 3599,
                "token_type": "Bearer",
            },
        }
        if path in documents:
            headers = _FLAVOR | {"Content-Type": "application/json"}
            return Response(200, headers, json.dumps(documents[path]).encode())
        if path in texts:
            return Response(200, _FLAVOR | {"Content-Type": "application/text"}, texts[path].encode())
        return Response(404, dict(_FLAVOR), b"not found")
