#!/usr/bin/env python3
"""Graphs that PyTorch captured, linted through their native handles: a decode step that is
right, and the same with mistakes that torch.cuda.graph lets through in silence. Its own copies
from and to pageable memory PyTorch 2.11 refuses in a capture; those of libraries beside it,
which call the CUDA runtime on torch's stream, it does not see.

    torch_lint.py LIBRARY [--planted] [--write FOLDER] [--driver VERSION]

--planted leaves the mistakes out of the graph that is to have them, and has to fail. --write
keeps the two graphs as files for `refrain graph`. Exit status 77 and the reason where torch or
a GPU is missing.
"""
import argparse
import ctypes
import gc
import os
import sys

try:
    import torch
except ImportError as missing:
    print("skip: no PyTorch: %s" % missing)
    sys.exit(77)
import images
import refrain as rf
from torch_graph import Inputs, Layer, Tally, B, LATENT, P, ROPE, T
from torch.nn import functional as F

ERROR = 2                                  # enum rfn_severity
VOCABULARY, WIDTH, HEADS, CONTEXT = 4096, 512, 8, 256
DROPPED = 48 << 20                         # bytes that torch takes from CUDA by themselves


class Runtime:
    """The CUDA runtime that torch has loaded, as an extension in C++ would call it."""

    def __init__(self):
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = [line.split(maxsplit=5)[5].strip() for line in maps if "libcudart" in line]
        self.so = ctypes.CDLL(paths[0] if paths else "libcudart.so")

    def copy(self, to, from_):
        """cudaMemcpyAsync on the current stream."""
        code = self.so.cudaMemcpyAsync(
            ctypes.c_void_p(to.data_ptr()), ctypes.c_void_p(from_.data_ptr()),
            ctypes.c_size_t(from_.nbytes), ctypes.c_int(4),  # by what the addresses are
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
        if code:
            raise RuntimeError("cudaMemcpyAsync: %d" % code)


class Step:
    """A decode step of one layer: an embedding, attention over a cache of its own, the sparse
    attention's ops, a gated layer, the next tokens."""

    def __init__(self, device):
        def made(*shape):
            return torch.randn(*shape, dtype=torch.bfloat16, device="cuda") * WIDTH ** -0.5
        self.device, self.runtime = device, Runtime()
        self.embedding, self.head = made(VOCABULARY, WIDTH), made(VOCABULARY, WIDTH)
        self.norm = [torch.ones(WIDTH, dtype=torch.bfloat16, device="cuda") for _ in "ab"]
        self.qkv, self.out = made(3 * WIDTH, WIDTH), made(WIDTH, WIDTH)
        self.gate, self.down = made(8 * WIDTH, WIDTH), made(WIDTH, 4 * WIDTH)
        self.keys = torch.zeros(T, HEADS, CONTEXT, WIDTH // HEADS, dtype=torch.bfloat16,
                                device="cuda")
        self.values = torch.zeros_like(self.keys)
        self.tokens = torch.arange(T, device="cuda")
        self.position = torch.full((T,), 3, device="cuda")
        self.temperature = torch.ones(1, device="cuda")
        self.bias = torch.zeros(VOCABULARY, device="cuda")
        self.columns = torch.arange(CONTEXT, device="cuda")
        self.rows = torch.arange(T, device="cuda")
        latent = torch.zeros(B, P * 656, dtype=torch.uint8, device="cuda")
        index = torch.zeros(B, P * 132, dtype=torch.uint8, device="cuda")
        inputs = Inputs()
        inputs.renew([40 + i for i in range(T)])
        self.sparse = Layer(device, inputs, latent, index, (LATENT + ROPE) ** -0.5)
        # What only a mistake touches.
        self.host_bias = torch.linspace(-1, 1, VOCABULARY)
        self.host_temperature = torch.tensor([0.7])
        self.host_tokens = torch.zeros(T, dtype=torch.int64)

    def attend(self, x):
        q, k, v = F.linear(x, self.qkv).view(T, 3, HEADS, -1).unbind(1)
        self.keys[self.rows, :, self.position] = k
        self.values[self.rows, :, self.position] = v
        seen = self.columns <= self.position[:, None]
        y = F.scaled_dot_product_attention(q[:, :, None], self.keys, self.values,
                                           attn_mask=seen[:, None, None])
        return F.linear(y.reshape(T, WIDTH), self.out)

    def run(self, stream, mistakes=()):
        if "bias" in mistakes:         # a table of the host, "asynchronously"
            self.runtime.copy(self.bias, self.host_bias)
        if "temperature" in mistakes:  # a value of the host that is a tensor
            self.runtime.copy(self.temperature, self.host_temperature)
        x = F.embedding(self.tokens, self.embedding)
        x = x + self.attend(F.rms_norm(x, (WIDTH,), self.norm[0]))
        self.sparse.enqueue(stream)
        x = x + self.sparse.out[:, 0].to(x.dtype)
        gate, up = F.linear(F.rms_norm(x, (WIDTH,), self.norm[1]), self.gate).chunk(2, -1)
        x = x + F.linear(F.silu(gate) * up, self.down)
        logits = F.linear(x, self.head).float() / self.temperature + self.bias
        self.tokens.copy_(logits.argmax(-1))
        self.position += 1
        if "tokens" in mistakes:       # the host reads them when it likes
            self.runtime.copy(self.host_tokens, self.tokens)
        if "cache" in mistakes:        # the whole cache, at every replay
            self.kept.copy_(self.sparse.latent)

    def captured(self, mistakes=()):
        """A graph that keeps its native handle."""
        self.kept = torch.empty_like(self.sparse.latent) if "cache" in mistakes else None
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries make what they need
            stream = self.device.stream(side.cuda_stream)
            self.run(stream)
            self.device.forget(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            stream = self.device.stream(torch.cuda.current_stream().cuda_stream)
            self.run(stream, mistakes)
            self.device.forget(stream)
        return graph


def show(title, findings, info):
    print("%s: %d nodes, %d kernels, %d foreign, %d opaque, longest way %d" % (
        title, info.nodes, info.kernels, info.foreign, info.opaque, info.critical_path))
    for rule, severity, why in findings:
        print("  %s %d: %s" % (rule, severity, why))


def check_right(tally, device, step, image):
    findings, info = images.lint(device.lib, image, device)
    show("right", findings, info)
    errors = [f for f in findings if f[1] == ERROR]
    tally.check("the right graph has no error", not errors, str(errors))
    tally.check("it is a step", info.nodes > 25 and not info.opaque and
                info.critical_path == info.nodes, str(info.nodes))
    ours = [n for n in images.nodes(image) if n.op]
    launched = [name for name, _args in step.sparse.args()]
    seen = [n.op.decode() for n in ours]
    tally.check("ours are known by their ops", list(dict.fromkeys(seen)) == launched,
                str(seen))
    tally.check("and nothing else is", info.foreign == info.kernels - len(ours))
    operands = {n.op.decode(): {a.name.decode(): a.pointer.address for a in
                                n.access[:n.accesses]} for n in ours}
    tally.check("with their operands", operands["kv_pack"].get("pool") ==
                step.sparse.latent.data_ptr() and
                operands["index_topk"].get("lens") == step.sparse.x.lens.data_ptr() and
                operands["sparse_mla"].get("out") == step.sparse.out.data_ptr(),
                str(operands))
    names = [images.label(device.lib, n.name) for n in images.nodes(image) if n.foreign]
    tally.check("kernels have names to be read", any(
        name.startswith("at::native::") for name in names) and
        not any(name.startswith("_Z") for name in names), str(names))


def check_wrong(tally, device, step, image):
    """Each mistake: its rule, the copy's node, the address of the host tensor, the bytes."""
    findings, info = images.lint(device.lib, image, device)
    show("wrong", findings, info)
    due = [
        ("CAP003", step.host_bias, step.bias, "source", step.host_bias.nbytes),
        ("CAP024", step.tokens, step.host_tokens, "destination", T * 8),
        ("CAP057", step.host_temperature, step.temperature, "from pageable", 4),
        ("CAP056", step.sparse.latent, step.kept, "holds all of a pool",
         step.sparse.latent.nbytes),
    ]
    copies = {(n.access[1].pointer.address, n.access[0].pointer.address): i
              for i, n in enumerate(images.nodes(image)) if n.type == 1}
    for rule, source, target, words, bytes_ in due:
        whys = [why for found, severity, why in findings
                if found == rule and severity == ERROR]
        ends = (source.data_ptr(), target.data_ptr() if target is not None else 0)
        if not tally.check("%s is found once" % rule, len(whys) == 1, str(findings)):
            continue
        due_words = [words, "of %d bytes" % bytes_, "(node %d)" % copies.get(ends, -1),
                     "%#x" % ends[0]] + ["%#x" % ends[1]] * (rule != "CAP056")
        tally.check("%s names the copy" % rule, all(w in whys[0] for w in due_words),
                    "%s, not %s" % (whys[0], due_words))
    tally.check("nothing else is wrong", len([f for f in findings if f[1] == ERROR]) ==
                len(due), str(findings))


def check_dropped(tally, device):
    """A graph that reads memory which torch has given back to CUDA."""
    big = torch.ones(DROPPED, dtype=torch.uint8, device="cuda")
    target = torch.zeros_like(big)
    address = big.data_ptr()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        target.copy_(big)              # a copy
        torch.add(big, 1, out=target)  # a kernel that takes both addresses in one struct
    image = images.of_native(device, graph.raw_cuda_graph())
    tally.check("as long as it is there nothing is said",
                not [f for f in images.lint(device.lib, image, device)[0]
                     if f[0] == "CAP007"])
    del big
    gc.collect()
    torch.cuda.empty_cache()
    gone = [f for f in images.lint(device.lib, image, device)[0] if f[0] == "CAP007"]
    tally.check("what is gone is named, in a copy and in a kernel",
                [("'src'" in why, "'#2+8'" in why) for _r, _s, why in gone] ==
                [(True, False), (False, True)] and
                all("%#x" % address in why for _r, _s, why in gone), str(gone))
    images.destroy(device.lib, image)


def write(folder, options, device, named):
    for name, image in named.items():
        note = ("A decode step captured by PyTorch %s (torch.cuda.graph) on an %s, driver "
                "%s: tests/torch/torch_lint.py LIBRARY --write FOLDER" % (
                    torch.__version__, torch.cuda.get_device_name(), options.driver))
        path = os.path.join(folder, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(images.snapshot(image, name, note))
        print("%s: %d bytes" % (path, os.path.getsize(path)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", metavar="LIBRARY")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--write", metavar="FOLDER")
    parser.add_argument("--driver", default="unknown")
    options = parser.parse_args()
    device = rf.cuda_device(options.shared, torch)
    if device is None:
        return 77
    print("torch_lint: PyTorch %s" % torch.__version__)
    torch.manual_seed(1)
    tally = Tally()
    step = Step(device)
    right = step.captured()
    image = images.of_native(device, right.raw_cuda_graph())
    check_right(tally, device, step, image)
    mistakes = () if options.planted else ("bias", "temperature", "tokens", "cache")
    wrong = step.captured(mistakes)
    image_wrong = images.of_native(device, wrong.raw_cuda_graph())
    check_wrong(tally, device, step, image_wrong)
    check_dropped(tally, device)
    if options.write:
        write(options.write, options, device, {"torch-right": image,
                                               "torch-wrong": image_wrong})
    for one in (image, image_wrong):
        images.destroy(device.lib, one)
    del right, wrong
    gc.collect()
    device.free(step.sparse.lse)
    device.close()
    print("%d passed, %d failed" % (tally.passed, tally.failed))
    return tally.failed > 0


if __name__ == "__main__":
    sys.exit(main())
