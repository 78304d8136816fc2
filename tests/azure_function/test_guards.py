"""Rules that keep the function from doing harm, each alone and without a cloud."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from azure_function.resources.export_writer import ExportWriter
from azure_function.scopes import Scopes
from shared.errors import Manual
from shared.model import Absent, Action, Key, Kind, ManualStep, Ownership, Present, ScopeState, Stage, Target, Verb
from tests.azure_function.support import account_settings

OWN, OTHER = "00000000-0000-0000-0000-0000000000aa", "00000000-0000-0000-0000-0000000000bb"
STEP = ManualStep("it delivers elsewhere", ("Look whose it is.",))


def test_subscription_of_another_tenant_is_not_served() -> None:
    """A guest may see it; its costs belong to the other tenant. One that names no tenant is the own tenant's."""
    nothing: Any = SimpleNamespace()
    scopes = Scopes(account_settings(), nothing, nothing)
    shown = [
        {"subscriptionId": f"s{number}", "state": "Enabled", "tenantId": one}
        for number, one in enumerate((OWN, OTHER, ""))
    ]
    found = {one.id: one for one in scopes._subscriptions(shown, OWN, None, ())}
    assert [found[f"s{number}"].state is ScopeState.ACTIVE for number in range(3)] == [True, False, True]
    assert found["s1"].reason == f"in another tenant ({OTHER})"


@pytest.mark.parametrize(
    ("ownership", "writes"), [(Ownership.FOREIGN, False), (Ownership.UNMARKED, True), (Ownership.OURS, True)]
)
def test_existing_export_of_the_customer_is_never_written(ownership: Ownership, writes: bool) -> None:
    """Azure refuses the creation because the export exists: it is repaired unless it is the customer's."""
    target = Target(Key("s1", "export", "daily"), Kind("export", Stage.EXPORT), {"format": "csv"})
    seen = Present({"format": "parquet"}, ownership=ownership, code="export-foreign", manual_step=STEP)
    reader: Any = SimpleNamespace(compare=lambda *_: seen, to_write={})
    nothing: Any = SimpleNamespace()
    writer = ExportWriter(account_settings(), nothing, nothing, nothing, nothing, nothing, reader)
    written: list[Any] = []

    def repair(_action: Action, live: Any, _entry: Any) -> Any:
        written.append(live)
        return SimpleNamespace(facts={})

    repairing: Any = writer
    repairing._repair = repair  # the calls that it makes are tested elsewhere
    create = Action(target, Verb.CREATE, "absent", observation=Absent())
    if writes:
        assert writer._take_over(create, {"id": "x"}, None).message == "it already existed and was repaired"
    else:
        with pytest.raises(Manual) as raised:
            writer._take_over(create, {"id": "x"}, None)
        assert raised.value.code == "export-foreign"
        assert raised.value.manual_step is STEP
    assert bool(written) is writes
