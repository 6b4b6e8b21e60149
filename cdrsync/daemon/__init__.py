"""The daemon: workers that take turns, a schedule that marks tasks due, signals, and the service manager."""
