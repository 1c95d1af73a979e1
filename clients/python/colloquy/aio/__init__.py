"""The clients for asyncio; `colloquy.sync` is generated from these modules, but for `transport`."""
