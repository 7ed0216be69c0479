"""The cases of socket_script.py, by theme."""
