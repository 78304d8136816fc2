"""What must exist in the project and for each account: pure data."""

from __future__ import annotations

import re
from datetime import date, timedelta

import msgspec
import pytest

from gcp_function import targets
from gcp_function.scopes import MASTER, OUTSIDE, PROJECT, STANDING
from gcp_function.settings import read_settings
from gcp_function.targets import APIS, EXPORT_LOCATIONS, EXPORTS, FACTS, LINKED_DATASET, targets_of, window
from shared.model import Enumeration, Key, Kind, Scope, ScopeState, Stage, Target

TODAY = date(2026, 11, 23)
PROJECT_ID = "tailpipe-dataexport"
ONE, SUB, OTHER, SHUT = (f"{number:06X}-000000-000000" for number in range(4))


def found(**settings: str) -> dict[Key, Target]:
    """Return the targets of a project, an account, its sub-account, a foreign one and a closed one."""
    scopes = (
        Scope(PROJECT_ID, traits={STANDING: PROJECT}, counted=False),
        Scope(ONE),
        Scope(SUB, traits={MASTER: ONE}),
        Scope(OTHER, traits={STANDING: OUTSIDE}),
        Scope(SHUT, state=ScopeState.INACTIVE),
    )
    made = read_settings({"GOOGLE_CLOUD_PROJECT": PROJECT_ID, **settings})
    return {one.key: one for one in targets_of(Enumeration("organizations/1", scopes), made, TODAY)}


def names(all_targets: dict[Key, Target], scope: str) -> list[str]:
    """Return the kinds and names of a scope's targets, in order."""
    return [f"{key.kind} {key.name}" for key in all_targets if key.scope == scope]


def test_kinds_keep_their_names_stages_and_rights() -> None:
    """State documents and reports name them; the function writes only the writable ones."""
    kinds = [one for one in vars(targets).values() if isinstance(one, Kind)]
    assert {one.name for one in kinds if one.writable} == {"dataset", "bucket", "copy", "history"}
    assert {one.name for one in kinds if not one.writable} == {
        *("project", "api", "location", "retention", "privacy", "billing", "region", "expiration", "encryption"),
        *("object-policy", "soft-delete", "account", "export"),
    }
    assert [one.name for one in kinds if one.stage is Stage.EXPORT] == ["export"]
    assert [one.name for one in kinds if one.stage is Stage.DERIVED] == ["copy", "history"]
    assert (targets.COPY.batch_size, targets.COPY.forget_after) == (20, timedelta(days=7))
    assert timedelta(hours=48) == targets.RHYTHM


def test_facts_keep_their_names() -> None:
    """State documents of earlier versions hold them."""
    assert set(FACTS) == {
        *("account", "done", "foreign", "fresh", "generation", "modified", "oldest_month", "pending_since", "read_on"),
    }


def test_tables_have_the_names_that_google_gives_them() -> None:
    """Source: "Understand the Cloud Billing data tables in BigQuery", Cloud Billing documentation."""
    tables = {name: one.table_of("01AB23-4567CD-89EF01") for name, one in EXPORTS.items()}
    assert tables == {
        "standard": "gcp_billing_export_v1_01AB23_4567CD_89EF01",
        "detailed": "gcp_billing_export_resource_v1_01AB23_4567CD_89EF01",
        "pricing": "cloud_pricing_export",
        "focus": "gcp_billing_export_focus_01AB23_4567CD_89EF01",
    }
    assert [name for name, one in EXPORTS.items() if one.shared] == ["pricing"]
    assert [one.name for one in EXPORTS.values()] == list(EXPORTS)
    assert targets.USAGE == ("standard", "detailed")
    assert LINKED_DATASET.fullmatch("gcp_billing_immutable_01AB23_4567CD_89EF01_US")
    assert {one.principal for name, one in EXPORTS.items() if name != "pricing"} == {
        "billing-export-bigquery@system.gserviceaccount.com"
    }
    assert EXPORTS["pricing"].principal.endswith("@cloud-account-pricing.iam.gserviceaccount.com")


def test_what_the_function_created_bears_its_mark() -> None:
    """Earlier versions wrote the same one: copies without it are not the function's."""
    assert (targets.MANAGED_BY, targets.MANAGER) == ("managed-by", "tailpipe-exports")


def test_exports_have_the_names_of_the_console() -> None:
    """Source: "Set up Cloud Billing data export to BigQuery". A person finds the export by its title."""
    titles = [one.title for one in EXPORTS.values()]
    assert titles == ["Standard usage cost", "Detailed usage cost", "Pricing", "FOCUS usage cost"]


def test_exports_rest_on_the_api_that_google_writes_with() -> None:
    """While the BigQuery API is disabled, that is reported, and not what follows from it."""
    apis = {need.name for one in found().values() for need in one.rests_on if need.kind == "api"}
    assert apis == {"bigquery.googleapis.com"}
    assert apis < set(APIS)


def test_count_among_the_facts_may_be_zero() -> None:
    """It is read back as it was stored; a negative one is damage."""
    counts = [kind for kind in FACTS.values() if kind is not str]
    assert [msgspec.convert(0, kind) for kind in counts] == [0, 0, 0]
    for kind in counts:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(-1, kind)


def test_locations_are_written_as_bigquery_writes_them() -> None:
    """Two multi-regions, and regions of a continent, a direction and a number, in capitals."""
    others = {one for one in EXPORT_LOCATIONS if not re.fullmatch(r"[A-Z]+-[A-Z]+[1-9]", one)}
    assert others == {"US", "EU"}
    assert len(EXPORT_LOCATIONS) == 30


def test_project_has_what_every_account_rests_on() -> None:
    """Checks of the bucket that matter for copies are left out without them."""
    all_targets = found()
    apis = [f"api {name}" for name in APIS]
    dataset, bucket = "billing_export", f"tailpipe-billing-export-{PROJECT_ID}"
    expected = [
        *(f"project {PROJECT_ID}", f"billing {PROJECT_ID}", *apis, f"dataset {dataset}", f"location {dataset}"),
        *(f"bucket {bucket}", f"privacy {bucket}"),
        *(f"{kind} {dataset}" for kind in ("region", "expiration", "encryption")),
    ]
    of_copies = [f"{kind} {bucket}" for kind in ("retention", "object-policy", "soft-delete")]
    assert names(all_targets, PROJECT_ID) == expected + of_copies
    assert names(found(COPY="off"), PROJECT_ID) == expected
    assert all(re.fullmatch(r"[a-z]+\.googleapis\.com", name) for name in APIS)
    assert all_targets[Key(PROJECT_ID, "project", PROJECT_ID)].desired == {"state": "ACTIVE"}
    assert all_targets[Key(PROJECT_ID, "location", dataset)].desired == {"location": "US"}
    wanted = all_targets[Key(PROJECT_ID, "bucket", bucket)].desired
    assert wanted == {"uniform-access": True, "lifecycle": "to colder tiers"}


def test_account_has_its_exports_and_an_open_one_its_copies() -> None:
    """A closed account delivers what is left, and an account of another organization only reports that."""
    all_targets = found()
    made = read_settings({"GOOGLE_CLOUD_PROJECT": PROJECT_ID})
    exports = [f"export {kind}" for kind in made.exports]
    assert names(all_targets, SHUT) == exports
    assert names(all_targets, OTHER) == [f"account {OTHER}"]
    of_one = names(all_targets, ONE)
    assert of_one[: len(exports)] == exports
    copies = [key for key in all_targets if key.scope == ONE and key.kind == "copy"]
    assert len(copies) == len(made.copy) * made.copy_days
    assert {targets.copy_parts(key)[0] for key in copies} == set(made.copy)
    histories = [key for key in all_targets if key.scope == ONE and key.kind == "history"]
    assert [key.name for key in histories] == list(made.copy)
    for one in (all_targets[key] for key in (*histories, *copies)):
        assert [need.kind for need in one.needs] == ["bucket"]
        assert [need.kind for need in one.rests_on] == ["object-policy"]


def test_usage_export_of_a_sub_account_rests_on_that_of_its_master() -> None:
    """Its costs are in its master's export too; the FOCUS data is in a dataset of Google's."""
    all_targets = found(EXPORTS="standard,detailed,pricing,focus")
    for kind in EXPORTS:
        above = Key(ONE, "export", kind)
        one = all_targets[Key(SUB, "export", kind)]
        assert (above in one.rests_on) is (kind in ("standard", "detailed"))
        kinds = {need.kind for need in one.rests_on if need.scope == PROJECT_ID}
        of_dataset = {"dataset", "region", "expiration", "encryption", "billing"}
        assert kinds == {"project", "api", *(set() if kind == "focus" else of_dataset)}
        assert one.rhythm == timedelta(hours=48)


def test_window_ends_today() -> None:
    """Its days are consecutive, the oldest first."""
    made = read_settings({"GOOGLE_CLOUD_PROJECT": PROJECT_ID, "COPY_DAYS": "3"})
    assert window(made, TODAY) == ["2026-11-21", "2026-11-22", "2026-11-23"]
