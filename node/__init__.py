"""One worker: a task's gradients, an algorithm, an exchange with peers. Starts no process, touches no qdisc."""
