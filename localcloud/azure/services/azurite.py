"""Azurite, Microsoft's storage emulator, as a child process on a free loopback port."""

from __future__ import annotations

import os
import select
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from localcloud import Unavailable

_ROOT = Path(__file__).resolve().parents[3]
_MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
_PRELOAD = Path(__file__).with_name("azurite_preload.cjs")
REMEDY = "Install Node.js 20 or newer with npm, then run make demo or make venv."
_LISTENS = "listens on http://127.0.0.1:"
_START_S = 60.0
_END_S = 10.0


class AzuriteError(RuntimeError):
    """Azurite is not available; the message says what to install, or contains Azurite's output."""


class AzuriteMissing(AzuriteError, Unavailable):
    """Node.js or the npm package is not installed."""


# difference: AZURE-13
class Azurite:
    """A running blob service. `accounts` maps account names to their keys (base64).

    With `start_time`, its clock is manual: it keeps that time until `set_time` changes it, so that Last-Modified and
    leases follow a virtual clock. Blobs are kept in memory. The service stops on `stop`, or when this process ends.
    Raises AzuriteError if Node or the npm package is missing, or if Azurite does not start.
    """

    def __init__(self, accounts: Mapping[str, str], start_time: datetime | None = None, root: Path = _ROOT) -> None:
        self.accounts = dict(accounts)
        self.manual = start_time is not None
        node = shutil.which("node")
        if node is None:
            raise AzuriteMissing(f"Node.js was not found. {REMEDY}")
        main = root / _MAIN
        if not main.exists():
            raise AzuriteMissing(f"The storage emulator Azurite is not installed. {REMEDY}")
        self._folder = tempfile.TemporaryDirectory(prefix="local-azure-")
        environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment |= {
            "HOME": self._folder.name,
            "AZURITE_ACCOUNTS": ";".join(f"{n}:{k}" for n, k in accounts.items()),
        }
        self._clock = -1
        if start_time is not None:
            path = Path(self._folder.name, "clock")
            self._clock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self.set_time(start_time)
            environment["LOCAL_AZURE_CLOCK"] = str(path)
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent", "--loose"]
        self._process = subprocess.Popen(
            [node, "--require", str(_PRELOAD), str(main), *options, "--skipApiVersionCheck", "--disableTelemetry"],
            cwd=self._folder.name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self.port = self._port()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        """The endpoint, `http://127.0.0.1:PORT`; the account is the first part of the path."""
        return f"http://127.0.0.1:{self.port}"

    def set_time(self, moment: datetime) -> None:
        """Set a manual clock to `moment`. Raises RuntimeError if the service uses the machine's clock."""
        if self._clock < 0:
            raise RuntimeError("Cannot set the time: this Azurite uses the machine's clock.")
        os.pwrite(self._clock, struct.pack("<d", moment.timestamp() * 1000), 0)

    def stop(self) -> None:
        """Stop the process; has no effect if it has already ended."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        if self._clock >= 0:
            os.close(self._clock)
            self._clock = -1
        self._folder.cleanup()

    def _port(self) -> int:
        """Return the port, after waiting for Azurite to print it."""
        printed, end = "", time.monotonic() + _START_S
        output = self._process.stdout
        if output is None:
            raise AzuriteError("Azurite's output cannot be read")
        while time.monotonic() < end:
            ready, _, _ = select.select([output], [], [], 1.0)
            read = os.read(output.fileno(), 65536).decode(errors="replace") if ready else ""
            printed += read
            _, found, rest = printed.partition(_LISTENS)
            if found and "\n" in rest:
                return int(rest.split()[0])
            if ready and not read:
                break
        raise AzuriteError(f"Azurite did not start: {' '.join(printed.split())[-400:] or 'it printed nothing'}")
