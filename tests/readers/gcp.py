"""Tailpipe's reader on GCP: federates for one tenant, and reads exports, copies and metrics as the connector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import requests
from google.api_core.client_options import ClientOptions
from google.auth import identity_pool
from google.auth.transport.requests import Request
from google.cloud import bigquery, storage
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build  # type: ignore[import-untyped]  # the library is untyped

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
JWT = "urn:ietf:params:oauth:token-type:jwt"
# Base paths of services that are not at the root of their host.
PATHS = {"compute": "compute/v1/"}
ONCE: Any = None  # the clients' value for "no retry"


class Issued:
    """Supplies Tailpipe's token to google-auth."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_subject_token(self, context: Any, request: Any) -> str:
        return self._token


def federated(endpoint: str, provider: str, token: str, account: str = "") -> str:
    """Exchange a token of Tailpipe's issuer for an access token of the service account, or a federated one without it.

    `provider` is the full name from the onboarding document. Raises google-auth's OAuthError if the exchange is
    refused, RefreshError if the service account is.
    """
    impersonation = f"{endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken" if account else None
    credentials: Any = identity_pool.Credentials(  # type: ignore[no-untyped-call]  # google-auth is only partly typed
        audience=f"//iam.googleapis.com/{provider}",
        subject_token_type=JWT,
        token_url=f"{endpoint}/v1/token",
        subject_token_supplier=Issued(token),
        service_account_impersonation_url=impersonation,
        scopes=[SCOPE],
    )
    with requests.Session() as session:
        credentials.refresh(Request(session))
    return str(credentials.token)


class Reader:
    """Reads with an access token and only the values of an onboarding document.

    Raises google-api-core's exceptions if Google refuses a call, googleapiclient's HttpError for metrics and machines.
    """

    def __init__(self, endpoint: str, access_token: str, onboarding: Mapping[str, Any]) -> None:
        self._endpoint = endpoint
        self._project = str(onboarding["project"]["id"])
        self._bucket = str(onboarding["storage"]["bucket"])
        self.dataset = str(onboarding["storage"]["datasetFullPath"])
        self._credentials: Any = Credentials(token=access_token)  # type: ignore[no-untyped-call]  # google-auth is only partly typed
        self._services: dict[str, Any] = {}
        options = ClientOptions(api_endpoint=endpoint)
        self.bigquery: Any = bigquery.Client(self._project, credentials=self._credentials, client_options=options)
        self.storage: Any = storage.Client(self._project, credentials=self._credentials, client_options=options)

    def close(self) -> None:
        """Close the connections."""
        for service in self._services.values():
            service.close()
        self.bigquery.close()
        self.storage.close()

    def service(self, name: str, version: str) -> Any:
        """Return Google's discovery client of a service at the endpoint."""
        if name not in self._services:
            self._services[name] = build(
                name,
                version,
                credentials=self._credentials,
                client_options=ClientOptions(api_endpoint=f"{self._endpoint}/{PATHS.get(name, '')}"),
                static_discovery=True,
                cache_discovery=False,
            )
        return self._services[name]

    def tables(self) -> list[str]:
        """Return the names of all exported tables."""
        return [one.table_id for one in self.bigquery.list_tables(self.dataset, retry=ONCE)]

    def count(self, table: str) -> int:
        """Return the number of rows that a query on an exported table returns."""
        rows = self.query(f"SELECT COUNT(*) AS n FROM `{self.dataset}.{table}`")  # noqa: S608 - the name was listed
        return int(rows[0]["n"])

    def query(self, sql: str) -> list[Any]:
        """Return all rows of a query."""
        return list(self.bigquery.query_and_wait(sql, retry=ONCE, job_retry=ONCE))

    def manifests(self) -> list[str]:
        """Return the names of all manifests of copies."""
        listed = self.storage.list_blobs(self._bucket, retry=ONCE)
        return [one.name for one in listed if one.name.endswith("/manifest.json")]

    def rows(self, folder: Path) -> Iterator[tuple[str, int]]:
        """Yield (manifest, rows in its files) for every copy; files are downloaded to `folder`."""
        for name in self.manifests():
            paths = []
            for number, file in enumerate(json.loads(self.read(name))["files"]):
                path = folder / f"{number}.parquet"
                path.write_bytes(self.read(file["name"]))
                paths.append(str(path))
            with duckdb.connect() as engine:
                counted = engine.execute("SELECT count(*) FROM read_parquet(?)", [paths]).fetchall()
            yield name, int(counted[0][0])

    def read(self, name: str, bucket: str = "") -> bytes:
        """Return one object."""
        content: bytes = self.storage.bucket(bucket or self._bucket).blob(name).download_as_bytes(retry=ONCE)
        return content

    def metrics(self, until: datetime) -> list[Any]:
        """Return the CPU utilization of the last hour."""
        asked = self.service("monitoring", "v3").projects().timeSeries().list(
            name=f"projects/{self._project}",
            filter='metric.type = "compute.googleapis.com/instance/cpu/utilization"',
            interval_startTime=f"{until - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            interval_endTime=f"{until:%Y-%m-%dT%H:%M:%SZ}",
        )  # fmt: skip
        return list(asked.execute().get("timeSeries", []))

    def machines(self) -> dict[str, Any]:
        """Return the project's machines by zone."""
        found: dict[str, Any] = (
            self.service("compute", "v1").instances().aggregatedList(project=self._project).execute()
        )
        return dict(found.get("items", {}))
