"""The bot's tables and the SQL on them: what is on its way between Slack and the server."""
