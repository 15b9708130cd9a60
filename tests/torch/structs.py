"""The structs of refrain.py against a library, on the host device: neither PyTorch nor a GPU.

    structs.py LIBRARY
"""
import sys

import refrain as rf

device = rf.Device(rf.Library(sys.argv[1]), kind=rf.HOST)
check = rf.Check(device)
check.close()
device.close()
print("%d argument structs have the library's sizes" % len(rf.ARGS))
