"""The Slack bot: a client of the server like any other. Begin with `colloquy_slack.app`."""
