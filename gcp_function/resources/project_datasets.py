"""The project's datasets: linked ones with FOCUS data, and others that an export may go to."""

from __future__ import annotations

from gcp_function.clients import Clients
from gcp_function.settings import GcpSettings
from gcp_function.targets import LINKED_DATASET
from shared.runtime.context import RunContext


class ProjectDatasets:
    """Lists the project's datasets, once a run."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._listed: list[tuple[str, str]] | None = None
        self._linked: dict[str, tuple[str, str]] | None = None

    def all(self) -> list[tuple[str, str]]:
        """Return the names of all datasets with their locations ("" where the listing has none). Raises CloudError."""
        if self._listed is None:
            listed: list[tuple[str, str]] = []
            token = ""
            while True:
                page, token = self._run.calls("bigquery", self._page, token)
                listed += page
                if not token:
                    break
            self._listed = listed
        return self._listed

    def linked(self) -> dict[str, tuple[str, str]]:
        """Return the name and location of each account's linked dataset, by account id. Raises CloudError."""
        if self._linked is None:
            self._linked = {
                match[1].replace("_", "-"): (name, location)
                for name, location in self.all()
                if (match := LINKED_DATASET.fullmatch(name))
            }
        return self._linked

    def location_of(self, dataset: str, listed: str = "") -> str:
        """Return a dataset's location: the `listed` one, or else the one that BigQuery returns. Raises CloudError."""
        return listed or self._run.calls("bigquery", self._read_location, dataset)

    def _page(self, token: str) -> tuple[list[tuple[str, str]], str]:
        parameters = {"maxResults": 1000} | ({"pageToken": token} if token else {})
        page = self._clients.get("bigquery", f"bigquery/v2/projects/{self._settings.project}/datasets", parameters)
        found = [
            (str(one["datasetReference"]["datasetId"]), str(one.get("location", "")))
            for one in page.get("datasets", [])
        ]
        return found, str(page.get("nextPageToken") or "")

    def _read_location(self, dataset: str) -> str:
        found = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{dataset}", retry=None, timeout=self._clients.timeout
        )
        return str(found.location)
