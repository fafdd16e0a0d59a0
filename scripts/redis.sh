#!/bin/sh
# Sees to it that the tests of the Redis store find a server, which they start themselves. Installs it where that is allowed (root on
# Debian); says how to elsewhere. Ends well without one, except in CI: there a test that was skipped is a failure.
set -u

complete() {
    command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1
}

install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    echo "Installing Redis for the tests of its store (once) ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends redis-server >/dev/null
}

complete && exit 0
install && exit 0
echo "No redis-server was found, so the tests of the Redis store are skipped. On Debian: apt-get install redis-server" >&2
[ "${CI:-}" != true ]
