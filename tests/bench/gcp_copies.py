"""Fills the local GCP's export bucket with the copies of earlier runs, without running the function."""

from __future__ import annotations

from datetime import timedelta

from gcp_function.resources.copy_manifest import EPOCH, File, Watermark, folder_of, manifest_of, mark_of
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORTS
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.services.objects import Conditions

FILE = b"PAR1" + bytes(120) + b"PAR1"  # never read: size and watermark match
MANIFEST = b"{}"  # never read: a run uses the object's metadata


def fill(cloud: LocalGcp, settings: GcpSettings) -> int:
    """Put a current copy of every partition of every account into the bucket, and return their number."""
    world, count = cloud.world, 0
    objects = world.buckets.find(settings.bucket).objects
    tables = world.catalog.dataset(settings.project, settings.dataset).tables
    now, free = world.clock.now(), Conditions()
    for kind in settings.copy:
        named = {EXPORTS[kind].table_of(account): account for account in cloud.accounts()}
        accounts = {table.uid: named[name] for name, table in tables.items() if name in named}
        (rows,) = {table.rows for table in tables.values() if table.uid in accounts}
        modified = world.warehouse.query("SELECT _table, partition_id, modified FROM partitions")
        written = {(table, day): moment for table, day, moment in modified}
        for table, day, newest, number in world.warehouse.query(
            f"SELECT _table, strftime(_PARTITIONTIME, '%Y-%m-%d'), epoch_us(max(export_time)), count(*) FROM {rows} "  # noqa: S608 - the local cloud's own name
            "GROUP BY 1, 2 ORDER BY 1, 2"
        ):
            if table not in accounts:
                continue
            watermark = Watermark(number, newest)
            folder = folder_of(accounts[table], day, kind)
            last = written[table, day.replace("-", "")] - EPOCH.replace(tzinfo=None)
            file = f"{folder}{watermark.id}/0-000000000000.parquet"
            manifest = manifest_of(
                watermark,
                [File(file, number, len(FILE))],
                account=accounts[table],
                kind=kind,
                day=day,
                table=EXPORTS[kind].table_of(accounts[table]),
                job="bench",
                written_at=now,
                previous=[],
                schema="",
            )
            metadata = mark_of(manifest, 0, last // timedelta(microseconds=1))
            objects.put(file, FILE, {}, free, now)
            objects.put(f"{folder}manifest.json", MANIFEST, {"metadata": metadata}, free, now)
            count += 1
    return count


def add_history(cloud: LocalGcp, settings: GcpSettings, days: int) -> None:
    """Put copies for `days` days before the window into the bucket; their partitions no longer exist."""
    world = cloud.world
    objects, now, free = world.buckets.find(settings.bucket).objects, world.clock.now(), Conditions()
    for account in cloud.accounts():
        for age in range(settings.copy_days, settings.copy_days + days):
            day = (now - timedelta(days=age)).date().isoformat()
            for kind in settings.copy:
                folder = folder_of(account, day, kind)
                objects.put(
                    f"{folder}{day.replace('-', '')}T000000.000000Z-1/0-000000000000.parquet", FILE, {}, free, now
                )
                objects.put(f"{folder}manifest.json", MANIFEST, {}, free, now)
