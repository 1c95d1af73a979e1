"""The client for the platform, which gives accounts the keys that conversations are seen by.

async with AsyncAdminClient() as admin:
    account = await admin.create_account("Acme", external_id="acme")
    answer = await admin.create_api_key(account.id, "web shop")
    print(answer.secret)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from colloquy import admin_calls, budget_calls, webhook_calls
from colloquy.aio.base_client import AsyncBaseClient, method
from colloquy.aio.transport import Stream, run_blocking
from colloquy.api.admin_service_pb2 import Account, ApiKey, AuditEvent, Webhook, WebhookDelivery
from colloquy.api.resources_pb2 import Budget
from colloquy.errors import ColloquyError
from colloquy.file_transfer import ArchiveDownload
from colloquy.resumption import silence_error


class AsyncAdminClient(AsyncBaseClient):
    """Accounts and their keys. Its own key is the platform's, by default from ADMIN_API_KEY: of
    several there the first."""

    _key_variable = "ADMIN_API_KEY"

    create_account = method(admin_calls.create_account)
    list_accounts = method(admin_calls.list_accounts)
    update_account = method(admin_calls.update_account)
    delete_account = method(admin_calls.delete_account)
    create_api_key = method(admin_calls.create_api_key)
    list_api_keys = method(admin_calls.list_api_keys)
    revoke_api_key = method(admin_calls.revoke_api_key)
    list_audit_events = method(admin_calls.list_audit_events)
    delete_user = method(admin_calls.delete_user)
    set_budget = method(budget_calls.set_budget)
    list_budgets = method(budget_calls.list_budgets)
    delete_budget = method(budget_calls.delete_budget)
    get_usage = method(budget_calls.get_usage)
    create_webhook = method(webhook_calls.create_webhook)
    list_webhooks = method(webhook_calls.list_webhooks)
    delete_webhook = method(webhook_calls.delete_webhook)
    list_dead_letters = method(webhook_calls.list_dead_letters)
    retry_dead_letter = method(webhook_calls.retry_dead_letter)

    def accounts(self) -> AsyncIterator[Account]:
        """Iterate over all accounts, oldest first."""
        return self._pages(
            lambda token: admin_calls.list_accounts(page_token=token),
            lambda page: (page.accounts, page.next_page_token),
        )

    def api_keys(self, account_id: str) -> AsyncIterator[ApiKey]:
        """Iterate over all keys of an account, oldest first, revoked ones too."""
        return self._pages(
            lambda token: admin_calls.list_api_keys(account_id, page_token=token),
            lambda page: (page.api_keys, page.next_page_token),
        )

    def audit_events(self, account_id: str = "") -> AsyncIterator[AuditEvent]:
        """Iterate over who did what, the newest first, in one account or in all."""
        return self._pages(
            lambda token: admin_calls.list_audit_events(account_id=account_id, page_token=token),
            lambda page: (page.audit_events, page.next_page_token),
        )

    def budgets(self, account_id: str) -> AsyncIterator[Budget]:
        """Iterate over all budgets of an account, oldest first."""
        return self._pages(
            lambda token: budget_calls.list_budgets(account_id, page_token=token),
            lambda page: (page.budgets, page.next_page_token),
        )

    def webhooks(self, account_id: str) -> AsyncIterator[Webhook]:
        """Iterate over all webhooks of an account, oldest first."""
        return self._pages(
            lambda token: webhook_calls.list_webhooks(account_id, page_token=token),
            lambda page: (page.webhooks, page.next_page_token),
        )

    def dead_letters(self, account_id: str) -> AsyncIterator[WebhookDelivery]:
        """Iterate over all that an account's webhooks did not take, oldest first."""
        return self._pages(
            lambda token: webhook_calls.list_dead_letters(account_id, page_token=token),
            lambda page: (page.deliveries, page.next_page_token),
        )

    async def export_user(self, user_id: str, target: str | Path | BinaryIO) -> None:
        """Write all that is known of a user as a ZIP archive to a path, where only the caller can
        read it, or into a file open for writing in binary.

        Begins anew when the connection breaks. Raises OSError when it cannot be written.
        """
        retry = self._retry(None)
        with ArchiveDownload(target) as archive:
            while True:
                try:
                    return await self._export_user(user_id, archive)
                except ColloquyError as error:
                    failure = error
                except TimeoutError:
                    failure = silence_error(self._silence)
                wait = retry.backoff(failure)
                if not archive.restart():
                    raise failure
                await self._transport.wait(wait)

    async def _export_user(self, user_id: str, archive: ArchiveDownload) -> None:
        stream = Stream(self._transport)
        try:
            await stream.open(admin_calls.export_user(user_id))
            while (answer := await stream.read(self._silence)) is not None:
                await run_blocking(archive.write, answer)
            await run_blocking(archive.finish)
        finally:
            stream.cancel()
