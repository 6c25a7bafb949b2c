"""The parts put together as a configuration wants them.

The only package that sees the configuration and all other packages. A verb of the command line
takes a started tracker, a meter and a loop from here.
"""
