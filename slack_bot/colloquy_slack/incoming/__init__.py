"""What Slack sends: understood, and stored before it is acknowledged."""
