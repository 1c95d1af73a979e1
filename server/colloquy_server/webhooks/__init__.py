"""Events to the outside: delivered from the outbox to webhooks."""
