"""Clients that live through the same faults side by side, each a process in the environment of its client.

A subject publishes to a stream at a steady rate, consumes it at the same time, and writes down what happens.
"""
