"""The actors: a Pykka runtime on asyncio, supervision, and what speaks to RabbitMQ. Pykka lives here and nowhere else."""
