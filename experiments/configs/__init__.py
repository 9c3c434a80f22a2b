"""One file a data set: `get_config(variant)`."""
