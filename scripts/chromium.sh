#!/bin/sh
# Sees to it that the browser tests find Chromium, and a font with Chinese letters. Installs both where that is allowed (root on
# Debian); says how to elsewhere. Ends well without a browser, except in CI: there a test that was skipped is a failure.
set -u

complete() {
    { [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1; } && [ -n "$(fc-list :lang=zh 2>/dev/null)" ]
}

install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    echo "Installing Chromium for the browser tests (once) ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends chromium fonts-noto-cjk fontconfig >/dev/null
}

complete && exit 0
install && exit 0
if [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1; then
    echo "No font with Chinese letters was found: screenshots will show boxes. On Debian: apt-get install fonts-noto-cjk" >&2
    exit 0
fi
echo "No Chromium was found, so the browser tests are skipped. On Debian: apt-get install chromium fonts-noto-cjk;" >&2
echo "elsewhere install any Chromium and name it: CHROMIUM=/path/to/chromium make test" >&2
[ "${CI:-}" != true ]
