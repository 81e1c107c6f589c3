"""The job queue: what every program uses to put jobs in and look at them, and the stores that keep them."""
