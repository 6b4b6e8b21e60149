"""The way out: pages become rows, in one transaction with the checkpoint that they make true."""
