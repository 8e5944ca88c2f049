# SPDX-License-Identifier: Apache-2.0
"""Turns ONNX's own node tests (files in the wheel onnx==1.22.0) into plain arrays for tests/tools/onnx_nodes.c.

usage: onnx_nodes.py OPS_DEF OUT_FOLDER

cases.bin holds the arrays one after another, each at a multiple of 64 bytes; cases.txt says, line by line:
  case NAME OP RTOL ATOL
  attr KEY i|f|s|l VALUE...            (l: a count, then integers)
  in|out INDEX TYPE OFFSET BYTES NDIM DIM...
  end
  skip NAME OP REASON
Only models of a single node of an operator in OPS_DEF count; bodies of functions ("_expanded") test no operator of
their own. f16 and bf16 arrays are widened to f32, and such a case gets the tolerance of its type.
"""
import os
import re
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    TensorProto.FLOAT: "f32", TensorProto.INT8: "i8", TensorProto.INT16: "i16", TensorProto.INT32: "i32",
    TensorProto.INT64: "i64", TensorProto.UINT8: "u8", TensorProto.UINT16: "u16", TensorProto.UINT32: "u32",
    TensorProto.UINT64: "u64", TensorProto.BOOL: "bool",
}
WIDENED = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 2e-2}
RTOL, ATOL = 1e-3, 1e-7  # those of onnx.backend.test.runner


class Unsupported(Exception):
    pass


class Writer:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.bin = open(os.path.join(folder, "cases.bin"), "wb")
        self.txt = open(os.path.join(folder, "cases.txt"), "w")

    def array(self, kind, index, proto):
        if not isinstance(proto, onnx.TensorProto):
            raise Unsupported("a value that is no tensor")
        a = numpy_helper.to_array(proto)
        if proto.data_type in WIDENED:
            a, name = a.astype(np.float32), "f32"
        elif proto.data_type in TYPES:
            name = TYPES[proto.data_type]
        else:
            raise Unsupported("type " + TensorProto.DataType.Name(proto.data_type).lower())
        a = np.ascontiguousarray(a)
        self.bin.write(b"\0" * (-self.bin.tell() % 64))
        at = self.bin.tell()
        self.bin.write(a.tobytes())
        dims = list(proto.dims)
        return f"{kind} {index} {name} {at} {a.nbytes} {len(dims)} {' '.join(map(str, dims))}".rstrip()


def attribute(a):
    v = helper.get_attribute_value(a)
    if isinstance(v, float):
        return f"attr {a.name} f {v:.9g}"
    if isinstance(v, int):
        return f"attr {a.name} i {v}"
    if isinstance(v, bytes):
        return f"attr {a.name} s {v.decode()}"
    if isinstance(v, list) and all(isinstance(x, int) for x in v):
        return f"attr {a.name} l {len(v)} {' '.join(map(str, v))}"
    raise Unsupported("attribute " + a.name)


def load(path, info):
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise Unsupported("a value of kind " + kind)
    t = onnx.TensorProto()
    with open(path, "rb") as f:
        t.ParseFromString(f.read())
    return t


def one_case(w, name, graph, data):
    node = graph.node[0]
    given = {v.name: load(os.path.join(data, f"input_{i}.pb"), v) for i, v in enumerate(graph.input)}
    given.update({t.name: t for t in graph.initializer})
    made = {v.name: load(os.path.join(data, f"output_{i}.pb"), v) for i, v in enumerate(graph.output)}
    tensors = list(given.values()) + list(made.values())
    tol = max([WIDENED.get(t.data_type, 0) for t in tensors])
    lines = [f"case {name} {node.op_type} {max(RTOL, tol):g} {max(ATOL, tol):g}"]
    lines += [attribute(a) for a in node.attribute]
    lines += [w.array("in", i, given[n]) for i, n in enumerate(node.input) if n]
    lines += [w.array("out", i, made[n]) for i, n in enumerate(node.output) if n in made]
    return lines + ["end"]


def main(ops_def, folder):
    ops = re.findall(r"^PARE_OP\((\w+), \"\"", open(ops_def).read(), re.M)
    root = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "node")
    w, bodies, seen = Writer(folder), 0, set()
    for test in sorted(os.listdir(root)):
        path = os.path.join(root, test, "model.onnx")
        if not os.path.exists(path):
            continue
        graph = onnx.load(path).graph
        if len(graph.node) != 1:
            bodies += any(n.op_type in ops for n in graph.node)
            continue
        op = graph.node[0].op_type
        if op not in ops or graph.node[0].domain:
            continue
        seen.add(op)
        for data in sorted(d for d in os.listdir(os.path.join(root, test)) if d.startswith("test_data_set_")):
            name = test + data.replace("test_data_set_0", "").replace("test_data_set_", "_")
            try:
                print("\n".join(one_case(w, name, graph, os.path.join(root, test, data))), file=w.txt)
            except Unsupported as e:
                print(f"skip {name} {op} {e}", file=w.txt)
    print(f"{bodies} models of several nodes that use these operators left out; no node tests for: "
          f"{' '.join(sorted(set(ops) - seen)) or 'none'}")


main(*sys.argv[1:])
