"""`python -m colloquy_slack`: the command of the Slack bot."""

from colloquy_slack.commands import main

if __name__ == "__main__":
    main()
