"""The calls of AdminService about webhooks, as `admin_calls` has the others."""

from __future__ import annotations

from collections.abc import Sequence

from colloquy.api import admin_service_pb2 as pb
from colloquy.api.admin_service_pb2 import Webhook, WebhookDelivery
from colloquy.calls import Call, nothing, whole


def create_webhook(
    account_id: str, url: str, *, event_types: Sequence[Webhook.EventType.ValueType] = ()
) -> Call[pb.CreateWebhookRequest, pb.CreateWebhookResponse, pb.CreateWebhookResponse]:
    """Have events of an account posted to an address: all, if no `event_types` are given. `secret`
    of the answer cannot be shown again."""
    request = pb.CreateWebhookRequest(account_id=account_id, url=url, event_types=event_types)
    return Call(lambda to: to.admin.CreateWebhook, request, whole, repeatable=False)


def list_webhooks(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListWebhooksRequest, pb.ListWebhooksResponse, pb.ListWebhooksResponse]:
    """Return a page of an account's webhooks, oldest first."""
    request = pb.ListWebhooksRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListWebhooks, request, whole)


def delete_webhook(
    webhook_id: str,
) -> Call[pb.DeleteWebhookRequest, pb.DeleteWebhookResponse, None]:
    """Take a webhook away, with what was not delivered."""
    request = pb.DeleteWebhookRequest(webhook_id=webhook_id)
    return Call(lambda to: to.admin.DeleteWebhook, request, nothing, repeatable=False)


def list_dead_letters(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse, pb.ListDeadLettersResponse]:
    """Return a page of what an account's webhooks did not take after all attempts, oldest first."""
    request = pb.ListDeadLettersRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListDeadLetters, request, whole)


def retry_dead_letter(
    delivery_id: str,
) -> Call[pb.RetryDeadLetterRequest, pb.RetryDeadLetterResponse, WebhookDelivery]:
    """Have an event that was given up delivered again, with the same id."""
    request = pb.RetryDeadLetterRequest(delivery_id=delivery_id)
    return Call(
        lambda to: to.admin.RetryDeadLetter, request, lambda a: a.delivery, repeatable=False
    )
