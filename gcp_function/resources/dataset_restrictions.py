"""What prevents Google from writing to the dataset: an unsupported region, or a customer-managed key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.manual_steps import key_blocks_export, region_unsupported
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.exports import Exports
from gcp_function.settings import GcpSettings
from gcp_function.targets import ENCRYPTION, EXPORT_LOCATIONS, REGION
from shared.model import Health, Key, Observation, Present, Target
from shared.resources import BulkOnly, ReadOnly


class DatasetRestrictions(BulkOnly, ReadOnly):
    """Observes the dataset's settings after the exports: rows that arrive prove that Google can write.

    Google adds regions, and documents both that datasets with a customer-managed key take no billing data and how to
    create one. So neither setting counts as long as rows arrive.
    """

    kinds = (REGION, ENCRYPTION)

    def __init__(self, settings: GcpSettings, dataset: Dataset, exports: Exports) -> None:
        self._settings = settings
        self._dataset = dataset
        self._exports = exports

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Evaluate this run's read of the dataset; makes no call."""
        by_kind = {REGION.name: self._observe_region(), ENCRYPTION.name: self._observe_encryption()}
        return {target.key: self._dataset.unseen or by_kind[target.key.kind] for target in targets}

    def _observe_region(self) -> Observation:
        """Return whether Cloud Billing exports to the dataset's location, or to the one in the settings."""
        location = self._dataset.location or self._settings.location
        if self._exports.arriving or location.upper() in EXPORT_LOCATIONS:
            return Present()
        manual_step = region_unsupported(self._settings.dataset, location)
        return Present(
            health=Health.MANUAL, code="unsupported-region", detail=manual_step.what, manual_step=manual_step
        )

    def _observe_encryption(self) -> Observation:
        """Return whether a customer-managed key prevents Google from writing to the dataset."""
        key = self._dataset.last_read.key
        if self._exports.arriving or not key:
            return Present()
        manual_step = key_blocks_export(self._settings.project, self._settings.dataset, key)
        return Present(
            health=Health.MANUAL, code="customer-managed-key", detail=manual_step.what, manual_step=manual_step
        )
