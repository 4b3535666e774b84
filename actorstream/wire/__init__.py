"""RabbitMQ Streams on the wire: bytes to values and back. Nothing here does I/O, reads a clock or knows of a thread."""
