"""What the server's and the bot's processes both stand on: their logs and metrics, and the
files and the memory that only they may read."""
