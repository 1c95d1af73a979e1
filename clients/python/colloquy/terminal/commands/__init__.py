"""The commands of the terminal client, one module for each or for a few that are alike."""
