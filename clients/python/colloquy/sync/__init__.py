"""The clients without asyncio: generated from `colloquy.aio`, all but what waits for gRPC, which is
`transport` and `timed_reader`."""
