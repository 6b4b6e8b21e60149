"""cdrsync: brings a TTNC account's call data records into SQL, keeps them current, and proves that none is missing."""

__version__ = "0.1.0"
