"""The actors: a Pykka runtime on asyncio, supervision, and what speaks to RabbitMQ. Pykka is used here only."""
