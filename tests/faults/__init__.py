"""Each way in which a server, a network, a disk or another client fails, as a user meets it."""
