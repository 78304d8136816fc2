"""What a run publishes after its report is made and its state is saved: deliveries, messages, and the status page.

None of them fails a run: what cannot be published is logged and left for the next run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.deliveries.announce import Announcer
from shared.errors import ReportedError, defect
from shared.metrics import Unpublished
from shared.monitor.months import Reach, columns, rows
from shared.monitor.stored import stored_of
from shared.notify.changes import Wording, find_expiries, record_changes, record_digest
from shared.notify.delivery import Secret, deliver
from shared.notify.webhook import Sender, send
from shared.report import RunProgress
from shared.runtime.context import RunContext
from shared.state.session import StateSession


class Publishing(msgspec.Struct, frozen=True):
    """What a cloud's function publishes, by its settings.

    `reach` is how far back the cloud delivers. `secret` is None without a webhook; `sender` delivers one message.
    `announcer` is None if deliveries are not announced.
    """

    wording: Wording
    reach: Reach
    secret: Secret | None = None
    sender: Sender = send
    announcer: Announcer | None = None

    def note(
        self, session: StateSession, report: Mapping[str, Any], progress: RunProgress, run: RunContext, *, limited: bool
    ) -> None:
        """Add the messages owed to operators to the document, which is saved with the run's results.

        A tenant's run adds none: operators get one message a round (`shared.tenants.messages`).
        """
        if self.secret is None or progress.tenant:
            return
        document, now = session.document, run.clock.now()
        try:
            expiries, undecided = find_expiries(progress.enumeration, progress.outcomes, document, now)
            record_changes(document, report, expiries, undecided, self.wording, now, limited=limited)
            if run.settings.notify_digest:
                record_digest(document, self.wording, now)
        except Exception as error:  # noqa: BLE001 - a defect here must not cost the run its state
            failure = defect(error)
            run.log("warning", "notify-failed", code=failure.code, reason=failure.message)

    def publish(self, session: StateSession, report: Mapping[str, Any], run: RunContext) -> Unpublished:
        """Write the page, announce deliveries and send the messages owed; return what could not be published."""
        if run.settings.publish_page:
            try:
                session.store_page(self._page(session, report, run))
            except Exception as error:  # noqa: BLE001 - a defect must not fail a run that has ended well
                failure = defect(error)
                run.log("warning", "page-lost", code=failure.code, reason=failure.message)
        known = session.document.ledger
        unannounced = self.announcer.catch_up(session) if self.announcer else 0
        sent, unsent = deliver(session.document, self.secret, run, self.sender) if self.secret else (0, 0)
        if sent or session.document.ledger != known:
            try:
                session.save(release=True)
            except ReportedError as error:
                # Messages that were sent may be sent again, with the same ids.
                event = "notify-failed" if sent else "deliveries-unsaved"
                run.log("warning", event, code=error.code, reason=f"sent, and not noted: {error.message}")
        return Unpublished(unsent, unannounced)

    def _page(self, session: StateSession, report: Mapping[str, Any], run: RunContext) -> bytes:
        # Imported for those who publish a page, so that no other cold start pays for it.
        from shared.monitor.overview import overview, page_data
        from shared.monitor.page import render

        newest = stored_of(report)
        found = overview(session.document, (newest,), run.clock.now(), run.settings.docs_url)
        # The changes of each run are in the reports below runs/, which the function may write but not read.
        found["runs"] = [{**one, "changes": []} for one in found["runs"]]
        document, ledger, now = session.document, session.deliveries.ledger, run.clock.now()
        months = columns(ledger, now)
        of_scopes = rows(document, ledger, months, now, self.reach) if ledger else ()
        shown = page_data(found, document, self.wording.title, self.wording.scopes, months, of_scopes)
        return render([shown]).encode()
