#!/usr/bin/env bash
# The contract of the official image's entrypoint: start as root, own the data, become rabbitmq, exec.
set -euo pipefail
if [[ "${1:-}" == rabbitmq* ]] && [ "$(id -u)" = 0 ]; then
    if [ "$1" = rabbitmq-server ]; then
        # Before any `docker exec ... rabbitmqctl` can: run as root, the CLI makes a cookie that the server cannot read.
        cookie=/var/lib/rabbitmq/.erlang.cookie
        if [ ! -s "$cookie" ]; then
            (umask 077 && head -c 64 /dev/urandom | md5sum | cut -c1-20 | tr -d '\n' >"$cookie")
        fi
        find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq '{}' +
    fi
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$0" "$@"
fi
exec "$@"
