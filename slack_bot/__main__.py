"""The command `python -m slack_bot`: runs the bot until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import structlog

from clients import ColloquyError
from slack_bot import logs
from slack_bot import settings as settings_module
from slack_bot.app import Bot, BotBroke
from slack_bot.settings import Settings, SettingsError
from slack_bot.slack_api import SlackProblem

log = structlog.get_logger()


def main() -> int:
    """Run the command; return its exit code."""
    argparse.ArgumentParser(
        prog="python -m slack_bot", description="Colloquy in Slack."
    ).parse_args()
    try:
        settings = settings_module.load()
        logs.configure(settings.log_format)
        asyncio.run(serve(settings))
    except (SettingsError, ColloquyError, OSError) as error:
        sys.stderr.write(f"colloquy: {logs.hide(str(error))}\n")
        return 1
    except BotBroke as broke:
        sys.stderr.write(f"colloquy: the bot broke: {broke}\n")
        return 1
    except SlackProblem as problem:
        sys.stderr.write(f"colloquy: Slack does not let me in: {problem}\n")
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Run until told to stop. Raises BotBroke, and what Bot.start does."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bot = Bot(settings)
    try:
        await bot.start()
        log.info("connected", socket_mode=bool(settings.slack_app_token), port=bot.port or None)
        await _until(stop, bot)
        log.info("stopping")
    finally:
        await bot.stop()


async def _until(stop: asyncio.Event, bot: Bot) -> None:
    """Wait until told to stop. Raises BotBroke when the bot cannot go on before that."""
    stopping = asyncio.create_task(stop.wait())
    breaking = asyncio.create_task(bot.broke())
    try:
        await asyncio.wait({stopping, breaking}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            raise breaking.result()
    finally:
        stopping.cancel()
        breaking.cancel()


if __name__ == "__main__":
    sys.exit(main())
