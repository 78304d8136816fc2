"""How long a test waits for what should have happened long before, and how many examples it tries."""

from __future__ import annotations

import os

# One limit for every wait on a process, a thread or a server. It ends a test that hangs and measures nothing. On a busy
# machine everything takes several times as long, so it is more than ten times what the slowest wait takes on a quiet
# machine with two cores: `deploy` with Terraform's AWS provider, about 90 s. pytest's own limit, in pyproject.toml, is
# longer, so that the wait that hangs is the one that is reported.
HANG_S = 1200.0


def examples(most: int) -> int:
    """Return how many examples a property is tried with: `most` in `make test-all`, a quarter of them otherwise."""
    return most if os.environ.get("THOROUGH") else most // 4
