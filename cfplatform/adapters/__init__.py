"""Adapters for other tools, one module for each; import the module by its name.

Each module needs the library of its tool. If the library is missing, the import raises
:class:`~cfplatform.ConfigurationError`, which names the extra to install.
"""
