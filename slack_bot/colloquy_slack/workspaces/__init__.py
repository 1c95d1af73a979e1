"""The workspaces that the bot serves: how they were installed, and each one connected."""
