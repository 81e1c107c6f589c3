"""A node in which every wish that a guest can have is there once."""

SHOP = """
[node]
name = "shop"
shed = ["report"]

[worker.cache]
command = ["sleep", "600", "100% of $HOME", 'a "quoted" \\ word']
ready = { exec = ["true", "it's"] }
memory_max = "512M"
cpu_max = 1.5
processes_max = 64
files_max = 4096
core_max = 0
env = { API_TOKEN = "hush-hush", TZ = "UTC", RATE = "5% $5" }
listen = ["tcp://127.0.0.1:8080", { address = "unix:app.sock", name = "inner", backlog = 64 }]
log = { keep = 3 }

[worker.web]
command = ["sh", "-c", "exec sleep 600"]
after = ["cache"]
requires = ["cache"]
ready = { tcp = 8000 }
heartbeat = { http = "http://0.0.0.0:8000/live?x=1", period = "2s", timeout = "10s" }
restart = { limit = 3, window = "1m", after_limit = "down", policy = "on-failure", delay_max = "1m", jitter = 0.5, healthy = "3s" }
stop = { signal = "INT", grace = "3s" }
umask = "027"
essential = true
listen = ["tcp://0.0.0.0:8000"]

[worker.notifier]
command = ["sleep", "600"]
ready = { notify = true, timeout = "20s" }
heartbeat = { notify = true, timeout = "15s" }
crash_only = true
restart = { delay = "2s" }

[worker.report]
command = ["true"]
restart = "never"
autostart = false
heartbeat = { file = "alive" }
log = false

[group.both]
workers = ["cache", "web"]
"""
