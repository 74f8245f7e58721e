"""A pytest plugin: lets the tests of pyxs talk to the daemon at XENSTORED_PATH although this machine has no /dev/xen."""
import os

import pyxs.client

_exists = os.path.exists
os.path.exists = lambda path: path == "/dev/xen" or _exists(path)
pyxs.client.Client.SU = True
