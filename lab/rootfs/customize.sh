#!/bin/sh -e
# Shape a root file system with Debian's rabbitmq-server like the official image. $1: its folder.
# Raw CLI scripts come first on PATH (see image.py), not Debian's wrappers, which insist on being root or rabbitmq.
root=$1
mkdir -p "$root/etc/rabbitmq/conf.d"
printf 'loopback_users.guest = false\nlog.console = true\n' >"$root/etc/rabbitmq/conf.d/10-defaults.conf"
printf '[rabbitmq_management,rabbitmq_prometheus].\n' >"$root/etc/rabbitmq/enabled_plugins"
rm -f "$root/etc/rabbitmq/rabbitmq-env.conf" "$root/var/lib/rabbitmq/.erlang.cookie"
rm -rf "$root"/var/lib/rabbitmq/mnesia/* "$root"/var/log/rabbitmq/* "$root"/var/cache/apt/*.bin
chroot "$root" chown -R rabbitmq:rabbitmq /etc/rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
