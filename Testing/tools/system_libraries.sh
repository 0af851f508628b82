#!/bin/sh
# Slicer's core and Qt need a few system libraries even without a screen, and computing on another computer is tested with
# a server of ssh. Installs them where that is allowed (root and apt), otherwise names the command.
set -eu

PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps ldconfig, for users too
packages=""
need() { # need LIBRARY PACKAGE
    ldconfig -p 2>/dev/null | grep -q "$1" || packages="$packages $2"
}

[ "$(uname -s)" = Linux ] || exit 0
need libGL.so.1 libgl1
need libEGL.so.1 libegl1
need libGLdispatch.so.0 libglvnd0
need libxkbcommon.so.0 libxkbcommon0
need libdbus-1.so.3 libdbus-1-3
need libfontconfig.so.1 libfontconfig1
need libglib-2.0.so.0 libglib2.0-0
need libX11.so.6 libx11-6
[ -z "$packages" ] && libraries=there || libraries=missing
# Its tests are skipped without: no reason to stop.
command -v sshd >/dev/null || packages="$packages openssh-server"
command -v ssh >/dev/null || packages="$packages openssh-client"
[ -z "$packages" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries:$packages"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
elif [ "$libraries" = missing ]; then
    echo "System libraries are missing. Run: sudo apt-get install$packages" >&2
    exit 1
fi
