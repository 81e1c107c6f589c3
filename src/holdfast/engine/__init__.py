"""The processes of the job queue: those that run jobs, and the steward that looks after them."""
