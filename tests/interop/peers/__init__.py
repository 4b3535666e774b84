"""The other side of the tests: one script for each client. It runs in the peers' environment, and knows nothing of us.

A script takes one request as JSON from stdin (`plain.Request`), and prints what it read or did as JSON on stdout.
"""
