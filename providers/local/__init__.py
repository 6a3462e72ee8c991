"""This computer as a provider: the embedded default, no account needed.

A machine is a folder and the processes that carry its mark. Whether a process lives is told by a lock that the kernel
frees when it dies, not by a pid that another process may have by now.
"""
