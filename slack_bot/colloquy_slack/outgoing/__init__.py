"""A reply on its way into Slack: rendered as messages, posted, edited, and finished."""
