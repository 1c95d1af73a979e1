"""What people see of the bot beside its replies: App Home and /colloquy."""
