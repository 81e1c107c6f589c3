-- The queue in one file. A job lies in exactly one of: ready, schedule, retry, waiting, lease, dead.
-- No table has a counter of its rows: the size of a queue is the distance of its ends less its holes, that of the others
-- is what count(*) reads off their smallest index.

-- `no` is in the keys of `ready`, so a queue's row is never deleted.
CREATE TABLE queue (
    no        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    is_paused INTEGER NOT NULL DEFAULT 0
);

-- id = queue.no << 48 | place. Places begin in the middle: new jobs go up, what comes back goes down.
-- One tree, ordered as it is read: a push writes one page, whatever waits already.
CREATE TABLE ready (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL
);

-- Places inside a queue from which a person took a job. Each has a job above it.
CREATE TABLE hole (id INTEGER PRIMARY KEY);

CREATE TABLE schedule (id INTEGER PRIMARY KEY, at_s REAL NOT NULL, raw BLOB NOT NULL);
CREATE INDEX schedule_at ON schedule (at_s);
CREATE TABLE retry (id INTEGER PRIMARY KEY, at_s REAL NOT NULL, raw BLOB NOT NULL);
CREATE INDEX retry_at ON retry (at_s);
CREATE TABLE dead (id INTEGER PRIMARY KEY, at_s REAL NOT NULL, raw BLOB NOT NULL);
CREATE INDEX dead_at ON dead (at_s);

-- Jobs whose limit is reached.
CREATE TABLE waiting (
    id    INTEGER PRIMARY KEY,
    lim   INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    raw   BLOB NOT NULL
);
CREATE INDEX waiting_lim ON waiting (lim, id);

-- id = owner.no << 40 | token.
CREATE TABLE lease (
    id    INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    lim   INTEGER,
    raw   BLOB NOT NULL
);
CREATE INDEX lease_lim ON lease (lim) WHERE lim IS NOT NULL;

-- until_s counts on CLOCK_BOOTTIME of the boot `boot`: no clock that somebody sets ends a lease.
CREATE TABLE owner (
    no       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    boot     TEXT NOT NULL,
    pid      INTEGER NOT NULL,
    ticks    INTEGER NOT NULL,
    until_s  REAL NOT NULL,
    beat_s   REAL NOT NULL,
    info     TEXT NOT NULL DEFAULT '{}',
    busy     INTEGER NOT NULL DEFAULT 0,
    is_quiet INTEGER NOT NULL DEFAULT 0,
    rss_kb   INTEGER NOT NULL DEFAULT 0,
    running  TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE fenced (name TEXT PRIMARY KEY, at_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE signal (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL);

-- until_s: unix; a lock may be for a time only.
CREATE TABLE lock (key TEXT PRIMARY KEY, jid TEXT NOT NULL, until_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX lock_until ON lock (until_s) WHERE until_s < 1e18;

-- most: places; per, per_s: so many starts in so many seconds; starts: how many there ever were; next_s: when the next that
-- waits for a rate may start.
CREATE TABLE lim (
    no     INTEGER PRIMARY KEY,
    key    TEXT NOT NULL UNIQUE,
    most   INTEGER NOT NULL,
    per    INTEGER NOT NULL,
    per_s  REAL NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    next_s REAL
);
CREATE INDEX lim_next ON lim (next_s) WHERE next_s IS NOT NULL;
-- The last `per` starts; slot = number of the start modulo per.
CREATE TABLE start (lim INTEGER, slot INTEGER, at_s REAL NOT NULL, PRIMARY KEY (lim, slot)) WITHOUT ROWID;

CREATE TABLE batch (
    name     TEXT PRIMARY KEY,
    callback BLOB NOT NULL,
    total    INTEGER NOT NULL DEFAULT 0,
    done     INTEGER NOT NULL DEFAULT 0,
    failed   INTEGER NOT NULL DEFAULT 0,
    is_open  INTEGER NOT NULL DEFAULT 1,
    made_s   REAL NOT NULL,
    ended_s  REAL
) WITHOUT ROWID;

CREATE TABLE cron (name TEXT PRIMARY KEY, slot_s REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE note (
    jid     TEXT,
    name    TEXT,
    value   TEXT NOT NULL,
    until_s REAL NOT NULL,
    PRIMARY KEY (jid, name)
) WITHOUT ROWID;
CREATE INDEX note_until ON note (until_s);

CREATE TABLE cancelled (jid TEXT PRIMARY KEY, at_s REAL NOT NULL) WITHOUT ROWID;

CREATE TABLE stat (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO stat VALUES ('processed', 0), ('failed', 0);
