"""BigQuery's REST API, version 2: jobs, and the results of queries."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, invalid, job_error, not_found, unimplemented
from localcloud.gcp.services.extract import Extract
from localcloud.gcp.services.jobs import Job, Jobs
from localcloud.gcp.services.query import Query
from localcloud.gcp.services.schema import encode_row

# DuckDB's work runs concurrently: these methods take the lock themselves, and only briefly.
UNLOCKED = frozenset({"bigquery.jobs.insert", "bigquery.jobs.query", "bigquery.jobs.getQueryResults"})
_SAME_REQUEST = timedelta(minutes=15)
_REQUESTS_KEPT = 1000
_RESULT_ROWS = 50_000  # maximum rows in one response; BigQuery's own limit is a size


_NOT_LISTED = ("etag", "selfLink", "jobCreationReason")  # members of a job that an item of a list of jobs has not


class JobsApi:
    """``bigquery.jobs.*``: query and extract jobs."""

    def __init__(self, jobs: Jobs, page_size: int) -> None:
        self._jobs = jobs
        self._page_size = page_size
        self._requests: dict[tuple[str, str], Job] = {}
        self.handlers: dict[str, Handler] = {
            "bigquery.jobs.insert": self._insert,
            "bigquery.jobs.get": self._get,
            "bigquery.jobs.list": self._list,
            "bigquery.jobs.cancel": self._cancel,
            "bigquery.jobs.query": self._query,
            "bigquery.jobs.getQueryResults": self._results,
        }

    def _may_begin(self, context: Context) -> str:
        project = context.ids[0]
        context.need(
            "bigquery.jobs.create",
            f"projects/{project}",
            f"Access Denied: Project {project}: User does not have bigquery.jobs.create permission in project "
            f"{project}.",
        )
        with context.world.lock:
            context.world.check_project(project)
        return project

    def _insert(self, context: Context) -> Answer:
        project = self._may_begin(context)
        if context.media == "upload":
            raise unimplemented("A load job with its data")
        reference, configuration = context.body.get("jobReference") or {}, context.body.get("configuration") or {}
        identifier = str(reference.get("jobId") or f"job_{secrets.token_hex(12)}")
        location = str(reference.get("location") or "")
        kinds = [kind for kind in ("query", "extract", "load", "copy") if configuration.get(kind) is not None]
        if len(kinds) != 1:
            raise invalid("Exactly one of query, load, copy or extract must be specified in the job's configuration.")
        if kinds[0] == "query":
            settings = dict(configuration["query"]) | {"dryRun": configuration.get("dryRun", False)}
            return self._begin_query(context, project, identifier, location, configuration, settings).as_json()
        if kinds[0] == "extract" and not configuration.get("dryRun"):
            return self._begin_extract(context, project, identifier, location, configuration).as_json()
        raise unimplemented(f"A {kinds[0]} job" + (" as a dry run" if configuration.get("dryRun") else ""))

    def _job(self, context: Context, project: str, identifier: str, location: str, kind: str, body: Any) -> Job:
        now = context.world.clock.now()
        return Job(project, identifier, location, context.identity, kind, dict(body), now, now)

    def _begin_query(
        self, context: Context, project: str, identifier: str, asked: str, body: Any, settings: Mapping[str, Any]
    ) -> Job:
        query = Query(context, project, settings, asked)
        failure: GoogleError | None = None
        try:
            location = query.plan()
        except GoogleError as error:
            if error.status == 501:
                raise
            failure, location = error, asked or "US"
        job = self._job(context, project, identifier, location, "query", body)
        if not settings.get("dryRun"):
            self._jobs.begin(job)
        if failure:
            job.error = failure
        elif not job.error:
            try:
                job.result = query.run(location)
            except GoogleError as error:
                if error.status == 501:
                    raise
                job.error = error
        job.done, job.ended = True, context.world.clock.now()
        job.statistics = {
            "totalBytesProcessed": str(query.processed),
            "query": {
                "totalBytesProcessed": str(query.processed),
                "totalBytesBilled": "0" if settings.get("dryRun") else str(query.billed),
                "cacheHit": False,
                "statementType": "SELECT",
                **({"schema": {"fields": job.result[0]}} if job.result else {}),
            },
        }
        return job

    def _begin_extract(self, context: Context, project: str, identifier: str, asked: str, body: Any) -> Job:
        world, behavior = context.world, context.world.behavior
        extract = Extract(context, body["extract"])
        with world.lock:
            location = extract.location(asked)
        if self._jobs.running("extract") >= behavior.extract_concurrent:
            raise GoogleError(
                403, "rateLimitExceeded", "Exceeded rate limits: too many concurrent extract jobs for this project."
            )
        job = self._job(context, project, identifier, location, "extract", body)
        self._jobs.begin(job)
        job.ends = job.created + timedelta(seconds=behavior.extract_s)
        if self._jobs.today(project, "extract") > behavior.extract_jobs_per_day:
            job.error = job_error(
                "quotaExceeded", f"Quota exceeded: Your project {project} exceeded quota for extract jobs per day."
            )
        if not job.error:
            try:
                job.publish, job.statistics = extract.run(location)
            except GoogleError as error:
                if error.status == 501:
                    raise
                job.error = error
        self._jobs.run(job)
        return job

    def _find(self, context: Context) -> Job:
        project, identifier = context.ids
        job = self._jobs.find(project, identifier, context.request.one("location"))
        # The creator of a job may read it; others need the permission.
        if job.identity != context.identity:
            context.need(
                "bigquery.jobs.get", f"projects/{project}", f"Access Denied: Job {project}:{job.location}.{identifier}"
            )
        return job

    def _get(self, context: Context) -> Answer:
        return self._find(context).as_json()

    def _cancel(self, context: Context) -> Answer:
        job = self._find(context)
        self._jobs.cancel(job)
        return {"kind": "bigquery#jobCancelResponse", "job": job.as_json()}

    def _list(self, context: Context) -> Answer:
        project = context.ids[0]
        all_users = context.request.flag("allUsers")
        if all_users:
            context.need("bigquery.jobs.listAll", f"projects/{project}", f"Access Denied: Project {project}")
        else:
            context.need("bigquery.jobs.create", f"projects/{project}", f"Access Denied: Project {project}")
        states = [state.lower() for state in context.request.query.get("stateFilter", [])]
        documents = [job.as_json() for job in self._jobs.of(project) if all_users or job.identity == context.identity]
        shown = [
            {name: value for name, value in document.items() if name not in _NOT_LISTED}
            | {"state": document["status"]["state"]}
            | ({"errorResult": document["status"]["errorResult"]} if "errorResult" in document["status"] else {})
            for document in documents
            if not states or document["status"]["state"].lower() in states
        ]
        size = min(int(context.request.one("maxResults") or 0) or 50, self._page_size)
        items, token = page(shown, context.request.one("pageToken"), size, f"jobs|{project}")
        answer: dict[str, Any] = {"kind": "bigquery#jobList", "etag": str(len(shown)), "jobs": list(items)}
        return answer | ({"nextPageToken": token} if token else {})

    def _query(self, context: Context) -> Answer:
        project = self._may_begin(context)
        body = context.body
        request = (context.identity, str(body.get("requestId") or secrets.token_hex(12)))
        # For fifteen minutes, a repeated request returns the job that the first one created.
        job = self._requests.get(request)
        if job is None or context.world.clock.now() - job.created > _SAME_REQUEST:
            identifier, asked = f"job_{secrets.token_hex(12)}", str(body.get("location") or "")
            configuration = {"query": {"query": body.get("query", ""), "useLegacySql": body.get("useLegacySql", True)}}
            job = self._begin_query(context, project, identifier, asked, configuration, body)
            while len(self._requests) >= _REQUESTS_KEPT:
                self._requests.pop(next(iter(self._requests)), None)
            self._requests[request] = job
        formats = body.get("formatOptions") or {}
        int64 = str(formats.get("useInt64Timestamp", body.get("useInt64Timestamp", False))).lower() == "true"
        size = body.get("maxResults")
        return self._answer(job, "queryResponse", int64, 0, _RESULT_ROWS if size is None else int(size))

    def _results(self, context: Context) -> Answer:
        with context.world.lock:
            job = self._find(context)
        if job.kind != "query":
            raise invalid(f"Cannot retrieve results of a {job.kind} job.")
        request = context.request
        int64 = request.flag("formatOptions.useInt64Timestamp")
        token, start = request.one("pageToken"), int(request.one("startIndex") or 0)
        if token:
            if not token.startswith(f"{job.id}@") or not token.rpartition("@")[2].isdigit():
                raise invalid("Invalid page token.")
            start = int(token.rpartition("@")[2])
        size = int(request.one("maxResults")) if "maxResults" in request.query else _RESULT_ROWS
        return self._answer(job, "getQueryResultsResponse", int64, start, size)

    def _answer(self, job: Job, kind: str, int64: bool, start: int, size: int) -> dict[str, Any]:
        if job.error:
            raise job.error
        if job.result is None:
            raise not_found(f"Not found: the result of job {job.id} has expired")
        fields, rows = job.result
        end = min(start + min(size, _RESULT_ROWS), len(rows))
        dry = bool(job.configuration.get("dryRun"))
        answer: dict[str, Any] = {
            "kind": f"bigquery#{kind}",
            # In the discovery document only this one of the two answers has it.
            **({"etag": f"{job.id}-{start}-{end}"} if kind == "getQueryResultsResponse" else {}),
            "schema": {"fields": fields},
            "jobReference": job.reference(),
            "totalRows": str(len(rows)),
            "totalBytesProcessed": job.statistics["totalBytesProcessed"],
            "jobComplete": True,
            "cacheHit": False,
        }
        if not dry and end > start:
            answer["rows"] = [encode_row(fields, row, int64) for row in rows[start:end]]
        if end < len(rows):
            answer["pageToken"] = f"{job.id}@{end}"
        return answer
