"""What stands between a request and its route: names, origins, keys, limits, counts."""
