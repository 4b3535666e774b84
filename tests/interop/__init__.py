"""What other clients write, we read, and the other way round: on a real broker, in processes and environments apart."""
