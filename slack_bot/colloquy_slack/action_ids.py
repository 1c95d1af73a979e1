"""What Slack sends back when a button or a menu of the bot is used."""

from __future__ import annotations

STOP = "colloquy_stop"
REGENERATE = "colloquy_regenerate"
TRY_AGAIN = "colloquy_try_again"
FEEDBACK = "colloquy_feedback"
ANSWER_EDIT = "colloquy_answer_edit"
PICK_MODEL = "colloquy_pick_model"
