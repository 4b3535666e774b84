"""What this client costs, beside others and beside what the machine and the broker allow: `make bench`."""
