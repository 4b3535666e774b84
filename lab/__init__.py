"""The broker laboratory: how tests, demo and benchmarks get RabbitMQ brokers, and how they break them.

`python -m lab up` (or `make up`) does the whole set-up on a bare machine: engine, compose plugin, image, one running
broker. `lab.start` is where test code gets brokers. Everything here needs Python's standard library and the docker
command only, so that it works before anything has been installed.

    shell.py        running commands, progress, waiting for a condition
    engine.py       an engine and its compose plugin, installed where they are missing
    image.py        the image: the official one where a registry answers, else built from Debian's packages
    compose.py      the project of this checkout: its name, its ports, its containers
    container.py    one container, and what can be done to it from outside
    certificates.py for the broker that speaks TLS
    management.py   the broker's management API over HTTP
    broker.py       one broker: its addresses, and its faults
    cluster.py      three of them
    start.py        the brokers of this checkout, started where they are not running
"""
