"""Run benchmark suites, print each measurement as one line of JSON and nothing else, and write docs/performance.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from statistics import median

import msgspec

from tests.bench.calibration import Timing
from tests.bench.measure import Measure, cpu_measure, fresh_process
from tests.bench.performance import BY_SIZE, record


def engine() -> Iterator[Measure]:
    """Yield the measurements of the engine without a cloud."""
    runs = [fresh_process("tests.bench.engine_plan") for _ in range(5)]
    method = "100,001 targets of 50,001 scopes in a fresh process"
    timings = [Timing.of(run) for run in runs]
    yield cpu_measure("engine.plan_100k.cpu_s", timings, 1.5, f"CPU of plan, hash and guard; {method}")
    yield Measure(
        "engine.plan_100k.peak_mb",
        median(run["peak_mb"] for run in runs),
        "MB",
        150,
        f"peak resident memory, including interpreter and input; {method}; median of {len(runs)}",
    )
    for size, scopes in BY_SIZE.items():
        run = fresh_process("tests.bench.engine_run", str(scopes))
        method = f"third run over a cloud in memory with {scopes:,} scopes of two targets each, nothing to write"
        yield cpu_measure(f"engine.run_{size}.cpu_s", [Timing.of(run)], None, f"CPU of the run; {method}")
        yield Measure(f"engine.run_{size}.peak_mb", run["peak_mb"], "MB", None, f"peak resident memory; {method}")
        yield Measure(f"engine.run_{size}.state_mb", run["state_mb"], "MB", None, f"the stored state; {method}")
        yield Measure(f"engine.run_{size}.report_mb", run["report_mb"], "MB", None, f"the stored report; {method}")
        yield Measure(f"engine.run_{size}.calls", run["calls"], "calls", None, f"calls of the run; {method}")


def aws() -> Iterator[Measure]:
    """Yield the measurements of the AWS function."""
    from tests.bench.aws import measures

    yield from measures()


def azure() -> Iterator[Measure]:
    """Yield the measurements of the Azure function."""
    from tests.bench import azure as function
    from tests.bench import azure_events as events

    yield from function.measures()
    yield from events.measures()


def gcp() -> Iterator[Measure]:
    """Yield the measurements of the GCP function."""
    from tests.bench.gcp import measures

    yield from measures()


def fleet() -> Iterator[Measure]:
    """Yield the measurements of rounds over many tenants: those of each cloud, and the worst of each."""
    from tests.bench import aws_fleet, azure_fleet, gcp_fleet

    found: dict[str, list[Measure]] = {}
    for suite in (aws_fleet, azure_fleet, gcp_fleet):
        for measure in suite.measures():
            yield measure
            found.setdefault(measure.measure.rpartition(".")[0], []).append(measure)
    for name, of_clouds in found.items():
        worst = max(of_clouds, key=lambda one: one.value)
        yield msgspec.structs.replace(worst, measure=name, method=f"the largest of three clouds: {worst.measure}")


def load() -> Iterator[Measure]:
    """Yield the measurements of the largest organizations, which take most of an hour; only when it is named."""
    from tests.bench.load import measures

    yield from measures()


def setup() -> Iterator[Measure]:
    """Yield the measurements of the installation, which downloads the demo's dependencies."""
    from tests.bench.setup import measures

    yield from measures()


def monitor() -> Iterator[Measure]:
    """Yield the measurements of `status` and the status page."""
    from tests.bench.monitor import measures

    yield from measures()


def peers() -> Iterator[Measure]:
    """Yield the measurements of what people do today, and of this project, in one story; only when it is named."""
    from tests.bench.peers import measures

    yield from measures()


SUITES: dict[str, Callable[[], Iterator[Measure]]] = {
    "engine": engine,
    "aws": aws,
    "azure": azure,
    "gcp": gcp,
    "fleet": fleet,
    "load": load,
    "monitor": monitor,
    "setup": setup,
    "peers": peers,
}


def main() -> int:
    """Run the named suites (all by default); return 1 if a measurement misses its target."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"one of {', '.join(SUITES)}; all but load and peers by default"
    )
    chosen = parser.parse_args().suites or [name for name in SUITES if name not in ("load", "peers")]
    unknown = [name for name in chosen if name not in SUITES]
    if unknown:
        parser.error(f"unknown suite: {', '.join(unknown)}; choose from {', '.join(SUITES)}")
    met = True
    for name in chosen:
        measures = []
        for measure in SUITES[name]():
            sys.stdout.write(measure.line() + "\n")
            sys.stdout.flush()
            measures.append(measure)
        record(name, measures)
        met &= all(measure.met for measure in measures)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
