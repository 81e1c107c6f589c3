#!/bin/sh
# The cache of the site: Redis where it is installed, else a stand-in that speaks enough of its protocol.
# It keeps nothing on disk: a cache can be thrown away, so killing it is always safe.
set -eu
port=${1:?usage: cache.sh PORT}
if command -v redis-server >/dev/null; then
  exec redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --maxmemory 64mb
fi
exec python3 "$(dirname "$0")/cache.py" "$port"
