"""The Common Expression Language, as far as cluster selectors need it, with a bounded cost."""
