# Generated from aio/admin_client.py by scripts/generate_sync_client.py; do not edit.

"""The client for the platform, which gives accounts the keys that conversations are seen by.

with AdminClient() as admin:
    account = admin.create_account("Acme", external_id="acme")
    answer = admin.create_api_key(account.id, "web shop")
    print(answer.secret)
"""

from __future__ import annotations

from collections.abc import Iterator

from colloquy import calls
from colloquy.api.admin_service_pb2 import Account, ApiKey
from colloquy.sync.base_client import BaseClient, method


class AdminClient(BaseClient):
    """Accounts and their keys. Its own key is the platform's, by default from ADMIN_API_KEY."""

    _key_variable = "ADMIN_API_KEY"

    create_account = method(calls.create_account)
    list_accounts = method(calls.list_accounts)
    delete_account = method(calls.delete_account)
    create_api_key = method(calls.create_api_key)
    list_api_keys = method(calls.list_api_keys)
    revoke_api_key = method(calls.revoke_api_key)

    def accounts(self) -> Iterator[Account]:
        """Iterate over all accounts, oldest first."""
        return self._pages(
            lambda token: calls.list_accounts(page_token=token),
            lambda page: (page.accounts, page.next_page_token),
        )

    def api_keys(self, account_id: str) -> Iterator[ApiKey]:
        """Iterate over all keys of an account, oldest first, revoked ones too."""
        return self._pages(
            lambda token: calls.list_api_keys(account_id, page_token=token),
            lambda page: (page.api_keys, page.next_page_token),
        )
