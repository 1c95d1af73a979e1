"""The clients for asyncio. `colloquy.sync` is generated from this package, all but its transport."""
