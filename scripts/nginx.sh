#!/bin/sh
# Sees to it that the tests of deploy/ find nginx, which they start themselves. Installs it where that is allowed (root on Debian); says
# how to elsewhere. Ends well without one, except in CI: there a test that was skipped is a failure.
set -u

complete() {
    command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ]
}

install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    echo "Installing nginx for the tests of what runs behind it (once) ..."
    export DEBIAN_FRONTEND=noninteractive
    # The package would start it at port 80 on every address; nobody asked for that.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT; }
    apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends nginx-light >/dev/null
}

complete && exit 0
install && exit 0
echo "No nginx was found, so the tests behind it are skipped. On Debian: apt-get install nginx-light" >&2
[ "${CI:-}" != true ]
