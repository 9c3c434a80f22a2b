"""Experiments: flags, configurations, paths and results. The library knows none of them."""
