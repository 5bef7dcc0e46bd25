"""Labels for the tools that use them, one thin module for each; import the one that you want by its name.

A module needs the library that it is for; where that is missing, importing it raises
:class:`~cfplatform.ConfigurationError`, which names the extra to install.
"""
