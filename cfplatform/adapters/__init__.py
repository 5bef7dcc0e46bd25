"""Adapters for other libraries, one module for each; import the module by its name.

Each module needs its library. Without it, the import raises :class:`~cfplatform.ConfigurationError` with the extra to
install.
"""
