"""Time limits for waiting, and the number of examples of property tests."""

from __future__ import annotations

import os

# One limit for every wait on a process, a thread or a server. It only ends a test that hangs. It is more than ten times
# the slowest wait on an idle machine with two cores (`deploy` with Terraform's AWS provider, about 90 s), because busy
# machines are several times slower. pytest's limit, in pyproject.toml, is longer, so that the hanging wait is reported.
HANG_S = 1200.0
# The time limit of a function whose test lets one call hang and expects the calls before and after to end in time.
SHORT_S = 2.0


def examples(most: int) -> int:
    """Return the number of examples for a property: `most` in `make test-all`, otherwise a quarter of them."""
    return most if os.environ.get("THOROUGH") else most // 4
