"""Locate Terraform and the provider plugins on this machine; tests that need a missing one are skipped.

OpenTofu (`tofu`) also works. Plugins are searched for in TAILPIPE_EXPORTS_TF_PLUGIN_DIR, in Terraform's plugin cache
and in the folders that Terraform documents as implied mirrors
(https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories). With
TAILPIPE_EXPORTS_TF_NETWORK=1 Terraform downloads them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def binary() -> str:
    """Return the path of terraform, or else of tofu; skip the test or module if neither is installed."""
    found = shutil.which("terraform") or shutil.which("tofu")
    if found is None:
        pytest.skip("neither terraform nor tofu is on the PATH", allow_module_level=True)
    return found


def plugin_folders() -> list[Path]:
    """Return the folders to search for a provider's plugin, in order of preference."""
    home = Path.home()
    named = [os.environ.get(name, "") for name in ("TAILPIPE_EXPORTS_TF_PLUGIN_DIR", "TF_PLUGIN_CACHE_DIR")]
    shared = os.environ.get("XDG_DATA_DIRS", "") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME", "") or str(home / ".local/share")
    usual = [home / ".terraform.d/plugins", home / ".terraform.d/plugin-cache"]
    # Add-on software is installed below /opt; a provider mirror there may have any name.
    usual += sorted({vendor.parents[1] for vendor in Path("/opt").glob("*/*/hashicorp")})
    implied = [Path(data) / "terraform/plugins" for data in [own, *shared.split(":")] if data]
    return [Path(name) for name in named if name] + usual + implied


def plugin_arguments(provider: str) -> list[str]:
    """Return the arguments with which `terraform init` uses the installed plugin of a provider.

    Skips the test or module if no plugin is installed and downloads are not allowed.
    """
    for folder in plugin_folders():
        if any(folder.glob(f"*/hashicorp/{provider}/*")):
            return [f"-plugin-dir={folder.resolve()}"]
    if os.environ.get("TAILPIPE_EXPORTS_TF_NETWORK") != "1":
        pytest.skip(
            f"no plugin for {provider} was found; set its folder in TAILPIPE_EXPORTS_TF_PLUGIN_DIR,"
            " or set TAILPIPE_EXPORTS_TF_NETWORK=1",
            allow_module_level=True,
        )
    return []
