"""What the process does for the workspaces whose leases it owns: every stored request goes to
the server, and its reply to `outgoing`.
"""
