#!/usr/bin/env python3
"""Single ops stand alone: PyTorch's memory, stream and torch.cuda.graph, and nothing else.

    torch_graph.py LIBRARY [--seed N] [--replays N] [--planted]

A layer's ops are captured in torch's graph and replayed with other lengths and content each
time, which torch writes in place; a second set of buffers gets the same ops called eagerly,
and all outputs have to be equal bit for bit. --planted gives the eager ones another scale and
has to fail. Exit status 77 and the reason where torch or a GPU is missing.
"""
import argparse
import gc
import os
import random
import sys

try:
    import torch
except ImportError as missing:
    print("skip: no PyTorch: %s" % missing)
    sys.exit(77)
import refrain as rf

T, R, P, W, K = 4, 4, 64, 32, 256  # rows, requests, page tokens, table width, top-k
H, D = 64, 128                     # indexer
HEADS, LATENT, ROPE = 16, 512, 64  # attention
S, B = W * P, R * W + 3            # columns, pages of the pools
POISON = -7


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, ok, detail=""):
        self.passed += bool(ok)
        self.failed += not ok
        if not ok:
            print("FAIL %s %s" % (what, detail))
        return ok

    def refused(self, what, status, words, call, *args):
        try:
            call(*args)
        except rf.Refused as refused:
            line = str(refused)
            return self.check(what, refused.status == rf.STATUS[status] and
                              all(word in line for word in words),
                              "%d: %s" % (refused.status, line))
        return self.check(what, False, "it was not refused")


DTYPE = {torch.uint8: rf.U8, torch.int32: rf.I32, torch.int64: rf.I64,
         torch.float32: rf.F32, torch.bfloat16: rf.BF16, torch.float8_e4m3fn: rf.E4M3}


def view(tensor, address=None):
    shape, stride = list(tensor.shape), list(tensor.stride())
    pad = [0] * (4 - len(shape))
    return rf.Tensor(address or tensor.data_ptr(), DTYPE[tensor.dtype], len(shape),
                     (rf.c_int64 * 4)(*shape + pad), (rf.c_int64 * 4)(*stride + pad))


def pool(tensor, format_):
    return rf.Pool(tensor.data_ptr(), format_, P, tensor.shape[0], tensor.stride(0))


class Inputs:
    """What a step gets; torch writes it in place."""

    def __init__(self):
        def made(*shape, dtype=torch.bfloat16):
            return torch.zeros(*shape, dtype=dtype, device="cuda")
        self.kv, self.rope, self.key = made(T, LATENT), made(T, ROPE), made(T, D)
        self.iq, self.iw = made(T, H, D), made(T, H)
        self.q = made(T, HEADS, LATENT + ROPE)
        self.slots = made(T, dtype=torch.int64)
        self.lens = made(T, dtype=torch.int32)
        self.request = torch.arange(T, dtype=torch.int32, device="cuda")
        pages = torch.randperm(B, device="cuda")[:R * W]
        self.table = pages.to(torch.int32).reshape(R, W).contiguous()

    def renew(self, lens):
        for tensor in (self.kv, self.rope, self.key, self.iq, self.iw, self.q):
            tensor.normal_()
        self.lens.copy_(torch.tensor(lens, dtype=torch.int32))
        last = torch.tensor(lens, dtype=torch.int64, device="cuda") - 1
        page = self.table[self.request.long(), last // P].long()
        self.slots.copy_(page * P + last % P)


class Layer:
    """Caches, workspace and outputs, and the ops between them."""

    def __init__(self, device, x, latent, index, scale):
        def made(*shape, dtype):
            return torch.zeros(*shape, dtype=dtype, device="cuda")
        self.device, self.x, self.scale = device, x, scale
        self.latent, self.index = latent.clone(), index.clone()
        self.q8 = made(T, H, D, dtype=torch.uint8).view(torch.float8_e4m3fn)
        self.w8 = made(T, H, dtype=torch.float32)
        self.logits = made(T, S, dtype=torch.float32)
        self.picks = made(T, K, dtype=torch.int32)
        self.positions = made(T, K, dtype=torch.int32)
        self.out = made(T, HEADS, LATENT, dtype=torch.bfloat16)
        self.lse = device.alloc(T * HEADS * 4)  # the one piece of memory that is not torch's
        self.lse_copy = torch.zeros(T, HEADS, dtype=torch.float32)

    def args(self):
        x, latent = self.x, pool(self.latent, rf.LATENT_FP8_656)
        index = pool(self.index, rf.INDEX_FP8_132)
        chosen = rf.SparseMla(q=view(x.q), out=view(self.out),
                              lse=view(self.lse_copy, self.lse), scale=self.scale)
        chosen.source[0] = rf.MlaSource(pool=latent, indices=view(self.picks))
        return [
            ("kv_pack", rf.KvPack(kv=view(x.kv), k_rope=view(x.rope), slots=view(x.slots),
                                  pool=latent)),
            ("index_pack", rf.IndexPack(k=view(x.key), slots=view(x.slots), pool=index)),
            ("index_query_pack", rf.IndexQueryPack(q=view(x.iq), w=view(x.iw),
                                                   q8=view(self.q8), w8=view(self.w8))),
            ("index_logits", rf.IndexLogits(
                q8=view(self.q8), w8=view(self.w8), pool=index, table=view(x.table),
                request=view(x.request), lens=view(x.lens), logits=view(self.logits))),
            ("index_topk", rf.IndexTopk(
                logits=view(self.logits), lens=view(x.lens), table=view(x.table),
                request=view(x.request), slots=view(self.picks),
                positions=view(self.positions), page_tokens=P, pages=B)),
            ("sparse_mla", chosen),
        ]

    def enqueue(self, stream):
        for name, args in self.args():
            self.device.launch(stream, name, args)

    def poison(self):
        for tensor in (self.w8, self.logits, self.picks, self.positions, self.out):
            tensor.fill_(POISON)
        self.q8.view(torch.uint8).fill_(0x7f)
        self.lse_copy.fill_(POISON)
        self.device.copy(self.lse, self.lse_copy.data_ptr(), T * HEADS * 4)

    def outputs(self):
        torch.cuda.synchronize()
        self.device.copy(self.lse_copy.data_ptr(), self.lse, T * HEADS * 4)
        return {"latent": self.latent, "index": self.index, "w8": self.w8.view(torch.int32),
                "q8": self.q8.view(torch.uint8), "logits": self.logits.view(torch.int32),
                "slots": self.picks, "positions": self.positions,
                "out": self.out.view(torch.int16), "lse": self.lse_copy.view(torch.int32)}


def captured(layer):
    """The layer in torch's graph, on the stream that torch captures."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        stream = layer.device.stream(torch.cuda.current_stream().cuda_stream)
        layer.enqueue(stream)
        layer.device.forget(stream)
    return graph


def replays(tally, device, lengths, count, planted):
    x = Inputs()
    latent = torch.zeros(B, P * 656, dtype=torch.uint8, device="cuda")
    index = torch.zeros(B, P * 132, dtype=torch.uint8, device="cuda")
    scale = (LATENT + ROPE) ** -0.5
    eager = Layer(device, x, latent, index, scale * (1 + 2 ** -7 * planted))
    stream = device.stream(torch.cuda.current_stream().cuda_stream)
    for at in range(S):  # every token of every request, so that all that is read was written
        x.renew([at + 1] * T)
        for name, args in eager.args()[:2]:
            device.launch(stream, name, args)
    torch.cuda.synchronize()
    layer = Layer(device, x, eager.latent, eager.index, scale)
    for name, args in layer.args():
        device.supported(name, args)
    graph = captured(layer)

    distinct = set()
    for i in range(count):
        x.renew([lengths.randint(1, S) for _ in range(T)])
        for one in (layer, eager):
            one.poison()
        torch.cuda.synchronize()
        graph.replay()
        eager.enqueue(stream)
        got, want = layer.outputs(), eager.outputs()
        for name, tensor in got.items():
            tally.check("replay %d of %s is equal to eager" % (i, name),
                        torch.equal(tensor, want[name]))
        written = min(int(x.lens.min()), K)
        tally.check("replay %d wrote" % i, written > 0 and
                    bool((got["slots"][:, :written] >= 0).all()) and
                    float(layer.lse_copy.min()) != POISON and
                    bool(torch.isfinite(layer.out.float()).all()))
        distinct.add(layer.out.view(torch.int16).sum().item())
    tally.check("replays differ from one another", len(distinct) > count // 2)
    device.forget(stream)
    return graph, layer, eager


def pins(tally, device, graph, layer):
    words = ["of somebody else", os.path.basename(__file__)]
    tally.refused("memory in torch's graph is not freed", "BUSY", words, device.free,
                  layer.lse)
    tally.check("and is pinned", device.memory(layer.lse).pins > 0)
    tally.refused("nor is the device closed", "BUSY", [], device.close)
    return words


def refusals(tally, device, layer):
    stream = device.stream(torch.cuda.current_stream().cuda_stream)
    host = torch.zeros(T, dtype=torch.int32)
    name, args = layer.args()[4]
    args.lens = view(host)
    tally.refused("a host pointer", "INVALID",
                  ["index_topk: lens", "pageable host memory", "device memory is due"],
                  device.launch, stream, name, args)
    pinned = host.pin_memory()
    tally.check("torch's pinned memory is known", device.memory(pinned.data_ptr()).kind ==
                rf.PINNED and device.memory(host.data_ptr()).kind == rf.PAGEABLE and
                device.memory(layer.out.data_ptr()).kind == rf.DEVICE)
    name, args = layer.args()[5]
    for tensor in (args.q, args.out, args.lse, args.source[0].indices):
        tensor.shape[0] = 1 << 31  # whether there is memory for it is not asked
    tally.refused("what no kernel can do", "UNSUPPORTED",
                  ["sparse_mla on the cuda device", "2147483648 rows are too many"],
                  device.supported, name, args)
    if torch.cuda.device_count() > 1:
        far = torch.cuda.Stream(device="cuda:1")
        tally.refused("a stream of another GPU", "INVALID", ["device 1", "device 0"],
                      device.stream, far.cuda_stream)
        name, args = layer.args()[4]
        args.lens = view(torch.zeros(T, dtype=torch.int32, device="cuda:1"))
        tally.refused("memory of another GPU", "INVALID", ["lens", "device 1", "device 0"],
                      device.launch, stream, name, args)
    else:
        print("skip: a stream of another GPU: there is one")
    device.forget(stream)


def checker(tally, device, layer):
    """A mistake in torch's capture is named with its place in this file."""
    check = rf.Check(device)
    graph = torch.cuda.CUDAGraph()
    host, word = torch.zeros(64), torch.zeros(4)
    with torch.cuda.graph(graph):
        stream = device.stream(torch.cuda.current_stream().cuda_stream)
        layer.enqueue(stream)
        capture = device.capture(stream)
        device.copy(word.data_ptr(), layer.lse, 16)
        line = sys._getframe().f_lineno - 1
        device.copy(layer.lse, host.data_ptr(), 256, stream)
    device.copy(word.data_ptr(), layer.lse, 16)  # it is over: no finding
    tally.check("two findings", check.count() == 2, str(check.count()))
    for i, rule in enumerate(["CAP002", "CAP003"][:check.count()]):
        found, text = check.finding(i)
        tally.check("%s with its place" % rule, rule in text and
                    found.capture_id == capture.id and
                    found.file.decode() == __file__ and found.line == line + 2 * i, text)
        print(text.strip())
    tally.check("the ledger has all", check.ledger(capture.id) == 7,
                str(check.ledger(capture.id)))
    device.forget(stream)
    check.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", metavar="LIBRARY")
    parser.add_argument("--seed", type=int,
                        default=int(os.environ.get("RFN_SEED", random.randrange(1 << 30))))
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    device = rf.cuda_device(options.shared, torch)
    if device is None:
        return 77
    print("torch_graph: PyTorch %s, seed %d" % (torch.__version__, options.seed))
    torch.manual_seed(options.seed)
    tally = Tally()
    graph, layer, eager = replays(tally, device, random.Random(options.seed),
                                  options.replays, options.planted)
    pins(tally, device, graph, layer)
    refusals(tally, device, layer)
    checker(tally, device, eager)
    del graph
    gc.collect()
    device.free(layer.lse)
    device.free(eager.lse)
    device.close()
    print("%d passed, %d failed" % (tally.passed, tally.failed))
    return tally.failed > 0


if __name__ == "__main__":
    sys.exit(main())
