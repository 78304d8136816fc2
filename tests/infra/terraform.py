"""The Terraform and the provider plugins of this machine; without them a test is skipped and says why.

`tofu` serves as well. A plugin is looked for in TAILPIPE_EXPORTS_TF_PLUGIN_DIR, in Terraform's plugin cache and in the
folders that Terraform documents as implied mirrors
(https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories). With
TAILPIPE_EXPORTS_TF_NETWORK=1 Terraform downloads it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def binary() -> str:
    """Return the path of terraform, or else of tofu; skips the test or module without either."""
    found = shutil.which("terraform") or shutil.which("tofu")
    if found is None:
        pytest.skip("neither terraform nor tofu is on the PATH", allow_module_level=True)
    return found


def plugin_folders() -> list[Path]:
    """Return the folders in which a provider's plugin may lie, the first choice first."""
    home = Path.home()
    named = [os.environ.get(name, "") for name in ("TAILPIPE_EXPORTS_TF_PLUGIN_DIR", "TF_PLUGIN_CACHE_DIR")]
    shared = os.environ.get("XDG_DATA_DIRS", "") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME", "") or str(home / ".local/share")
    usual = [home / ".terraform.d/plugins", home / ".terraform.d/plugin-cache"]
    # Software that belongs to no distribution lies there, a mirror under any name.
    usual += sorted({vendor.parents[1] for vendor in Path("/opt").glob("*/*/hashicorp")})
    implied = [Path(data) / "terraform/plugins" for data in [own, *shared.split(":")] if data]
    return [Path(name) for name in named if name] + usual + implied


def plugin_arguments(provider: str) -> list[str]:
    """Return the arguments of `terraform init` for a provider's own plugin.

    Skips the test or module where there is no plugin and none may be downloaded.
    """
    for folder in plugin_folders():
        if any(folder.glob(f"*/hashicorp/{provider}/*")):
            return [f"-plugin-dir={folder.resolve()}"]
    if os.environ.get("TAILPIPE_EXPORTS_TF_NETWORK") != "1":
        pytest.skip(
            f"no folder holds a plugin of {provider}; name one in TAILPIPE_EXPORTS_TF_PLUGIN_DIR,"
            " or set TAILPIPE_EXPORTS_TF_NETWORK=1",
            allow_module_level=True,
        )
    return []
