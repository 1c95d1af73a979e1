"""The Slack bot: a client of the server like any other. Begin with `slack_bot.app`."""
