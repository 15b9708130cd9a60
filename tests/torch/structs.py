"""The structs of refrain.py and images.py against a library, on the host device: neither
PyTorch nor a GPU.

    structs.py LIBRARY
"""
import ctypes
import json
import sys

import images
import refrain as rf


def image_of_everything():
    """A value in every field, and what keeps it alive."""
    word = ctypes.create_string_buffer(b"\x01\x02\x03\x04", 4)
    at = images.Pointer(0x7f0000001000, 0x7f0000000000, 8192, 0x1000, 3, rf.DEVICE, 1, 0)
    host = images.Pointer(0x5500, 0, 0, 0, 0, rf.PAGEABLE, 0, 0)
    param = images.Param(b"scale", images.ROLES.index("const"), 8, 4,
                         ctypes.addressof(word), at)
    ends = (images.Access * 2)(
        images.Access(b"dst", 2, 0, 40, 1, 40, 40, at),
        images.Access(b"src", 1, 0, 40, 1, 40, 40, host))
    node = (images.Node * 2)(
        images.Node(0, b"_Z4softILi2EEvPf", b"an_op", 4, 1, 1, b"why", b"f.py", 7, b"in",
                    5, 6, (1, 2, 3), (4, 5, 6), 99, 1, 0, ctypes.pointer(param), None, 0,
                    0, 0x11, 0x22, 0x33, None),
        images.Node(1, b"memcpy", b"", -1, 0, 0, b"", b"", 0, b"", 0, 0, (0, 0, 0),
                    (0, 0, 0), 0, 0, 2, None, ends, -3, 4, 0, 0, 0, None))
    edge = images.Edge(0, 1, 1)
    image = images.Image(b"everything", b"cuda", 12, 2, 1, node, ctypes.pointer(edge))
    return image, (word, param, ends, node, edge)


def check_images(library):
    library.so.rfn_image_type_name.restype = ctypes.c_char_p
    for i, name in enumerate(images.TYPES + ["?"]):
        got = library.so.rfn_image_type_name(i).decode()
        assert got == name, "type %d is '%s', not '%s'" % (i, got, name)
    before, _kept = image_of_everything()
    image = images.create(library, before)
    text = images.snapshot(image)
    assert text == images.snapshot(ctypes.pointer(before)), text
    made = json.loads(text)["graphs"][0]["nodes"]
    assert made[0]["params"][0]["value"] == "01020304" and made[1]["value"] == -3, text
    findings, info = images.lint(library, image)
    assert (info.nodes, info.kernels, info.foreign, info.opaque, info.findings) == \
        (2, 1, 1, 1, 2), findings
    assert findings[1] == ("CAP040", 0, "soft (node 0): why"), findings
    rule, severity, why = findings[0]
    assert rule == "CAP003" and severity == 2 and "node 1" in why and "40 bytes" in why \
        and "from 0x5500 (pageable) to 0x7f0000001000 (device)" in why, why
    assert images.label(library, b"_Z4softILi2EEvPf") == "soft"
    images.destroy(library, image)
    assert not image


def main():
    library = rf.Library(sys.argv[1])
    device = rf.Device(library, kind=rf.HOST)
    check = rf.Check(device)
    check.close()
    device.close()
    check_images(library)
    print("%d argument structs and the images have the library's sizes" % len(rf.ARGS))


if __name__ == "__main__":
    main()
