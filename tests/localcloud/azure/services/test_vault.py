"""Key Vault takes tokens for itself alone, and names in its challenge where to get one."""

from __future__ import annotations

import pytest
import requests

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.caller import MANAGEMENT, VAULT, token_for
from localcloud.azure.platform.deployment import NOTIFY_SECRET
from localcloud.azure.services.directory import made_up_id
from tests.limits import HANG_S


def read(azure: LocalAzure, token: str) -> tuple[int, str, str]:
    """Return status, challenge and body of a read of the secret."""
    url = f"{azure.environment()['VAULT_ENDPOINT']}/secrets/{NOTIFY_SECRET}?api-version=7.4"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with requests.get(url, headers=headers, timeout=HANG_S) as answer:
        return answer.status_code, answer.headers.get("WWW-Authenticate", ""), answer.text


def test_token_for_the_vault_reads_a_secret(azure: LocalAzure) -> None:
    """The function's identity has the role; another identity gets 403."""
    azure.world.secrets[NOTIFY_SECRET] = "text"
    status, _, body = read(azure, token_for(azure.tenant, azure.principal, f"{VAULT[0]}/"))
    assert (status, '"value":"text"' in body.replace(": ", ":")) == (200, True)
    assert read(azure, token_for(azure.tenant, made_up_id("stranger"), VAULT[0]))[0] == 403


@pytest.mark.parametrize("case", ["none", "Resource Manager's", "another tenant's", "expired"])
def test_any_other_token_is_refused_with_a_challenge(azure: LocalAzure, case: str) -> None:
    """The response is 401, whether or not the secret exists."""
    token = {
        "none": "",
        "Resource Manager's": token_for(azure.tenant, azure.principal, MANAGEMENT[0]),
        "another tenant's": token_for(made_up_id("elsewhere"), azure.principal, VAULT[0]),
        "expired": token_for(azure.tenant, azure.principal, VAULT[0], life_s=-60),
    }[case]
    status, challenge, body = read(azure, token)
    assert status == 401
    assert challenge == (
        f'Bearer authorization="https://login.microsoftonline.com/{azure.tenant}", resource="https://vault.azure.net"'
    )
    assert '"Unauthorized"' in body
