"""What people say to the bot that is a command, and what only begins like one."""

from __future__ import annotations

import pytest
from colloquy_slack.incoming.spoken_commands import spoken_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("<@UBOT> Mode mentions.", "mode mentions"),
        ("<@UBOT|bot>: mode", "mode"),
        ("<@UBOT> model GPT-4o", "model GPT-4o"),
        ("<@UBOT> model vendor/Model:8b", "model vendor/Model:8b"),
        ("<@UBOT> help!", "help"),
        ("<@UBOT> Usage", "usage"),
        ("<@UBOT>\nprompt reset", "prompt reset"),
        ("Mute", "mute"),
        ("unmute.", "unmute"),
        ("help", ""),
        ("mode all", ""),
        ("<@UBOT> help me", ""),
        ("<@UBOT> model the sea for me", ""),
        ("<@UBOT> mode of transport", ""),
        ("<@UBOT> usage of commas", ""),
        ("<@UBOT> prompt me every day", ""),
        ("please mute", ""),
        ("mute <@UBOT>", ""),
        ("<@U2> mute", ""),
        ("<@UBOT>", ""),
    ],
)
def test_only_a_whole_message_is_a_command(text: str, command: str) -> None:
    assert spoken_command(text, "UBOT") == command
