"""Everything on one machine with nothing installed: Postgres and Valkey from wheels, and the processes that use them."""
