"""One process of the bot, from reading its settings to its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import structlog
from colloquy import ColloquyError
from colloquy.operations.private_memory import keep_memory_private
from colloquy.operations.sqlite_copy import copy_database
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from colloquy_slack import logs
from colloquy_slack import settings as settings_module
from colloquy_slack.app import Bot, BotFailed
from colloquy_slack.settings import Settings, SettingsError
from colloquy_slack.slack_api import SlackError

log = structlog.get_logger()


def run_bot() -> int:
    """Run the bot until it is told to stop; return the process's exit code."""
    return _run_command(lambda settings: asyncio.run(serve(settings)))


def run_backup(target: Path) -> int:
    """Copy the bot's SQLite database to a new file; return the process's exit code."""
    return _run_command(lambda settings: copy_database(database_file(settings), target))


def database_file(settings: Settings) -> Path:
    """Return the file of a SQLite database. Raises SettingsError when it is a Postgres."""
    url = make_url(settings.slack_database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise SettingsError("SLACK_DATABASE_URL is a Postgres: back it up with pg_dump")
    return Path(url.database)


def _run_command(command: Callable[[Settings], None]) -> int:
    os.umask(0o077)  # whatever is written holds what people said, or keys
    try:
        keep_memory_private()
        settings = settings_module.load()
        logs.configure(settings.log_format)
        command(settings)
    except (SettingsError, ColloquyError, OSError) as error:
        logs.say(f"colloquy: {error}")
        return 1
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        logs.say(f"colloquy: SLACK_DATABASE_URL: {why}")
        return 1
    except BotFailed as failed:
        logs.say(f"colloquy: the bot broke: {failed}")
        return 1
    except SlackError as error:
        logs.say(f"colloquy: Slack does not let me in: {error}")
        return 1
    except Exception:
        log.exception("process failed")
        return 1
    finally:
        logs.drain()
    return 0


async def serve(settings: Settings) -> None:
    """Run until told to stop. Raises BotFailed, and what Bot.start does."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bot = Bot(settings)
    running = asyncio.create_task(_run(bot))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        log.info("stopping")
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await bot.stop()


async def _run(bot: Bot) -> None:
    await bot.start()
    log.info("connected", port=bot.port or None, metrics_port=bot.metrics_port or None)
    raise await bot.wait_until_failed()
