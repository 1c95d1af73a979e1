"""The part of the fake AdminService that is about budgets, usage and webhooks."""

from __future__ import annotations

from typing import Any

import grpc
from colloquy.api import admin_service_pb2 as pb
from colloquy.api import admin_service_pb2_grpc as admin_grpc
from colloquy.api.resources_pb2 import Budget, UsageRow

from tests.fakes.door import ADMIN_KEY, Door, new_id, paged, refuse


class FakeBudgets(Door, admin_grpc.AdminServiceServicer):
    """Keeps budgets and webhooks, and says that was used what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.budgets: dict[str, Budget] = {}
        self.usage: list[UsageRow] = []
        self.webhooks: dict[str, pb.Webhook] = {}
        self.dead_letters: dict[str, pb.WebhookDelivery] = {}

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        budget = Budget(
            id=new_id(),
            account_id=request.account_id,
            user_id=request.user_id,
            api_key_id=request.api_key_id,
            model=request.model,
            period=request.period,
            unit=request.unit,
            limit=request.limit,
        )
        self.budgets[budget.id] = budget
        return pb.SetBudgetResponse(budget=budget)

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: Any
    ) -> pb.ListBudgetsResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        found = [one for one in self.budgets.values() if one.account_id == request.account_id]
        page, token = paged(found, request.page_size, request.page_token)
        return pb.ListBudgetsResponse(budgets=page, next_page_token=token)

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: Any
    ) -> pb.DeleteBudgetResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        if self.budgets.pop(request.budget_id, None) is None:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "BUDGET_NOT_FOUND", "no such budget")
        return pb.DeleteBudgetResponse()

    async def GetUsage(
        self, request: pb.AdminServiceGetUsageRequest, context: Any
    ) -> pb.AdminServiceGetUsageResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        return pb.AdminServiceGetUsageResponse(rows=self.usage)

    async def CreateWebhook(
        self, request: pb.CreateWebhookRequest, context: Any
    ) -> pb.CreateWebhookResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        webhook = pb.Webhook(
            id=new_id(),
            account_id=request.account_id,
            url=request.url,
            event_types=request.event_types,
        )
        webhook.create_time.GetCurrentTime()
        self.webhooks[webhook.id] = webhook
        return pb.CreateWebhookResponse(webhook=webhook, secret="whsec_secret")

    async def ListWebhooks(
        self, request: pb.ListWebhooksRequest, context: Any
    ) -> pb.ListWebhooksResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        found = [one for one in self.webhooks.values() if one.account_id == request.account_id]
        page, token = paged(found, request.page_size, request.page_token)
        return pb.ListWebhooksResponse(webhooks=page, next_page_token=token)

    async def DeleteWebhook(
        self, request: pb.DeleteWebhookRequest, context: Any
    ) -> pb.DeleteWebhookResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        if self.webhooks.pop(request.webhook_id, None) is None:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "WEBHOOK_NOT_FOUND", "no such webhook")
        return pb.DeleteWebhookResponse()

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> pb.ListDeadLettersResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        page, token = paged(list(self.dead_letters.values()), request.page_size, request.page_token)
        return pb.ListDeadLettersResponse(deliveries=page, next_page_token=token)

    async def RetryDeadLetter(
        self, request: pb.RetryDeadLetterRequest, context: Any
    ) -> pb.RetryDeadLetterResponse:
        await self.enter(request, context, key=ADMIN_KEY)
        delivery = self.dead_letters.pop(request.delivery_id, None)
        if delivery is None:
            await refuse(
                context, grpc.StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND", "no such delivery"
            )
        return pb.RetryDeadLetterResponse(delivery=delivery)
