"""The little of librefrain that a framework in Python needs, by ctypes.

Structs are written by hand from include/refrain/*.h; Library() compares the size of every
argument struct with what the op's description says, and of every struct that the library
fills with what it fills. Calls that fail raise Refused with the library's own line.
"""
import ctypes
import inspect
import os
from ctypes import (POINTER, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t,
                    c_uint32, c_uint64, c_void_p)

HOST, CUDA = 1, 2                                    # enum rfn_device_kind
PAGEABLE, PINNED, DEVICE = 0, 1, 2                   # enum rfn_memory_kind
U8, I32, I64, F32, BF16, E4M3 = 1, 2, 3, 4, 5, 6     # enum rfn_dtype
LATENT_FP8_656, LATENT_BF16_576, LATENT_FP8_584, INDEX_FP8_132 = 1, 2, 3, 4
STATUS = {"INVALID": -1, "UNSUPPORTED": -3, "CAPTURE": -4, "BUSY": -5}


def struct(name, *fields):
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


Tensor = struct("Tensor", ("data", c_void_p), ("dtype", c_int), ("dims", c_int32),
                ("shape", c_int64 * 4), ("stride", c_int64 * 4))
Pool = struct("Pool", ("data", c_void_p), ("format", c_int), ("page_tokens", c_int32),
              ("pages", c_int64), ("page_stride_bytes", c_int64))
Bounds = struct("Bounds", ("header", Tensor), ("rows", c_int64), ("next_n", c_int32))


def tensors(names):
    return [(name, Tensor) for name in names.split()]


KvPack = struct("KvPack", *tensors("kv k_rope slots live"), ("pool", Pool),
                ("scale", c_int), ("floor_on", c_int), ("floor", c_float),
                ("bounds", Bounds))
IndexPack = struct("IndexPack", *tensors("k slots live"), ("pool", Pool),
                   ("scale", c_int), ("floor_on", c_int), ("floor", c_float),
                   ("bounds", Bounds))
IndexQueryPack = struct("IndexQueryPack", *tensors("q w live q8 w8"), ("scale", c_int),
                        ("bounds", Bounds))
IndexLogits = struct("IndexLogits", *tensors("q8 w8"), ("pool", Pool),
                     *tensors("table request lens live logits"), ("bounds", Bounds))
IndexTopk = struct("IndexTopk",
                   *tensors("logits lens live table request slots positions"),
                   ("page_tokens", c_int32), ("pages", c_int64), ("bounds", Bounds))
MlaSource = struct("MlaSource", ("pool", Pool), *tensors("indices lens"))
SparseMla = struct("SparseMla", *tensors("q q_rope live"), ("source", MlaSource * 2),
                   *tensors("sink out lse"), ("scale", c_float),
                   ("empty_lse_positive", c_int32), ("batch_invariant", c_int32),
                   ("bounds", Bounds))
ARGS = {"kv_pack": KvPack, "index_pack": IndexPack, "index_query_pack": IndexQueryPack,
        "index_logits": IndexLogits, "index_topk": IndexTopk, "sparse_mla": SparseMla}

Op = struct("Op", ("name", c_char_p), ("args_bytes", c_uint32))  # its first fields
DeviceDesc = struct("DeviceDesc", ("kind", c_int), ("ordinal", c_int32), ("check", c_int32),
                    ("fault_handler", c_int32), ("sched", c_int), ("sched_seed", c_uint64),
                    ("threads", c_int32), ("reserve_bytes", c_int64))
MemoryInfo = struct("MemoryInfo", ("kind", c_int), ("base", c_void_p), ("bytes", c_int64),
                    ("generation", c_uint64), ("pins", c_int32), ("foreign", c_int32))
CaptureInfo = struct("CaptureInfo", ("status", c_int), ("id", c_uint64))
Finding = struct("Finding", ("rule", c_int), ("severity", c_int), ("confidence", c_int),
                 ("file", c_char_p), ("line", c_int32), ("region", c_char_p),
                 ("api", c_char_p), ("capture_id", c_uint64), ("stream", c_uint64),
                 ("thread", c_uint64), ("status_after", c_int), ("code", c_int32),
                 ("count", c_int64), ("node", c_int32), ("why", c_char_p),
                 ("fix", c_char_p), ("driver", c_char_p))
SPARE = 64  # bytes behind a struct that the library must not write


class Refused(Exception):
    def __init__(self, status, line):
        super().__init__(line)
        self.status = status


class Library:
    def __init__(self, path):
        self.so = ctypes.CDLL(os.path.abspath(path))  # not one of the system's
        for name in ("rfn_last_error", "rfn_status_name"):
            getattr(self.so, name).restype = c_char_p
        self.so.rfn_stream_native.restype = c_void_p
        self.so.rfn_finding_text.restype = c_size_t
        self.files = {}  # file names have to stay where they are
        for name, args in ARGS.items():
            op = POINTER(Op)()
            self.call("rfn_op_find", name.encode(), byref(op))
            if op.contents.args_bytes != ctypes.sizeof(args):
                raise RuntimeError("%s: %d bytes here, %d in the library" % (
                    args.__name__, ctypes.sizeof(args), op.contents.args_bytes))
            setattr(self, "op_" + name, op)

    def call(self, name, *args):
        """Calls a function that returns a status, from the caller's place in the code."""
        frame = inspect.currentframe()
        while frame.f_code.co_filename == __file__:
            frame = frame.f_back
        file = self.files.setdefault(frame.f_code.co_filename,
                                     frame.f_code.co_filename.encode())
        self.so.rfn_site_note(c_char_p(file), frame.f_lineno)
        status = getattr(self.so, name)(*args)
        if status:
            raise Refused(status, self.so.rfn_last_error().decode())

    def filled(self, kind, name, *args):
        """Calls a function whose last argument is a struct to fill, and gives the struct."""
        size = ctypes.sizeof(kind)
        room = (ctypes.c_ubyte * (size + SPARE))(*[0xa5] * (size + SPARE))
        self.call(name, *args, room)
        last = kind._fields_[-1][0]
        last = getattr(kind, last).offset, getattr(kind, last).size
        if bytes(room[size:]) != b"\xa5" * SPARE or \
                bytes(room[last[0]:sum(last)]) == b"\xa5" * last[1]:
            raise RuntimeError("%s: the library's is not of %d bytes" % (kind.__name__, size))
        return kind.from_buffer_copy(room)


class Device:
    def __init__(self, library, kind=CUDA, check=1):
        self.lib = library
        self.handle = c_void_p()
        desc = DeviceDesc(kind=kind, check=check)
        library.call("rfn_device_open", byref(desc), byref(self.handle))

    def close(self):
        self.lib.call("rfn_device_close", byref(self.handle))

    def stream(self, native):
        """Imports a stream: what torch.cuda.Stream.cuda_stream says, 0 too."""
        stream = c_void_p()
        self.lib.call("rfn_stream_import", self.handle, c_void_p(native),
                      byref(stream))
        return stream

    def forget(self, stream):
        self.lib.call("rfn_stream_destroy", byref(stream))

    def capture(self, stream):
        return self.lib.filled(CaptureInfo, "rfn_capture_query", stream)

    def launch(self, stream, name, args):
        self.lib.call("rfn_op_launch", stream, getattr(self.lib, "op_" + name),
                      byref(args))

    def supported(self, name, args):
        self.lib.call("rfn_op_supported", self.handle,
                      getattr(self.lib, "op_" + name), byref(args))

    def alloc(self, bytes_, kind=DEVICE):
        address = c_void_p()
        self.lib.call("rfn_memory_alloc", self.handle, kind, c_int64(bytes_),
                      byref(address))
        return address.value

    def free(self, address):
        self.lib.call("rfn_memory_free", self.handle, c_void_p(address))

    def memory(self, address):
        return self.lib.filled(MemoryInfo, "rfn_memory_query", self.handle,
                               c_void_p(address))

    def copy(self, to, from_, bytes_, stream=None):
        sync = stream is None
        self.lib.call("rfn_copy_sync" if sync else "rfn_copy_async",
                      self.handle if sync else stream, c_void_p(to), c_void_p(from_),
                          c_int64(bytes_))


def cuda_device(path, torch):
    """A GPU by the library at `path`; None, saying why, where PyTorch or the library has none."""
    lib = Library(path)
    if not torch.cuda.is_available():
        print("skip: no CUDA device: PyTorch %s finds none" % torch.__version__)
        return None
    try:
        return Device(lib)
    except Refused as refused:
        print("skip: no CUDA device: %s" % refused)
        return None


class Check:
    """The capture checker of a device."""

    def __init__(self, device):
        self.lib = device.lib
        self.handle = c_void_p()
        self.lib.call("rfn_check_create", device.handle, byref(self.handle))

    def close(self):
        self.lib.call("rfn_check_destroy", byref(self.handle))

    def count(self):
        return self.lib.so.rfn_check_count(self.handle)

    def ledger(self, capture_id):
        return self.lib.so.rfn_check_ledger_count(self.handle, c_uint64(capture_id))

    def finding(self, i):
        found = self.lib.filled(Finding, "rfn_check_finding", self.handle, c_int32(i))
        text = ctypes.create_string_buffer(2048)
        self.lib.so.rfn_finding_text(byref(found), text, c_size_t(2048))
        return found, text.value.decode()
