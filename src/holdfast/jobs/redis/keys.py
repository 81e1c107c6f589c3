"""What is called how in Redis?

Sidekiq's names are Sidekiq's (client.rb, launcher.rb, scheduled.rb; 6.4 to 8.1 agree); ours begin with `hf:`, so that nobody trips over
them. The scripts build the same names; KEYS[1] of each is `queues`, which tells them the prefix (and a cluster the slot).

    hf:owners        zset   owner -> when its lease ends, by the server's clock
    hf:fenced        zset   owner that was declared dead -> when
    hf:lease:OWNER   hash   token -> queue, line feed, the job as it was
    hf:unique:KEY    text   jid of the job that holds the lock
    hf:limit:NAME    set    "owner token" of those that hold a place
    hf:waiting:NAME  list   queue, line feed, job: those that wait for a limit
    hf:waiting       hash   limit for which somebody waits -> its places, and the two numbers of its rate
    hf:rate:NAME     zset   "owner token" -> start
    hf:turns         zset   limit for which somebody waits -> when it is looked at again at the latest
    hf:note:JID      hash   progress, checkpoint, …, state
    hf:result:JID    text   JSON
    hf:batch:NAME    hash   total, done, failed, open, fired, callback
    hf:cron          hash   name -> the last slot that was fired
    hf:cancelled     zset   jid -> when
"""


class Keys:
    """The names, with a prefix."""

    __slots__ = ("cancelled", "dead", "fenced", "owners", "paused", "prefix", "processes", "queues", "retry", "schedule", "waiting")  # fmt: skip

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.queues = prefix + "queues"
        self.schedule = prefix + "schedule"
        self.retry = prefix + "retry"
        self.dead = prefix + "dead"
        self.processes = prefix + "processes"
        self.paused = prefix + "paused"
        self.owners = prefix + "hf:owners"
        self.fenced = prefix + "hf:fenced"
        self.cancelled = prefix + "hf:cancelled"
        self.waiting = prefix + "hf:waiting"

    def queue(self, name: str) -> str:
        """Return the list of a queue: pushed at its left, taken from its right."""
        return f"{self.prefix}queue:{name}"

    def lease(self, owner: str) -> str:
        """Return the hash of what an owner holds."""
        return f"{self.prefix}hf:lease:{owner}"

    def waiting_for(self, limit: str) -> str:
        """Return the list of those that wait for a place."""
        return f"{self.prefix}hf:waiting:{limit}"

    def note(self, jid: str) -> str:
        """Return the hash of a job's notes."""
        return f"{self.prefix}hf:note:{jid}"

    def result(self, jid: str) -> str:
        """Return the result of a job."""
        return f"{self.prefix}hf:result:{jid}"

    def batch(self, name: str) -> str:
        """Return the hash of a batch."""
        return f"{self.prefix}hf:batch:{name}"

    def identity(self, owner: str) -> str:
        """Return the hash that Sidekiq shows as a process."""
        return self.prefix + owner

    def work(self, owner: str) -> str:
        """Return the hash of what a process runs (since 6.4.2; before that it was called `workers`)."""
        return f"{self.prefix}{owner}:work"

    def signals(self, owner: str) -> str:
        """Return the list of signals that a person left."""
        return f"{self.prefix}{owner}-signals"

    def stat(self, name: str) -> str:
        """Return a counter: `processed`, `failed`."""
        return f"{self.prefix}stat:{name}"
