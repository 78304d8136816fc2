"""`deploy` and `destroy` in processes of their own: each answer broken once, each call their last one; then repeated.

The second command must succeed, and end in the world in which one that nothing disturbed ends.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localcloud.common.wire_faults import WireFault
from localcloud.gcp.platform.deployment import OPERATOR
from tests.cli.support.terraform_double import TerraformDouble
from tests.crash.breakages import Form, breakages
from tests.crash.commands import COMMANDS, Bench
from tests.crash.kills import WAYS as KILLS
from tests.crash.kills import Victim
from tests.crash.stage import World
from tests.crash.stages import STAGES
from tests.crash.trial import Case, Verdict, differences, secrets_in

EXITS = frozenset({0, 1, 2, 3})  # of the documented contract


class OperatorTrials:
    """The trials of one command, each with a cloud of its own; a context manager through `opened`."""

    def __init__(self, name: str, victim: Victim) -> None:
        self._command, self._story, self._victim = COMMANDS[name], name.partition("/")[2], victim
        self.calls: list[str] = []
        self.expected: World = {}

    def rehearse(self) -> list[str]:
        """Run the command without a fault; return its calls by name."""
        with self._bench() as bench:
            bench.cloud.faults.wire.begin()
            _, code, said = self._run(bench)
            assert code == 0, said
            self.calls = [self._name(bench, one) for one in bench.cloud.faults.wire.seen]
            self.expected = self._command.world(bench)
        return self.calls

    def cases(self) -> Iterator[Case]:
        """Yield a case for every way of breaking every call that takes no real waiting, and for each kill."""
        with self._bench() as bench:
            ways = breakages(self._form(bench))
        for way in self._command.ways or (*(name for name, one in ways.items() if not one.slow), *KILLS):
            for number, name in enumerate(self.calls, 1):
                yield Case(self._command.cloud, self._story, number, way, name)

    def play(self, case: Case) -> Verdict:
        """Break one call of the command, and repeat the command."""
        with self._bench() as bench:
            wire = bench.cloud.faults.wire
            wire.begin(self._fault(bench, case))
            killed, code, said = self._run(bench)
            seen, hits = list(wire.seen), wire.hits
            wire.end()
            verdict = Verdict(case, "killed" if killed else f"exit {code}")
            if not hits:
                verdict.wrong.append("the call was not made")
            if not killed and (code not in EXITS or "Traceback (most recent call last)" in said):
                verdict.wrong.append(f"the command ended with {code}: {said[-1500:]}")
            # The token of the local GCP's operator is the operator's address, which commands show.
            if any(one in said for one in secrets_in(seen) - {OPERATOR}):
                verdict.wrong.append("the command's output contains a credential")
            if code:  # what has succeeded need not be repeated
                _, code, said = self._run(bench)
                verdict.runs = 1
            found = differences(self.expected, self._command.world(bench))
            if code or found:
                verdict.wrong.append(f"the last command ended with {code}: {'; '.join(found)}: {said[-1500:]}")
        return verdict

    def _fault(self, bench: Bench, case: Case) -> WireFault:
        if case.way in KILLS:
            return self._victim.fault(case.way, case.call)
        way = breakages(self._form(bench))[case.way]
        return WireFault(range(case.call, case.call + 1), way.before, way.after)

    def _form(self, bench: Bench) -> Form:
        stage = STAGES[self._command.cloud]()
        stage.cloud, stage.environment = bench.cloud, bench.cloud.environment()
        return stage.form

    def _name(self, bench: Bench, request: Any) -> str:
        stage = STAGES[self._command.cloud]()
        stage.cloud = bench.cloud
        return re.sub(r"\d{6,}|[0-9a-f-]{36}", "…", stage.call_name(request))

    def _run(self, bench: Bench) -> tuple[bool, int, str]:
        payload = {"arguments": self._command.arguments(bench), "environment": bench.environment}
        killed, said = self._victim.call(payload, "")
        found = re.search(r"exit=(\d+)$", said)
        return killed, int(found[1]) if found else -1, said

    @contextmanager
    def _bench(self) -> Iterator[Bench]:
        with tempfile.TemporaryDirectory(prefix="crash-") as name, self._command.open() as cloud:
            folder = Path(name)
            terraform = TerraformDouble(folder / "bin")
            environment = {one: value for one, value in cloud.environment().items() if not one.startswith("TF_VAR_")}
            environment |= {"PATH": terraform.path, "HOME": name, "XDG_CACHE_HOME": str(folder / "cache")}
            bench = Bench(cloud, terraform, folder, environment)
            self._command.prepare(bench)
            yield bench


@contextmanager
def opened(name: str) -> Iterator[OperatorTrials]:
    """Yield the trials of a command, ``azure/destroy``."""
    with Victim("cli", {}) as victim:
        yield OperatorTrials(name, victim)
