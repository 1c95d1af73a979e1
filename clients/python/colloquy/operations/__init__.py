"""What the server's and the bot's processes both stand on, with Python alone: their logs, and the
files that only they may read."""
