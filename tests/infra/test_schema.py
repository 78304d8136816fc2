"""Resources, arguments, blocks and attributes are held against the provider's schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import module, said, schemas
from tools.infra import schema

GOOD = 'resource "google_shelf" "a" {\n  name = "n"\n  lock {\n    key = "k"\n  }\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(GOOD + "}\n", [], id="good"),
        pytest.param('resource "google_shelv" "a" {\n}\n', ["1: google_shelv is no resource"], id="no such type"),
        pytest.param('data "google_shelf" "a" {\n}\n', ["1: google_shelf is no data"], id="resource as data"),
        pytest.param(
            GOOD + '  nota = "x"\n}\n',
            ["6: google_shelf has no argument nota; did you mean note?"],
            id="no such argument",
        ),
        pytest.param(GOOD + '  id = "x"\n}\n', ["6: google_shelf: id can be read and not be set"], id="read only"),
        pytest.param(GOOD + '  books = "x"\n}\n', ["6: google_shelf: books takes a list"], id="text for a list"),
        pytest.param(GOOD + '  note = ["x"]\n}\n', ["6: google_shelf: note takes a string"], id="list for a text"),
        pytest.param(GOOD + "  note = null\n}\n", [], id="null is always possible"),
        pytest.param(GOOD + "  books {\n  }\n}\n", ["6: google_shelf: books is an argument"], id="argument as block"),
        pytest.param(GOOD + "  shelf {\n  }\n}\n", ["6: google_shelf has no block shelf"], id="no such block"),
        pytest.param(
            GOOD + '  lock {\n    key = "k"\n  }\n}\n', ["6: google_shelf takes one block lock"], id="one too many"
        ),
        pytest.param(
            'resource "google_shelf" "a" {\n  name = "n"\n  lock = {}\n}\n',
            ["3: google_shelf: lock is a block"],
            id="block as argument",
        ),
        pytest.param(
            'resource "google_shelf" "a" {\n  lock {\n  }\n}\n',
            ["1: google_shelf lacks name", "2: google_shelf.lock lacks key"],
            id="required ones are missing",
        ),
        pytest.param(
            'resource "google_shelf" "a" {\n  name = "n"\n}\n', ["1: google_shelf lacks lock"], id="a block is missing"
        ),
        pytest.param(
            GOOD + '  dynamic "rule" {\n    for_each = [1]\n    content {\n      day = rule.value\n    }\n  }\n}\n',
            ["9: google_shelf.rule has no argument day; did you mean days?"],
            id="within a dynamic block",
        ),
        pytest.param(
            GOOD + '  place = {\n    rooms = "x"\n  }\n}\n',
            ["6: google_shelf.place lacks room", "7: google_shelf.place has no member rooms"],
            id="within an object",
        ),
        pytest.param(
            GOOD + "  count = 1\n  depends_on = []\n  lifecycle {\n    ignore_changes = [nothing]\n  }\n}\n",
            ["9: google_shelf has no argument nothing whose changes"],
            id="meta-arguments and what is ignored",
        ),
        pytest.param(
            GOOD + '}\noutput "o" {\n  value = google_shelf.a.nmae\n}\n',
            ["8: google_shelf.a: has no attribute nmae; did you mean name?"],
            id="no such attribute",
        ),
        pytest.param(
            GOOD + '}\noutput "o" {\n  value = google_shelf.a.lock.key\n}\n',
            ["8: google_shelf.a: lock is a list of blocks; write lock[0].key"],
            id="a block without its index",
        ),
        pytest.param(
            GOOD + '}\noutput "o" {\n  value = google_shelf.a.lock[0].kye\n}\n',
            ["8: google_shelf.a: has no attribute kye"],
            id="no such attribute in a block",
        ),
        pytest.param(
            GOOD + '}\noutput "o" {\n  value = google_shelf.a.name.first\n}\n',
            ["8: google_shelf.a: name is a string"],
            id="below a text",
        ),
        pytest.param(
            'data "google_city" "c" {\n}\noutput "o" {\n  value = data.google_city.c.zones\n}\n',
            ["4: data.google_city.c: has no attribute zones"],
            id="attribute of a data source",
        ),
        pytest.param(
            'resource "terraform_data" "d" {\n  inputs = 1\n}\n',
            ["2: terraform_data has no argument inputs"],
            id="what is built in",
        ),
    ],
)
def test_the_schema_decides(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Each departure from the schema is told at its line, and nothing else is."""
    found = said(schema.faults(module(tmp_path, text), schemas(tmp_path), "google"))

    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


def test_another_provider_is_not_judged(tmp_path: Path) -> None:
    """A provider is judged by its own check alone, so that one whose schema is missing is told as not run."""
    known = schemas(tmp_path)
    read = module(tmp_path, 'resource "aws_thing" "a" {\n}\n')

    assert said(schema.faults(read, known, "google")) == []
    assert schema.providers_of(read) == {"aws"}
    assert (known.has("google"), known.has("aws"), known.version("google")) == (True, False, "9.9.9")
