"""Check `infra/`: `python -m tools.infra [--fresh | --write | --schemas] [ROOT]`.

Prints one line a check: ok, FAILED with its faults below it, or `not run` and why. Ends with 1 if there is a fault.
`--write` brings what is made from the modules up to date instead: the tables in READMEs and guides, the operator's
policies; `--schemas` fetches the published schemas instead;
`--fresh` repeats what has passed on the same files before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tools.infra import (
    equal,
    examples,
    guides,
    hcl,
    names,
    passed,
    published,
    readme,
    rights,
    scan,
    schema,
    shape,
    terraform,
)
from tools.infra.fault import Fault, NotRun

Check = tuple[str, Callable[[], Iterable[Fault]]]


class Infra:
    """The modules below `infra/` of one tree, and what judges them."""

    def __init__(self, root: Path, cache: Path, *, fresh: bool = False) -> None:
        self.root = root
        self.infra = root / "infra"
        self.cache = cache
        self.bin = Path(sys.executable).parent
        self.schemas = schema.Schemas(cache / "infra-schemas")
        self.passed = passed.Passed(cache / "infra-schemas" / "passed.json", self.infra, fresh=fresh)
        self.modules = {
            cloud: hcl.read_module(self.infra / cloud) for cloud in equal.CLOUDS if (self.infra / cloud).is_dir()
        }
        self.examples = {
            cloud: [hcl.read_module(folder) for folder in sorted((module.path / "examples").glob("*/"))]
            for cloud, module in self.modules.items()
        }

    def checks(self) -> list[Check]:
        """The checks in the order in which they are told, the cheap ones first."""
        found: list[Check] = [
            ("names", lambda: (fault for module in self._all() for fault in names.faults(module))),
            (
                "rules",
                lambda: (fault for module in self.modules.values() for fault in shape.faults(module, self.schemas)),
            ),
            ("equality of the clouds", lambda: equal.faults(self.modules)),
            ("examples", self._examples),
            ("READMEs", lambda: (fault for module in self.modules.values() for fault in readme.faults(module))),
            ("rights", lambda: (fault for module in self.modules.values() for fault in rights.faults(module.path))),
            ("guides", self._guides),
            ("exceptions", lambda: scan.skip_faults(self.infra)),
        ]
        providers = sorted({name for module in self._all() for name in schema.providers_of(module)} - {"terraform"})
        found += [(self._schema_title(name), partial(self._schema, name)) for name in providers]
        found.append(("terraform fmt", lambda: terraform.format_faults(self.infra)))
        found += [(f"terraform validate {cloud}", partial(self._validate, cloud)) for cloud in self.modules]
        found.append(("cfn-lint", lambda: scan.template_faults(self.infra, self.bin / "cfn-lint")))
        found.append(("checkov", self._checkov))
        return found

    def _all(self) -> list[hcl.Module]:
        return [*self.modules.values(), *(example for each in self.examples.values() for example in each)]

    def _examples(self) -> Iterable[Fault]:
        for cloud, module in self.modules.items():
            for example in self.examples[cloud]:
                yield from examples.faults(example, module)

    def _guides(self) -> Iterable[Fault]:
        for module in self.modules.values():
            yield from guides.faults(self.root, module)
        yield from guides.table_faults(self.root)

    def _schema_title(self, provider: str) -> str:
        return f"schema of {provider} {self.schemas.version(provider)}".strip()

    def _schema(self, provider: str) -> Iterable[Fault]:
        if not self.schemas.has(provider):
            raise NotRun("it is neither published with the pinned packages nor to be had from a plugin on this machine")
        for module in self._all():
            yield from schema.faults(module, self.schemas, provider)

    def _validate(self, cloud: str) -> Iterable[Fault]:
        folders = [example.path for example in self.examples[cloud]]
        return self.passed.once(
            f"validate {cloud}", lambda: terraform.validate_faults(self.infra, self.modules[cloud], folders)
        )

    def _checkov(self) -> Iterable[Fault]:
        command = self.cache / "infra-check" / "bin" / "checkov"
        return self.passed.once("checkov", lambda: scan.checkov_faults(self.infra, command))


def run(checks: Iterable[Check], root: Path) -> int:
    """Run the checks and say how each went; returns how many faults there are."""
    count = 0
    for title, check in checks:
        try:
            faults = sorted(set(check()))
        except NotRun as why:
            print(f"{title}: not run: {why}")
            continue
        print(f"{title}: {'FAILED' if faults else 'ok'}")
        for fault in faults:
            print(f"  {fault.said(root)}")
        count += len(faults)
    return count


def main(arguments: list[str]) -> int:
    """Check one tree; returns the exit code."""
    here = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(prog="python -m tools.infra", description="Check infra/.")
    parser.add_argument("root", nargs="?", type=Path, default=here, help="the tree whose infra/ is checked")
    parser.add_argument("--write", action="store_true", help="write what is made from the modules, and end")
    parser.add_argument("--schemas", action="store_true", help="fetch the published schemas and end")
    parser.add_argument("--fresh", action="store_true", help="repeat what has passed on the same files before")
    chosen = parser.parse_args(arguments)
    cache = here / ".venv"
    if chosen.schemas:
        return published.fetch(Path(__file__).parent / "schemas", cache / "infra-schemas")
    infra = Infra(chosen.root.resolve(), cache, fresh=chosen.fresh)
    if chosen.write:
        for module in infra.modules.values():
            readme.write(module)
        guides.write(infra.root)
        return 0
    if not infra.modules:
        print("infra: not run: there is no module below infra/")
        return 0
    published.add_local(cache / "infra-schemas", "aws")
    count = run(infra.checks(), infra.root)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
