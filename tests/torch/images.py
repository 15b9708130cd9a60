"""Images of graphs by ctypes (include/refrain/image.h, lint.h), and the file format of
`refrain graph`."""
import ctypes
import json
from ctypes import (POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_uint32, c_uint64,
                    c_void_p)

from refrain import Finding, struct

TYPES = ["kernel", "memcpy", "memset", "host", "child", "event record", "event wait",
         "empty", "mem alloc", "mem free", "conditional", "other"]
ROLES = ["const", "dynamic", "read", "write", "read-write", "shape", "undeclared", "foreign"]
ACCESSES = ["", "read", "write", "read-write"]
MEMORIES = ["pageable", "pinned", "device"]

Pointer = struct("Pointer", ("address", c_uint64), ("base", c_uint64), ("bytes", c_int64),
                 ("offset", c_int64), ("generation", c_uint64), ("kind", c_int),
                 ("imported", c_int32), ("stack", c_int32))
Param = struct("Param", ("name", c_char_p), ("role", c_int), ("offset", c_int32),
               ("bytes", c_int32), ("value", c_void_p), ("pointer", Pointer))
Access = struct("Access", ("name", c_char_p), ("access", c_int), ("pool", c_int32),
                ("bytes", c_int64), ("rows", c_int64), ("row_bytes", c_int64),
                ("row_stride_bytes", c_int64), ("pointer", Pointer))
Edge = struct("Edge", ("from_", c_int32), ("to", c_int32), ("programmatic", c_int32))


class Image(ctypes.Structure):
    pass


Node = struct("Node", ("type", c_int), ("name", c_char_p), ("op", c_char_p),
              ("launch", c_int32), ("foreign", c_int32), ("opaque", c_int32),
              ("why", c_char_p), ("file", c_char_p), ("line", c_int32),
              ("region", c_char_p), ("stream", c_uint64), ("thread", c_uint64),
              ("grid", c_uint32 * 3), ("block", c_uint32 * 3), ("shared_bytes", c_uint32),
              ("params", c_int32), ("accesses", c_int32), ("param", POINTER(Param)),
              ("access", POINTER(Access)), ("value", c_int32), ("value_bytes", c_int32),
              ("function", c_uint64), ("user", c_uint64), ("event", c_uint64),
              ("child", POINTER(Image)))
Image._fields_ = [("name", c_char_p), ("device", c_char_p), ("capture_id", c_uint64),
                  ("nodes", c_int32), ("edges", c_int32), ("node", POINTER(Node)),
                  ("edge", POINTER(Edge))]
LintInfo = struct("LintInfo", *[(n, c_int32) for n in (
    "nodes edges kernels foreign opaque roots sinks critical_path unordered "
    "findings").split()])
REPORT = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Finding))


def of_native(device, native):
    """The image of a cudaGraph_t; destroy() gives it back."""
    image = POINTER(Image)()
    device.lib.call("rfn_image_of_native", device.handle, c_void_p(native), byref(image))
    return image


def create(library, from_):
    image = POINTER(Image)()
    library.call("rfn_image_create", byref(from_), byref(image))
    return image


def destroy(library, image):
    library.call("rfn_image_destroy", byref(image))


def lint(library, image, device=None):
    """What is wrong with it, [(rule, severity, sentence)], and the counts. With a device its
    addresses are looked up."""
    findings = []

    def told(_ctx, finding):
        text = ctypes.create_string_buffer(64)
        found = finding.contents
        library.so.rfn_finding_fingerprint(finding, text, ctypes.c_size_t(64))
        findings.append((text.value.decode().split(":")[0], found.severity,
                         found.why.decode()))
    info = library.filled(LintInfo, "rfn_lint", image, device.handle if device else None,
                          REPORT(told), None)
    return findings, info


def label(library, name):
    text = ctypes.create_string_buffer(192)
    library.so.rfn_image_label(name, text, ctypes.c_size_t(192))
    return text.value.decode()


def nodes(image):
    return [image.contents.node[i] for i in range(image.contents.nodes)]


# ---- the file ------------------------------------------------------------------------------

HEX = {"address", "base", "function", "user", "event"}


def _fields(of, names):
    """What is empty or 0 is left out."""
    made = {}
    for name in names.split():
        value = getattr(of, name)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif name in HEX:
            value = hex(value) if value else 0
        if value:
            made[name] = value
    return made


def _pointer(made, at):
    if at.address:
        made["pointer"] = dict(_fields(at, "address base bytes offset generation imported "
                                           "stack"), kind=MEMORIES[at.kind])
    return made


def _param(p):
    made = dict(_fields(p, "name offset"), role=ROLES[p.role])
    if p.bytes:
        made["value"] = ctypes.string_at(p.value, p.bytes).hex()
    return _pointer(made, p.pointer)


def _access(a):
    made = _fields(a, "name pool bytes rows row_bytes row_stride_bytes")
    if a.access:
        made["access"] = ACCESSES[a.access]
    return _pointer(made, a.pointer)


def _node(n):
    made = dict(_fields(n, "name op foreign opaque why file line region stream thread "
                           "shared_bytes value value_bytes function user event"),
                type=TYPES[n.type],
                params=[_param(n.param[i]) for i in range(n.params)],
                accesses=[_access(n.access[i]) for i in range(n.accesses)])
    if n.launch >= 0:
        made["launch"] = n.launch + 1
    for name in ("grid", "block"):
        if getattr(n, name)[0]:
            made[name] = list(getattr(n, name))
    if n.child:
        made["child"] = _image(n.child.contents)
    return made


def _image(image):
    made = _fields(image, "name device")
    if image.capture_id:
        made["capture"] = image.capture_id
    made["nodes"] = [_node(image.node[i]) for i in range(image.nodes)]
    made["edges"] = [[e.from_, e.to, e.programmatic]
                     for e in (image.edge[i] for i in range(image.edges))]
    return made


def snapshot(image, name=None, note=None):
    """A file of one graph, as text: a line a node. `note` is for readers, no program reads
    it."""
    made = _image(image.contents)
    made["name"] = name or made.get("name", "")
    head = json.dumps({"format": "refrain graphs", "version": 1, "note": note or ""})
    lines = ",\n".join(json.dumps(node, separators=(",", ":")) for node in made.pop("nodes"))
    edges = json.dumps(made.pop("edges"), separators=(",", ":"))
    return '%s,"graphs":[%s,"nodes":[\n%s],\n"edges":%s}]}\n' % (
        head[:-1], json.dumps(made)[:-1], lines, edges)
