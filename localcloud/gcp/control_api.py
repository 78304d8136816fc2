"""What happens to a GCP organization while the function looks after it: actions on the live state."""

from __future__ import annotations

from typing import Any, ClassVar

from localcloud.gcp.control.exports import ExportsStory
from localcloud.gcp.control.obstacles import ObstaclesStory
from localcloud.gcp.control.platform import PlatformStory
from shared.runtime.clock import VirtualClock


class Story(ExportsStory, ObstaclesStory, PlatformStory):
    """Actions; arguments and results are plain JSON. Accounts are ids such as ``01AB23-…``, days ``2026-01-05``.

    Raises KeyError, ValueError or GoogleError for what is not there or cannot be.
    """

    ACTIONS: ClassVar[frozenset[str]] = frozenset(
        [
            "accounts",
            "add_account",
            "open_account",
            "close_account",
            "console_step",
            "undo_console_step",
            "stream",
            "late_data",
            "flush_buffer",
            "make_stale",
            "resume",
            "tables",
            "watermarks",
            "rename_column",
            "drop_column",
            "add_column",
            "delete_table",
            "delete_dataset",
            "copies",
            "delete_copy",
            "put_object",
            "read_object",
            "objects",
            "delete_objects",
            "delete_bucket",
            "apply_lifecycle",
            "resources",
            "resource",
            "put_resource",
            "delete_resource",
            "set_ingress",
            "earlier_setup",
            "protect_rows",
            "unprotect_rows",
            "delete_rows",
            "make_dataset",
            "expire_tables",
            "encrypt_dataset",
            "remove_writer",
            "retain_objects",
            "hold_objects",
            "set_lifecycle",
            "unlink_billing",
            "link_billing",
            "add_account_elsewhere",
            "close_perimeter",
            "set_policy",
            "drop_quota_project",
            "fail_metadata",
            "delete_project",
            "undelete_project",
            "disable_api",
            "enable_api",
            "grant",
            "revoke",
            "deny",
            "allow",
            "fail",
            "hang",
            "lose_answer",
            "fail_jobs",
            "throttle",
            "latency",
            "clear_faults",
            "calls",
            "clear_calls",
            "advance",
        ]
    )

    # Faults, calls, time

    def fail(self, method: str, status: int, reason: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.add(method, status, reason, times=times, path=path)

    def hang(self, method: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.hang(method, times=times, path=path)

    def lose_answer(self, method: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.lose_answer(method, times=times, path=path)

    def fail_jobs(self, kind: str, reason: str, times: int | None = 1) -> None:
        self.world.faults.fail_jobs(kind, reason, times=times)

    def throttle(self, method: str, per_second: float, burst: float = 1) -> None:
        self.world.faults.throttle(method, per_second=per_second, burst=burst)

    def latency(self, seconds: float, method: str = "*") -> None:
        self.world.faults.latency(seconds, method)

    def clear_faults(self) -> None:
        self.world.faults.clear()

    def calls(self) -> list[dict[str, Any]]:
        """Return every answered call with its permissions, resources and outcome."""
        return [call.as_json() for call in self.world.calls.select()]

    def clear_calls(self) -> None:
        self.world.calls.clear()

    def advance(self, seconds: float) -> str:
        """Move a virtual clock forward; returns the new time. Raises RuntimeError on the machine's clock."""
        clock = self.world.clock
        if not isinstance(clock, VirtualClock):
            message = "the machine's clock cannot be advanced; give LocalGcp a VirtualClock"
            raise RuntimeError(message)  # noqa: TRY004 - the type is right, the occasion is not
        clock.advance(seconds)
        return clock.now().isoformat()
