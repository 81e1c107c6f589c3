#!/bin/sh
# Does the cache answer? A connection alone proves nothing: the kernel accepts it for a program that is stopped.
port=$1
if command -v redis-cli >/dev/null; then
  [ "$(redis-cli -p "$port" ping)" = PONG ]
else
  exec python3 -I -S -c "
import socket, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5) as c:
    c.sendall(b'PING\r\n')
    sys.exit(not c.recv(16).startswith(b'+PONG'))" "$port"
fi
