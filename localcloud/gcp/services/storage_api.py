"""Cloud Storage's JSON API: buckets, and objects except for their uploads and downloads."""

from __future__ import annotations

from typing import Any

from localcloud.common.http_server import Response
from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, invalid, unimplemented, unpaid
from localcloud.gcp.services.buckets import Bucket, new_document, patched
from localcloud.gcp.services.media import Media
from localcloud.gcp.services.object_files import read
from localcloud.gcp.services.objects import (
    MAX_PAGE,
    Conditions,
    ObjectStore,
    StoredObject,
    precondition_failed,
    rfc3339,
)
from localcloud.gcp.services.storage_access import forbidden, look_up, reach

_COMPOSED = 32  # maximum source objects (https://cloud.google.com/storage/quotas)


class StorageApi:
    """The supported methods of ``storage.v1``."""

    def __init__(self, page_size: int, mutations_per_s: float) -> None:
        self._page_size = page_size
        self._media = Media(mutations_per_s)
        self.handlers: dict[str, Handler] = {
            "storage.buckets.insert": self._insert_bucket,
            "storage.buckets.get": self._get_bucket,
            "storage.buckets.list": self._list_buckets,
            "storage.buckets.patch": self._patch_bucket,
            "storage.buckets.delete": self._delete_bucket,
            "storage.buckets.testIamPermissions": self._test,
            "storage.objects.list": self._list,
            "storage.objects.get": self._get,
            "storage.objects.patch": self._patch,
            "storage.objects.delete": self._delete,
            "storage.objects.copy": self._copy,
            "storage.objects.rewrite": self._rewrite,
            "storage.objects.compose": self._compose,
            "storage.objects.insert": self._media.insert,
        }

    def _insert_bucket(self, context: Context) -> Answer:
        world = context.world
        project = context.request.one("project") or world.project
        # Google's client omits the project, or sends this placeholder, when it uses an emulator.
        project = world.project if project == "<none>" else project
        context.need(
            "storage.buckets.create",
            f"projects/{project}",
            forbidden(context, "storage.buckets.create", "the Google Cloud project"),
        )
        owner = world.check_project(project)
        if state := world.unpaid(project):
            raise unpaid(state)
        now = world.clock.now()
        bucket = Bucket(owner.id, new_document(context.body, owner.number, now), ObjectStore(), now)
        world.buckets.add(bucket)
        return bucket.document

    def _get_bucket(self, context: Context) -> Answer:
        bucket = reach(context, "storage.buckets.get", context.ids[0])
        _metageneration(context, bucket, reading=True)
        return bucket.document

    def _list_buckets(self, context: Context) -> Answer:
        project = context.request.one("project") or context.world.project
        project = context.world.project if project == "<none>" else project
        context.need(
            "storage.buckets.list",
            f"projects/{project}",
            forbidden(context, "storage.buckets.list", "the Google Cloud project"),
        )
        prefix = context.request.one("prefix")
        shown = [
            bucket.document
            for name, bucket in sorted(context.world.buckets.all.items())
            if bucket.project == project and name.startswith(prefix)
        ]
        size = self._size(context)
        items, token = page(shown, context.request.one("pageToken"), size, f"buckets|{prefix}")
        return {"kind": "storage#buckets", "items": list(items)} | ({"nextPageToken": token} if token else {})

    def _patch_bucket(self, context: Context) -> Answer:
        bucket = reach(context, "storage.buckets.update", context.ids[0])
        wanted = (context.body.get("iamConfiguration") or {}).get("publicAccessPrevention")
        if wanted and wanted != bucket.document["iamConfiguration"]["publicAccessPrevention"]:
            # Uniform access requires only the update permission (https://cloud.google.com/storage/docs/access-control/iam-json).
            reach(context, "storage.buckets.setIamPolicy", bucket.name)
        _metageneration(context, bucket)
        bucket.document = patched(bucket, context.body, context.world.clock.now())
        return bucket.document

    def _delete_bucket(self, context: Context) -> Answer:
        bucket = reach(context, "storage.buckets.delete", context.ids[0])
        _metageneration(context, bucket)
        if len(bucket.objects):
            raise GoogleError(409, "conflict", "The bucket you tried to delete is not empty.")
        del context.world.buckets.all[bucket.name]
        return Response(204)

    def _test(self, context: Context) -> Answer:
        name = context.ids[0]
        context.world.buckets.find(name)
        chain = context.world.chain(f"buckets/{name}")
        asked = context.request.query.get("permissions", [])
        held = [item for item in asked if context.world.iam.allows(context.identity, item, chain)]
        return {"kind": "storage#testIamPermissionsResponse"} | ({"permissions": held} if held else {})

    def _size(self, context: Context) -> int:
        asked = int(context.request.one("maxResults") or 0)
        if asked < 0:
            raise invalid(f"Invalid argument: maxResults {asked}")
        return min(asked or MAX_PAGE, MAX_PAGE, self._page_size)

    def _list(self, context: Context) -> Answer:
        request = context.request
        bucket = reach(context, "storage.objects.list", context.ids[0])
        if request.flag("softDeleted") or request.one("filter"):
            raise unimplemented("listing soft-deleted objects, or by filter,")
        if request.one("matchGlob") and request.one("delimiter"):
            raise unimplemented("listing by glob and delimiter")
        objects, prefixes, token = bucket.objects.page(
            request.one("prefix"),
            request.one("delimiter"),
            request.one("pageToken"),
            self._size(context),
            request.one("startOffset"),
            request.one("endOffset"),
            request.flag("includeTrailingDelimiter"),
            request.one("matchGlob"),
        )
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if token:
            answer["nextPageToken"] = token
        if prefixes:
            answer["prefixes"] = prefixes
        if objects:
            answer["items"] = [document(bucket, found) for found in objects]
        return answer

    def _get(self, context: Context) -> Answer:
        bucket = reach(context, "storage.objects.get", *context.ids)
        found = look_up(context, "storage.objects.get", bucket, context.ids[1], generation(context))
        Conditions.of(context.request.query).check(found, reading=True)
        if context.media == "download" or context.request.one("alt") == "media":
            return self._media.download(context, found, str(bucket.document["storageClass"]))
        return document(bucket, found)

    def _patch(self, context: Context) -> Answer:
        bucket = reach(context, "storage.objects.update", *context.ids)
        found = look_up(context, "storage.objects.update", bucket, context.ids[1], generation(context))
        Conditions.of(context.request.query).check(found)
        return document(bucket, bucket.objects.patch(found, context.body, context.world.clock.now()))

    def _delete(self, context: Context) -> Answer:
        bucket = reach(context, "storage.objects.delete", *context.ids)
        found = look_up(context, "storage.objects.delete", bucket, context.ids[1], generation(context))
        bucket.check_unprotected(found, context.world.clock.now(), deleted=True)
        conditions = Conditions.of(context.request.query)
        bucket.objects.delete(bucket.name, context.ids[1], generation(context), conditions)
        return Response(204)

    def _copy(self, context: Context) -> Answer:
        return document(*self._copied(context))

    def _rewrite(self, context: Context) -> Answer:
        bucket, made = self._copied(context)
        size = str(made.size)
        return {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": True,
            "resource": document(bucket, made),
        }

    def _copied(self, context: Context) -> tuple[Bucket, StoredObject]:
        source_bucket, source, target_bucket, target = context.ids
        origin = reach(context, "storage.objects.get", source_bucket, source)
        wanted = context.request.one("sourceGeneration")
        found = look_up(context, "storage.objects.get", origin, source, int(wanted) if wanted else None)
        Conditions.of(context.request.query, "ifSource").check(found)
        bucket = reach(context, "storage.objects.create", target_bucket, target)
        self._media.replaces(context, bucket, target)
        fields = bucket.held(dict(found.fields) if not context.body else dict(context.body))
        content = context.world.spool.keep(read(found.content))
        conditions = Conditions.of(context.request.query)
        return bucket, bucket.objects.put(target, content, fields, conditions, context.world.clock.now())

    def _compose(self, context: Context) -> Answer:
        name, target = context.ids
        bucket = reach(context, "storage.objects.create", name, target)
        self._media.replaces(context, bucket, target)
        sources = context.body.get("sourceObjects", [])
        if not 0 < len(sources) <= _COMPOSED:
            raise invalid(f"The number of source components provided ({len(sources)}) is not 1 to {_COMPOSED}")
        parts = []
        for source in sources:
            wanted = source.get("generation")
            part = str(source.get("name", ""))
            reach(context, "storage.objects.get", name, part)
            found = look_up(context, "storage.objects.get", bucket, part, int(wanted) if wanted else None)
            match = source.get("objectPreconditions", {}).get("ifGenerationMatch")
            if match is not None and int(match) != found.generation:
                raise precondition_failed()
            parts.append(read(found.content))
        fields = bucket.held(context.body.get("destination") or {})
        content = context.world.spool.keep(b"".join(parts))
        conditions = Conditions.of(context.request.query)
        return document(bucket, bucket.objects.put(target, content, fields, conditions, context.world.clock.now()))


def document(bucket: Bucket, found: StoredObject) -> dict[str, Any]:
    """Return an object's resource."""
    made = found.as_json(bucket.name, str(bucket.document["storageClass"]))
    until = bucket.retained_until(found)
    return made | ({"retentionExpirationTime": rfc3339(until)} if until else {})


def generation(context: Context) -> int | None:
    """Return the generation that a request specifies, or None."""
    wanted = context.request.one("generation")
    return int(wanted) if wanted else None


def _metageneration(context: Context, bucket: Bucket, *, reading: bool = False) -> None:
    query = context.request.query
    if "ifMetagenerationMatch" in query and int(query["ifMetagenerationMatch"][0]) != bucket.metageneration:
        raise precondition_failed()
    if "ifMetagenerationNotMatch" in query and int(query["ifMetagenerationNotMatch"][0]) == bucket.metageneration:
        raise GoogleError(304, "notModified", "Not Modified") if reading else precondition_failed()
