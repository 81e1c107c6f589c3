'use strict';
// The shop.
module.exports = {
  apps: [{
    name: "api", /* first */
    script: './server.mjs',
    'args': `--port
8000`,
    env: { PORT: 8000, "A-B": 0x10, BIG: 1_000, NONE: null, },
    autorestart: true,
  }, { script: 'jobs.py', max_memory_restart: "1G", watch: false }],
};
