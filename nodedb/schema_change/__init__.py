"""Schema changes that take long and do not stop writers: indexes built online."""
