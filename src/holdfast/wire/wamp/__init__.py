"""WAMP messages as bytes: one file a serializer, one table of all."""
